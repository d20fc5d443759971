//! A disk at rest, looked at and changed byte by byte: what a test does that damages each of them.
//!
//! A change costs a copy of one block, and none of the file.

use std::path::Path;

use super::Image;
use super::blocks::block_of;
use crate::{BLOCK_BYTES, to_u64, to_usize};

impl Image {
    /// Some bytes, durable or not; `None` when the file does not reach that far or is not there.
    pub fn read_range(&self, path: &Path, offset: u64, len: usize) -> Option<Vec<u8>> {
        let file = self.file(self.resolve(path).ok()?)?;
        if offset.checked_add(to_u64(len))? > file.data.len() {
            return None;
        }
        let mut bytes = vec![0; len];
        file.data.read(offset, &mut bytes);
        Some(bytes)
    }

    /// Flips the bits of one byte that are set in `mask`; false when the file or the byte is not
    /// there. Done twice, it is undone.
    pub fn flip_bits(&mut self, path: &Path, offset: u64, mask: u8) -> bool {
        let Ok(node) = self.resolve(path) else {
            return false;
        };
        self.file_mut(node)
            .is_some_and(|file| file.data.flip(offset, mask))
    }

    /// Puts whole blocks in place; false when the file does not reach that far.
    ///
    /// # Panics
    /// When the place or the length is no multiple of a block: a mistake of the test.
    pub fn replace_blocks(&mut self, path: &Path, offset: u64, bytes: &[u8]) -> bool {
        let first = to_usize(offset) / BLOCK_BYTES;
        assert_eq!(first * BLOCK_BYTES, to_usize(offset), "a block begins here");
        assert!(bytes.len().is_multiple_of(BLOCK_BYTES), "blocks are whole");
        let Ok(node) = self.resolve(path) else {
            return false;
        };
        let Some(file) = self.file_mut(node) else {
            return false;
        };
        if (first * BLOCK_BYTES + bytes.len()) > to_usize(file.data.len()) {
            return false;
        }
        for (index, block) in (first..).zip(bytes.chunks(BLOCK_BYTES)) {
            file.data.replace(index, block_of(block));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_undone_by_its_opposite_and_leaves_copies_alone() {
        let path = Path::new("db/file");
        let mut image = Image::new(Path::new("db"));
        image.write_file(path, &[7; 3 * BLOCK_BYTES]);
        let copy = image.clone();
        assert!(image.flip_bits(path, 4097, 0x81));
        assert_eq!(image.read_range(path, 4096, 2), Some(vec![7, 7 ^ 0x81]));
        assert_eq!(copy.read_range(path, 4097, 1), Some(vec![7]));
        assert!(image.flip_bits(path, 4097, 0x81));
        assert_eq!(image.read_file(path), copy.read_file(path));
        assert!(image.replace_blocks(path, 4096, &[9; 2 * BLOCK_BYTES]));
        assert_eq!(image.read_range(path, 4095, 2), Some(vec![7, 9]));
        assert!(!image.replace_blocks(path, 8192, &[9; 2 * BLOCK_BYTES]));
        assert_eq!(image.read_range(path, 3 * 4096, 1), None);
        assert!(!image.flip_bits(Path::new("db/other"), 0, 1));
    }
}
