//! The log as the shard sees it: commits go in, and whoever waits for one is told when it is on
//! disk.
//!
//! # Room
//! A commit is taken only when its group is certain to find prewritten space: in the rest of the
//! current segment, or in the spare one. So a full disk refuses a commit before it is visible to
//! anyone, and never afterwards.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures_channel::oneshot;
use lightning_io::{Env, File, JoinHandle, to_u64};

use super::commit::{self, Ops};
use super::reader::LogEnd;
use super::record::{RecordHash, record_bytes};
use super::segments::{Segment, verify_segment};
use super::state::State;
use crate::signal::{Event, Signal};
use crate::{Corruption, Error, Lsn, Result, ShardId, Timestamp};

/// A group of relaxed commits is written once it is this large, without waiting for its interval:
/// from here on the device's rate counts, not its latency.
pub(super) const GROUP_BYTES: usize = 256 << 10;

/// A filling group takes no more commits from here on, unless it is a single one: 32 times what is
/// written in one piece, so that memory stays bounded when the device is slower than the callers.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// How the log of a shard is set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WalConfig {
    /// The length of the first segment; each next one is twice as long.
    pub(crate) segment_bytes_first: u64,
    /// The length that segments grow to.
    pub(crate) segment_bytes_max: u64,
    /// The longest that a relaxed commit stays in memory alone.
    pub(crate) relaxed_interval: Duration,
    /// How long the log is idle before a mark says that its last record is durable.
    pub(crate) mark_interval: Duration,
}

/// Counters of one log, since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct WalStats {
    pub(crate) commits: u64,
    pub(crate) records: u64,
    pub(crate) bytes_written: u64,
    pub(crate) bytes_on_disk: u64,
    pub(crate) segments: u64,
}

/// Whoever waits for a commit to be durable.
pub(crate) trait Settle {
    /// Tells the outcome: durable, or [`Error::MaybeCommitted`].
    fn settle(self, outcome: Result<()>);
}

/// What became of a commit that was offered to the log.
#[derive(Debug)]
pub(crate) enum Offer {
    /// It is in the group that becomes the record with this LSN.
    Taken(Lsn),
    /// There is no room yet; [`Wal::wait_for_room`] tells when to try again.
    Wait,
}

pub(super) enum Waiter<W> {
    Caller(W),
    Task(oneshot::Sender<Result<()>>),
}

impl<W: Settle> Waiter<W> {
    pub(super) fn settle(self, outcome: Result<()>) {
        match self {
            Self::Caller(caller) => caller.settle(outcome),
            // A task that stopped waiting needs no answer.
            Self::Task(task) => drop(task.send(outcome)),
        }
    }
}

/// The log of one shard. Clones share it.
pub(crate) struct Wal<E: Env, W>(pub(super) Rc<Inner<E, W>>);

pub(super) struct Inner<E: Env, W> {
    pub(super) env: E,
    pub(super) shard: ShardId,
    pub(super) config: WalConfig,
    pub(super) state: RefCell<State<E, W>>,
    /// Raised when the writer task has something to look at.
    pub(super) work: Signal,
    /// Raised when room was made or could not be made.
    pub(super) room: Signal,
    /// Raised when the log is poisoned or closed.
    pub(super) poison: Signal,
    /// Raised when a spare was prepared or could not be.
    pub(super) prepared: Event,
    pub(super) writer: RefCell<Option<JoinHandle<()>>>,
    pub(super) relaxed_timer_armed: Cell<bool>,
    pub(super) mark_timer_armed: Cell<bool>,
}

impl<E: Env, W> Clone for Wal<E, W> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<E: Env, W: Settle + 'static> Wal<E, W> {
    /// Goes on where a log ended: takes a fresh segment into use and starts the writer task.
    ///
    /// On a full disk there is no such segment yet: the log takes no commit before there is one, and
    /// [`Wal::take_shortage`] says so.
    ///
    /// `durable_timestamp` is the newest timestamp in the log so far.
    pub(crate) async fn start(
        env: &E,
        shard: ShardId,
        config: WalConfig,
        end: LogEnd<E>,
        durable_timestamp: Timestamp,
    ) -> Result<Self> {
        let state = State::new(end, durable_timestamp);
        let wal = Self(Rc::new(Inner {
            env: env.clone(),
            shard,
            config,
            state: RefCell::new(state),
            work: Signal::default(),
            room: Signal::default(),
            poison: Signal::default(),
            prepared: Event::default(),
            writer: RefCell::new(None),
            relaxed_timer_armed: Cell::new(false),
            mark_timer_armed: Cell::new(false),
        }));
        match wal.prepare(config.segment_bytes_first).await {
            Ok(spare) => wal.activate(spare, 0).await?,
            Err(error) if error.is_no_space() => wal.note_shortage(error),
            Err(error) => return Err(error),
        }
        wal.start_writer();
        Ok(wal)
    }

    /// Offers a commit; [`Wal::when_durable`] tells when a taken one is on disk.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::Closed`], or [`Error::NoSpace`] when no room can be made.
    pub(crate) fn offer(&self, ops: &Ops, timestamp: Timestamp, relaxed: bool) -> Result<Offer> {
        let mut state = self.0.state.borrow_mut();
        self.check_open(&state)?;
        let bytes = commit::commit_bytes(ops);
        let payload_bytes = state.filling.payload_bytes() + bytes;
        if !state.filling.is_empty() && payload_bytes > GROUP_BYTES_MAX {
            return Ok(Offer::Wait);
        }
        if to_u64(record_bytes(payload_bytes)) > state.room() {
            // What fills now may count on the spare, so the spare is not replaced under it.
            if state.filling.is_empty() && to_u64(record_bytes(bytes)) > state.room() {
                self.ask_for_room(&mut state, to_u64(record_bytes(bytes)))?;
            }
            // What fills now has to go before a larger group can.
            state.filling.wanted |= !state.filling.is_empty();
            drop(state);
            self.0.work.raise();
            return Ok(Offer::Wait);
        }
        let lsn = state.next;
        state.filling.push(&self.0.env, ops, timestamp, relaxed);
        state.stats.commits += 1;
        let write_now = state.filling.wanted || state.filling.payload_bytes() >= GROUP_BYTES;
        drop(state);
        if write_now {
            self.0.work.raise();
        } else if !planted!("relaxed_never_due") {
            self.arm_relaxed_timer();
        }
        Ok(Offer::Taken(lsn))
    }

    /// Has `waiter` told when the record `lsn` is durable, which it is not yet.
    pub(crate) fn when_durable(&self, lsn: Lsn, waiter: W) {
        self.enqueue(lsn, Waiter::Caller(waiter));
    }

    /// The LSN to wait for until a commit with this timestamp is durable; `None` if it is.
    pub(crate) fn pending(&self, timestamp: Timestamp) -> Option<Lsn> {
        let state = self.0.state.borrow();
        if timestamp <= state.durable_timestamp {
            return None;
        }
        match state.in_flight {
            Some(last) if timestamp <= last => Some(Lsn(state.next.0 - 1)),
            _ => Some(state.next),
        }
    }

    /// Waits until everything offered so far is durable.
    pub(crate) async fn sync(&self) -> Result<()> {
        let (lsn, empty) = {
            let mut state = self.0.state.borrow_mut();
            self.check_poison(&state)?;
            let empty = state.filling.is_empty();
            state.filling.wanted |= !empty;
            (
                if empty {
                    Lsn(state.next.0 - 1)
                } else {
                    state.next
                },
                empty,
            )
        };
        if !empty {
            self.0.work.raise();
        }
        let (sender, receiver) = oneshot::channel();
        self.enqueue(lsn, Waiter::Task(sender));
        receiver.await.unwrap_or(Err(Error::Closed))
    }

    /// The last sealed record and its hash: every commit in it and before it has been offered, so a
    /// memtable that holds all offered commits covers it.
    pub(crate) fn checkpoint_candidate(&self) -> (Lsn, RecordHash) {
        let state = self.0.state.borrow();
        (state.last_sealed, state.previous)
    }

    /// The highest durable LSN.
    pub(crate) fn durable(&self) -> Lsn {
        self.0.state.borrow().durable
    }

    /// Waits for a change of the room that commits find; `false` once the log is closed.
    pub(crate) async fn wait_for_room(&self) -> bool {
        self.0.room.wait().await;
        !self.0.state.borrow().closed
    }

    /// Waits until the log is poisoned, and returns why, or until it is closed.
    pub(crate) async fn wait_for_poison(&self) -> Option<String> {
        loop {
            if let Some(cause) = self.poisoned() {
                return Some(cause);
            }
            if self.0.state.borrow().closed {
                return None;
            }
            self.0.poison.wait().await;
        }
    }

    /// Why the log takes no more commits, if it failed.
    pub(crate) fn poisoned(&self) -> Option<String> {
        self.0.state.borrow().poisoned.clone()
    }

    /// Whether the log was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.state.borrow().closed
    }

    /// Frees the segments that lie wholly at or below a durable checkpoint.
    ///
    /// # Errors
    /// When a surplus file cannot be removed; it is harmless where it is.
    pub(crate) async fn truncate(&self, checkpoint: Lsn) -> Result<()> {
        let surplus = self.0.state.borrow_mut().segments.release(checkpoint);
        for file in surplus {
            let path = file.path().to_path_buf();
            file.close().await?;
            self.0.env.remove_file(&path).await?;
        }
        Ok(())
    }

    /// Counters and sizes.
    pub(crate) fn stats(&self) -> WalStats {
        let state = self.0.state.borrow();
        WalStats {
            bytes_on_disk: state.segments.bytes() + state.spare.as_ref().map_or(0, |s| s.length),
            segments: to_u64(state.segments.live_count()),
            ..state.stats
        }
    }

    /// How many segments hold records that a recovery would read.
    pub(crate) fn live_segments(&self) -> usize {
        self.0.state.borrow().segments.live_count()
    }

    /// Reads the live segments again, as far as they are durable, and checks them.
    pub(crate) async fn verify(&self) -> Result<Vec<Corruption>> {
        let (live, durable): (Vec<Segment<E::File>>, Lsn) = {
            let state = self.0.state.borrow();
            (state.segments.live().cloned().collect(), state.durable)
        };
        let mut damages = Vec::new();
        for (at, segment) in live.iter().enumerate() {
            let end = match live.get(at + 1) {
                Some(next) => next.header.base,
                None => durable.next(),
            };
            let found = verify_segment(&self.0.env, segment, end).await?;
            // A checkpoint may have freed it meanwhile, and a new use may have begun.
            if self.0.state.borrow().segments.is_live(segment) {
                damages.extend(found);
            }
        }
        Ok(damages)
    }

    /// Writes what is left, marks it durable and ends the writer task.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when the log had failed.
    pub(crate) async fn close(&self) -> Result<()> {
        self.0.state.borrow_mut().closing = true;
        self.0.work.raise();
        let writer = self.0.writer.borrow_mut().take();
        if let Some(writer) = writer
            && let Err(panic) = writer.await
        {
            self.fail(&panic.to_string());
        }
        // A file that is on its way must not meet the next opening.
        while self.0.state.borrow().preparing {
            self.0.prepared.next().await;
        }
        self.0.state.borrow_mut().closed = true;
        self.0.room.raise();
        self.0.poison.raise();
        self.check_poison(&self.0.state.borrow())
    }

    fn enqueue(&self, lsn: Lsn, waiter: Waiter<W>) {
        let mut state = self.0.state.borrow_mut();
        if lsn <= state.durable {
            drop(state);
            waiter.settle(Ok(()));
            return;
        }
        if let Some(cause) = &state.poisoned {
            let outcome = Err(self.maybe_committed(cause));
            drop(state);
            waiter.settle(outcome);
            return;
        }
        let at = state.waiters.partition_point(|(other, _)| *other <= lsn);
        state.waiters.insert(at, (lsn, waiter));
    }

    fn check_open(&self, state: &State<E, W>) -> Result<()> {
        self.check_poison(state)?;
        if state.closing {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    fn check_poison(&self, state: &State<E, W>) -> Result<()> {
        match &state.poisoned {
            Some(cause) => Err(Error::Poisoned {
                shard: self.0.shard,
                cause: cause.clone(),
            }),
            None => Ok(()),
        }
    }

    pub(super) fn maybe_committed(&self, cause: &str) -> Error {
        Error::MaybeCommitted {
            shard: self.0.shard,
            cause: cause.to_owned(),
        }
    }
}
