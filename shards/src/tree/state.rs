//! What a superblock has to remember of a tree.
//!
//! # On-disk layout
//! 64 bytes, little-endian, inside a record that its owner identifies and checksums:
//! ```text
//! 0   root        [u8; 16]  page reference; unit 0 for an empty tree
//! 16  space_map   [u8; 16]  blob reference; unit 0 for a tree that was never written
//! 32  entries     u64
//! 40  live_bytes  u64       pages and large values, in whole units
//! 48  file_units  u64       units that the allocator knows
//! 56  height      u8        levels; 0 for an empty tree; then seven zeros
//! ```

use super::address::{Extent, PageRef};
use super::blob::BlobRef;
use super::space::FILE_UNITS_MAX;
use super::wire::{put, u64_at};

/// More levels than a tree can have: a page holds at least two children, and the file at most
/// 2^32 units.
pub(super) const HEIGHT_MAX: u8 = 34;

/// The root of a tree and what is counted about it. Small, and copied freely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TreeState {
    pub(super) root: PageRef,
    pub(super) space_map: BlobRef,
    pub(super) entries: u64,
    pub(super) live_bytes: u64,
    pub(super) file_units: u64,
    pub(super) height: u8,
}

const ROOT: usize = 0;
const SPACE_MAP: usize = ROOT + PageRef::BYTES;
const ENTRIES: usize = SPACE_MAP + BlobRef::BYTES;
const LIVE_BYTES: usize = ENTRIES + 8;
const FILE_UNITS: usize = LIVE_BYTES + 8;
const HEIGHT: usize = FILE_UNITS + 8;

impl TreeState {
    /// Bytes on disk.
    pub(crate) const BYTES: usize = HEIGHT + 8;

    /// The state of a file that holds its header alone.
    pub(super) const EMPTY: Self = Self {
        root: PageRef::NONE,
        space_map: BlobRef::NONE,
        entries: 0,
        live_bytes: 0,
        file_units: 1,
        height: 0,
    };

    /// The number of entries in the tree.
    #[cfg(test)]
    pub(crate) fn entry_count(&self) -> u64 {
        self.entries
    }

    /// Bytes of live pages and large values, in whole units.
    #[cfg(test)]
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// The number of levels; 0 for an empty tree.
    #[cfg(test)]
    pub(crate) fn height(&self) -> u8 {
        self.height
    }

    /// Where the space map begins in the file.
    #[cfg(test)]
    pub(crate) fn space_map_offset(&self) -> u64 {
        super::address::offset_of(self.space_map.unit)
    }

    /// Writes the state into its place in a superblock.
    pub(crate) fn encode(&self, bytes: &mut [u8; Self::BYTES]) {
        bytes.fill(0);
        put(bytes, ROOT, &self.root.encode());
        put(bytes, SPACE_MAP, &self.space_map.encode());
        put(bytes, ENTRIES, &self.entries.to_le_bytes());
        put(bytes, LIVE_BYTES, &self.live_bytes.to_le_bytes());
        put(bytes, FILE_UNITS, &self.file_units.to_le_bytes());
        bytes[HEIGHT] = self.height;
    }

    /// Reads a state from a superblock whose checksum was verified.
    ///
    /// # Errors
    /// What contradicts itself; the caller knows the place.
    pub(crate) fn decode(bytes: &[u8; Self::BYTES]) -> Result<Self, String> {
        let state = Self {
            root: PageRef::decode(&bytes[ROOT..]),
            space_map: BlobRef::decode(&bytes[SPACE_MAP..]),
            entries: u64_at(bytes, ENTRIES),
            live_bytes: u64_at(bytes, LIVE_BYTES),
            file_units: u64_at(bytes, FILE_UNITS),
            height: bytes[HEIGHT],
        };
        if bytes[HEIGHT + 1..].iter().any(|&byte| byte != 0) {
            return Err("a tree state ends in bytes that are not zero".to_owned());
        }
        state.check()?;
        Ok(state)
    }

    /// Whether the parts agree with each other.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.file_units == 0 || self.file_units > FILE_UNITS_MAX {
            return Err(format!("a tree file of {} units", self.file_units));
        }
        if self.root.is_none() != (self.height == 0)
            || self.root.is_none() && (self.entries, self.live_bytes) != (0, 0)
            || self.height > HEIGHT_MAX
        {
            return Err(format!(
                "a root at unit {} of a tree of {} levels and {} entries",
                self.root.unit, self.height, self.entries
            ));
        }
        if !self.root.is_none() && self.space_map.is_none() {
            return Err("a tree without a space map".to_owned());
        }
        let inside = |extent: Extent| extent.end().is_some_and(|end| end <= self.file_units);
        if !inside(self.root.extent()) || !inside(self.space_map.extent()) {
            return Err(format!(
                "root at unit {} and space map at unit {} of a file of {} units",
                self.root.unit, self.space_map.unit, self.file_units
            ));
        }
        Ok(())
    }
}

const _: () = assert!(TreeState::BYTES == 64);

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> TreeState {
        TreeState {
            root: PageRef {
                unit: 5,
                len_bytes: 8192,
                checksum: 0x0a0b_0c0d,
            },
            space_map: BlobRef {
                unit: 9,
                content_bytes: 8,
                checksum: 0x0102_0304,
            },
            entries: 258,
            live_bytes: 8192,
            file_units: 256,
            height: 1,
        }
    }

    #[test]
    fn a_state_survives_and_has_the_documented_bytes() {
        for state in [state(), TreeState::EMPTY] {
            let mut bytes = [0xff; TreeState::BYTES];
            state.encode(&mut bytes);
            assert_eq!(TreeState::decode(&bytes), Ok(state));
        }
        let mut bytes = [0; TreeState::BYTES];
        state().encode(&mut bytes);
        assert_eq!(
            bytes[..32],
            [
                5, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 13, 12, 11, 10, 9, 0, 0, 0, 0, 0, 0, 0, 8,
                0, 0, 0, 4, 3, 2, 1
            ]
        );
        assert_eq!(
            bytes[32..],
            [
                2, 1, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0,
                0, 0, 0, 0, 0
            ]
        );
    }

    #[test]
    fn a_state_that_contradicts_itself_is_refused() {
        let refused = |change: fn(&mut TreeState)| {
            let mut state = state();
            change(&mut state);
            let mut bytes = [0; TreeState::BYTES];
            state.encode(&mut bytes);
            TreeState::decode(&bytes).is_err()
        };
        assert!(refused(|state| state.root.unit = 255));
        assert!(refused(|state| state.root.unit = u64::MAX));
        assert!(refused(|state| state.height = 0));
        assert!(refused(|state| state.height = HEIGHT_MAX + 1));
        assert!(refused(|state| state.space_map = BlobRef::NONE));
        assert!(refused(|state| state.root = PageRef::NONE));
        assert!(refused(|state| state.file_units = 0));
        assert!(refused(|state| state.file_units = u64::MAX));
        let mut bytes = [0; TreeState::BYTES];
        state().encode(&mut bytes);
        bytes[TreeState::BYTES - 1] = 1;
        assert!(TreeState::decode(&bytes).is_err());
    }
}
