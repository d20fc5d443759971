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
    /// When this many more I/O operations were carried out that a crash can take back: writes that
    /// are not durable, changes of length and of directory entries.
    AfterPending(u64),
    /// At this virtual time since the world began.
    AtTime(Duration),
    /// After this many more polls of tasks.
    AfterPolls(u64),
}

/// A crash point in the course of one world; whatever is reached first counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    io_count: u64,
    io_count_before_write: u64,
    pending_count: u64,
    pub(super) now: u64,
    poll_count: u64,
}

impl Cut {
    pub(super) const NEVER: Self = Self {
        io_count: u64::MAX,
        io_count_before_write: u64::MAX,
        pending_count: u64::MAX,
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
            CrashPoint::AfterPending(count) => {
                cut.pending_count = state.pending_count.saturating_add(count);
            }
            CrashPoint::AtTime(time) => cut.now = nanos(time),
            CrashPoint::AfterPolls(count) => {
                cut.poll_count = state.poll_count.saturating_add(count);
            }
        }
        cut
    }

    pub(super) fn is_reached(&self, state: &State) -> bool {
        state.io_count >= self.io_count
            || state.io_count >= self.io_count_before_write && state.durable_write_is_due()
            || state.pending_count >= self.pending_count
            || state.now >= self.now
            || state.poll_count >= self.poll_count
    }
}
