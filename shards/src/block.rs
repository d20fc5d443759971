//! The frame around every block that names itself: identity, superblock, segment header.
//!
//! # On-disk layout
//! ```text
//! offset  bytes  field
//!      0      8  magic: which kind of block this is
//!      8      4  format version
//!     12      4  CRC-32 (IEEE) of the whole block with this field as zero
//!     16      .  the kind's own fields, then zeros
//! ```
//! Numbers are little-endian. The checksum covers the padding too: no byte of a block is
//! unprotected.

use lightning_io::BLOCK_BYTES;

const MAGIC: usize = 0;
const VERSION: usize = MAGIC + 8;
const CHECKSUM: usize = VERSION + 4;
/// Where the kind's own fields begin.
pub(crate) const BODY: usize = CHECKSUM + 4;

const _: () = assert!(BODY == 16);

/// The version of the on-disk format that this build writes and reads, for all files alike.
pub const FORMAT_VERSION: u32 = 2;

/// Why a block is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BlockError {
    /// Nothing but zeros: never written.
    Blank,
    /// Another kind of block, or no block of ours.
    Magic,
    /// Another version of the format, with a sound checksum.
    Version(u32),
    /// The checksum matches, and the fields say what this build never writes.
    Fields(&'static str),
    /// The checksum does not match.
    Checksum { expected: u32, found: u32 },
}

impl std::fmt::Display for BlockError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Blank => f.write_str("the block is blank"),
            Self::Magic => f.write_str("the magic number is not the expected one"),
            Self::Version(found) => {
                write!(f, "format version {found}, expected {FORMAT_VERSION}")
            }
            Self::Fields(what) => f.write_str(what),
            Self::Checksum { expected, found } => {
                write!(f, "checksum {found:08x}, expected {expected:08x}")
            }
        }
    }
}

/// Completes a block whose own fields are in place.
pub(crate) fn seal(block: &mut [u8], magic: [u8; 8]) {
    assert_eq!(block.len(), BLOCK_BYTES);
    block[MAGIC..VERSION].copy_from_slice(&magic);
    block[VERSION..CHECKSUM].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    let checksum = checksum(block);
    block[CHECKSUM..BODY].copy_from_slice(&checksum.to_le_bytes());
}

/// Checks the frame of a block that was read; its fields may be trusted after that.
pub(crate) fn check(block: &[u8], magic: [u8; 8]) -> Result<(), BlockError> {
    assert_eq!(block.len(), BLOCK_BYTES);
    if block.iter().all(|&byte| byte == 0) {
        return Err(BlockError::Blank);
    }
    if block[MAGIC..VERSION] != magic {
        return Err(BlockError::Magic);
    }
    let found = get_u32(block, CHECKSUM);
    let expected = checksum(block);
    if found != expected {
        return Err(BlockError::Checksum { expected, found });
    }
    match get_u32(block, VERSION) {
        FORMAT_VERSION => Ok(()),
        other => Err(BlockError::Version(other)),
    }
}

fn checksum(block: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..CHECKSUM]);
    hasher.update(&[0; 4]);
    hasher.update(&block[BODY..]);
    hasher.finalize()
}

/// Reads two bytes as a little-endian number; the caller has checked that they are there.
pub(crate) fn get_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Reads four bytes as a little-endian number; the caller has checked that they are there.
pub(crate) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Reads eight bytes as a little-endian number; the caller has checked that they are there.
pub(crate) fn get_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from(get_u32(bytes, at)) | u64::from(get_u32(bytes, at + 4)) << 32
}

/// Writes bytes at a place.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: [u8; 8] = *b"LDBTEST\0";

    fn sealed() -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES];
        put(&mut block, BODY, b"body");
        seal(&mut block, MAGIC);
        block
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let block = sealed();
        assert_eq!(check(&block, MAGIC), Ok(()));
        for byte in 0..BLOCK_BYTES {
            for bit in 0..8 {
                let mut damaged = block.clone();
                damaged[byte] ^= 1 << bit;
                assert!(check(&damaged, MAGIC).is_err(), "byte {byte} bit {bit}");
            }
        }
    }

    #[test]
    fn blank_foreign_and_newer_blocks_are_told_apart() {
        assert_eq!(check(&vec![0; BLOCK_BYTES], MAGIC), Err(BlockError::Blank));
        assert_eq!(check(&sealed(), *b"LDBOTHER"), Err(BlockError::Magic));
        let mut newer = sealed();
        put(&mut newer, VERSION, &(FORMAT_VERSION + 1).to_le_bytes());
        let checksum = checksum(&newer);
        put(&mut newer, CHECKSUM, &checksum.to_le_bytes());
        let found = BlockError::Version(FORMAT_VERSION + 1);
        assert_eq!(check(&newer, MAGIC), Err(found));
    }

    #[test]
    fn numbers_read_back() {
        let bytes = 0x0123_4567_89ab_cdef_u64.to_le_bytes();
        assert_eq!(get_u64(&bytes, 0), 0x0123_4567_89ab_cdef);
        assert_eq!(get_u32(&bytes, 0), 0x89ab_cdef);
        assert_eq!(get_u16(&bytes, 6), 0x0123);
    }
}
