//! Which units of the file are taken: a bitmap in memory.
//!
//! # Invariants
//! * A set bit is a unit that the published tree, an older pinned tree or the update under way
//!   needs. Nothing is written to a unit whose bit is not set.
//! * Bits are cleared only by [`Space::release`]: when an update is given back, or when nobody can
//!   reach the old units any more (see `versions.rs`).
//! * What a space map on disk says is the bits that its own tree state reaches, without the extent
//!   of the map itself. Units pinned by older views are free after a restart, as are those of an
//!   update that was not finished.
//!
//! # Algorithm
//! Next fit: the search for a run of free units begins where the last one ended, so that the pages
//! of one update lie side by side, and wraps around once. A length for which no run was found is
//! remembered until something is released.

use super::address::{Extent, UNIT_BYTES};
use super::wire::u64_at;
use lightning_io::{to_u64, to_usize};

/// The most units that a file may have: 16 TiB, whose bitmap takes 512 MiB.
pub(super) const FILE_UNITS_MAX: u64 = 1 << 32;
/// The file grows by an eighth of its length, at least by 1 MiB, at most by 64 MiB.
const GROWTH_DIVISOR: u64 = 8;
const GROWTH_UNITS_MIN: u64 = to_u64((1 << 20) / UNIT_BYTES);
const GROWTH_UNITS_MAX: u64 = to_u64((64 << 20) / UNIT_BYTES);

const WORD_BITS: u64 = 64;

/// A set of units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bitmap {
    words: Vec<u64>,
}

impl Bitmap {
    pub(super) fn new(units: u64) -> Self {
        let mut bitmap = Self::default();
        bitmap.extend(units);
        bitmap
    }

    fn extend(&mut self, units: u64) {
        self.words.resize(to_usize(units.div_ceil(WORD_BITS)), 0);
    }

    /// The words that an extent touches, each with the mask of its bits.
    fn masks(extent: Extent) -> impl Iterator<Item = (usize, u64)> {
        let (mut unit, end) = (extent.unit, extent.unit + extent.units);
        std::iter::from_fn(move || {
            let word = unit / WORD_BITS;
            let from = unit % WORD_BITS;
            (unit < end).then(|| {
                let bits = (end - unit).min(WORD_BITS - from);
                unit += bits;
                (to_usize(word), (u64::MAX >> (WORD_BITS - bits)) << from)
            })
        })
    }

    /// Adds an extent; returns how many of its units were in the set already.
    pub(super) fn insert(&mut self, extent: Extent) -> u64 {
        let mut present = 0;
        for (word, mask) in Self::masks(extent) {
            present += u64::from((self.words[word] & mask).count_ones());
            self.words[word] |= mask;
        }
        present
    }

    /// Takes an extent out; returns how many of its units were in the set.
    pub(super) fn remove(&mut self, extent: Extent) -> u64 {
        let mut present = 0;
        for (word, mask) in Self::masks(extent) {
            present += u64::from((self.words[word] & mask).count_ones());
            self.words[word] &= !mask;
        }
        present
    }

    pub(super) fn contains(&self, extent: Extent) -> bool {
        Self::masks(extent).all(|(word, mask)| self.words[word] & mask == mask)
    }

    pub(super) fn count(&self) -> u64 {
        let ones = self.words.iter().map(|word| u64::from(word.count_ones()));
        ones.sum()
    }

    /// The units of `self` that are not in `other`.
    pub(super) fn difference_count(&self, other: &Self) -> u64 {
        let pairs = self.words.iter().enumerate();
        let only = pairs.map(|(at, word)| word & !other.words.get(at).copied().unwrap_or(0));
        only.map(|word| u64::from(word.count_ones())).sum()
    }

    /// The first run of `units` that are not in the set, at or after `from`, before `to`.
    fn find_gap(&self, units: u64, from: u64, to: u64) -> Option<u64> {
        let mut start = from;
        let mut unit = from;
        while unit < to {
            let word = self.words[to_usize(unit / WORD_BITS)] >> (unit % WORD_BITS);
            let left = WORD_BITS - unit % WORD_BITS;
            let free = u64::from(word.trailing_zeros()).min(left);
            unit += free;
            if unit.min(to) - start + u64::from(planted!("take_short_gap")) >= units {
                return Some(start);
            }
            if free < left {
                let taken = u64::from((word >> free).trailing_ones());
                unit += taken.min(left - free);
                start = unit;
            }
        }
        None
    }

    /// The set as a space map's content, up to its last unit.
    pub(super) fn to_words(&self) -> &[u64] {
        let len = self.words.iter().rposition(|&word| word != 0);
        &self.words[..len.map_or(0, |at| at + 1)]
    }

    /// Reads a space map's content for a file of `units`.
    ///
    /// # Errors
    /// When it is not whole words or names a unit that the file does not have.
    pub(super) fn from_bytes(bytes: &[u8], units: u64) -> Result<Self, String> {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut bitmap = Self {
            words: words.iter().map(|word| u64_at(word, 0)).collect(),
        };
        let last = bitmap.words.iter().rposition(|&word| word != 0);
        let end = last.map_or(0, |at| {
            (to_u64(at) + 1) * WORD_BITS - u64::from(bitmap.words[at].leading_zeros())
        });
        if !rest.is_empty() || end > units {
            return Err(format!(
                "a space map of {} bytes names unit {end} of {units}",
                bytes.len()
            ));
        }
        bitmap.extend(units);
        Ok(bitmap)
    }
}

/// The allocator of one file.
#[derive(Debug)]
pub(super) struct Space {
    used: Bitmap,
    used_units: u64,
    file_units: u64,
    /// Where the next search begins.
    next: u64,
    /// The shortest run that a whole search did not find since the last release or growth.
    missing: u64,
}

impl Space {
    /// Takes over a bitmap; unit 0, the file header, is always taken.
    pub(super) fn new(mut used: Bitmap, file_units: u64) -> Self {
        used.extend(file_units);
        used.insert(Extent { unit: 0, units: 1 });
        Self {
            used_units: used.count(),
            used,
            file_units,
            next: 0,
            missing: u64::MAX,
        }
    }

    /// Takes a run of free units, if the file has one.
    pub(super) fn take(&mut self, units: u64) -> Option<Extent> {
        if units == 0 || units >= self.missing || units > self.file_units {
            return None;
        }
        let wrapped = (self.next + units).min(self.file_units);
        let found = self
            .used
            .find_gap(units, self.next, self.file_units)
            .or_else(|| self.used.find_gap(units, 0, wrapped));
        let Some(unit) = found else {
            self.missing = units;
            return None;
        };
        let extent = Extent { unit, units };
        let present = self.used.insert(extent);
        assert_eq!(present, 0, "a gap holds no taken unit");
        self.used_units += units;
        self.next = unit + units;
        Some(extent)
    }

    /// Gives units back.
    pub(super) fn release(&mut self, extent: Extent) {
        let present = self.used.remove(extent);
        debug_assert_eq!(present, extent.units, "units are released once");
        self.used_units -= present;
        self.missing = u64::MAX;
    }

    /// How long the file should become to hold `units` more; `None` when it may not.
    pub(super) fn grown(&self, units: u64) -> Option<u64> {
        let step = (self.file_units / GROWTH_DIVISOR).clamp(GROWTH_UNITS_MIN, GROWTH_UNITS_MAX);
        let wanted = self.file_units + step.max(units);
        (self.file_units + units <= FILE_UNITS_MAX).then_some(wanted.min(FILE_UNITS_MAX))
    }

    /// Makes the units of a longer file available.
    pub(super) fn extend(&mut self, file_units: u64) {
        debug_assert!(file_units >= self.file_units);
        self.file_units = file_units;
        self.used.extend(file_units);
        self.missing = u64::MAX;
    }

    pub(super) fn is_taken(&self, extent: Extent) -> bool {
        extent.end().is_some_and(|end| end <= self.file_units) && self.used.contains(extent)
    }

    pub(super) fn file_units(&self) -> u64 {
        self.file_units
    }

    pub(super) fn used_units(&self) -> u64 {
        self.used_units
    }

    pub(super) fn used(&self) -> &Bitmap {
        &self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn space(units: u64) -> Space {
        Space::new(Bitmap::default(), units)
    }

    #[test]
    fn runs_lie_side_by_side_and_wrap_around_once() {
        let mut space = space(200);
        let first = space.take(100).unwrap();
        let second = space.take(70).unwrap();
        assert_eq!((first.unit, second.unit), (1, 101));
        assert_eq!(space.take(30), None);
        space.release(first);
        assert_eq!(space.take(29).map(|run| run.unit), Some(171));
        assert_eq!(space.take(100).map(|run| run.unit), Some(1));
        assert_eq!(space.take(1), None);
        assert_eq!(space.used_units(), 200);
    }

    #[test]
    fn the_allocator_agrees_with_a_set_of_numbers() {
        let mut state = 1u64;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        let mut space = space(1000);
        let mut taken: Vec<Extent> = Vec::new();
        let mut model = BTreeSet::from([0u64]);
        for _ in 0..5000 {
            if random(2) == 0 && !taken.is_empty() {
                let at = to_usize(random(to_u64(taken.len())));
                let extent = taken.swap_remove(at);
                space.release(extent);
                (extent.unit..extent.unit + extent.units).for_each(|unit| {
                    assert!(model.remove(&unit));
                });
            } else {
                let units = 1 + random(90);
                let fits = (0..=1000 - units)
                    .any(|start| model.range(start..start + units).next().is_none());
                let found = space.take(units);
                assert_eq!(found.is_some(), fits, "a run of {units}");
                if let Some(extent) = found {
                    (extent.unit..extent.unit + units).for_each(|unit| {
                        assert!(unit < 1000 && model.insert(unit));
                    });
                    taken.push(extent);
                }
            }
            assert_eq!(space.used_units(), to_u64(model.len()));
            assert_eq!(space.used().count(), space.used_units());
        }
    }

    #[test]
    fn a_map_survives_and_a_unit_past_the_file_is_refused() {
        let mut bitmap = Bitmap::new(300);
        bitmap.insert(Extent {
            unit: 60,
            units: 70,
        });
        let words = bitmap.to_words();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(bytes.len(), 24);
        assert_eq!(Bitmap::from_bytes(&bytes, 300), Ok(bitmap.clone()));
        assert!(Bitmap::from_bytes(&bytes, 130).is_ok());
        assert!(Bitmap::from_bytes(&bytes, 129).is_err());
        assert!(Bitmap::from_bytes(&bytes[..23], 300).is_err());
    }

    #[test]
    fn growth_stops_at_the_bound() {
        let mut space = space(10);
        assert_eq!(space.grown(1), Some(10 + GROWTH_UNITS_MIN));
        assert_eq!(space.grown(100_000), Some(100_010));
        space.extend(1000);
        assert_eq!(space.grown(FILE_UNITS_MAX), None);
        assert_eq!(space.grown(FILE_UNITS_MAX - 1000), Some(FILE_UNITS_MAX));
    }
}
