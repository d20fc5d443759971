//! A record: one commit group as it lies in a segment.
//!
//! # On-disk layout
//! A record starts at a multiple of 4 KiB and is padded with zeros to one.
//! ```text
//! offset  bytes  field
//!      0      4  magic "LREC"
//!      4      4  CRC-32 of bytes 8..64
//!      8      4  CRC-32 of everything behind the header, padding included
//!     12      4  payload length in bytes, without header and padding
//!     16      2  shard
//!     18      1  kind: 1 group of commits, 2 mark (no payload, only carries `durable_lsn`)
//!     19      5  zeros
//!     24      8  segment epoch
//!     32      8  LSN
//!     40      8  hash of the previous record
//!     48      8  durable LSN: the highest that was durable when this record was built
//!     56      8  timestamp of the last commit in it, or of the one before it for a mark
//!     64      .  payload: commits, see `commit`
//! ```
//! The hash of a record is its two checksums, so the chain covers every byte.

use lightning_io::{BLOCK_BYTES, round_up, to_u32, to_u64, to_usize};

use crate::block::{get_u16, get_u32, get_u64, put};
use crate::{Lsn, ShardId, Timestamp};

const MAGIC_BYTES: [u8; 4] = *b"LREC";
const MAGIC: usize = 0;
const HEADER_CHECKSUM: usize = MAGIC + 4;
const PAYLOAD_CHECKSUM: usize = HEADER_CHECKSUM + 4;
const PAYLOAD_BYTES: usize = PAYLOAD_CHECKSUM + 4;
const SHARD: usize = PAYLOAD_BYTES + 4;
const KIND: usize = SHARD + 2;
const ZEROS: usize = KIND + 1;
const EPOCH: usize = ZEROS + 5;
const LSN: usize = EPOCH + 8;
const PREVIOUS: usize = LSN + 8;
const DURABLE: usize = PREVIOUS + 8;
const TIMESTAMP: usize = DURABLE + 8;
/// Where the payload begins.
pub(crate) const HEADER_BYTES: usize = TIMESTAMP + 8;

const _: () = assert!(HEADER_BYTES == 64);

/// What a record is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// Commits.
    Group,
    /// Nothing but the news that everything before it is durable.
    Mark,
}

/// The identity of a record's content, carried by its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RecordHash(pub(crate) u64);

/// The fields in front of a record's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) shard: ShardId,
    pub(crate) kind: RecordKind,
    pub(crate) epoch: u64,
    pub(crate) lsn: Lsn,
    pub(crate) previous: RecordHash,
    pub(crate) durable: Lsn,
    pub(crate) timestamp: Timestamp,
}

/// Why bytes are no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RecordError {
    /// No record starts here: the space was never written in this epoch, or its header is damaged.
    Header(&'static str),
    /// The header is sound and the payload is not.
    Payload { expected: u32, found: u32 },
    /// The payload would reach beyond the segment.
    Length { payload_bytes: u32 },
}

impl std::fmt::Display for RecordError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header(what) => f.write_str(what),
            Self::Payload { expected, found } => {
                write!(f, "payload checksum {found:08x}, expected {expected:08x}")
            }
            Self::Length { payload_bytes } => {
                write!(
                    f,
                    "a payload of {payload_bytes} bytes does not fit the segment"
                )
            }
        }
    }
}

/// Bytes that a record with this payload takes in a segment.
pub(crate) fn record_bytes(payload_bytes: usize) -> usize {
    to_usize(round_up(
        to_u64(HEADER_BYTES + payload_bytes),
        to_u64(BLOCK_BYTES),
    ))
}

impl RecordHeader {
    /// Completes a record whose payload is in place behind the header; returns its hash.
    ///
    /// `record` is the whole aligned record, zero behind the payload.
    pub(crate) fn seal(&self, record: &mut [u8], payload_bytes: usize) -> RecordHash {
        assert_eq!(record.len(), record_bytes(payload_bytes));
        assert!(
            self.durable < self.lsn,
            "a record cannot know that it is durable itself"
        );
        record[..HEADER_BYTES].fill(0);
        put(record, MAGIC, &MAGIC_BYTES);
        let payload_checksum = crc32fast::hash(&record[HEADER_BYTES..]);
        put(record, PAYLOAD_CHECKSUM, &payload_checksum.to_le_bytes());
        put(record, PAYLOAD_BYTES, &to_u32(payload_bytes).to_le_bytes());
        put(record, SHARD, &self.shard.0.to_le_bytes());
        record[KIND] = match self.kind {
            RecordKind::Group => 1,
            RecordKind::Mark => 2,
        };
        put(record, EPOCH, &self.epoch.to_le_bytes());
        put(record, LSN, &self.lsn.0.to_le_bytes());
        put(record, PREVIOUS, &self.previous.0.to_le_bytes());
        put(record, DURABLE, &self.durable.0.to_le_bytes());
        put(record, TIMESTAMP, &self.timestamp.0.to_le_bytes());
        let header_checksum = crc32fast::hash(&record[PAYLOAD_CHECKSUM..HEADER_BYTES]);
        put(record, HEADER_CHECKSUM, &header_checksum.to_le_bytes());
        hash(header_checksum, payload_checksum)
    }

    /// Reads a header, without looking at the payload.
    ///
    /// Returns it with the number of payload bytes and the payload's checksum.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, u32, u32), RecordError> {
        if bytes.len() < HEADER_BYTES || bytes[MAGIC..HEADER_CHECKSUM] != MAGIC_BYTES {
            return Err(RecordError::Header("no record starts here"));
        }
        let checksum = crc32fast::hash(&bytes[PAYLOAD_CHECKSUM..HEADER_BYTES]);
        if get_u32(bytes, HEADER_CHECKSUM) != checksum {
            return Err(RecordError::Header(
                "the record's header fails its checksum",
            ));
        }
        let kind = match bytes[KIND] {
            1 => RecordKind::Group,
            2 => RecordKind::Mark,
            _ => return Err(RecordError::Header("the record is of an unknown kind")),
        };
        let header = Self {
            shard: ShardId(get_u16(bytes, SHARD)),
            kind,
            epoch: get_u64(bytes, EPOCH),
            lsn: Lsn(get_u64(bytes, LSN)),
            previous: RecordHash(get_u64(bytes, PREVIOUS)),
            durable: Lsn(get_u64(bytes, DURABLE)),
            timestamp: Timestamp(get_u64(bytes, TIMESTAMP)),
        };
        if header.lsn > Lsn::MAX {
            return Err(RecordError::Header("the record's number is out of range"));
        }
        if header.durable >= header.lsn {
            return Err(RecordError::Header(
                "the record claims to have been durable before it was",
            ));
        }
        Ok((
            header,
            get_u32(bytes, PAYLOAD_BYTES),
            get_u32(bytes, PAYLOAD_CHECKSUM),
        ))
    }

    /// Whether bytes begin like a record, sound or not.
    pub(crate) fn has_magic(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC_BYTES)
    }

    /// Reads a whole record: its header, its payload and its hash.
    ///
    /// `bytes` begins at the record and may go on behind it.
    pub(crate) fn open(bytes: &[u8]) -> Result<(Self, &[u8], RecordHash), RecordError> {
        let (header, payload_bytes, expected) = Self::decode(bytes)?;
        let payload_end = HEADER_BYTES + to_usize(u64::from(payload_bytes));
        let end = record_bytes(to_usize(u64::from(payload_bytes)));
        let rest = bytes
            .get(HEADER_BYTES..end)
            .ok_or(RecordError::Length { payload_bytes })?;
        let found = crc32fast::hash(rest);
        let unchecked = planted!("ignore_record_checksum");
        let taken_as_cut = planted!("cut_record_replayed");
        if found != expected && !unchecked && !taken_as_cut {
            return Err(RecordError::Payload { expected, found });
        }
        let payload = &bytes[HEADER_BYTES..payload_end];
        Ok((
            header,
            payload,
            hash(get_u32(bytes, HEADER_CHECKSUM), expected),
        ))
    }
}

fn hash(header_checksum: u32, payload_checksum: u32) -> RecordHash {
    RecordHash(u64::from(header_checksum) << 32 | u64::from(payload_checksum))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> RecordHeader {
        RecordHeader {
            shard: ShardId(3),
            kind: RecordKind::Group,
            epoch: 0x1122_3344_5566_7788,
            lsn: Lsn(42),
            previous: RecordHash(7),
            durable: Lsn(41),
            timestamp: Timestamp(9),
        }
    }

    fn record(payload: &[u8]) -> (Vec<u8>, RecordHash) {
        let mut bytes = vec![0; record_bytes(payload.len())];
        bytes[HEADER_BYTES..HEADER_BYTES + payload.len()].copy_from_slice(payload);
        let hash = header().seal(&mut bytes, payload.len());
        (bytes, hash)
    }

    #[test]
    fn what_was_sealed_is_opened() {
        for len in [0, 1, 4032, 4033, 20_000] {
            let payload = vec![0xab; len];
            let (bytes, hash) = record(&payload);
            let (opened, found, found_hash) = RecordHeader::open(&bytes).expect("sound");
            assert_eq!((opened, found, found_hash), (header(), &payload[..], hash));
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (bytes, _) = record(b"payload");
        for byte in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[byte] ^= 1 << bit;
                assert!(
                    RecordHeader::open(&damaged).is_err(),
                    "byte {byte} bit {bit}"
                );
            }
        }
    }

    #[test]
    fn a_record_cut_anywhere_is_refused() {
        let (bytes, _) = record(&[5; 5000]);
        for len in 0..bytes.len() {
            assert!(RecordHeader::open(&bytes[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn a_number_that_cannot_be_counted_on_from_is_refused() {
        let decoded = |lsn| {
            let mut bytes = vec![0; record_bytes(0)];
            RecordHeader { lsn, ..header() }.seal(&mut bytes, 0);
            RecordHeader::decode(&bytes).map(|(header, _, _)| header.lsn)
        };
        assert_eq!(decoded(Lsn::MAX), Ok(Lsn::MAX));
        assert!(decoded(Lsn::MAX.next()).is_err());
    }

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let (bytes, _) = record(b"xyz");
        assert_eq!(&bytes[..4], b"LREC");
        assert_eq!(&bytes[12..19], &[3, 0, 0, 0, 3, 0, 1]);
        assert_eq!(&bytes[24..32], &0x1122_3344_5566_7788_u64.to_le_bytes());
        assert_eq!(
            &bytes[32..64],
            &[
                42, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 41, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0,
                0, 0, 0, 0, 0
            ]
        );
        assert_eq!(&bytes[64..67], b"xyz");
        assert_eq!(bytes.len(), 4096);
    }
}
