//! Merging runs, in the background: one task a shard, while there is something to merge.
//!
//! # Algorithm
//! 1. Ask the policy which merge is to have the next step; end when there is none.
//! 2. Wait for the turn, take the step, write the superblock that names what it came to, and
//!    publish it. Its units are bounded, so whoever waits for the turn, a flush or the closing of
//!    the shard, waits for a step at the most.
//!
//! Where there is no space everything is merged, in small steps: what was deleted or replaced takes
//! no space afterwards.
//!
//! A merge that is left, by closing or by a crash, is taken up where it was by whoever opens the
//! shard.
//!
//! # Errors
//! A step that failed is tried again, less and less often, as a flush is. What it could not do is
//! in the runs, where reads find it. A failed sync poisons, and so do failed writes, three in a
//! row.

use std::cell::{Cell, RefCell};
use std::pin::pin;

use futures_util::future::select;
use lightning_io::{Env, TaskClass, to_usize};

use super::flush::{RETRY_INTERVAL, RETRY_INTERVAL_MAX, STRIKES_MAX};
use super::policy::{self, Settings};
use super::turns::Turn;
use super::{Shard, count};
use crate::signal::{Event, Signal};
use crate::superblock::Checkpoint;
use crate::tree::{MergeStep, MergeTarget, TreeUpdate};
use crate::{Error, Result, Timestamp};

/// Where there is no space, a step is so much smaller: it writes what it takes from its inputs, and
/// what that touches of the target, before anything is free again.
const SHORTAGE_DIVISOR: usize = 16;

/// The merges of a shard.
#[derive(Debug, Default)]
pub(super) struct Merges {
    /// Whether the task is at work, and when a step or the task ended.
    is_running: Cell<bool>,
    ended: Event,
    /// Raised when a merge that waits to try again should do so now.
    wanted: Signal,
    /// Why the last step failed, until one succeeds.
    pub(super) error: RefCell<Option<Error>>,
    last: Cell<Option<MergeTarget>>,
    /// Callers who wait until everything is merged.
    compactions: Cell<u64>,
}

impl<E: Env> Shard<E> {
    /// Starts the task that merges, if there is something to merge and it is not at work.
    pub(super) fn start_merging(&self) {
        if self.0.merges.is_running.get() || self.0.closing.get() || self.next_step().is_none() {
            return;
        }
        self.0.merges.is_running.set(true);
        let shard = self.clone();
        let merge = async move {
            shard.contain(shard.merge_all()).await;
            shard.0.merges.is_running.set(false);
            shard.0.merges.ended.occur();
        };
        // The task reports by itself; nobody joins it.
        drop(self.0.env.spawn(TaskClass::Flush, merge));
    }

    /// Has everything merged while there is no space; what found none before is tried again.
    pub(super) fn merge_for_space(&self) {
        self.start_merging();
        self.0.merges.wanted.raise();
    }

    /// Ends the task that merges, after the step at hand.
    pub(super) async fn stop_merging(&self) {
        self.0.merges.wanted.raise();
        while self.0.merges.is_running.get() {
            self.0.merges.ended.next().await;
        }
    }

    /// Merges all that was written so far into the base.
    pub(super) async fn compact(&self) -> Result<()> {
        self.flush_all().await?;
        let compactions = &self.0.merges.compactions;
        compactions.set(compactions.get() + 1);
        let outcome = self.merge_everything().await;
        compactions.set(compactions.get() - 1);
        outcome
    }

    async fn merge_everything(&self) -> Result<()> {
        // In a turn of its own: a merge that begins just now has its target among the runs then.
        let turn = self.take_turn().await?;
        let end = self.0.tree.next_run_id();
        drop(turn);
        self.0.merges.error.replace(None);
        self.start_merging();
        self.0.merges.wanted.raise();
        self.wait_for_merges(end).await
    }

    /// Waits until no run is older than the one that is called `end`.
    async fn wait_for_merges(&self, end: u64) -> Result<()> {
        loop {
            self.check_poison()?;
            let runs = self.0.tree.runs();
            if runs.iter().all(|run| run.id >= end) {
                return Ok(());
            }
            if let Some(error) = &*self.0.merges.error.borrow() {
                return Err(error.clone());
            }
            if !self.0.merges.is_running.get() {
                return Err(Error::Closed);
            }
            self.0.merges.ended.next().await;
        }
    }

    async fn merge_all(&self) {
        let (mut strikes, mut interval) = (0, RETRY_INTERVAL);
        while let Some(step) = self.next_step()
            && !self.0.closing.get()
            && self.0.wal.poisoned().is_none()
        {
            let Err(error) = self.merge_once(&step).await else {
                (strikes, interval) = (0, RETRY_INTERVAL);
                self.0.merges.error.replace(None);
                self.0.merges.ended.occur();
                self.resume_deferred();
                continue;
            };
            if self.0.wal.poisoned().is_some() {
                return;
            }
            strikes += u32::from(!error.is_unreadable() && !error.is_no_space());
            if strikes >= STRIKES_MAX || error.is_failed_sync() {
                self.fail(&format!("merge: {error}"));
                return;
            }
            tracing::warn!(shard = %self.id(), %error, "a merge failed; trying again");
            self.0.merges.error.replace(Some(error));
            self.0.merges.ended.occur();
            let wanted = pin!(self.0.merges.wanted.wait());
            select(pin!(self.0.env.sleep(interval)), wanted).await;
            interval = (interval * 2).min(RETRY_INTERVAL_MAX);
        }
    }

    /// What is to be merged next.
    fn next_step(&self) -> Option<MergeStep> {
        let settings = self.merge_settings();
        let runs = self.0.tree.runs();
        let base_bytes = self.0.tree.base_bytes();
        let last = self.0.merges.last.get();
        let (target, inputs) = policy::next_merge(&runs, base_bytes, &settings, last)?;
        let bytes_max = self.0.config.merge_step_bytes();
        Some(MergeStep {
            target,
            inputs,
            bytes_max: match self.0.space.shortage() {
                Some(_) => bytes_max / SHORTAGE_DIVISOR,
                None => bytes_max,
            },
        })
    }

    pub(super) fn merge_settings(&self) -> Settings {
        Settings {
            everything: self.0.merges.compactions.get() > 0 || self.0.space.shortage().is_some(),
            ..self.0.config.merge_settings()
        }
    }

    /// Waits for the turn to change the tree's file. An edit whose superblock failed is never
    /// ended: no other may follow it.
    pub(super) async fn take_turn(&self) -> Result<Turn<'_>> {
        let turn = self.0.turns.take().await;
        self.check_poison()?;
        Ok(turn)
    }

    async fn merge_once(&self, step: &MergeStep) -> Result<()> {
        let _turn = self.take_turn().await?;
        // A flush may have made room by merging meanwhile.
        if self.next_step().as_ref() != Some(step) {
            return Ok(());
        }
        self.merge_in_turn(step).await
    }

    /// The time, as of which an edit takes what has expired as deleted.
    pub(super) fn time(&self) -> Timestamp {
        self.0.clock.refresh(self.0.env.wall_clock_us());
        self.now()
    }

    /// As [`Self::merge_once`], for whoever has the turn.
    pub(super) async fn merge_in_turn(&self, step: &MergeStep) -> Result<()> {
        let inner = &self.0;
        let update = inner.tree.merge_step(step, self.time()).await?;
        let written = to_usize(update.written_bytes());
        let content = Checkpoint {
            tree: *update.state(),
            ..inner.superblock.current()
        };
        self.commit(update, content).await?;
        inner.merges.last.set(Some(step.target));
        count(&inner.counters.merge_steps, 1);
        count(&inner.counters.merge_bytes, written);
        Ok(())
    }

    /// Makes an edit of the tree's file the current version, here and for whoever opens the shard.
    pub(super) async fn commit(&self, update: TreeUpdate, content: Checkpoint) -> Result<()> {
        let inner = &self.0;
        if inner.wal.poisoned().is_some() {
            // A shard that failed changes nothing more on disk.
            inner.tree.discard(update);
            return self.check_poison();
        }
        if let Err(error) = inner.superblock.write(&inner.env, content).await {
            // Either generation may count at the next open: neither version may be given up.
            self.fail(&format!("superblock: {error}"));
            return Err(error);
        }
        inner.tree.publish(update);
        inner.view.replace(inner.tree.view());
        self.update_pressure();
        Ok(())
    }

    /// Merges until a flush has room for its run; for whoever has the turn.
    pub(super) async fn make_room_for_run(&self) -> Result<()> {
        let bytes_max = self.0.config.merge_step_bytes();
        while let Some(step) = policy::step_for_room(&self.0.tree.runs(), bytes_max) {
            self.merge_in_turn(&step).await?;
        }
        Ok(())
    }
}
