//! The commit group that is filling while the one before it is being written.

use lightning_io::{Env, IoBuf, to_u64};

use super::commit::{self, Ops};
use super::record::{HEADER_BYTES, RecordHash, RecordHeader, record_bytes};
use crate::Timestamp;

/// What a new group's buffer holds before it has to grow: a handful of small commits.
const FIRST_BYTES: usize = 16 << 10;

/// Commits on their way into one record.
///
/// `buffer` is the record itself: the header's place, then `payload_bytes` of commits, then zeros.
#[derive(Debug, Default)]
pub(crate) struct Group {
    buffer: Option<IoBuf>,
    payload_bytes: usize,
    /// Whether a caller waits for it to be on disk.
    pub(crate) wanted: bool,
    /// The timestamp of its last commit.
    pub(crate) last: Timestamp,
    /// The number of commits in it.
    pub(crate) commits: u64,
}

impl Group {
    pub(crate) fn is_empty(&self) -> bool {
        self.payload_bytes == 0
    }

    pub(crate) fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Encodes a commit behind the others.
    pub(crate) fn push<E: Env>(&mut self, env: &E, ops: &Ops, timestamp: Timestamp, relaxed: bool) {
        assert!(
            timestamp > self.last || self.is_empty(),
            "commits come in timestamp order"
        );
        let bytes = commit::commit_bytes(ops);
        let start = HEADER_BYTES + self.payload_bytes;
        let buffer = grown(env, self.buffer.take(), start, start + bytes);
        let buffer = self.buffer.insert(buffer);
        commit::encode(ops, timestamp, relaxed, &mut buffer[start..start + bytes]);
        self.payload_bytes += bytes;
        self.wanted |= !relaxed;
        self.last = timestamp;
        self.commits += 1;
    }

    /// Turns the group into the record that is written.
    pub(crate) fn seal<E: Env>(self, env: &E, header: &RecordHeader) -> (IoBuf, RecordHash) {
        let bytes = record_bytes(self.payload_bytes);
        let mut buffer = self.buffer.unwrap_or_else(|| env.allocate(bytes));
        buffer.truncate(bytes);
        let hash = header.seal(&mut buffer, self.payload_bytes);
        (buffer, hash)
    }
}

/// A buffer of at least `needed` bytes that begins with the `used` bytes of the old one.
fn grown<E: Env>(env: &E, old: Option<IoBuf>, used: usize, needed: usize) -> IoBuf {
    match old {
        Some(old) if old.len() >= needed => old,
        old => {
            let doubled = old.as_ref().map_or(FIRST_BYTES, |old| old.len() * 2);
            let mut new = env.allocate(doubled.max(needed));
            debug_assert!(to_u64(new.len()) >= to_u64(needed));
            if let Some(old) = old {
                new[..used].copy_from_slice(&old[..used]);
            }
            new
        }
    }
}
