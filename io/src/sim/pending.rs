//! One simulated file: what a reader sees now, and how to take back what is not durable yet.
//!
//! # Invariants
//! * `data` holds the newest written bytes. Taking the pending operations back, newest first, gives
//!   the durable bytes; cutting those at `durable_len` gives the durable file.
//! * A pending write remembers the blocks it replaced, so taking it back swaps pointers. A block
//!   that a durable write covers afterwards is forgotten by every earlier operation: it cannot be
//!   undone.
//! * Length changes are operations of their own: data may survive without its length and the
//!   reverse.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::blocks::{Block, Blocks, block_of};
use super::rng::Rng;
use crate::{BLOCK_BYTES, to_u64, to_usize};

/// Operations that one file may have pending; beyond it the oldest becomes durable by itself, as a
/// device writes back its cache in time. 4096 writes of 64 KiB are 256 MiB, a large device cache.
const PENDING_OPS_MAX: usize = 4096;

/// Replaced blocks remembered per file for stale reads: enough to be older than the last few
/// writes.
const HISTORY_BLOCKS_MAX: usize = 64;

/// When a write becomes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// With the write itself.
    Now,
    /// With a later sync, or by luck.
    Later,
}

/// An operation that a crash may or may not keep.
#[derive(Debug, Clone)]
pub(super) struct PendingOp {
    pub(super) seq: u64,
    /// A sync failed on it: no later sync makes it durable, and no crash keeps it.
    pub(super) doomed: bool,
    pub(super) kind: PendingKind,
}

#[derive(Debug, Clone)]
pub(super) enum PendingKind {
    /// Blocks by index, with what they held before.
    Write(Vec<(usize, Block)>),
    /// The file grew to this length.
    Extend(u64),
}

/// A regular file.
#[derive(Debug, Clone, Default)]
pub(super) struct FileNode {
    pub(super) data: Blocks,
    pub(super) durable_len: u64,
    pub(super) pending: VecDeque<PendingOp>,
    pub(super) next_seq: u64,

    /// Blocks that cannot be read until they are written again.
    pub(super) bad_read: BTreeSet<usize>,
    /// Blocks that cannot be written any more.
    pub(super) bad_write: BTreeSet<usize>,
    /// Blocks that read as something else until they are written again.
    pub(super) shown: BTreeMap<usize, Block>,
    /// Blocks that were replaced, oldest first; empty unless stale reads are switched on.
    pub(super) history: VecDeque<(usize, Block)>,
    pub(super) keep_history: bool,

    /// Names that lead to the file now.
    pub(super) links: u32,
    /// Open handles.
    pub(super) opens: u32,
    /// Whose file it is: crashes and stalls strike shard by shard.
    pub(super) shard: usize,
}

/// The blocks that `len` bytes at `offset` touch.
pub(super) fn block_range(offset: u64, len: usize) -> std::ops::Range<usize> {
    let first = to_usize(offset) / BLOCK_BYTES;
    first..first + len.div_ceil(BLOCK_BYTES)
}

impl FileNode {
    /// A durable file with these bytes.
    pub(super) fn durable(bytes: &[u8]) -> Self {
        Self {
            data: Blocks::from_bytes(bytes),
            durable_len: to_u64(bytes.len()),
            ..Self::default()
        }
    }

    /// Operations from this mark on are not covered by a sync that is asked for now.
    pub(super) fn sync_mark(&self) -> u64 {
        self.next_seq
    }

    /// Writes block-aligned bytes and grows the file as needed.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8], durability: Durability) {
        let end = offset + to_u64(bytes.len());
        if durability == Durability::Now {
            self.durable_len = self.durable_len.max(end);
            if end > self.data.len() {
                self.data.set_len(end);
            }
        } else {
            self.extend(end);
        }
        let range = block_range(offset, bytes.len());
        let mut replaced = Vec::with_capacity(range.len());
        for (index, chunk) in range.clone().zip(bytes.chunks(BLOCK_BYTES)) {
            let old = self.data.replace(index, block_of(chunk));
            if self.keep_history {
                self.remember(index, old.clone());
            }
            replaced.push((index, old));
        }
        if !self.bad_read.is_empty() {
            self.bad_read.retain(|index| !range.contains(index));
        }
        if !self.shown.is_empty() {
            self.shown.retain(|index, _| !range.contains(index));
        }
        match durability {
            Durability::Now => supersede(&mut self.pending, |index| range.contains(&index)),
            Durability::Later => self.push(PendingKind::Write(replaced)),
        }
    }

    /// Grows the file to `len` if it is shorter.
    pub(super) fn extend(&mut self, len: u64) {
        if len > self.data.len() {
            self.data.set_len(len);
            self.push(PendingKind::Extend(len));
        }
    }

    /// Makes durable what was pending before `mark` was taken.
    pub(super) fn sync(&mut self, mark: u64) {
        let mut kept: VecDeque<PendingOp> = VecDeque::new();
        for op in self.pending.drain(..) {
            if op.seq >= mark || op.doomed {
                kept.push_back(op);
                continue;
            }
            match op.kind {
                PendingKind::Extend(len) => self.durable_len = self.durable_len.max(len),
                PendingKind::Write(blocks) => supersede(&mut kept, |index| {
                    blocks.iter().any(|&(covered, _)| covered == index)
                }),
            }
        }
        self.pending = kept;
    }

    /// A sync failed: each operation before `mark` is lost for good with even odds, although
    /// reads go on to show it. Returns how many were.
    pub(super) fn doom(&mut self, mark: u64, rng: &mut Rng) -> u64 {
        let mut doomed = 0;
        for op in self.pending.iter_mut().filter(|op| op.seq < mark) {
            if !op.doomed && rng.coin() {
                op.doomed = true;
                doomed += 1;
            }
        }
        doomed
    }

    /// Loses what a failed sync did not save: direct reads bring what the device has.
    pub(super) fn drop_doomed(&mut self) {
        if !self.has_doomed() {
            return;
        }
        let mut ops = std::mem::take(&mut self.pending);
        for op in ops.iter_mut().rev() {
            if let PendingKind::Write(blocks) = &mut op.kind {
                for (index, block) in blocks.iter_mut().rev() {
                    *block = self.data.replace(*index, block.take());
                }
            }
        }
        let mut len = self.durable_len;
        ops.retain(|op| !op.doomed);
        for op in &mut ops {
            match &mut op.kind {
                PendingKind::Extend(grown) => len = len.max(*grown),
                PendingKind::Write(blocks) => {
                    for (index, block) in blocks.iter_mut() {
                        *block = self.data.replace(*index, block.take());
                    }
                }
            }
        }
        self.data.set_len(len);
        self.pending = ops;
    }

    /// True when a sync failed on something that no later one saves.
    pub(super) fn has_doomed(&self) -> bool {
        self.pending.iter().any(|op| op.doomed)
    }

    /// True when a crash could change what the block holds.
    pub(super) fn is_pending(&self, block: usize) -> bool {
        self.pending.iter().any(|op| match &op.kind {
            PendingKind::Write(blocks) => blocks.iter().any(|&(index, _)| index == block),
            PendingKind::Extend(_) => false,
        })
    }

    fn push(&mut self, kind: PendingKind) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.pending.push_back(PendingOp {
            seq,
            doomed: false,
            kind,
        });
        if self.pending.len() > PENDING_OPS_MAX {
            let oldest = self.pending.front().map_or(seq, |op| op.seq);
            self.sync(oldest + 1);
        }
    }

    fn remember(&mut self, index: usize, old: Block) {
        if self.history.len() == HISTORY_BLOCKS_MAX {
            self.history.pop_front();
        }
        self.history.push_back((index, old));
    }
}

/// Makes earlier operations forget blocks that are durable now.
fn supersede(ops: &mut VecDeque<PendingOp>, covered: impl Fn(usize) -> bool) {
    if ops.is_empty() {
        return;
    }
    ops.retain_mut(|op| match &mut op.kind {
        PendingKind::Extend(_) => true,
        PendingKind::Write(blocks) => {
            blocks.retain(|&(index, _)| !covered(index));
            !blocks.is_empty()
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 4096;

    fn page(byte: u8) -> Vec<u8> {
        vec![byte; BLOCK_BYTES]
    }

    #[test]
    fn a_sync_covers_what_came_before_its_mark_only() {
        let mut file = FileNode::default();
        file.write(0, &page(1), Durability::Later);
        let mark = file.sync_mark();
        file.write(BLOCK, &page(2), Durability::Later);
        file.sync(mark);
        assert_eq!(file.durable_len, BLOCK);
        assert!(!file.is_pending(0));
        assert!(file.is_pending(1));
    }

    #[test]
    fn a_durable_write_frees_its_blocks_from_earlier_operations() {
        let mut file = FileNode::default();
        file.write(0, &[page(1), page(1)].concat(), Durability::Later);
        file.write(BLOCK, &page(2), Durability::Now);
        assert!(file.is_pending(0));
        assert!(!file.is_pending(1));
        assert_eq!(file.durable_len, 2 * BLOCK);
    }

    #[test]
    fn a_doomed_write_outlives_later_syncs() {
        let mut rng = Rng::new(1);
        let mut file = FileNode::default();
        for block in 0..16 {
            file.write(block * BLOCK, &page(1), Durability::Later);
        }
        let mark = file.sync_mark();
        let doomed = file.doom(mark, &mut rng);
        assert!(doomed > 0);
        file.sync(mark);
        assert_eq!(to_u64(file.pending.len()), doomed);
    }

    #[test]
    fn what_a_failed_sync_lost_is_gone_and_the_rest_is_pending_still() {
        let mut rng = Rng::new(1);
        let mut file = FileNode::durable(&vec![7; 16 * BLOCK_BYTES]);
        for block in 0..16 {
            file.write(block * BLOCK, &page(1), Durability::Later);
        }
        let doomed = file.doom(file.sync_mark(), &mut rng);
        file.write(0, &page(2), Durability::Later);
        file.drop_doomed();
        assert!(!file.has_doomed());
        let bytes = file.data.to_vec();
        let (first, rest) = bytes.split_at(BLOCK_BYTES);
        assert_eq!(first, page(2));
        let old = rest.chunks(BLOCK_BYTES).filter(|block| block[0] == 7);
        let lost = to_u64(old.count());
        assert!(lost == doomed || lost + 1 == doomed, "block 0 may be one");
        file.sync(file.sync_mark());
        assert!(file.pending.is_empty());
    }

    #[test]
    fn the_list_of_pending_operations_is_bounded() {
        let mut file = FileNode::default();
        for _ in 0..PENDING_OPS_MAX + 10 {
            file.write(0, &page(1), Durability::Later);
        }
        assert!(file.pending.len() <= PENDING_OPS_MAX);
    }
}
