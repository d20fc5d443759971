//! Unit 0 of the tree's file: what the file is and whose.
//!
//! # On-disk layout
//! All numbers are little-endian; written once, when the file is created.
//! ```text
//! 0   magic       [u8; 8]  "LDBTREE\0"
//! 8   checksum    u32      CRC-32 of everything after it, the padding included
//! 12  version     u32
//! 16  database    [u8; 16]
//! 32  shard       u16, then two zeros
//! 36  page_bytes  u32      the target length of pages
//! 40  zeros up to the end of the unit
//! ```
//! The checksum lies before the version and covers the whole unit, in this version and every later
//! one, so that a damaged version is not mistaken for a new one.

use std::path::Path;

use lightning_io::to_u32;

use super::address::UNIT_BYTES;
use super::page::{PAGE_BYTES_MIN, PAGE_BYTES_TARGET_MAX};
use super::wire::{put, u16_at, u32_at, usize_at};
use crate::{DatabaseId, Error, FileOwner, Result, ShardId};

const MAGIC: usize = 0;
const CHECKSUM: usize = MAGIC + 8;
const VERSION: usize = CHECKSUM + 4;
const DATABASE: usize = VERSION + 4;
const SHARD: usize = DATABASE + 16;
const PAGE_BYTES: usize = SHARD + 4;
const END: usize = PAGE_BYTES + 4;
const _: () = assert!(END <= UNIT_BYTES);

const MAGIC_VALUE: [u8; 8] = *b"LDBTREE\0";
/// The version of everything in the file.
const FORMAT_VERSION: u32 = 1;

/// Whether pages of this length can be a tree's target.
pub(super) fn is_page_target(page_bytes: usize) -> bool {
    (PAGE_BYTES_MIN..=PAGE_BYTES_TARGET_MAX).contains(&page_bytes)
        && page_bytes.is_multiple_of(UNIT_BYTES)
}

/// Fills the header unit of a new file.
pub(super) fn encode(owner: FileOwner, page_bytes: usize, unit: &mut [u8]) {
    put(unit, MAGIC, &MAGIC_VALUE);
    put(unit, VERSION, &FORMAT_VERSION.to_le_bytes());
    put(unit, DATABASE, &owner.database.0);
    put(unit, SHARD, &owner.shard.0.to_le_bytes());
    put(unit, PAGE_BYTES, &to_u32(page_bytes).to_le_bytes());
    let checksum = crc32fast::hash(&unit[VERSION..UNIT_BYTES]);
    put(unit, CHECKSUM, &checksum.to_le_bytes());
}

/// Checks a header unit and returns the page target of the file.
///
/// # Errors
/// `Corruption` for damage and for another owner's file, `Version` for a format of another build.
pub(super) fn decode(unit: &[u8], owner: FileOwner, path: &Path) -> Result<usize> {
    let damage = |what: String| Error::corruption(owner.shard, path, 0, what);
    if unit.len() < UNIT_BYTES {
        return Err(damage(format!("a header of {} bytes", unit.len())));
    }
    if unit[MAGIC..CHECKSUM] != MAGIC_VALUE {
        return Err(damage("expected the header of a tree file".to_owned()));
    }
    let computed = crc32fast::hash(&unit[VERSION..UNIT_BYTES]);
    let stored = u32_at(unit, CHECKSUM);
    if computed != stored {
        return Err(damage(format!(
            "header checksum is {computed:08x}, the header says {stored:08x}"
        )));
    }
    let found = u32_at(unit, VERSION);
    if found != FORMAT_VERSION {
        return Err(Error::Version {
            path: path.to_path_buf(),
            found,
            supported: FORMAT_VERSION,
        });
    }
    let shard = u16_at(unit, SHARD);
    if unit[DATABASE..SHARD] != owner.database.0 || shard != owner.shard.0 {
        return Err(damage(format!(
            "the file belongs to shard {shard} of another owner"
        )));
    }
    let page_bytes = usize_at(unit, PAGE_BYTES);
    if !is_page_target(page_bytes) {
        return Err(damage(format!("a page target of {page_bytes} bytes")));
    }
    Ok(page_bytes)
}

/// Whose a file is, as a header unit states it whose checksum holds.
pub(super) fn owner(unit: &[u8]) -> Option<FileOwner> {
    if unit.len() < UNIT_BYTES
        || unit[MAGIC..CHECKSUM] != MAGIC_VALUE
        || crc32fast::hash(&unit[VERSION..UNIT_BYTES]) != u32_at(unit, CHECKSUM)
    {
        return None;
    }
    let mut database = DatabaseId([0; 16]);
    database.0.copy_from_slice(&unit[DATABASE..SHARD]);
    let shard = ShardId(u16_at(unit, SHARD));
    Some(FileOwner { database, shard })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: FileOwner = FileOwner {
        database: DatabaseId([7; 16]),
        shard: ShardId(3),
    };

    fn header() -> Vec<u8> {
        let mut unit = vec![0; UNIT_BYTES];
        encode(OWNER, 16384, &mut unit);
        unit
    }

    fn read(unit: &[u8]) -> Result<usize> {
        decode(unit, OWNER, Path::new("tree"))
    }

    #[test]
    fn a_header_survives_and_has_the_documented_bytes() {
        let unit = header();
        assert_eq!(read(&unit), Ok(16384));
        assert_eq!(owner(&unit), Some(OWNER));
        assert_eq!(&unit[..8], b"LDBTREE\0");
        assert_eq!(unit[12..16], [1, 0, 0, 0]);
        assert_eq!(unit[16..32], [7; 16]);
        assert_eq!(unit[32..40], [3, 0, 0, 0, 0, 0x40, 0, 0]);
        assert_eq!(unit[8..12], crc32fast::hash(&unit[12..]).to_le_bytes());
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_damage() {
        let unit = header();
        for len in 0..unit.len() {
            assert!(matches!(read(&unit[..len]), Err(Error::Corruption(_))));
        }
        for at in 0..unit.len() {
            let mut bad = unit.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(matches!(read(&bad), Err(Error::Corruption(_))), "byte {at}");
            assert_eq!(owner(&bad), None, "byte {at}");
        }
    }

    #[test]
    fn another_version_and_another_owner_are_told_apart() {
        let mut newer = header();
        newer[VERSION] = 2;
        let checksum = crc32fast::hash(&newer[VERSION..]);
        put(&mut newer, CHECKSUM, &checksum.to_le_bytes());
        assert!(matches!(read(&newer), Err(Error::Version { found: 2, .. })));
        let other = FileOwner {
            shard: ShardId(4),
            ..OWNER
        };
        assert!(matches!(
            decode(&header(), other, Path::new("tree")),
            Err(Error::Corruption(_))
        ));
    }
}
