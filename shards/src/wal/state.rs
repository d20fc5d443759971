//! What a log is at a moment: its segments, the group that fills, what is durable, who waits; and
//! what its writer does next, decided from that alone.

use std::collections::VecDeque;

use lightning_io::{BLOCK_BYTES, Env, to_u64};

use super::group::Group;
use super::log::{GROUP_BYTES, Waiter, WalStats};
use super::reader::LogEnd;
use super::record::{RecordHash, RecordHeader, RecordKind};
use super::segment::SegmentFile;
use super::segments::Segments;
use crate::{Error, Lsn, ShardId, Timestamp};

/// The writer's next step.
pub(super) enum Todo {
    Write,
    Mark,
    Stop,
    Nothing,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each flag is raised and lowered by itself"
)]
pub(super) struct State<E: Env, W> {
    pub(super) segments: Segments<E>,
    /// Where the next record goes in the last live segment, and where that segment's records end.
    pub(super) position: u64,
    pub(super) end: u64,
    /// Bytes of a segment on its way into use that belong to the record which it is for.
    pub(super) reserved: u64,
    /// A file ready to become the next segment.
    pub(super) spare: Option<SegmentFile<E::File>>,
    pub(super) preparing: bool,
    /// The length of the spare that a commit waits for; zero when none does.
    pub(super) demanded_bytes: u64,
    /// Why a demanded spare could not be prepared, until somebody was told. A smaller one that could
    /// be does not change that.
    pub(super) prepare_error: Option<Error>,
    /// That no segment could be made for lack of space, until the shard was told.
    pub(super) shortage: Option<Error>,

    pub(super) filling: Group,
    /// The timestamp of the last commit that is being written, while one is.
    pub(super) in_flight: Option<Timestamp>,
    /// The LSN of the record that `filling` becomes.
    pub(super) next: Lsn,
    /// The last record that was sealed, and its hash.
    pub(super) last_sealed: Lsn,
    pub(super) previous: RecordHash,
    pub(super) durable: Lsn,
    pub(super) durable_timestamp: Timestamp,
    /// In LSN order.
    pub(super) waiters: VecDeque<(Lsn, Waiter<W>)>,

    pub(super) relaxed_due: bool,
    pub(super) mark_due: bool,
    pub(super) last_was_mark: bool,
    pub(super) closing: bool,
    /// Whether the writer task has ended.
    pub(super) closed: bool,
    pub(super) poisoned: Option<String>,
    pub(super) stats: WalStats,
}

impl<E: Env, W> State<E, W> {
    /// The state of a log that goes on where another ended, before it has a segment.
    pub(super) fn new(end: LogEnd<E>, durable_timestamp: Timestamp) -> Self {
        Self {
            segments: end.segments,
            position: 0,
            end: 0,
            reserved: 0,
            spare: None,
            preparing: false,
            demanded_bytes: 0,
            prepare_error: None,
            shortage: None,
            filling: Group::default(),
            in_flight: None,
            next: end.last.next(),
            last_sealed: end.last,
            previous: end.last_hash,
            durable: end.last,
            durable_timestamp,
            waiters: VecDeque::new(),
            relaxed_due: false,
            mark_due: false,
            last_was_mark: true,
            closing: false,
            closed: false,
            poisoned: None,
            stats: WalStats::default(),
        }
    }

    /// Whether it is time for a spare segment: there is none, and the current one is half full.
    pub(super) fn lacks_room(&self) -> bool {
        let length = self.end + to_u64(BLOCK_BYTES);
        self.spare.is_none() && self.end - self.position < length / 2
    }

    /// Bytes of the largest record that the next group may become.
    pub(super) fn room(&self) -> u64 {
        let spare = self
            .spare
            .as_ref()
            .map_or(0, |spare| spare.length - 2 * to_u64(BLOCK_BYTES));
        spare.max(self.end - self.position - self.reserved)
    }

    /// The LSN of the record that is about to be written.
    pub(super) fn base(&self) -> Lsn {
        self.durable.next()
    }

    /// The header of the record that is written next; later commits go to the one after it.
    pub(super) fn next_header(
        &mut self,
        shard: ShardId,
        kind: RecordKind,
        timestamp: Timestamp,
    ) -> RecordHeader {
        let lsn = self.next;
        self.next = lsn.next();
        RecordHeader {
            shard,
            kind,
            epoch: 0,
            lsn,
            previous: self.previous,
            durable: self.durable,
            timestamp,
        }
    }

    /// The next step, as things stand.
    pub(super) fn todo(&self) -> Todo {
        if self.poisoned.is_some() {
            return Todo::Stop;
        }
        let due = self.filling.wanted
            || self.relaxed_due
            || self.closing
            || self.filling.payload_bytes() >= GROUP_BYTES;
        match (self.filling.is_empty(), due) {
            (false, true) => Todo::Write,
            (true, _) if self.mark_due || self.closing && !self.last_was_mark => Todo::Mark,
            (true, _) if self.closing => Todo::Stop,
            _ => Todo::Nothing,
        }
    }
}
