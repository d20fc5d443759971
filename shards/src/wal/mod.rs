//! The write-ahead log of one shard.
//!
//! # Algorithm
//! 1. A commit is encoded into the group that is filling; it gets the LSN of that group's record.
//! 2. The writer task takes the group as soon as the previous one is on disk: one record, one
//!    aligned write to a file opened for durable direct I/O. No timer; a group that holds only
//!    relaxed commits may wait for more, up to a stated interval.
//! 3. When the write completes, every commit in the record is durable and its waiters are told.
//! 4. A record that does not fit the rest of the segment goes to the next one, which was filled
//!    with zeros beforehand or recycled.
//! 5. A checkpoint frees the segments that lie wholly below it.
//!
//! # Invariants
//! * One write is in flight at a time, so a record is built only after its predecessor is durable:
//!   every record's `durable_lsn` is its own LSN minus one or later marks, never less.
//! * LSNs are contiguous, each record carries the hash of the one before, and a segment's epoch is
//!   drawn at random each time it is taken into use: bytes of an earlier use never pass for new.
//! * After the first error of a write or a sync nothing more is written: the log is poisoned.

mod commit;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod group;
mod log;
mod reader;
mod record;
mod room;
mod segment;
mod segments;
mod state;
mod writer;

pub use commit::Ops;
pub(crate) use commit::{Commit, CommitKind, check_key, check_value, decode as decode_commit};
pub(crate) use log::{Offer, Settle, Wal, WalConfig};
pub(crate) use reader::{LogEnd, Marks, RecordReader, Replay, Step};
#[cfg(test)]
pub(crate) use record::RecordKind;
pub(crate) use record::{RecordHash, RecordHeader};
pub(crate) use segment::{HeaderCopy, SEGMENT_BYTES_MIN, SegmentFile, SegmentHeader};
pub(crate) use segments::{Segment, Segments, file_number};
