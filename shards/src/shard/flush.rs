//! Moving a sealed memtable into the tree's file, and the checkpoint that lets its log go.
//!
//! # Algorithm
//! 1. Wait until everything that the memtable holds is durable in the log, then for the turn.
//! 2. Write it, with what has expired as deletions, as a run on top of the others; or, where no runs
//!    are kept and there are none, into the base. Pages, list of runs and space map go to new places
//!    and are synced.
//! 3. Write a superblock that points to them and names the checkpoint.
//! 4. Publish the new version to readers, drop the memtable, free the log below the checkpoint.
//!
//! # Crash argument
//! Before step 3 is durable the old superblock counts: what it points to is untouched and the log
//! still holds everything behind its checkpoint. After it, a run holds the memtable. The memtable
//! may hold commits of records above the checkpoint; replaying them puts the same versions back.
//!
//! # Errors
//! A flush that failed is tried again from step 1, in other places of the tree's file. A failed sync
//! is not: what it should have saved may be lost although the next one succeeds, so the shard is
//! poisoned at once, and the log still holds everything.
//!
//! A page of the base that is damaged or cannot be read stops every merge that has to change
//! it, and so a flush when there is room for no more runs, and nothing else: what was to be flushed
//! stays in memory and in the log, reads go on, and writes are taken until the memtables are full.
//! The flush is tried again, less and less often, as the damage may have been one of the moment.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::select;
use lightning_io::{Env, TaskClass, to_u64, to_usize};

use super::{Sealed, Shard, SharedMemtable, count};
use crate::config::ShardConfig;
use crate::entry::AsOf;
use crate::memtable::MemtableSource;
use crate::superblock::Checkpoint;
use crate::tree::{Tree, TreeUpdate};
use crate::wal::Marks;
use crate::{Error, Result, Timestamp};

/// Attempts at a flush whose writes fail before the shard is poisoned.
pub(super) const STRIKES_MAX: u32 = 3;

/// How long a flush waits before it tries again for another reason than space.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// The longest that a flush waits which meets damage again and again: each attempt writes most of
/// what an update writes, and a thousandth of the device's time is enough for it.
pub(super) const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(10);

impl<E: Env> Shard<E> {
    /// Starts the flush of the memtable that was just sealed.
    pub(super) fn start_flush(&self) {
        let shard = self.clone();
        let flush = async move {
            shard.contain(shard.flush_sealed()).await;
            shard.0.flushing.set(shard.0.flushing.get() - 1);
            if planted!("lose_flush_wake") {
                return;
            }
            shard.0.flush_ended.occur();
            // Last, as they may fill the next memtable and start its flush.
            shard.contain(async { shard.resume_deferred() }).await;
        };
        // The flush reports by itself; nobody joins it.
        drop(self.0.env.spawn(TaskClass::Flush, flush));
        self.0.flushing.set(self.0.flushing.get() + 1);
    }

    /// Flushes until it succeeds, the shard is poisoned, or closing gives it up.
    async fn flush_sealed(&self) {
        let (mut strikes, mut interval) = (0, RETRY_INTERVAL);
        loop {
            let Some(sealed) = self.0.sealed.borrow().clone() else {
                return;
            };
            let error = match self.flush_once(&sealed).await {
                Ok(()) => {
                    self.0.flush_error.replace(None);
                    return;
                }
                Err(error) => error,
            };
            if self.0.wal.poisoned().is_some() {
                return;
            }
            if planted!("discard_failed_flush") {
                self.0.sealed.replace(None);
            }
            let unreadable = error.is_unreadable();
            strikes += u32::from(!unreadable && !error.is_no_space());
            if strikes >= STRIKES_MAX || error.is_failed_sync() {
                self.fail(&format!("flush: {error}"));
                return;
            }
            tracing::warn!(shard = %self.id(), %error, "flush failed; trying again");
            let no_space = error.is_no_space();
            if no_space {
                self.note_no_space(&error);
            }
            self.0.flush_error.replace(Some(self.flush_refusal(error)));
            self.0.flush_ended.occur();
            self.resume_deferred();
            if self.0.flush_given_up.get() {
                return;
            }
            let wanted = self.0.flush_wanted.wait();
            if no_space {
                // Whoever waits for space says when.
                wanted.await;
            } else {
                select(pin!(self.0.env.sleep(interval)), pin!(wanted)).await;
            }
            if self.0.flush_given_up.get() {
                return;
            }
            if unreadable {
                interval = (interval * 2).min(RETRY_INTERVAL_MAX);
            }
        }
    }

    /// Has a flush that cannot succeed stop trying, and waits until it has.
    pub(super) async fn give_up_flush(&self) {
        self.0.flush_given_up.set(true);
        self.0.flush_wanted.raise();
        while self.0.flushing.get() > 0 {
            self.0.flush_ended.next().await;
        }
    }

    /// What a write is told that finds the memtables full because of a failed flush.
    fn flush_refusal(&self, error: Error) -> Error {
        match error {
            Error::Io(cause) if error_is_no_space(&cause) => Error::NoSpace {
                shard: self.id(),
                cause,
            },
            other => other,
        }
    }

    async fn flush_once(&self, sealed: &Sealed) -> Result<()> {
        let inner = &self.0;
        inner.wal.sync().await?;
        let turn = self.take_turn().await?;
        self.make_room_for_run().await?;
        let newest = sealed.table.borrow().newest();
        let now = self.time();
        let update = write_table(&inner.tree, &sealed.table, &inner.config, now).await?;
        let written = to_usize(update.written_bytes());
        let mut checkpoint = Checkpoint {
            marks: Marks {
                checkpoint: sealed.checkpoint,
                checkpoint_hash: sealed.checkpoint_hash,
                durable: inner.wal.durable(),
            },
            newest: newest.max(inner.superblock.current().newest),
            tree: *update.state(),
        };
        if planted!("checkpoint_read_late") {
            let marks = &mut checkpoint.marks;
            (marks.checkpoint, marks.checkpoint_hash) = inner.wal.checkpoint_candidate();
        }
        if planted!("truncate_before_superblock") {
            inner.wal.truncate(sealed.checkpoint).await?;
        }
        self.commit(update, checkpoint).await?;
        inner.sealed.replace(None);
        drop(turn);
        count(&inner.counters.flushes, 1);
        count(&inner.counters.flush_bytes, written);
        self.start_merging();
        if let Err(error) = inner.wal.truncate(sealed.checkpoint).await {
            tracing::warn!(shard = %self.id(), %error, "a surplus segment could not be removed");
        }
        Ok(())
    }

    /// Moves everything that was acknowledged so far into the tree's file.
    pub(super) async fn flush_all(&self) -> Result<()> {
        // What is sealed now, and then what is active now.
        for _ in 0..2 {
            self.wait_for_flush().await?;
            let empty = self.0.active.borrow().borrow().is_empty();
            if empty {
                return Ok(());
            }
            if self.0.sealed.borrow().is_none() {
                self.check_poison()?;
                self.seal();
                return self.wait_for_flush().await;
            }
        }
        self.wait_for_flush().await
    }

    /// Waits for the flush under way; one that failed before is tried again at once.
    pub(super) async fn wait_for_flush(&self) -> Result<()> {
        self.0.flush_wanted.raise();
        let mut attempted = self.0.flushing.get() == 0;
        loop {
            self.check_poison()?;
            if self.0.sealed.borrow().is_none() {
                return Ok(());
            }
            if let Some(error) = self.0.flush_error.borrow().clone().filter(|_| attempted) {
                return Err(error);
            }
            if self.0.flushing.get() == 0 {
                return Err(Error::Closed);
            }
            self.0.flush_ended.next().await;
            attempted = true;
        }
    }

    pub(super) fn check_poison(&self) -> Result<()> {
        match self.0.wal.poisoned() {
            Some(cause) => Err(Error::Poisoned {
                shard: self.id(),
                cause,
            }),
            None => Ok(()),
        }
    }
}

/// Writes a memtable into the tree's file, as of a time: as a run, or straight into the base where no
/// runs are kept and none are left to be merged first.
pub(super) async fn write_table<E: Env>(
    tree: &Tree<E>,
    table: &SharedMemtable,
    config: &ShardConfig,
    now: Timestamp,
) -> Result<TreeUpdate> {
    let mut source = AsOf::new(MemtableSource::new(Rc::clone(table)), now);
    if config.runs == 0 && tree.runs().is_empty() {
        return tree.apply(&mut source).await;
    }
    let keys = to_u64(table.borrow().keys());
    tree.apply_as_run(&mut source, keys).await
}

fn error_is_no_space(error: &lightning_io::IoError) -> bool {
    matches!(error.kind(), lightning_io::IoErrorKind::NoSpace)
}
