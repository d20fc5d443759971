//! A set of keys, as ranges.
//!
//! # Invariants
//! * Ranges are sorted, not empty, and neither overlap nor touch.

use std::cmp::Ordering;

use crate::KeyRange;

/// Keys that are lost, or covered.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranges(Vec<KeyRange>);

/// Compares upper bounds: none is above all.
fn compare_ends(a: Option<&[u8]>, b: Option<&[u8]>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.cmp(b),
        (a, b) => a.is_none().cmp(&b.is_none()),
    }
}

fn start(range: &KeyRange) -> &[u8] {
    range.0.as_deref().unwrap_or_default()
}

impl Ranges {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &KeyRange> {
        self.0.iter()
    }

    /// Adds a range.
    pub(super) fn insert(&mut self, range: &KeyRange) {
        if compare_ends(Some(start(range)), range.1.as_deref()) != Ordering::Less {
            return;
        }
        let touches = |known: &KeyRange| {
            compare_ends(Some(start(known)), range.1.as_deref()) != Ordering::Greater
                && compare_ends(Some(start(range)), known.1.as_deref()) != Ordering::Greater
        };
        let first = self.0.partition_point(|known| {
            compare_ends(known.1.as_deref(), Some(start(range))) == Ordering::Less
        });
        let count = self.0[first..]
            .iter()
            .take_while(|known| touches(known))
            .count();
        let mut merged = range.clone();
        for known in &self.0[first..first + count] {
            if start(known) < start(&merged) {
                merged.0.clone_from(&known.0);
            }
            if compare_ends(known.1.as_deref(), merged.1.as_deref()) == Ordering::Greater {
                merged.1.clone_from(&known.1);
            }
        }
        self.0.splice(first..first + count, [merged]);
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        let after = self.0.partition_point(|range| start(range) <= key);
        after > 0 && self.0[after - 1].1.as_deref().is_none_or(|end| key < end)
    }
}

/// The range of one key.
pub(super) fn only(key: &[u8]) -> KeyRange {
    let mut after = key.to_vec();
    after.push(0);
    (Some(key.to_vec()), Some(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_ranges_agrees_with_a_set_of_keys() {
        let mut state = 7_u64;
        let mut below = |bound: u8| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            u8::try_from((state >> 33) % u64::from(bound)).unwrap()
        };
        for _ in 0..500 {
            let mut ranges = Ranges::default();
            let mut keys = [false; 40];
            for _ in 0..below(12) {
                let (from, to) = (below(40), below(44));
                let low = (from > 0).then(|| vec![from]);
                let high = (to < 40).then(|| vec![to]);
                ranges.insert(&(low, high));
                (from..to.min(40)).for_each(|key| keys[usize::from(key)] = true);
                for key in 0..40 {
                    assert_eq!(
                        ranges.contains(&[key]),
                        keys[usize::from(key)],
                        "{ranges:?}"
                    );
                }
                for pair in ranges.0.windows(2) {
                    assert_eq!(
                        compare_ends(pair[0].1.as_deref(), Some(start(&pair[1]))),
                        Ordering::Less
                    );
                }
            }
        }
    }
}
