//! What a superblock has to remember of a tree's file.
//!
//! # On-disk layout
//! 176 bytes, little-endian, inside a record that its owner identifies and checksums:
//! ```text
//! 0    base        [u8; 136]  the root of the base: see `root.rs`
//! 136  space_map   [u8; 16]   blob reference; unit 0 for a file that was never written
//! 152  runs        [u8; 16]   blob reference to the list of runs; unit 0 where there is none
//! 168  file_units  u64        units that the allocator knows
//! ```

use super::address::Extent;
use super::blob::BlobRef;
use super::root::Root;
use super::space::FILE_UNITS_MAX;
use super::wire::{put, u64_at};

/// What the file holds. Small, and copied freely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TreeState {
    pub(super) base: Root,
    pub(super) space_map: BlobRef,
    pub(super) runs: BlobRef,
    pub(super) file_units: u64,
}

const BASE: usize = 0;
const SPACE_MAP: usize = BASE + Root::BYTES;
const RUNS: usize = SPACE_MAP + BlobRef::BYTES;
const FILE_UNITS: usize = RUNS + BlobRef::BYTES;

impl TreeState {
    /// Bytes on disk.
    pub(crate) const BYTES: usize = FILE_UNITS + 8;

    /// The state of a file that holds its header alone.
    pub(super) const EMPTY: Self = Self {
        base: Root::EMPTY,
        space_map: BlobRef::NONE,
        runs: BlobRef::NONE,
        file_units: 1,
    };

    /// The number of entries in the base.
    #[cfg(test)]
    pub(crate) fn entry_count(&self) -> u64 {
        self.base.entries
    }

    /// Bytes of the live pages and large values of the base, in whole units.
    #[cfg(test)]
    pub(crate) fn live_bytes(&self) -> u64 {
        self.base.live_bytes
    }

    /// The number of levels of the base; 0 for an empty one.
    #[cfg(test)]
    pub(crate) fn height(&self) -> u8 {
        self.base.height
    }

    /// Where the space map begins in the file.
    #[cfg(test)]
    pub(crate) fn space_map_offset(&self) -> u64 {
        super::address::offset_of(self.space_map.unit)
    }

    /// Writes the state into its place in a superblock.
    pub(crate) fn encode(&self, bytes: &mut [u8; Self::BYTES]) {
        bytes.fill(0);
        self.base.encode(&mut bytes[BASE..SPACE_MAP]);
        put(bytes, SPACE_MAP, &self.space_map.encode());
        put(bytes, RUNS, &self.runs.encode());
        put(bytes, FILE_UNITS, &self.file_units.to_le_bytes());
    }

    /// Reads a state from a superblock whose checksum was verified.
    ///
    /// # Errors
    /// What contradicts itself; the caller knows the place.
    pub(crate) fn decode(bytes: &[u8; Self::BYTES]) -> Result<Self, String> {
        let state = Self {
            base: Root::decode(&bytes[BASE..SPACE_MAP])?,
            space_map: BlobRef::decode(&bytes[SPACE_MAP..]),
            runs: BlobRef::decode(&bytes[RUNS..]),
            file_units: u64_at(bytes, FILE_UNITS),
        };
        state.check()?;
        Ok(state)
    }

    /// Whether the parts agree with each other.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.file_units == 0 || self.file_units > FILE_UNITS_MAX {
            return Err(format!("a tree file of {} units", self.file_units));
        }
        self.base.check(self.file_units)?;
        if self.space_map.is_none() && !(self.base.is_empty() && self.runs.is_none()) {
            return Err("a tree without a space map".to_owned());
        }
        if self.runs.is_none() && self.runs != BlobRef::NONE {
            return Err("a reference to no list of runs that says more".to_owned());
        }
        let inside = |extent: Extent| extent.end().is_some_and(|end| end <= self.file_units);
        if !inside(self.space_map.extent()) || !inside(self.runs.extent()) {
            return Err(format!(
                "space map at unit {} and list of runs at unit {} of a file of {} units",
                self.space_map.unit, self.runs.unit, self.file_units
            ));
        }
        Ok(())
    }
}

const _: () = assert!(SPACE_MAP == 136 && TreeState::BYTES == 176);

#[cfg(test)]
mod tests {
    use super::super::root::tests::root;
    use super::*;

    fn state() -> TreeState {
        TreeState {
            base: root(),
            space_map: BlobRef {
                unit: 9,
                content_bytes: 8,
                checksum: 0x0102_0304,
            },
            runs: BlobRef {
                unit: 17,
                content_bytes: 500,
                checksum: 0x0506_0708,
            },
            file_units: 256,
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
        assert_eq!(bytes[0], 5);
        assert_eq!(
            bytes[136..],
            [
                9, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 4, 3, 2, 1, 17, 0, 0, 0, 0, 0, 0, 0, 0xf4, 1,
                0, 0, 8, 7, 6, 5, 0, 1, 0, 0, 0, 0, 0, 0
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
        assert!(refused(|state| state.base.page.unit = 255));
        assert!(refused(|state| state.base.height = 0));
        assert!(refused(|state| state.runs.unit = 256));
        assert!(refused(|state| state.runs.unit = 0));
        assert!(refused(|state| state.space_map.unit = u64::MAX));
        assert!(refused(|state| state.space_map = BlobRef::NONE));
        assert!(refused(|state| {
            state.base = Root::EMPTY;
            state.space_map = BlobRef::NONE;
        }));
        assert!(refused(|state| state.file_units = 0));
        assert!(refused(|state| state.file_units = u64::MAX));
    }
}
