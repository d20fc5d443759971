//! How much about lies in a range of a memtable.

use lightning_io::to_u64;

use super::table::Memtable;
use crate::estimate::{Step, entries_between, sample_position};
use crate::{Direction, StoredRange};

/// Sample ways: a miss or two each, and small nodes of very different fillings.
const SAMPLES: usize = 32;

impl Memtable {
    /// About how many keys lie in a range, and how many bytes they take.
    pub fn estimate(&self, range: &StoredRange) -> (u64, u64) {
        if self.is_empty() {
            return (0, 0);
        }
        let end = |direction| {
            let (leaf, slot) = self.place(range.start(direction));
            self.way_to(leaf, slot, range.start(direction))
        };
        let (start, end) = (end(Direction::Forward), end(Direction::Reverse));
        let samples: Vec<_> = (0..SAMPLES).map(|sample| self.sample_way(sample)).collect();
        let (all, bytes) = (to_u64(self.keys()), to_u64(self.bytes()));
        let keys = entries_between(&start, &end, &samples, all);
        let bytes = u128::from(bytes) * u128::from(keys) / u128::from(all);
        (
            keys,
            u64::try_from(bytes).expect("it is a part of a number of this kind"),
        )
    }

    /// The way down to a slot of the leaf where a key belongs.
    fn way_to(&self, leaf: u32, slot: usize, key: &[u8]) -> Vec<Step> {
        let (smallest, largest) = (self.smallest.record, self.largest.record);
        let mut way = Vec::new();
        self.descend(
            key.clamp(self.key(smallest), self.key(largest)),
            |inner, child| {
                way.push(Step {
                    position: child,
                    count: self.inners[inner].slots.len() + 1,
                });
            },
        );
        way.push(Step {
            position: slot,
            count: self.leaves[leaf].slots.len(),
        });
        way
    }

    fn sample_way(&self, sample: usize) -> Vec<Step> {
        let mut way = Vec::new();
        let mut step = |count| {
            let position = sample_position((sample, SAMPLES), way.len(), count);
            way.push(Step { position, count });
            position
        };
        let mut node = self.root;
        for _ in 0..self.height {
            let inner = &self.inners[node];
            node = inner.children[step(inner.slots.len() + 1)];
        }
        step(self.leaves[node].slots.len());
        way
    }
}
