//! The contents of one simulated file: sparse blocks that copies share until one of them writes.
//!
//! # Invariants
//! * A block is `BLOCK_BYTES` long; a block that is absent reads as zeros.
//! * Bytes at and beyond the length are zero.
//!
//! Sharing makes a copy of a whole disk, and the memory of what a write replaced, a few pointers.

use std::sync::Arc;

use crate::{BLOCK_BYTES, to_u64, to_usize};

/// One block, or `None` for zeros.
pub(super) type Block = Option<Arc<[u8]>>;

/// What every absent block reads as.
pub(super) static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// A sparse array of bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Blocks {
    len: u64,
    /// May be shorter than the length asks for: the rest is absent.
    blocks: Vec<Block>,
}

/// Splits a byte offset into its block and the offset in it.
pub(super) fn locate(offset: u64) -> (usize, usize) {
    let offset = to_usize(offset);
    (offset / BLOCK_BYTES, offset % BLOCK_BYTES)
}

/// Makes a block of bytes, which are at most one block.
pub(super) fn block_of(bytes: &[u8]) -> Block {
    if bytes == &ZEROS[..bytes.len()] {
        return None;
    }
    if bytes.len() == BLOCK_BYTES {
        return Some(Arc::from(bytes));
    }
    let mut whole = ZEROS;
    whole[..bytes.len()].copy_from_slice(bytes);
    Some(Arc::from(&whole[..]))
}

/// The bytes of a block.
pub(super) fn bytes_of(block: &Block) -> &[u8] {
    block.as_deref().unwrap_or(&ZEROS)
}

impl Blocks {
    /// A file that holds `bytes`.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            len: to_u64(bytes.len()),
            blocks: bytes.chunks(BLOCK_BYTES).map(block_of).collect(),
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The number of blocks that the length covers, a last partial one included.
    pub(super) fn block_count(&self) -> usize {
        to_usize(self.len.div_ceil(to_u64(BLOCK_BYTES)))
    }

    /// Changes the length; new bytes are zero.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (last, within) = locate(len);
            let keep = last + usize::from(within > 0);
            self.blocks.truncate(keep);
            if within > 0
                && let Some(Some(block)) = self.blocks.get_mut(last)
            {
                Arc::make_mut(block)[within..].fill(0);
            }
        }
        self.len = len;
    }

    pub(super) fn block(&self, index: usize) -> &Block {
        self.blocks.get(index).unwrap_or(&None)
    }

    /// Puts a block in place and returns what was there.
    pub(super) fn replace(&mut self, index: usize, block: Block) -> Block {
        if index >= self.blocks.len() {
            block.as_ref()?;
            self.blocks.resize(index + 1, None);
        }
        std::mem::replace(&mut self.blocks[index], block)
    }

    /// Copies bytes from `offset` on; what lies beyond the end reads as zeros.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) {
        let (mut index, mut within) = locate(offset);
        let mut rest = into;
        while !rest.is_empty() {
            let take = rest.len().min(BLOCK_BYTES - within);
            let (head, tail) = rest.split_at_mut(take);
            match self.block(index) {
                Some(block) => head.copy_from_slice(&block[within..within + take]),
                None => head.fill(0),
            }
            rest = tail;
            index += 1;
            within = 0;
        }
    }

    /// Exclusive-ors one byte inside the length; false when it lies outside.
    pub(super) fn flip(&mut self, offset: u64, mask: u8) -> bool {
        if offset >= self.len {
            return false;
        }
        let (index, within) = locate(offset);
        let mut block = bytes_of(self.block(index)).to_vec();
        block[within] ^= mask;
        self.replace(index, block_of(&block));
        true
    }

    /// The first block at or after `start`, going round once, that is not all zeros.
    pub(super) fn written_block(&self, start: usize) -> Option<usize> {
        let count = self.blocks.len();
        (0..count)
            .map(|step| (start + step) % count)
            .find(|&index| self.blocks[index].is_some())
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; to_usize(self.len)];
        self.read(0, &mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shrinking_zeroes_what_growing_shows_again() {
        let mut blocks = Blocks::from_bytes(&[7; 5000]);
        blocks.set_len(100);
        blocks.set_len(5000);
        let mut expected = vec![7; 100];
        expected.resize(5000, 0);
        assert_eq!(blocks.to_vec(), expected);
    }

    #[test]
    fn a_copy_does_not_see_later_writes() {
        let mut blocks = Blocks::from_bytes(&[1; 8192]);
        let copy = blocks.clone();
        assert!(blocks.flip(4097, 0xff));
        assert_eq!(copy.to_vec(), vec![1; 8192]);
        assert_eq!(blocks.to_vec()[4097], 0xfe);
        assert!(!blocks.flip(8192, 1));
    }

    #[test]
    fn reads_cross_blocks_and_absent_ones_are_zero() {
        let mut blocks = Blocks::default();
        blocks.set_len(3 * 4096);
        blocks.replace(1, block_of(&[9; 4096]));
        let mut found = [1; 4098];
        blocks.read(4095, &mut found);
        assert_eq!(found[0], 0);
        assert!(found[1..4097].iter().all(|&byte| byte == 9));
        assert_eq!(found[4097], 0);
        assert_eq!(blocks.written_block(2), Some(1));
    }
}
