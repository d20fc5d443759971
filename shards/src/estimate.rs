//! How many entries about lie between two places of a tree, on disk or in memory.
//!
//! # Algorithm
//! 1. The ways down to both ends are known: at each level the position that was taken, and how many
//!    there are. What they leave between them is whole children and, in the two leaves, entries.
//! 2. A whole child counts as much as the average of its level. A child of the root has the
//!    entries of the tree divided by their number; further down, the average number of children is
//!    taken from a few sample ways, evenly spread over the tree.
//!
//! So a range within a leaf is exact, and the whole tree is. Everything else is off by as much as
//! its pages are filled otherwise than the average of the samples: where entries are of like sizes
//! and pages at least half full, by a factor of about two if every page of a short range is, and by
//! a few parts of a hundred for most ranges.

use lightning_io::to_u64;

/// Entries are counted in parts of this many, so that averages are not rounded off.
const PARTS: u128 = 1 << 20;

/// One level of a way down: the position that was taken, and how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) position: usize,
    pub(crate) count: usize,
}

/// Where sample way `sample` of `samples` turns to on a level that has `count` positions.
pub(crate) fn sample_position(
    (sample, samples): (usize, usize),
    depth: usize,
    count: usize,
) -> usize {
    // Evenly spread at the root, and anywhere below it, as neighbours may be filled alike.
    let spread = (sample + depth * 5) % samples;
    count * (2 * spread + 1) / (2 * samples)
}

/// What about lies between two ways down a tree of `entries`, given sample ways through it.
pub(crate) fn entries_between(
    start: &[Step],
    end: &[Step],
    samples: &[Vec<Step>],
    entries: u64,
) -> u64 {
    let is_first = start.iter().all(|step| step.position == 0);
    let Some((last, inner)) = end.split_last() else {
        return 0;
    };
    let is_last = inner.iter().all(|step| step.position + 1 == step.count);
    if is_first && is_last && last.position == last.count {
        return entries;
    }
    let sizes = child_sizes(start.len(), samples, entries);
    let Some(turn) = (0..start.len()).find(|&depth| start[depth] != end[depth]) else {
        return 0;
    };
    let leaf = start.len() - 1;
    let mut parts = 0;
    for depth in turn..=leaf {
        let (from, to) = (start[depth], end[depth]);
        // The way to the start goes through a child that is not whole, and so does the other one.
        let own = usize::from(depth < leaf);
        let whole = if depth == turn {
            to.position.saturating_sub(from.position + own)
        } else {
            (from.count - own).saturating_sub(from.position) + to.position
        };
        parts += u128::from(to_u64(whole)) * sizes[depth];
    }
    u64::try_from((parts + PARTS / 2) / PARTS).map_or(entries, |found| found.min(entries))
}

/// What a child counts on each level, in parts; a child of a leaf is one entry.
fn child_sizes(levels: usize, samples: &[Vec<Step>], entries: u64) -> Vec<u128> {
    let mut size = u128::from(entries) * PARTS;
    let mut sizes = Vec::with_capacity(levels);
    for depth in 0..levels.saturating_sub(1) {
        let children: usize = samples.iter().map(|way| way[depth].count).sum();
        size = size * u128::from(to_u64(samples.len())) / u128::from(to_u64(children.max(1)));
        sizes.push(size);
    }
    sizes.push(PARTS);
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(steps: &[(usize, usize)]) -> Vec<Step> {
        let step = |&(position, count)| Step { position, count };
        steps.iter().map(step).collect()
    }

    #[test]
    fn whole_children_count_as_the_average_and_the_rest_as_it_is() {
        // Ten children of the root, twenty leaves in each, five entries in each of those.
        let samples = [
            way(&[(0, 10), (3, 20), (0, 5)]),
            way(&[(5, 10), (1, 20), (2, 5)]),
        ];
        let between = |start: &[(usize, usize)], end: &[(usize, usize)]| {
            entries_between(&way(start), &way(end), &samples, 1_000)
        };
        assert_eq!(
            between(&[(0, 10), (0, 20), (0, 5)], &[(9, 10), (19, 20), (5, 5)]),
            1_000
        );
        assert_eq!(
            between(&[(2, 10), (7, 20), (1, 5)], &[(2, 10), (7, 20), (4, 5)]),
            3
        );
        assert_eq!(
            between(&[(2, 10), (7, 20), (1, 5)], &[(2, 10), (9, 20), (4, 5)]),
            13
        );
        assert_eq!(
            between(&[(2, 10), (7, 20), (1, 5)], &[(4, 10), (9, 20), (4, 5)]),
            213
        );
        assert_eq!(
            between(&[(2, 10), (7, 20), (4, 5)], &[(2, 10), (7, 20), (1, 5)]),
            0
        );
        assert_eq!(entries_between(&[], &[], &[], 0), 0);
    }
}
