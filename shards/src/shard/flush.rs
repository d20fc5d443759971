//! Moving a sealed memtable into the tree, and the checkpoint that lets its log go.
//!
//! # Algorithm
//! 1. Wait until everything that the memtable holds is durable in the log.
//! 2. Apply it to the tree as of now, with what has expired as deletions: changed pages and the
//!    space map go to new places and are synced.
//! 3. Write a superblock that points to the new tree and names the checkpoint.
//! 4. Publish the new tree to readers, drop the memtable, free the log below the checkpoint.
//!
//! # Crash argument
//! Before step 3 is durable the old superblock counts: the old tree is untouched and the log still
//! holds everything behind its checkpoint. After it, the new tree holds the memtable. The memtable
//! may hold commits of records above the checkpoint; replaying them puts the same versions back.
//!
//! # Errors
//! A flush that failed is tried again from step 1, in other places of the tree's file. A failed sync
//! is not: what it should have saved may be lost although the next one succeeds, so the shard is
//! poisoned at once, and the log still holds everything.
//!
//! A page of the old tree that is damaged or cannot be read stops every flush that has to change
//! it, and nothing else: what was to be flushed stays in memory and in the log, reads go on, and
//! writes are taken until the memtables are full. The flush is tried again, less and less often, as
//! the damage may have been one of the moment.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::select;
use lightning_io::{Env, TaskClass};

use super::{Sealed, Shard, count};
use crate::entry::AsOf;
use crate::memtable::MemtableSource;
use crate::superblock::Checkpoint;
use crate::wal::Marks;
use crate::{Error, Result};

/// Attempts at a flush whose writes fail before the shard is poisoned.
const STRIKES_MAX: u32 = 3;

/// How long a flush waits before it tries again for another reason than space.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// The longest that a flush waits which meets damage again and again: each attempt writes most of
/// what an update writes, and a thousandth of the device's time is enough for it.
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(10);

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
        let newest = sealed.table.borrow().newest();
        inner.clock.refresh(inner.env.wall_clock_us());
        let source = MemtableSource::new(sealed.table.clone());
        let mut source = AsOf::new(source, inner.clock.now());
        let update = inner.tree.apply(&mut source).await?;

        if inner.wal.poisoned().is_some() {
            // A shard that failed changes nothing more on disk.
            inner.tree.discard(update);
            return self.check_poison();
        }
        let current = inner.superblock.current();
        let mut checkpoint = Checkpoint {
            marks: Marks {
                checkpoint: sealed.checkpoint,
                checkpoint_hash: sealed.checkpoint_hash,
                durable: inner.wal.durable(),
            },
            newest: newest.max(current.newest),
            tree: *update.state(),
        };
        if planted!("checkpoint_read_late") {
            let marks = &mut checkpoint.marks;
            (marks.checkpoint, marks.checkpoint_hash) = inner.wal.checkpoint_candidate();
        }
        if planted!("truncate_before_superblock") {
            inner.wal.truncate(sealed.checkpoint).await?;
        }
        if let Err(error) = inner.superblock.write(&inner.env, checkpoint).await {
            // Either generation may count at the next open: neither tree may be given up.
            self.fail(&format!("superblock: {error}"));
            return Err(error);
        }
        inner.tree.publish(update);
        inner.view.replace(inner.tree.view());
        inner.sealed.replace(None);
        count(&inner.counters.flushes, 1);
        if let Err(error) = inner.wal.truncate(sealed.checkpoint).await {
            tracing::warn!(shard = %self.id(), %error, "a surplus segment could not be removed");
        }
        Ok(())
    }

    /// Moves everything that was acknowledged so far into the tree.
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

fn error_is_no_space(error: &lightning_io::IoError) -> bool {
    matches!(error.kind(), lightning_io::IoErrorKind::NoSpace)
}
