//! What the writer of the log does next, decided from the state alone.

use lightning_io::{BLOCK_BYTES, Env, to_u64};

use super::log::{GROUP_BYTES, State};
use super::record::{RecordHeader, RecordKind};
use crate::{Lsn, ShardId, Timestamp};

/// The writer's next step.
pub(super) enum Todo {
    Write,
    Mark,
    Stop,
    Nothing,
}

impl<E: Env, W> State<E, W> {
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
