//! Extents that hold one long stretch of bytes: a large value, the space map, the list of runs, or
//! the filter of a run.
//!
//! # On-disk layout
//! All numbers are little-endian.
//! ```text
//! 0   checksum       u32  CRC-32 of everything after it, the padding included
//! 4   magic          u32  "LDBX"
//! 8   kind           u8   1 value, 2 space map, 3 list of runs, 4 filter; then a zero
//! 10  shard          u16
//! 12  database       [u8; 16]
//! 28  content_bytes  u32
//! 32  unit           u64  the extent's own address
//! 40  zeros
//! 64  the content, then zeros up to a whole number of units
//! ```
//! The reference to it takes 16 bytes, as that to a page: the unit (u64), the length
//! of the content (u32), the checksum (u32).

use lightning_io::{to_u32, to_usize};

use super::address::{Extent, PageRef};
use super::page::HEADER_BYTES as PAGE_HEADER_BYTES;
use super::wire::{put, u16_at, u32_at, u64_at};
use crate::FileOwner;

const CHECKSUM: usize = 0;
const MAGIC: usize = CHECKSUM + 4;
const KIND: usize = MAGIC + 4;
const SHARD: usize = KIND + 2;
const DATABASE: usize = SHARD + 2;
const CONTENT_BYTES: usize = DATABASE + 16;
const UNIT: usize = CONTENT_BYTES + 4;
const END: usize = UNIT + 8;
pub(super) const HEADER_BYTES: usize = 64;
/// What the checksum leaves out: itself.
pub(super) const CHECKED_FROM: usize = MAGIC;

const _: () = assert!(END <= HEADER_BYTES && HEADER_BYTES == PAGE_HEADER_BYTES);

const MAGIC_VALUE: u32 = u32::from_le_bytes(*b"LDBX");

/// Extents are written and read in pieces of this size: large enough for the device's full speed,
/// small enough that a value of 64 MiB does not need twice its size in I/O buffers.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// What an extent holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlobKind {
    Value,
    SpaceMap,
    RunList,
    Filter,
}

impl BlobKind {
    fn to_byte(self) -> u8 {
        match self {
            Self::Value => 1,
            Self::SpaceMap => 2,
            Self::RunList => 3,
            Self::Filter => 4,
        }
    }
}

impl std::fmt::Display for BlobKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Value => "value",
            Self::SpaceMap => "space map",
            Self::RunList => "list of runs",
            Self::Filter => "filter",
        })
    }
}

/// Where a blob lies, how long its content is, and what its checksum must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlobRef {
    pub(super) unit: u64,
    pub(super) content_bytes: u32,
    pub(super) checksum: u32,
}

impl BlobRef {
    /// Bytes on disk.
    pub(crate) const BYTES: usize = PageRef::BYTES;
    pub(super) const NONE: Self = Self {
        unit: 0,
        content_bytes: 0,
        checksum: 0,
    };

    pub(super) fn is_none(self) -> bool {
        self.unit == 0
    }

    pub(super) fn content_len(self) -> usize {
        to_usize(u64::from(self.content_bytes))
    }

    pub(super) fn extent(self) -> Extent {
        Extent {
            unit: self.unit,
            units: Extent::units_for(HEADER_BYTES + self.content_len()),
        }
    }

    pub(super) fn encode(self) -> [u8; Self::BYTES] {
        PageRef {
            unit: self.unit,
            len_bytes: self.content_bytes,
            checksum: self.checksum,
        }
        .encode()
    }

    pub(super) fn decode(bytes: &[u8]) -> Self {
        let PageRef {
            unit,
            len_bytes,
            checksum,
        } = PageRef::decode(bytes);
        Self {
            unit,
            content_bytes: len_bytes,
            checksum,
        }
    }
}

/// The identity of a blob, as its first bytes state it.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlobHeader {
    pub(super) kind: BlobKind,
    pub(super) owner: FileOwner,
    pub(super) unit: u64,
    pub(super) content_len: usize,
}

impl BlobHeader {
    /// The header without its checksum, which [`set_checksum`] adds.
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        put(&mut bytes, MAGIC, &MAGIC_VALUE.to_le_bytes());
        bytes[KIND] = self.kind.to_byte();
        put(&mut bytes, SHARD, &self.owner.shard.0.to_le_bytes());
        put(&mut bytes, DATABASE, &self.owner.database.0);
        let content_bytes = to_u32(self.content_len).to_le_bytes();
        put(&mut bytes, CONTENT_BYTES, &content_bytes);
        put(&mut bytes, UNIT, &self.unit.to_le_bytes());
        bytes
    }

    /// Compares what was read for `reference` with what has to be there; `computed` is the checksum
    /// over the whole extent.
    pub(super) fn check(&self, found: &[u8], computed: u32, expected: u32) -> Result<(), String> {
        let stored = u32_at(found, CHECKSUM);
        if computed != stored && !planted!("ignore_blob_checksum") {
            return Err(format!(
                "extent checksum is {computed:08x}, the extent says {stored:08x} and its owner \
                 {expected:08x}"
            ));
        }
        if found[CHECKED_FROM..HEADER_BYTES] != self.encode()[CHECKED_FROM..] {
            return Err(format!(
                "misdirected: expected {:?} of {} bytes at unit {}, found kind {} of {} bytes for \
                 unit {} of shard {}",
                self.kind,
                self.content_len,
                self.unit,
                found[KIND],
                u32_at(found, CONTENT_BYTES),
                u64_at(found, UNIT),
                u16_at(found, SHARD),
            ));
        }
        if stored != expected {
            return Err(format!(
                "stale: an older extent is there; checksum {stored:08x}, expected {expected:08x}"
            ));
        }
        Ok(())
    }
}

pub(super) fn set_checksum(first_piece: &mut [u8], checksum: u32) {
    put(first_piece, CHECKSUM, &checksum.to_le_bytes());
}
