//! The task that writes the log, and the timers that give it something to write.
//!
//! # Ownership
//! This task owns every write. Nobody's dropped future can cancel one.
//!
//! # Panics
//! A panic in a task of the log poisons it at once, as an error of a write does: what the task left
//! half done is never gone on with, and nobody is left waiting for it.

use std::rc::Rc;

use lightning_io::{BLOCK_BYTES, Env, File, TaskClass, catch_panic, to_u64};

use super::group::Group;
use super::log::{Settle, Wal};
use super::record::{RecordHeader, RecordKind, record_bytes};
use super::state::Todo;

impl<E: Env, W: Settle + 'static> Wal<E, W> {
    /// Starts the writer task.
    pub(super) fn start_writer(&self) {
        let wal = self.clone();
        let writer = async move {
            if let Err(panic) = catch_panic(wal.run()).await {
                wal.fail(&format!("writer of the log: {panic}"));
            }
        };
        let writer = self.0.env.spawn(TaskClass::Wal, writer);
        *self.0.writer.borrow_mut() = Some(writer);
    }

    async fn run(&self) {
        loop {
            let todo = self.0.state.borrow().todo();
            match todo {
                Todo::Write => self.write_group().await,
                Todo::Mark => self.write_mark().await,
                Todo::Stop => break,
                Todo::Nothing => self.0.work.wait().await,
            }
        }
    }

    async fn write_group(&self) {
        let (group, header) = {
            let mut state = self.0.state.borrow_mut();
            let group = std::mem::take(&mut state.filling);
            state.in_flight = Some(group.last);
            state.relaxed_due = false;
            let header = state.next_header(self.0.shard, RecordKind::Group, group.last);
            (group, header)
        };
        let bytes = to_u64(record_bytes(group.payload_bytes()));
        if let Err(error) = self.make_place(bytes).await {
            self.fail(&error.to_string());
            return;
        }
        self.write(group, header).await;
        self.prepare_ahead();
        self.0.room.raise();
        self.arm_mark_timer();
    }

    async fn write_mark(&self) {
        let header = {
            let mut state = self.0.state.borrow_mut();
            state.mark_due = false;
            if state.end - state.position < to_u64(BLOCK_BYTES) {
                // A mark is not worth a segment: the next segment's header says the same.
                state.last_was_mark = true;
            }
            if state.last_was_mark {
                return;
            }
            let timestamp = state.durable_timestamp;
            state.next_header(self.0.shard, RecordKind::Mark, timestamp)
        };
        self.write(Group::default(), header).await;
    }

    /// Writes one record and tells its waiters.
    async fn write(&self, group: Group, mut header: RecordHeader) {
        let commits = group.commits;
        let (file, offset, buffer) = {
            let mut state = self.0.state.borrow_mut();
            let current = state.segments.live().next_back();
            let current = current.expect("a log takes a segment into use before it writes");
            let file = current.file.clone();
            header.epoch = current.header.epoch;
            let (buffer, hash) = group.seal(&self.0.env, &header);
            state.previous = hash;
            state.last_sealed = header.lsn;
            let offset = state.position;
            state.position += to_u64(buffer.len());
            state.reserved = 0;
            assert!(
                state.position <= state.end,
                "a record stays inside its segment"
            );
            (file, offset, buffer)
        };
        let bytes = to_u64(buffer.len());
        match file.write_at(offset, buffer).await {
            Ok(()) => self.complete(&header, bytes, commits),
            Err(_) if planted!("ignore_wal_write_error") => self.complete(&header, bytes, commits),
            Err(error) => self.fail(&error.to_string()),
        }
    }

    fn complete(&self, header: &RecordHeader, bytes: u64, commits: u64) {
        let mut state = self.0.state.borrow_mut();
        assert!(
            state.durable < header.lsn,
            "records become durable in order"
        );
        state.durable = header.lsn;
        state.durable_timestamp = state.durable_timestamp.max(header.timestamp);
        state.in_flight = None;
        state.last_was_mark = header.kind == RecordKind::Mark;
        state.stats.records += 1;
        state.stats.bytes_written += bytes;
        debug_assert!(commits > 0 || state.last_was_mark);
        loop {
            match state.waiters.front() {
                Some((lsn, _)) if *lsn < header.lsn => {}
                Some((lsn, _)) if *lsn == header.lsn && !planted!("answers_lag_a_record") => {}
                _ => break,
            }
            let Some((_, waiter)) = state.waiters.pop_front() else {
                break;
            };
            // A waiter may come back to the log at once.
            drop(state);
            waiter.settle(Ok(()));
            state = self.0.state.borrow_mut();
        }
    }

    /// Poisons the log: nothing is written from here on, whoever waits learns that the outcome is
    /// open, and whoever comes later is refused.
    pub(crate) fn fail(&self, cause: &str) {
        let (waiters, durable) = {
            let mut state = self.0.state.borrow_mut();
            if state.poisoned.is_some() {
                return;
            }
            tracing::error!(shard = %self.0.shard, cause, "the log failed; the shard is poisoned");
            state.poisoned = (!planted!("write_after_poison")).then(|| cause.to_owned());
            state.filling = Group::default();
            (std::mem::take(&mut state.waiters), state.durable)
        };
        for (lsn, waiter) in waiters {
            // A panic may have come between a record and the news of it.
            waiter.settle(if lsn <= durable {
                Ok(())
            } else {
                Err(self.maybe_committed(cause))
            });
        }
        self.0.poison.raise();
        self.0.room.raise();
        self.0.work.raise();
    }

    // The timers hold the log weakly: one that is still asleep keeps nothing of a closed log.

    fn spawn_timer(&self, timer: impl Future<Output = ()> + 'static) {
        let wal = Rc::downgrade(&self.0);
        let timer = async move {
            let outcome = catch_panic(timer).await;
            if let (Err(panic), Some(wal)) = (outcome, wal.upgrade().map(Self)) {
                wal.fail(&format!("timer of the log: {panic}"));
            }
        };
        // It reports through the state; nobody joins it.
        drop(self.0.env.spawn(TaskClass::Maintenance, timer));
    }

    pub(super) fn arm_relaxed_timer(&self) {
        if self.0.relaxed_timer_armed.replace(true) {
            return;
        }
        let (env, interval) = (self.0.env.clone(), self.0.config.relaxed_interval);
        let wal = Rc::downgrade(&self.0);
        let timer = async move {
            env.sleep(interval).await;
            let Some(wal) = wal.upgrade().map(Self) else {
                return;
            };
            wal.0.relaxed_timer_armed.set(false);
            wal.0.state.borrow_mut().relaxed_due = true;
            wal.0.work.raise();
        };
        self.spawn_timer(timer);
    }

    pub(super) fn arm_mark_timer(&self) {
        if self.0.mark_timer_armed.replace(true) {
            return;
        }
        let (env, interval) = (self.0.env.clone(), self.0.config.mark_interval);
        let (wal, before) = (Rc::downgrade(&self.0), self.durable());
        let timer = async move {
            env.sleep(interval).await;
            let Some(wal) = wal.upgrade().map(Self) else {
                return;
            };
            wal.0.mark_timer_armed.set(false);
            let mut state = wal.0.state.borrow_mut();
            if state.poisoned.is_some() || state.closing || state.last_was_mark {
                return;
            }
            let idle = state.durable == before && state.filling.is_empty();
            state.mark_due = idle;
            drop(state);
            if idle {
                wal.0.work.raise();
            } else {
                wal.arm_mark_timer();
            }
        };
        self.spawn_timer(timer);
    }
}
