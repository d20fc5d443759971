//! Writing the log: commits go in at one end, one record at a time goes to disk at the other.
//!
//! # Ownership
//! The writer task owns every write. Callers leave a commit and a way to be told; dropping the
//! caller's future changes nothing about the write.
//!
//! # Room
//! A commit is taken only when its group is certain to find prewritten space: in the rest of the
//! current segment, or in the spare one. So a full disk refuses a commit before it is visible to
//! anyone, and never afterwards.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use futures_channel::oneshot;
use lightning_io::{BLOCK_BYTES, Env, File, JoinHandle, TaskClass, round_up, to_u64};

use super::commit::{self, Ops};
use super::group::Group;
use super::reader::LogEnd;
use super::record::{RecordHash, RecordHeader, RecordKind, record_bytes};
use super::segment::{RECORDS, SEGMENT_BYTES_MIN, SegmentFile};
use super::segments::{Segment, Segments, verify_segments};
use crate::signal::Signal;
use crate::{Corruption, Error, Lsn, Result, ShardId, Timestamp};

/// A group of relaxed commits is written once it is this large, without waiting for its interval:
/// from here on the device's rate counts, not its latency.
const GROUP_BYTES: usize = 256 << 10;

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

enum Waiter<W> {
    Caller(W),
    Task(oneshot::Sender<Result<()>>),
}

impl<W: Settle> Waiter<W> {
    fn settle(self, outcome: Result<()>) {
        match self {
            Self::Caller(caller) => caller.settle(outcome),
            // A task that stopped waiting needs no answer.
            Self::Task(task) => drop(task.send(outcome)),
        }
    }
}

/// The log of one shard. Clones share it.
pub(crate) struct Wal<E: Env, W>(Rc<Inner<E, W>>);

struct Inner<E: Env, W> {
    env: E,
    shard: ShardId,
    config: WalConfig,
    state: RefCell<State<E, W>>,
    /// Raised when the writer task has something to look at.
    work: Signal,
    /// Raised when room was made or could not be made.
    room: Signal,
    /// Raised once, when the log is poisoned.
    poison: Signal,
    writer: RefCell<Option<JoinHandle<()>>>,
    relaxed_timer_armed: Cell<bool>,
    mark_timer_armed: Cell<bool>,
}

struct State<E: Env, W> {
    segments: Segments<E>,
    /// Where the next record goes in the last live segment, and where that segment's records end.
    position: u64,
    end: u64,
    /// A file ready to become the next segment.
    spare: Option<SegmentFile<E::File>>,
    preparing: bool,
    /// Whether a commit waits for the spare.
    demanded: bool,
    /// Why a demanded spare could not be prepared, until somebody was told.
    prepare_error: Option<Error>,

    filling: Group,
    /// The timestamp of the last commit that is being written, while one is.
    in_flight: Option<Timestamp>,
    /// The LSN of the record that `filling` becomes.
    next: Lsn,
    /// The last record that was sealed, and its hash.
    last_sealed: Lsn,
    previous: RecordHash,
    durable: Lsn,
    durable_timestamp: Timestamp,
    /// In LSN order.
    waiters: VecDeque<(Lsn, Waiter<W>)>,

    relaxed_due: bool,
    mark_due: bool,
    last_was_mark: bool,
    closing: bool,
    poisoned: Option<String>,
    stats: WalStats,
}

impl<E: Env, W> Clone for Wal<E, W> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<E: Env, W: Settle + 'static> Wal<E, W> {
    /// Goes on where a log ended: takes a fresh segment into use and starts the writer task.
    ///
    /// `durable_timestamp` is the newest timestamp in the log so far.
    pub(crate) async fn start(
        env: &E,
        shard: ShardId,
        config: WalConfig,
        end: LogEnd<E>,
        durable_timestamp: Timestamp,
    ) -> Result<Self> {
        let state = State {
            segments: end.segments,
            position: 0,
            end: 0,
            spare: None,
            preparing: false,
            demanded: false,
            prepare_error: None,
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
            poisoned: None,
            stats: WalStats::default(),
        };
        let wal = Self(Rc::new(Inner {
            env: env.clone(),
            shard,
            config,
            state: RefCell::new(state),
            work: Signal::default(),
            room: Signal::default(),
            poison: Signal::default(),
            writer: RefCell::new(None),
            relaxed_timer_armed: Cell::new(false),
            mark_timer_armed: Cell::new(false),
        }));
        let spare = wal.prepare(config.segment_bytes_first).await?;
        wal.activate(spare).await?;
        let task = wal.clone();
        let writer = env.spawn(TaskClass::Wal, async move { task.run().await });
        *wal.0.writer.borrow_mut() = Some(writer);
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
        } else {
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

    /// Waits for a change of the room that commits find.
    pub(crate) async fn wait_for_room(&self) {
        self.0.room.wait().await;
    }

    /// Waits until the log is poisoned; returns why.
    pub(crate) async fn wait_for_poison(&self) -> String {
        loop {
            if let Some(cause) = self.poisoned() {
                return cause;
            }
            self.0.poison.wait().await;
        }
    }

    /// Why the log takes no more commits, if it failed.
    pub(crate) fn poisoned(&self) -> Option<String> {
        self.0.state.borrow().poisoned.clone()
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

    /// Reads the live segments again and checks them.
    pub(crate) async fn verify(&self) -> Result<Vec<Corruption>> {
        let (live, durable): (Vec<Segment<E::File>>, Lsn) = {
            let state = self.0.state.borrow();
            (state.segments.live().cloned().collect(), state.durable)
        };
        verify_segments(&self.0.env, &live, durable).await
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

    fn maybe_committed(&self, cause: &str) -> Error {
        Error::MaybeCommitted {
            shard: self.0.shard,
            cause: cause.to_owned(),
        }
    }

    /// The writer task.
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
            assert!(
                state.position <= state.end,
                "a record stays inside its segment"
            );
            (file, offset, buffer)
        };
        let bytes = to_u64(buffer.len());
        match file.write_at(offset, buffer).await {
            Ok(()) => self.complete(&header, bytes, commits),
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
                Some((lsn, _)) if *lsn <= header.lsn => {}
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
        let waiters = {
            let mut state = self.0.state.borrow_mut();
            if state.poisoned.is_some() {
                return;
            }
            tracing::error!(shard = %self.0.shard, cause, "the log failed; the shard is poisoned");
            state.poisoned = Some(cause.to_owned());
            state.filling = Group::default();
            std::mem::take(&mut state.waiters)
        };
        for (_, waiter) in waiters {
            waiter.settle(Err(self.maybe_committed(cause)));
        }
        self.0.poison.raise();
        self.0.room.raise();
        self.0.work.raise();
    }

    /// Makes sure that the next record fits the current segment, going to the spare one if needed.
    async fn make_place(&self, bytes: u64) -> Result<()> {
        let spare = {
            let mut state = self.0.state.borrow_mut();
            if bytes <= state.end - state.position {
                return Ok(());
            }
            state.spare.take()
        };
        let spare = spare.ok_or_else(|| Error::NoSpace {
            shard: self.0.shard,
            cause: lightning_io::IoError::new(
                lightning_io::IoOp::Write,
                std::path::Path::new("wal"),
                lightning_io::IoErrorKind::NoSpace,
            ),
        })?;
        self.activate(spare).await
    }

    /// Takes a file into use as the current segment.
    async fn activate(&self, spare: SegmentFile<E::File>) -> Result<()> {
        let header = {
            let mut state = self.0.state.borrow_mut();
            let (base, previous, durable) = (state.base(), state.previous, state.durable);
            let header = state
                .segments
                .next_header(spare.length, base, previous, durable);
            state.position = RECORDS;
            state.end = header.records_end();
            header
        };
        spare.write_headers(&self.0.env, &header).await?;
        self.0.state.borrow_mut().segments.push(Segment {
            header,
            file: spare.file,
        });
        Ok(())
    }

    /// Gets a file of at least `length` bytes ready: one that waits, or a new one.
    async fn prepare(&self, length: u64) -> Result<SegmentFile<E::File>> {
        let (waiting, path) = {
            let mut state = self.0.state.borrow_mut();
            match state.segments.take_free(length) {
                Some(waiting) => (Some(waiting), PathBuf::new()),
                None => (None, state.segments.next_path()),
            }
        };
        if let Some(waiting) = waiting {
            return Ok(waiting);
        }
        let created = SegmentFile::create(&self.0.env, &path, length).await;
        if created.is_err() {
            // What was created of it is of no use; if it cannot be removed either, the next run
            // finds it unused.
            drop(self.0.env.remove_file(&path).await);
        }
        created
    }

    /// Starts preparing a spare when the current segment is half full.
    fn prepare_ahead(&self) {
        let mut state = self.0.state.borrow_mut();
        let length = state.end + to_u64(BLOCK_BYTES);
        if state.spare.is_none() && !state.preparing && state.end - state.position < length / 2 {
            let doubled = (length * 2)
                .min(self.0.config.segment_bytes_max)
                .max(SEGMENT_BYTES_MIN);
            self.start_preparing(&mut state, doubled);
        }
    }

    fn ask_for_room(&self, state: &mut State<E, W>, record_bytes: u64) -> Result<()> {
        state.demanded = true;
        let error = state.prepare_error.take();
        if state.preparing {
            return Ok(());
        }
        let needed = record_bytes + 2 * to_u64(BLOCK_BYTES);
        if let Some(short) = state.spare.take() {
            state.segments.give_back(short);
        }
        let length = needed.max(self.0.config.segment_bytes_first);
        self.start_preparing(state, round_up(length, to_u64(BLOCK_BYTES)));
        // The attempt before this one failed: say so now, and let the next caller see whether
        // this one does better.
        error.map_or(Ok(()), |error| Err(self.no_room(error)))
    }

    fn no_room(&self, error: Error) -> Error {
        match error {
            Error::Io(cause) if matches!(cause.kind(), lightning_io::IoErrorKind::NoSpace) => {
                Error::NoSpace {
                    shard: self.0.shard,
                    cause,
                }
            }
            other => other,
        }
    }

    fn start_preparing(&self, state: &mut State<E, W>, length: u64) {
        state.preparing = true;
        let wal = self.clone();
        let task = async move {
            let prepared = wal.prepare(length).await;
            {
                let mut state = wal.0.state.borrow_mut();
                state.preparing = false;
                match prepared {
                    Ok(file) => {
                        state.spare = Some(file);
                        state.prepare_error = None;
                        state.demanded = false;
                    }
                    Err(error) => {
                        tracing::warn!(shard = %wal.0.shard, %error, "no spare log segment");
                        state.prepare_error = state.demanded.then_some(error);
                    }
                }
            }
            wal.0.room.raise();
        };
        // The task reports through the state; nobody joins it.
        drop(self.0.env.spawn(TaskClass::Flush, task));
    }

    fn arm_relaxed_timer(&self) {
        if self.0.relaxed_timer_armed.replace(true) {
            return;
        }
        let wal = self.clone();
        let timer = async move {
            wal.0.env.sleep(wal.0.config.relaxed_interval).await;
            wal.0.relaxed_timer_armed.set(false);
            wal.0.state.borrow_mut().relaxed_due = true;
            wal.0.work.raise();
        };
        drop(self.0.env.spawn(TaskClass::Maintenance, timer));
    }

    fn arm_mark_timer(&self) {
        if self.0.mark_timer_armed.replace(true) {
            return;
        }
        let wal = self.clone();
        let timer = async move {
            let before = wal.durable();
            wal.0.env.sleep(wal.0.config.mark_interval).await;
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
        drop(self.0.env.spawn(TaskClass::Maintenance, timer));
    }
}

enum Todo {
    Write,
    Mark,
    Stop,
    Nothing,
}

impl<E: Env, W> State<E, W> {
    /// Bytes of the largest record that the next group may become.
    fn room(&self) -> u64 {
        let spare = self
            .spare
            .as_ref()
            .map_or(0, |spare| spare.length - 2 * to_u64(BLOCK_BYTES));
        spare.max(self.end - self.position)
    }

    /// The LSN of the record that is about to be written.
    fn base(&self) -> Lsn {
        self.durable.next()
    }

    /// The header of the record that is written next; later commits go to the one after it.
    fn next_header(
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

    fn todo(&self) -> Todo {
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
