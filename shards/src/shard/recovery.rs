//! Opening a shard: from what is on disk to a shard that serves.
//!
//! # Algorithm
//! 1. Read the superblock; sync it, so that what is trusted stays.
//! 2. Open the tree that it points to: header and space map, no data.
//! 3. Find the log's segments and read their headers.
//! 4. Replay every record behind the checkpoint into a memtable, following the chain of hashes. A
//!    memtable that fills up is applied to the tree on the way, so memory stays in its budget. Where
//!    the tree is damaged or the disk is full, it stays in memory, beyond the budget.
//! 5. Judge the end of the log: a torn tail is cut, rot is refused (see `wal::reader`).
//! 6. Sync the segments that were read, let those below the checkpoint go, and take a fresh one
//!    into use, with a new epoch.
//! 7. Start the clock above everything that was found.
//! 8. Make the reserve of space. On a full disk there may be neither room for it nor for a fresh
//!    segment: then the shard serves reads, and is short of space from the start.
//!
//! # Crash argument
//! Steps 1 to 5 write nothing but what step 4 flushes, and a flush is a checkpoint like any other.
//! A crash at any point leaves a state from which the same steps give the same content.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::rc::Rc;

use lightning_io::{Env, IoError};

use super::flush::write_table;
use super::merge::Merges;
use super::policy;
use super::space::Space;
use super::throttle::Throttle;
use super::turns::Turns;
use super::{Counters, Inner, Shard, SharedMemtable, TREE_FILE_NAME, directory};
use crate::clock::Clock;
use crate::config::ShardConfig;
use crate::entry::{Entry, EntryFlags};
use crate::memtable::{BUDGET_BYTES_MAX, Memtable};
use crate::signal::{Event, Signal};
use crate::superblock::{Checkpoint, Superblock};
use crate::tree::Tree;
use crate::wal::{CommitKind, LogEnd, Marks, Replay, Segments, Wal};
use crate::{Error, FileOwner, Identity, Result, ShardId, Timestamp, TxnId};

/// Segments that a recovery may leave to the next one; with more, what was replayed is flushed at
/// once, so that a process that crashes again and again does not pile them up.
const REPLAYED_SEGMENTS_MAX: usize = 4;

impl<E: Env> Shard<E> {
    /// Opens the files of a shard and brings it to the state of its last durable write.
    ///
    /// # Errors
    /// [`crate::Error::Corruption`] when durable bytes are damaged or missing,
    /// [`crate::Error::Version`] when another version wrote them, or those of the file operations.
    pub async fn open(
        env: &E,
        root: &Path,
        identity: &Identity,
        shard: ShardId,
        config: &ShardConfig,
    ) -> Result<Self> {
        config.validate()?;
        let directory = directory(root, shard);
        let owner = FileOwner {
            database: identity.database(),
            shard,
        };
        let superblock = Superblock::open(env, &directory, owner).await?;
        let start = superblock.current();
        let path = directory.join(TREE_FILE_NAME);
        let tree = Tree::open(env, &path, owner, config.tree(), &start.tree).await?;
        let segments = Segments::find(env, &directory, owner).await?;

        let replay = Replay::start(env, segments, start.marks)?;
        let mut recovery = Recovery {
            env: env.clone(),
            config: *config,
            tree,
            superblock,
            table: empty_memtable(config),
            last: Timestamp::ZERO,
            newest: start.newest,
            records: 0,
            stuck: None,
        };
        // In a box: a recovery is long, its future large.
        let end = Box::pin(recovery.run(replay)).await?;
        let stuck = recovery.stuck.clone();
        let wal = Wal::start(env, shard, config.wal(), end, recovery.newest).await?;
        let clock = Clock::default();
        if !planted!("clock_restarts_low") {
            clock.observe(recovery.newest);
        }
        clock.refresh(env.wall_clock_us());
        let view = recovery.tree.view();
        let shard = Self(Rc::new(Inner {
            env: env.clone(),
            owner,
            config: *config,
            clock,
            wal,
            tree: recovery.tree,
            view: RefCell::new(view),
            superblock: recovery.superblock,
            active: RefCell::new(recovery.table),
            sealed: RefCell::new(None),
            deferred: RefCell::new(VecDeque::new()),
            flush_error: RefCell::new(recovery.stuck),
            flushing: Cell::new(0),
            flush_ended: Event::default(),
            flush_wanted: Signal::default(),
            flush_given_up: Cell::new(false),
            turns: Turns::default(),
            merges: Merges::default(),
            throttle: Throttle::default(),
            space: Space::new(&directory, config.reserve_bytes),
            refused: RefCell::new(None),
            dropped: RefCell::default(),
            scans: RefCell::new(BTreeMap::new()),
            next_scan: Cell::new(0),
            tasks: Cell::new(0),
            tasks_ended: Event::default(),
            closing: Cell::new(false),
            counters: Counters::default(),
        }));
        shard.0.counters.replayed_records.set(recovery.records);
        shard.flush_or_hold_reserve(stuck).await;
        shard.update_pressure();
        shard.start_merging();
        Ok(shard)
    }

    /// Flushes what was replayed, if it cannot wait, and makes the reserve, unless there is a
    /// shortage already: then it is not made while others need the space.
    async fn flush_or_hold_reserve(&self, stuck: Option<Error>) {
        let replayed = !self.0.active.borrow().borrow().is_empty();
        if replayed && (stuck.is_some() || self.0.wal.live_segments() > REPLAYED_SEGMENTS_MAX) {
            self.seal();
        }
        let shortage = stuck.filter(Error::is_no_space);
        if let Some(error) = shortage.or_else(|| self.0.wal.take_shortage()) {
            self.0.space.found_at_opening();
            self.note_no_space(&error);
        } else {
            self.hold_reserve().await;
        }
    }
}

/// What a recovery has in its hands while it replays the log.
struct Recovery<E: Env> {
    env: E,
    config: ShardConfig,
    tree: Tree<E>,
    superblock: Superblock<E::File>,
    table: SharedMemtable,
    /// The timestamp of the last commit that was replayed.
    last: Timestamp,
    /// The newest commit timestamp seen.
    newest: Timestamp,
    records: u64,
    /// Why the tree could not take what was replayed, which then stays in memory.
    stuck: Option<Error>,
}

impl<E: Env> Recovery<E> {
    async fn run(&mut self, mut replay: Replay<E>) -> Result<LogEnd<E>> {
        while let Some(header) = replay.next().await? {
            self.apply_record(&replay)?;
            self.newest = self.newest.max(header.timestamp);
            self.records += 1;
            let full = self.table.borrow().is_full();
            if full {
                self.make_room(&replay).await?;
            }
            self.env.yield_if_needed().await;
        }
        replay
            .finish(self.superblock.current().marks.checkpoint)
            .await
    }

    fn apply_record(&mut self, replay: &Replay<E>) -> Result<()> {
        let mut table = self.table.borrow_mut();
        for commit in replay.commits() {
            let commit = commit?;
            let CommitKind::Batch = commit.kind;
            if commit.txn != TxnId::default() {
                let what = format!("a commit belongs to transaction {}", commit.txn);
                return Err(replay.damage(what));
            }
            if commit.timestamp < self.last {
                let what = format!(
                    "a commit at {} follows one at {}",
                    commit.timestamp, self.last
                );
                return Err(replay.damage(what));
            }
            self.last = commit.timestamp;
            self.newest = self.newest.max(commit.timestamp);
            for op in commit.ops() {
                let op = op.map_err(|what| replay.damage(what.to_owned()))?;
                // What was read back from the log is durable, whatever it was written as.
                let flags = op.flags.with(EntryFlags::RELAXED);
                let (key, timestamp, value) = (op.key, commit.timestamp, op.value);
                table.insert(Entry {
                    key,
                    timestamp,
                    flags,
                    value,
                });
            }
        }
        Ok(())
    }

    /// Empties the full memtable into the tree. Where damage or a full disk forbids that, the rest
    /// of the log is taken into memory beyond the budget: what was taken before was bounded in the
    /// same way, so the log holds little more than three memtables.
    async fn make_room(&mut self, replay: &Replay<E>) -> Result<()> {
        if let Some(error) = &self.stuck {
            let bytes = self.table.borrow().bytes();
            return if bytes < BUDGET_BYTES_MAX {
                Ok(())
            } else {
                Err(error.clone())
            };
        }
        match self.flush(replay).await {
            Err(error) if is_of_the_tree(&error) => {
                let shard = replay.shard();
                tracing::warn!(
                    %shard,
                    %error,
                    "the tree cannot take what is replayed; the memtable grows past its budget"
                );
                self.stuck = Some(error);
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Applies what was replayed so far to the tree: a checkpoint in the middle of recovery.
    async fn flush(&mut self, replay: &Replay<E>) -> Result<()> {
        // The last record may have been in flight at the crash: a checkpoint must not outlive it.
        replay.sync().await?;
        let (checkpoint, checkpoint_hash) = replay.position();
        self.make_room_for_run().await?;
        let update = write_table(&self.tree, &self.table, &self.config, Timestamp::ZERO).await?;
        let current = self.superblock.current();
        let marks = Marks {
            checkpoint,
            checkpoint_hash,
            durable: checkpoint.max(current.marks.durable),
        };
        let content = Checkpoint {
            marks,
            newest: self.newest,
            tree: *update.state(),
        };
        self.superblock.write(&self.env, content).await?;
        self.tree.publish(update);
        self.table = empty_memtable(&self.config);
        Ok(())
    }

    /// Merges until another run can be written: a process that crashes in recovery again and again
    /// comes to that.
    async fn make_room_for_run(&self) -> Result<()> {
        let bytes_max = self.config.merge_step_bytes();
        while let Some(step) = policy::step_for_room(&self.tree.runs(), bytes_max) {
            let update = self.tree.merge_step(&step, Timestamp::ZERO).await?;
            let content = Checkpoint {
                tree: *update.state(),
                ..self.superblock.current()
            };
            self.superblock.write(&self.env, content).await?;
            self.tree.publish(update);
        }
        Ok(())
    }
}

/// Whether a failed flush has left everything as it was: the tree could not be read, or not be
/// written in any of the places that were tried. What fails behind that leaves it open which
/// superblock counts.
fn is_of_the_tree(error: &Error) -> bool {
    let in_tree = |error: &IoError| error.path().file_name() == Some(TREE_FILE_NAME.as_ref());
    let unwritable = matches!(error, Error::Io(error) if in_tree(error)) && error.is_failed_write();
    unwritable || error.is_unreadable() || error.is_no_space()
}

fn empty_memtable(config: &ShardConfig) -> SharedMemtable {
    Rc::new(RefCell::new(Memtable::new(config.memtable_bytes())))
}
