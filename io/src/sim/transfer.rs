//! Reads, writes and syncs, and what can go wrong with each.
//!
//! Faults are tried in the order of how early they strike: a script first, then refusals
//! (alignment, space, blocks gone bad), then errors, then lies (a write that went elsewhere, a sync
//! that did nothing). What is done on purpose goes into the ledger.

use std::path::Path;

use super::blocks::{Block, bytes_of};
use super::disk::{Disk, Opened, Place, Reply, growth, is_aligned};
use super::faults::{Damage, Fault};
use super::image::{Node, NodeId};
use super::pending::{Durability, block_range};
use crate::{Access, BLOCK_BYTES, IoBuf, IoErrorKind, to_u64, to_usize};

/// The largest file, as on ext4: an offset beyond it is refused, so no sum below can overflow.
const FILE_BYTES_MAX: u64 = 16 << 40;

/// The unit in which a device transfers less than it was asked to.
const SECTOR_BYTES: usize = 512;

fn eio() -> IoErrorKind {
    IoErrorKind::Device {
        errno: Some(5),
        message: "Input/output error".to_owned(),
    }
}

fn check_range(offset: u64, len: usize) -> Result<(), IoErrorKind> {
    if !is_aligned(offset) || !len.is_multiple_of(BLOCK_BYTES) {
        return Err(IoErrorKind::Device {
            errno: Some(22),
            message: "Invalid argument".to_owned(),
        });
    }
    if offset > FILE_BYTES_MAX || to_u64(len) > FILE_BYTES_MAX {
        return Err(IoErrorKind::NoSpace);
    }
    Ok(())
}

impl Disk {
    pub(super) fn read(
        &mut self,
        node: NodeId,
        place: &Place,
        offset: u64,
        len: usize,
        scripted: Option<IoErrorKind>,
        now: u64,
    ) -> Result<IoBuf, IoErrorKind> {
        if let Some(error) = scripted {
            return Err(error);
        }
        check_range(offset, len)?;
        let path = &place.path;
        let range = block_range(offset, len);
        let file = self.image.file(node).ok_or(IoErrorKind::NotFound)?;
        if file.bad_read.range(range.clone()).next().is_some() {
            return Err(eio());
        }
        let file_len = file.data.len();
        if offset + to_u64(len) > file_len {
            let found = to_usize(file_len.saturating_sub(offset));
            return Err(IoErrorKind::ShortRead {
                expected: len,
                found,
            });
        }
        self.read_faults(node, path, offset, len, now)?;

        let mut buf = IoBuf::zeroed(len);
        self.misdirect_for_good(node, path, offset, len, now);
        self.stale_for_good(node, path, range, now);
        let (mut source, mut from) = (node, offset);
        if self.faults.draw(Fault::MisdirectedRead, path)
            && let Some(elsewhere) = self.elsewhere(Fault::MisdirectedRead, node, offset, len)
        {
            (source, from) = elsewhere;
            self.faults.fire(Fault::MisdirectedRead);
            let range = (offset, to_u64(len));
            self.record(Fault::MisdirectedRead, node, path, range, now);
        }
        if let Some(file) = self.image.file(source) {
            file.data.read(from, &mut buf[..len]);
            let blocks = block_range(from, len);
            for (index, shown) in file.shown.range(blocks.clone()) {
                put_block(&mut buf, index - blocks.start, shown);
            }
        }
        self.stale(node, path, offset, &mut buf, now);
        Ok(buf)
    }

    pub(super) fn write(
        &mut self,
        opened: &Opened,
        offset: u64,
        buf: &IoBuf,
        scripted: Option<IoErrorKind>,
        now: u64,
    ) -> Result<(), IoErrorKind> {
        let (node, path) = (opened.node, &opened.place.path);
        if opened.access == Access::Read {
            return Err(IoErrorKind::PermissionDenied);
        }
        check_range(offset, buf.len())?;
        let stale_reads =
            self.faults.is_on(Fault::StaleRead) || self.faults.is_on(Fault::StickyStaleRead);
        let file = self.image.file_mut(node).ok_or(IoErrorKind::NotFound)?;
        file.keep_history = stale_reads;
        let end = offset + to_u64(buf.len());
        let extra = growth(file.data.len(), end);
        if let Some(error) = scripted {
            self.write_part(Fault::Scripted, opened, offset, buf, now);
            return Err(error);
        }
        if !self.has_space(extra, path, now) {
            self.write_part(Fault::NoSpace, opened, offset, buf, now);
            return Err(IoErrorKind::NoSpace);
        }
        self.write_faults(opened, offset, buf, now)?;

        let durability = match opened.access {
            Access::ReadWriteDurable => Durability::Now,
            Access::Read | Access::ReadWrite => Durability::Later,
        };
        if self.lie(opened, offset, buf, durability, now) {
            return Ok(());
        }
        if let Some(file) = self.image.file_mut(node) {
            file.write(offset, buf, durability);
        }
        self.heal(node, offset, end, durability);
        Ok(())
    }

    pub(super) fn sync(
        &mut self,
        node: NodeId,
        place: &Place,
        mark: u64,
        scripted: Option<IoErrorKind>,
        now: u64,
    ) -> Result<Reply, IoErrorKind> {
        let path = &place.path;
        let fault = if scripted.is_some() {
            Fault::Scripted
        } else {
            Fault::SyncError
        };
        if let Some(error) = scripted.or_else(|| self.sync_error(path)) {
            let rng = self.faults.rng(fault);
            let file = self.image.file_mut(node).ok_or(IoErrorKind::NotFound)?;
            let len = file.data.len();
            file.doom(mark, rng);
            self.record(fault, node, path, (0, len), now);
            return Err(error);
        }
        if self.faults.strike(Fault::LyingSync, path) {
            let len = self.image.file(node).map_or(0, |file| file.data.len());
            self.record(Fault::LyingSync, node, path, (0, len), now);
            return Ok(Reply::Done);
        }
        let file = self.image.file_mut(node).ok_or(IoErrorKind::NotFound)?;
        file.sync(mark);
        self.settle_damage(node);
        Ok(Reply::Done)
    }

    /// What covers a damage is durable now, or what an earlier sync only claimed to save.
    fn settle_damage(&mut self, node: NodeId) {
        let Some(Some(found)) = self.image.nodes.get(node) else {
            return;
        };
        let (doomed, pending): (bool, &dyn Fn(&Damage) -> bool) = match found {
            Node::Dir(_) => (false, &|_| false),
            Node::File(file) => (file.has_doomed(), &|damage| {
                block_range(damage.offset, to_usize(damage.len)).any(|at| file.is_pending(at))
            }),
        };
        for damage in self.image.ledger.iter_mut().filter(|d| d.node == node) {
            let saved = damage.fault == Fault::LyingSync && !damage.taken && !doomed;
            if saved || (!damage.live && !pending(damage)) {
                damage.bury();
            }
        }
    }

    pub(super) fn sync_dir(
        &mut self,
        place: &Place,
        mark: u64,
        scripted: Option<IoErrorKind>,
        now: u64,
    ) -> Result<Reply, IoErrorKind> {
        let path = &place.path;
        let node = self.image.resolve(path)?;
        let fault = if scripted.is_some() {
            Fault::Scripted
        } else {
            Fault::SyncError
        };
        if let Some(error) = scripted.or_else(|| self.sync_error(path)) {
            self.image.doom_entries(path, mark, self.faults.rng(fault));
            self.record(fault, node, path, (0, 0), now);
            return Err(error);
        }
        if self.faults.strike(Fault::LyingSync, path) {
            self.record(Fault::LyingSync, node, path, (0, 0), now);
            return Ok(Reply::Done);
        }
        self.image.sync_dir(path, mark)?;
        self.settle_damage(node);
        Ok(Reply::Done)
    }

    fn sync_error(&mut self, path: &Path) -> Option<IoErrorKind> {
        self.faults.strike(Fault::SyncError, path).then(eio)
    }

    /// Lets a bit, a byte or a sector rot somewhere, in a place that no crash could bring back.
    pub(super) fn rot(&mut self, now: u64) {
        if !self.faults.draw_anywhere(Fault::BitRot) {
            return;
        }
        let Some((node, _)) = self.victim(Fault::BitRot, |_, _| true) else {
            return;
        };
        let Some(path) = self.image.path_of(node) else {
            return;
        };
        let (Some(file), rng) = (self.image.file_mut(node), self.faults.rng(Fault::BitRot)) else {
            return;
        };
        let start = rng.index(file.data.block_count());
        let Some(block) = file.data.written_block(start) else {
            return;
        };
        let base = to_u64(block * BLOCK_BYTES);
        let room = (file.data.len() - base).min(to_u64(BLOCK_BYTES));
        if !self.faults.allows(Fault::BitRot, &path) || file.is_pending(block) {
            return;
        }
        let rng = self.faults.rng(Fault::BitRot);
        let (offset, len) = match rng.below(3) {
            0 | 1 => (base + rng.below(room), 1),
            _ => (base, room.min(to_u64(SECTOR_BYTES))),
        };
        let single_bit = rng.coin();
        for position in offset..offset + len {
            let noise = rng.next_u64().to_le_bytes()[0] | 1;
            let mask = if single_bit && len == 1 {
                1 << (noise >> 5)
            } else {
                noise
            };
            file.data.flip(position, mask);
        }
        self.faults.fire(Fault::BitRot);
        self.record(Fault::BitRot, node, &path, (offset, len), now);
    }

    fn read_faults(
        &mut self,
        node: NodeId,
        path: &Path,
        offset: u64,
        len: usize,
        now: u64,
    ) -> Result<(), IoErrorKind> {
        let range = (offset, to_u64(len));
        if self.faults.strike(Fault::StickyReadError, path) {
            let blocks = block_range(offset, len);
            let rng = self.faults.rng(Fault::StickyReadError);
            let bad = blocks.start + rng.index(blocks.len());
            if let Some(file) = self.image.file_mut(node) {
                file.bad_read.insert(bad);
            }
            let block = (to_u64(bad * BLOCK_BYTES), to_u64(BLOCK_BYTES));
            self.record(Fault::StickyReadError, node, path, block, now);
            return Err(eio());
        }
        if self.faults.strike(Fault::ReadError, path) {
            self.record(Fault::ReadError, node, path, range, now);
            return Err(eio());
        }
        if self.faults.strike(Fault::ShortRead, path) {
            let sectors = self.faults.rng(Fault::ShortRead).index(len / SECTOR_BYTES);
            self.record(Fault::ShortRead, node, path, range, now);
            return Err(IoErrorKind::ShortRead {
                expected: len,
                found: sectors * SECTOR_BYTES,
            });
        }
        Ok(())
    }

    fn write_faults(
        &mut self,
        opened: &Opened,
        offset: u64,
        buf: &IoBuf,
        now: u64,
    ) -> Result<(), IoErrorKind> {
        let (node, path) = (opened.node, &opened.place.path);
        let blocks = block_range(offset, buf.len());
        let file = self.image.file(node).ok_or(IoErrorKind::NotFound)?;
        if file.bad_write.range(blocks.clone()).next().is_some() {
            self.write_part(Fault::StickyWriteError, opened, offset, buf, now);
            return Err(eio());
        }
        let durable = opened.access == Access::ReadWriteDurable;
        let fault = if durable {
            Fault::DurableWriteError
        } else {
            Fault::WriteError
        };
        if self.faults.strike(fault, path) {
            self.write_part(fault, opened, offset, buf, now);
            return Err(eio());
        }
        if !durable && self.faults.strike(Fault::StickyWriteError, path) {
            let rng = self.faults.rng(Fault::StickyWriteError);
            let bad = blocks.start + rng.index(blocks.len());
            if let Some(file) = self.image.file_mut(node) {
                file.bad_write.insert(bad);
            }
            self.write_part(Fault::StickyWriteError, opened, offset, buf, now);
            return Err(eio());
        }
        if self.faults.strike(Fault::ShortWrite, path) {
            let rng = self.faults.rng(Fault::ShortWrite);
            let whole = rng.index(blocks.len());
            let found = whole * BLOCK_BYTES;
            if let Some(file) = self.image.file_mut(node)
                && whole > 0
            {
                file.write(offset, &buf[..found], Durability::Later);
            }
            let range = (offset, to_u64(buf.len()));
            self.record(Fault::ShortWrite, node, path, range, now);
            return Err(IoErrorKind::ShortWrite {
                expected: buf.len(),
                found,
            });
        }
        Ok(())
    }

    /// Applies any part of a failed write, none and all included; never durable.
    fn write_part(&mut self, fault: Fault, opened: &Opened, offset: u64, buf: &IoBuf, now: u64) {
        let rng = self.faults.rng(fault);
        let Some(file) = self.image.file_mut(opened.node) else {
            return;
        };
        let all = rng.below(4);
        for (index, chunk) in buf.chunks(BLOCK_BYTES).enumerate() {
            if all == 0 || (all == 1 && rng.coin()) {
                // A full disk has room for what was there already, and for nothing behind it.
                let at = offset + to_u64(index * BLOCK_BYTES);
                let end = at + to_u64(BLOCK_BYTES);
                if fault != Fault::NoSpace || end <= file.data.len() {
                    file.write(at, chunk, Durability::Later);
                }
            }
        }
        let range = (offset, to_u64(buf.len()));
        self.record(fault, opened.node, &opened.place.path, range, now);
    }

    /// Damage that a write covers is not live any more.
    fn heal(&mut self, node: NodeId, offset: u64, end: u64, durability: Durability) {
        for damage in &mut self.image.ledger {
            if damage.node == node && damage.offset >= offset && damage.offset + damage.len <= end {
                damage.live = false;
                damage.buried |= durability == Durability::Now;
            }
        }
    }
}

/// Puts one block in its place of what was read.
pub(super) fn put_block(buf: &mut IoBuf, at: usize, block: &Block) {
    let start = at * BLOCK_BYTES;
    buf[start..start + BLOCK_BYTES].copy_from_slice(bytes_of(block));
}
