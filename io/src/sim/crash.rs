//! What a crash leaves of a disk: any subset of what was not durable, torn at any place.
//!
//! # Algorithm
//! 1. Each shard draws its own odds of survival, so that the tails of shards are cut independently.
//! 2. Each pending change of a directory entry survives or not; what survives is applied in order.
//! 3. Files and directories that no durable entry reaches are gone.
//! 4. In each file the pending operations are taken back, newest first, which leaves the durable
//!    bytes; then each survives or not, and what survives is applied in order, whole or torn.
//!    Length changes are drawn apart from data; data beyond the surviving length is gone.
//!
//! A pure function of the image, the model and the generator.

use std::collections::BTreeSet;
use std::ops::AddAssign;

use super::blocks::{Block, ZEROS, block_of, bytes_of};
use super::image::{DirNode, Image, Node, NodeId};
use super::pending::{FileNode, PendingKind};
use super::rng::{PPM, Rng};
use crate::{BLOCK_BYTES, to_u64};

/// The unit that a device promises to write whole, on the devices that promise anything.
const SECTOR_BYTES: usize = 512;

/// How a crash treats what is not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CrashModel {
    /// The odds that a pending operation survives, in parts of a million. Without it each shard
    /// draws one of 0, 0.1, 0.5, 0.9 and 1.
    pub survival_ppm: Option<u32>,
    /// The odds that a surviving write is torn. Without it each shard draws one of 0, 0.1, 0.5 and
    /// 1.
    pub torn_ppm: Option<u32>,
}

impl CrashModel {
    /// Nothing survives that was not durable.
    pub const NOTHING_SURVIVES: Self = Self {
        survival_ppm: Some(0),
        torn_ppm: Some(0),
    };

    /// Everything survives that was written, as if the process alone had died.
    pub const EVERYTHING_SURVIVES: Self = Self {
        survival_ppm: Some(PPM),
        torn_ppm: Some(0),
    };
}

/// What one crash took and left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CrashReport {
    /// Pending writes that survived whole.
    pub writes_kept: u64,
    /// Pending writes that survived in part.
    pub writes_torn: u64,
    /// Pending writes that were lost.
    pub writes_lost: u64,
    /// Length changes that were lost.
    pub lengths_lost: u64,
    /// Changes of directory entries that were lost.
    pub entries_lost: u64,
    /// Shards of which anything was pending, each with odds of its own.
    pub shards_cut: u64,
}

impl AddAssign for CrashReport {
    fn add_assign(&mut self, other: Self) {
        self.writes_kept += other.writes_kept;
        self.writes_torn += other.writes_torn;
        self.writes_lost += other.writes_lost;
        self.lengths_lost += other.lengths_lost;
        self.entries_lost += other.entries_lost;
        self.shards_cut += other.shards_cut;
    }
}

/// The odds of one shard in one crash.
#[derive(Debug, Clone, Copy)]
struct Odds {
    survival_ppm: u32,
    torn_ppm: u32,
}

impl Odds {
    fn draw(model: &CrashModel, rng: &mut Rng) -> Self {
        let survival = rng.pick(&[0, PPM / 10, PPM / 2, PPM / 10 * 9, PPM]);
        let torn = rng.pick(&[0, PPM / 10, PPM / 2, PPM]);
        Self {
            survival_ppm: model.survival_ppm.unwrap_or(survival),
            torn_ppm: model.torn_ppm.unwrap_or(torn),
        }
    }
}

impl Image {
    /// Loses what a power failure would lose; everything that is left is durable.
    pub fn crash(&mut self, rng: &mut Rng, model: &CrashModel) -> CrashReport {
        let odds: Vec<Odds> = self.shards.iter().map(|_| Odds::draw(model, rng)).collect();
        let mut report = CrashReport {
            shards_cut: self.shards_pending(),
            ..CrashReport::default()
        };
        self.crash_entries(&odds, rng, &mut report);
        self.drop_unreachable();
        for node in self.nodes.iter_mut().flatten() {
            if let Node::File(file) = node {
                report += crash_file(file, odds[file.shard], rng);
            }
        }
        self.review_damage();
        self.last_crash = report;
        report
    }

    /// How many shards have anything pending; what lies outside of their directories is no shard.
    fn shards_pending(&self) -> u64 {
        let files = self.nodes.iter().flatten().filter_map(|node| match node {
            Node::File(file) if !file.pending.is_empty() => Some(file.shard),
            _ => None,
        });
        let entries = self.entry_ops.iter();
        let entries = entries.map(|op| self.dir(op.dir()).map_or(0, |dir| dir.shard));
        let shards: BTreeSet<usize> = files.chain(entries).filter(|&shard| shard > 0).collect();
        to_u64(shards.len())
    }

    /// What covered a damaged place may be lost: claim all damage again that can come back.
    fn review_damage(&mut self) {
        for damage in &mut self.ledger {
            if self.nodes.get(damage.node).is_none_or(Option::is_none) {
                damage.bury();
            } else if !damage.buried {
                damage.live |= damage.fault.is_lasting();
                damage.taken = true;
            }
        }
    }

    fn crash_entries(&mut self, odds: &[Odds], rng: &mut Rng, report: &mut CrashReport) {
        for op in std::mem::take(&mut self.entry_ops) {
            let shard = self.dir(op.dir()).map_or(0, |dir| dir.shard);
            if rng.chance(odds[shard].survival_ppm) {
                self.make_durable(&op);
            } else {
                report.entries_lost += 1;
            }
        }
    }

    fn drop_unreachable(&mut self) {
        let mut reached = vec![false; self.nodes.len()];
        let mut next: Vec<NodeId> = vec![0];
        while let Some(node) = next.pop() {
            if !std::mem::replace(&mut reached[node], true)
                && let Some(dir) = self.dir(node)
            {
                next.extend(dir.durable.values());
            }
        }
        for (node, reached) in self.nodes.iter_mut().zip(reached) {
            match node {
                Some(_) if !reached => *node = None,
                Some(Node::Dir(DirNode {
                    visible, durable, ..
                })) => visible.clone_from(durable),
                Some(Node::File(file)) => {
                    file.links = 1;
                    file.opens = 0;
                }
                None => {}
            }
        }
    }
}

fn crash_file(file: &mut FileNode, odds: Odds, rng: &mut Rng) -> CrashReport {
    let mut report = CrashReport::default();
    let mut len = file.durable_len;
    let mut ops = std::mem::take(&mut file.pending);
    for op in ops.iter_mut().rev() {
        if let PendingKind::Write(blocks) = &mut op.kind {
            // Taking back swaps: the operation then holds what it wrote.
            for (index, block) in blocks.iter_mut().rev() {
                *block = file.data.replace(*index, block.take());
            }
        }
    }
    for op in ops {
        let survives = rng.chance(odds.survival_ppm) && !op.doomed;
        match op.kind {
            PendingKind::Extend(grown) if survives => len = len.max(grown),
            PendingKind::Extend(_) => report.lengths_lost += 1,
            PendingKind::Write(_) if !survives => report.writes_lost += 1,
            PendingKind::Write(blocks) => {
                let torn = rng.chance(odds.torn_ppm);
                report.writes_torn += u64::from(torn);
                report.writes_kept += u64::from(!torn);
                let tear = torn.then(|| Tear::draw(rng));
                for (index, new) in blocks {
                    let block = match tear {
                        None => new,
                        Some(tear) => tear.apply(file.data.block(index), &new, rng),
                    };
                    file.data.replace(index, block);
                }
            }
        }
    }
    file.data.set_len(len);
    file.durable_len = len;
    report
}

/// How one write is torn: the unit that is kept or lost, and what lost units hold.
#[derive(Debug, Clone, Copy)]
struct Tear {
    unit_bytes: usize,
    fill: Fill,
}

#[derive(Debug, Clone, Copy)]
enum Fill {
    Old,
    Zeros,
    Garbage,
}

impl Tear {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            unit_bytes: rng.pick(&[1, SECTOR_BYTES, SECTOR_BYTES, BLOCK_BYTES]),
            fill: rng.pick(&[Fill::Old, Fill::Old, Fill::Zeros, Fill::Garbage]),
        }
    }

    /// Mixes a block of the units of `new` that made it and a filling for those that did not.
    fn apply(self, old: &Block, new: &Block, rng: &mut Rng) -> Block {
        let mut mixed = [0; BLOCK_BYTES];
        match self.fill {
            Fill::Old => mixed.copy_from_slice(bytes_of(old)),
            Fill::Zeros => mixed.copy_from_slice(&ZEROS),
            Fill::Garbage => rng.fill(&mut mixed),
        }
        let new = bytes_of(new);
        let mut units = mixed
            .chunks_mut(self.unit_bytes)
            .zip(new.chunks(self.unit_bytes));
        // One draw decides sixty-four units, lowest bit first.
        loop {
            let kept = rng.next_u64();
            let mut decided = 0;
            for (into, from) in units.by_ref().take(64) {
                if kept >> decided & 1 == 1 {
                    into.copy_from_slice(from);
                }
                decided += 1;
            }
            if decided < 64 {
                break;
            }
        }
        block_of(&mixed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_block_holds_whole_units_of_new_and_filling() {
        let mut rng = Rng::new(5);
        let (old, new) = (block_of(&[1; BLOCK_BYTES]), block_of(&[2; BLOCK_BYTES]));
        for unit_bytes in [1, SECTOR_BYTES, BLOCK_BYTES] {
            let tear = Tear {
                unit_bytes,
                fill: Fill::Old,
            };
            let mut seen = [0_u64; 3];
            for _ in 0..64 {
                let torn = tear.apply(&old, &new, &mut rng);
                for unit in bytes_of(&torn).chunks(unit_bytes) {
                    assert!(unit.iter().all(|byte| *byte == unit[0]));
                    seen[usize::from(unit[0])] += to_u64(unit.len());
                }
            }
            assert_eq!(seen[0], 0);
            assert!(seen[1] > 0 && seen[2] > 0);
        }
    }
}
