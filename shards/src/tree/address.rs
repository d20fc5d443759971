//! Where things lie in the tree's file.
//!
//! # On-disk layout
//! A reference to a page takes 16 bytes, little-endian:
//! ```text
//! 0  unit       u64  the first unit of the extent; 0 stands for "none", as unit 0 is the file
//! header 8  len_bytes  u32  the page's length, whole units 12 checksum   u32  what the page itself
//! carries as its checksum
//! ```
//! Whoever holds a reference can tell the page that was meant from every other that ever lay, or
//! was put by mistake, at the same address.

use lightning_io::{BLOCK_BYTES, to_u64, to_usize};

use super::wire::{put, u32_at, u64_at};

/// The unit of allocation: what direct I/O can write at once.
pub(crate) const UNIT_BYTES: usize = BLOCK_BYTES;

/// A run of units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Extent {
    pub(super) unit: u64,
    pub(super) units: u64,
}

impl Extent {
    /// The units that `bytes` need.
    pub(super) fn units_for(bytes: usize) -> u64 {
        to_u64(bytes.div_ceil(UNIT_BYTES))
    }

    /// The first unit after it; `None` when a damaged reference wraps around.
    pub(super) fn end(self) -> Option<u64> {
        self.unit.checked_add(self.units)
    }

    pub(super) fn bytes(self) -> u64 {
        self.units * to_u64(UNIT_BYTES)
    }
}

/// The byte offset of a unit. Saturates, so that a damaged reference names a place past every file.
pub(super) fn offset_of(unit: u64) -> u64 {
    unit.saturating_mul(to_u64(UNIT_BYTES))
}

/// A page: where it lies, how long it is, and what its checksum must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PageRef {
    /// The first unit.
    pub unit: u64,
    /// The length in bytes, a multiple of [`UNIT_BYTES`].
    pub len_bytes: u32,
    /// The checksum.
    pub checksum: u32,
}

const UNIT: usize = 0;
const LEN_BYTES: usize = UNIT + 8;
const CHECKSUM: usize = LEN_BYTES + 4;

impl PageRef {
    /// Bytes on disk.
    pub(crate) const BYTES: usize = CHECKSUM + 4;
    /// No page.
    pub(crate) const NONE: Self = Self {
        unit: 0,
        len_bytes: 0,
        checksum: 0,
    };

    /// Whether there is no page.
    pub(crate) fn is_none(self) -> bool {
        self.unit == 0
    }

    /// The length as a memory size.
    pub(crate) fn size_bytes(self) -> usize {
        to_usize(u64::from(self.len_bytes))
    }

    /// The byte offset in the file.
    pub(crate) fn offset(self) -> u64 {
        offset_of(self.unit)
    }

    pub(super) fn extent(self) -> Extent {
        Extent {
            unit: self.unit,
            units: Extent::units_for(self.size_bytes()),
        }
    }

    pub(super) fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        put(&mut bytes, UNIT, &self.unit.to_le_bytes());
        put(&mut bytes, LEN_BYTES, &self.len_bytes.to_le_bytes());
        put(&mut bytes, CHECKSUM, &self.checksum.to_le_bytes());
        bytes
    }

    /// Reads 16 bytes; every value is a reference, whether anything is there is checked on reading
    /// it.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        Self {
            unit: u64_at(bytes, UNIT),
            len_bytes: u32_at(bytes, LEN_BYTES),
            checksum: u32_at(bytes, CHECKSUM),
        }
    }
}

const _: () = assert!(PageRef::BYTES == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_survives_encoding_and_has_the_documented_bytes() {
        let reference = PageRef {
            unit: 0x0102_0304_0506_0708,
            len_bytes: 16384,
            checksum: 0xdead_beef,
        };
        let bytes = reference.encode();
        assert_eq!(PageRef::decode(&bytes), reference);
        assert_eq!(
            bytes,
            [
                8, 7, 6, 5, 4, 3, 2, 1, 0, 0x40, 0, 0, 0xef, 0xbe, 0xad, 0xde
            ]
        );
    }

    #[test]
    fn a_reference_past_every_file_is_not_wrapped_into_one() {
        let reference = PageRef {
            unit: u64::MAX,
            len_bytes: 8192,
            checksum: 0,
        };
        assert_eq!(reference.extent().end(), None);
        assert_eq!(reference.offset(), u64::MAX);
    }
}
