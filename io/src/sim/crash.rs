//! What a crash leaves of a disk: any subset of what was not durable, torn at any place.
//!
//! # Algorithm
//! 1. Each shard draws its own odds of survival, so that the tails of shards are cut independently;
//!    for entries, lengths and contents apart, so that a new file can keep its name without its
//!    length.
//! 2. Each pending change of a directory entry survives or not; what survives is applied in order.
//! 3. Files and directories that no durable entry reaches are gone.
//! 4. In each file the pending operations are taken back, newest first, which leaves the durable
//!    bytes; then each survives or not, and what survives is applied in order, whole or torn.
//!    Length changes are drawn apart from data; data beyond the surviving length is gone.
//! 5. What was lost or torn counts where the disk is another one for it: a write that others
//!    covered, or that tore into what it was, was no fault.
//!
//! A pure function of the image, the model and the generator.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;

use super::blocks::{Block, ZEROS, block_of, bytes_of};
use super::image::{DirNode, EntryOp, Image, Node, NodeId};
use super::pending::{FileNode, PendingKind};
use super::rng::{PPM, Rng};
use crate::{BLOCK_BYTES, to_u64};

/// The unit that a device promises to write whole, on the devices that promise anything.
const SECTOR_BYTES: usize = 512;

/// Tears that are drawn for one write until one shows. Each is one in two or better, by the unit of
/// one byte alone one in four.
const TEARS_MAX: usize = 4;

/// How a crash treats what is not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CrashModel {
    /// The odds that a pending operation survives, in parts of a million. Without it each shard
    /// draws one of 0, 0.1, 0.5, 0.9 and 1, for each kind of operation.
    pub survival_ppm: Option<u32>,
    /// The odds that a surviving write is torn. Without it each shard draws one of 0.1, 0.5 and 1.
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

/// What one crash took and left; only what shows on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CrashReport {
    /// Pending writes that survived whole, or whose loss shows nowhere.
    pub writes_kept: u64,
    /// Pending writes of which a part is there.
    pub writes_torn: u64,
    /// Pending writes of which nothing is there.
    pub writes_lost: u64,
    /// Length changes that left a file shorter.
    pub lengths_lost: u64,
    /// Changes of directory entries that were undone.
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

/// The odds of one shard in one crash, in parts of a million: of survival, and of being torn.
#[derive(Debug, Clone, Copy)]
struct Odds {
    entries: u32,
    lengths: u32,
    writes: u32,
    torn: u32,
}

impl Odds {
    fn draw(model: &CrashModel, rng: &mut Rng) -> Self {
        let mut survival = || {
            let drawn = rng.pick(&[0, PPM / 10, PPM / 2, PPM / 10 * 9, PPM]);
            model.survival_ppm.unwrap_or(drawn)
        };
        let (entries, lengths, writes) = (survival(), survival(), survival());
        let torn = rng.pick(&[PPM / 10, PPM / 2, PPM, PPM]);
        Self {
            entries,
            lengths,
            writes,
            torn: model.torn_ppm.unwrap_or(torn),
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
        let mut lost = Vec::new();
        for op in std::mem::take(&mut self.entry_ops) {
            let shard = self.dir(op.dir()).map_or(0, |dir| dir.shard);
            if rng.chance(odds[shard].entries) && !op.doomed {
                self.make_durable(&op);
            } else {
                lost.push(op);
            }
        }
        let undone = lost.iter().filter(|op| self.is_undone(op));
        report.entries_lost += to_u64(undone.count());
    }

    /// Whether an entry is durably other than this change had left it.
    fn is_undone(&self, op: &EntryOp) -> bool {
        [&op.from, &op.to].into_iter().flatten().any(|(dir, name)| {
            self.dir(*dir)
                .is_some_and(|dir| dir.visible.get(name) != dir.durable.get(name))
        })
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
    let mut ops = std::mem::take(&mut file.pending);
    let mut newest: BTreeMap<usize, Block> = BTreeMap::new();
    for op in ops.iter_mut().rev() {
        if let PendingKind::Write(blocks) = &mut op.kind {
            // Taking back swaps: the operation then holds what it wrote.
            for (index, block) in blocks.iter_mut().rev() {
                let wrote = file.data.replace(*index, block.take());
                newest.entry(*index).or_insert_with(|| wrote.clone());
                *block = wrote;
            }
        }
    }
    let mut len = file.durable_len;
    let (mut writes, mut lost_lengths) = (Vec::new(), Vec::new());
    for op in ops {
        match op.kind {
            PendingKind::Extend(grown) => {
                if rng.chance(odds.lengths) && !op.doomed {
                    len = len.max(grown);
                } else {
                    lost_lengths.push(grown);
                }
            }
            PendingKind::Write(blocks) => {
                let indices: Vec<usize> = blocks.iter().map(|(index, _)| *index).collect();
                let survives = rng.chance(odds.writes) && !op.doomed;
                let fate = match survives {
                    true if rng.chance(odds.torn) => tear(file, &blocks, rng),
                    true => keep(file, blocks),
                    false => Fate::Lost,
                };
                writes.push((indices, fate));
            }
        }
    }
    file.data.set_len(len);
    file.durable_len = len;
    let mut report = CrashReport {
        lengths_lost: to_u64(lost_lengths.iter().filter(|lost| **lost > len).count()),
        ..CrashReport::default()
    };
    let shows = |index: &usize| {
        let is_inside = *index < file.data.block_count();
        is_inside && bytes_of(file.data.block(*index)) != bytes_of(&newest[index])
    };
    for (indices, fate) in writes {
        match fate {
            Fate::Torn if indices.iter().any(shows) => report.writes_torn += 1,
            Fate::Lost if indices.iter().any(shows) => report.writes_lost += 1,
            Fate::Kept | Fate::Torn | Fate::Lost => report.writes_kept += 1,
        }
    }
    report
}

/// What became of one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Torn,
    Lost,
}

/// Puts a surviving write in place, whole.
fn keep(file: &mut FileNode, blocks: Vec<(usize, Block)>) -> Fate {
    for (index, new) in blocks {
        file.data.replace(index, new);
    }
    Fate::Kept
}

/// Puts a part of a surviving write in place. A short write over zeros is the same whole or lost in
/// most of its units, so a few tears are drawn until one shows.
fn tear(file: &mut FileNode, blocks: &[(usize, Block)], rng: &mut Rng) -> Fate {
    let mut mixed = Vec::new();
    let mut fate = Fate::Kept;
    for _ in 0..TEARS_MAX {
        let tear = Tear::draw(rng);
        let torn = |(index, new): &(usize, Block)| tear.apply(file.data.block(*index), new, rng);
        mixed = blocks.iter().map(torn).collect();
        fate = Fate::of(file, blocks, &mixed);
        if fate == Fate::Torn {
            break;
        }
    }
    for ((index, _), block) in blocks.iter().zip(mixed) {
        file.data.replace(*index, block);
    }
    fate
}

impl Fate {
    /// What a write comes to that would leave `mixed` where it wrote `blocks`.
    fn of(file: &FileNode, blocks: &[(usize, Block)], mixed: &[Block]) -> Self {
        let both = || blocks.iter().zip(mixed);
        if both().all(|((_, new), put)| bytes_of(put) == bytes_of(new)) {
            return Self::Kept;
        }
        let is_old = |index: usize, put| bytes_of(file.data.block(index)) == bytes_of(put);
        if both().all(|(&(index, _), put)| is_old(index, put)) {
            Self::Lost
        } else {
            Self::Torn
        }
    }
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
