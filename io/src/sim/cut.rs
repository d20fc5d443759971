//! Where a run is cut off.

use std::time::Duration;

use super::disk::nanos;
use super::executor::State;

/// Where to cut a run off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// When this many more I/O operations were carried out; the last one's task has not heard of
    /// it.
    AfterIos(u64),
    /// While a durable write is in flight: the first that is about to complete after this many more
    /// I/O operations. So a crash can tear what nothing could once it is done.
    DuringWrite(u64),
    /// When this many more operations of a kind were carried out that a crash can take back.
    AfterPending(Pending, u64),
    /// At this virtual time since the world began.
    AtTime(Duration),
    /// After this many more polls of tasks.
    AfterPolls(u64),
}

/// The kinds of what a crash can take back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending {
    /// A write that is not durable at once.
    Write,
    /// A change of a file's length.
    Length,
    /// A change of a directory entry.
    Entry,
}

impl Pending {
    pub(super) const COUNT: usize = 3;
}

/// A crash point in the course of one world; whatever is reached first counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    io_count: u64,
    io_count_before_write: u64,
    pending_counts: [u64; Pending::COUNT],
    pub(super) now: u64,
    poll_count: u64,
}

impl Cut {
    pub(super) const NEVER: Self = Self {
        io_count: u64::MAX,
        io_count_before_write: u64::MAX,
        pending_counts: [u64::MAX; Pending::COUNT],
        now: u64::MAX,
        poll_count: u64::MAX,
    };

    /// The cut for a crash point, seen from where the world is.
    pub(super) fn at(point: CrashPoint, state: &State) -> Self {
        let mut cut = Self::NEVER;
        match point {
            CrashPoint::AfterIos(count) => cut.io_count = state.io_count.saturating_add(count),
            CrashPoint::DuringWrite(count) => {
                cut.io_count_before_write = state.io_count.saturating_add(count);
            }
            CrashPoint::AfterPending(kind, count) => {
                let done = state.pending_counts[kind as usize];
                cut.pending_counts[kind as usize] = done.saturating_add(count);
            }
            CrashPoint::AtTime(time) => cut.now = nanos(time),
            CrashPoint::AfterPolls(count) => {
                cut.poll_count = state.poll_count.saturating_add(count);
            }
        }
        cut
    }

    fn has_pending(&self, state: &State) -> bool {
        let mut kinds = state.pending_counts.iter().zip(self.pending_counts);
        kinds.any(|(count, cut)| *count >= cut)
    }

    pub(super) fn is_reached(&self, state: &State) -> bool {
        state.io_count >= self.io_count
            || state.io_count >= self.io_count_before_write && state.durable_write_is_due()
            || self.has_pending(state)
            || state.now >= self.now
            || state.poll_count >= self.poll_count
    }
}
