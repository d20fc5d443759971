//! What a disk claims and does not do: writes that go elsewhere or nowhere, and reads of another
//! place or another time. Each is written into the ledger.

use std::ops::Range;
use std::path::Path;

use super::blocks::{Block, bytes_of};
use super::disk::{Disk, Opened};
use super::faults::Fault;
use super::image::{Node, NodeId};
use super::pending::{Durability, FileNode, block_range};
use super::transfer::put_block;
use crate::{BLOCK_BYTES, IoBuf, to_u64};

impl Disk {
    /// Acknowledges a write that never happens or happens elsewhere; true when it did.
    pub(super) fn lie(
        &mut self,
        opened: &Opened,
        offset: u64,
        buf: &IoBuf,
        durability: Durability,
        now: u64,
    ) -> bool {
        let (node, path) = (opened.node, &opened.place.path);
        let range = (offset, to_u64(buf.len()));
        let end = range.0 + range.1;
        let fault = if self.faults.strike(Fault::PhantomWrite, path) {
            Fault::PhantomWrite
        } else {
            if self.has_live(Fault::MisdirectedWrite)
                || !self.faults.draw(Fault::MisdirectedWrite, path)
            {
                return false;
            }
            let Some((victim, at)) =
                self.elsewhere(Fault::MisdirectedWrite, node, offset, buf.len())
            else {
                return false;
            };
            if let Some(file) = self.image.file_mut(victim) {
                file.write(at, buf, durability);
            }
            let victim_path = self.image.path_of(victim).unwrap_or_default();
            self.faults.fire(Fault::MisdirectedWrite);
            let struck = (at, range.1);
            self.record(Fault::MisdirectedWrite, victim, &victim_path, struck, now);
            Fault::MisdirectedWrite
        };
        if let Some(file) = self.image.file_mut(node) {
            file.extend(end);
            if durability == Durability::Now {
                file.durable_len = file.durable_len.max(end);
            }
        }
        self.record(fault, node, path, range, now);
        true
    }

    /// Replaces one block of what was read by what it held before it was last written.
    pub(super) fn stale(
        &mut self,
        node: NodeId,
        path: &Path,
        offset: u64,
        buf: &mut IoBuf,
        now: u64,
    ) {
        if !self.faults.draw(Fault::StaleRead, path) {
            return;
        }
        let range = block_range(offset, buf.len());
        let Some((index, old)) = self.old_block(node, range.clone()) else {
            return;
        };
        put_block(buf, index - range.start, &old);
        let block = (to_u64(index * BLOCK_BYTES), to_u64(BLOCK_BYTES));
        self.faults.fire(Fault::StaleRead);
        self.record(Fault::StaleRead, node, path, block, now);
    }

    /// From now on a block reads as it did before it was last written.
    pub(super) fn stale_for_good(
        &mut self,
        node: NodeId,
        path: &Path,
        range: Range<usize>,
        now: u64,
    ) {
        if !self.faults.draw(Fault::StickyStaleRead, path) {
            return;
        }
        let Some((index, old)) = self.old_block(node, range) else {
            return;
        };
        if let Some(file) = self.image.file_mut(node) {
            file.shown.insert(index, old);
        }
        let block = (to_u64(index * BLOCK_BYTES), to_u64(BLOCK_BYTES));
        self.faults.fire(Fault::StickyStaleRead);
        self.record(Fault::StickyStaleRead, node, path, block, now);
    }

    /// The newest of the blocks that were replaced in a range and held something else.
    pub(super) fn old_block(&self, node: NodeId, range: Range<usize>) -> Option<(usize, Block)> {
        let file = self.image.file(node)?;
        let old = file.history.iter().rev().find(|(index, old)| {
            range.contains(index) && bytes_of(old) != bytes_of(file.data.block(*index))
        });
        old.cloned()
    }

    /// From now on a place reads as another one did just now.
    pub(super) fn misdirect_for_good(
        &mut self,
        node: NodeId,
        path: &Path,
        offset: u64,
        len: usize,
        now: u64,
    ) {
        let fault = Fault::StickyMisdirectedRead;
        if !self.faults.draw(fault, path) {
            return;
        }
        let Some((source, from)) = self.elsewhere(fault, node, offset, len) else {
            return;
        };
        let Some(file) = self.image.file(source) else {
            return;
        };
        let blocks: Vec<Block> = block_range(from, len)
            .map(|index| file.data.block(index).clone())
            .collect();
        if let Some(file) = self.image.file_mut(node) {
            file.shown.extend(block_range(offset, len).zip(blocks));
        }
        self.faults.fire(fault);
        self.record(fault, node, path, (offset, to_u64(len)), now);
    }

    /// Another place of the same size with its own content: in the same file, in another one of
    /// the same directory, or in another shard's.
    pub(super) fn elsewhere(
        &mut self,
        fault: Fault,
        node: NodeId,
        offset: u64,
        len: usize,
    ) -> Option<(NodeId, u64)> {
        /// A few tries find a place on any disk that has one worth the name.
        const TRIES: usize = 8;
        let blocks = len / BLOCK_BYTES;
        let shard = self.image.file(node)?.shard;
        for _ in 0..TRIES {
            let class = self.faults.rng(fault).below(3);
            let wanted = |id: NodeId, file: &FileNode| match class {
                0 => id == node,
                1 => id != node && file.shard == shard,
                _ => file.shard != shard,
            };
            let chosen = self.victim(fault, wanted);
            let (victim, count) = chosen.or_else(|| self.victim(fault, |_, _| true))?;
            if count < blocks {
                continue;
            }
            let rng = self.faults.rng(fault);
            let at = to_u64(rng.index(count - blocks + 1) * BLOCK_BYTES);
            if (victim, at) != (node, offset) && at + to_u64(len) <= self.len_of(victim) {
                return Some((victim, at));
            }
        }
        None
    }

    /// A file that has blocks, and how many.
    pub(super) fn victim(
        &mut self,
        fault: Fault,
        wanted: impl Fn(NodeId, &FileNode) -> bool,
    ) -> Option<(NodeId, usize)> {
        let candidates: Vec<(NodeId, usize)> = self
            .image
            .nodes
            .iter()
            .enumerate()
            .filter_map(|(id, node)| match node {
                Some(Node::File(file)) if file.links > 0 && wanted(id, file) => {
                    Some((id, file.data.block_count()))
                }
                _ => None,
            })
            .filter(|&(_, count)| count > 0)
            .collect();
        if candidates.is_empty() {
            return None;
        }
        Some(self.faults.rng(fault).pick(&candidates))
    }

    pub(super) fn len_of(&self, node: NodeId) -> u64 {
        self.image.file(node).map_or(0, |file| file.data.len())
    }

    pub(super) fn has_live(&self, fault: Fault) -> bool {
        let mut ledger = self.image.ledger.iter();
        ledger.any(|damage| damage.live && damage.fault == fault)
    }
}
