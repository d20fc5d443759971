//! Read-modify-write on the shard: a function of the caller's sees the current value of a key and
//! decides what it becomes.
//!
//! # Algorithm
//! 1. An update goes the way of every write: it waits in the same queue, and is looked at when it
//!    could be taken. Then the newest version is looked up, and the function runs on it in the same
//!    turn; what it decides goes to the log and the memtable as any other commit.
//! 2. When memory does not know the value, the update leaves the queue and a task reads it. Writes
//!    go on meanwhile. Then the update comes again, as if it had just arrived: a version that was
//!    written since is in a memtable and is seen first. What was read counts as long as no flush
//!    added to what it was read from; merges change no value.
//! 3. If a flush has added something and memory still does not know, the update keeps its
//!    place at the head of the queue while its value is read once more.
//!
//! # Atomicity
//! The function runs at most once, and between its look at the value and its commit no other write
//! of the shard is taken: mostly both happen in one turn; when the log has no room for what was
//! decided, the update is at the head of the queue and everything else is behind it.
//!
//! # Bounds
//! No update starves. While one keeps its place no write is taken, so memtables are only flushed:
//! the sealed one, and an active one that somebody asks to flush. Each can overtake one read, so
//! the fourth read is the last ([`READS_MAX`]).

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use lightning_io::{Env, catch_panic_of};

use super::read::{Probe, ReadView, Version};
use super::write::{Caller, Deferred, Waiter};
use super::{Shard, count};
use crate::message::{Change, Decide, Durability, Reply, Updated, Want};
use crate::tree::TreeView;
use crate::wal::Ops;
use crate::{Error, KeyspaceId, Lsn, Result, StorageKey, Timestamp, Ttl};

/// Reads of one update's value: the first, the one that keeps the place, and one for each memtable
/// that may be flushed meanwhile. An update that needed more is refused as busy.
const READS_MAX: u32 = 4;

/// An update on its way.
pub(super) struct Update {
    key: StorageKey,
    /// How long a value lives that it puts.
    ttl: Option<Ttl>,
    reply: Reply<Updated>,
    /// The caller's function, until it has run.
    decide: Option<Decide>,
    /// What the key has afterwards, and what has to be durable before that is told.
    value: Option<Bytes>,
    hold: Option<Timestamp>,

    reads: u32,
    read: Read,
}

/// What an update knows from the disk.
enum Read {
    Nothing,
    /// A read is under way, which leaves what it finds here.
    UnderWay(Rc<RefCell<Option<Result<Found>>>>),
    Done(Found),
}

/// The value of a key in one tree, and when it expires.
struct Found {
    tree: TreeView,
    value: Option<Bytes>,
    end: Option<Timestamp>,
}

/// What came of a look at a write that could be taken.
pub(super) enum Decided {
    /// It is to be taken with these operations.
    Write(Deferred),
    /// It keeps its place.
    Later(Deferred),
    /// It is answered, or comes again by itself.
    Gone,
}

/// What a function made of what it was shown.
struct Outcome {
    change: Change,
    /// The value that was there, if it stays.
    kept: Option<Bytes>,
    hold: Option<Timestamp>,
}

impl Update {
    pub(super) fn new(
        (key, ttl): (StorageKey, Option<Ttl>),
        decide: Decide,
        reply: Reply<Updated>,
    ) -> Self {
        Self {
            key,
            ttl,
            reply,
            decide: Some(decide),
            value: None,
            hold: None,
            reads: 0,
            read: Read::Nothing,
        }
    }

    pub(super) fn keyspace(&self) -> KeyspaceId {
        self.key.keyspace()
    }

    /// Whether its function has still to run.
    pub(super) fn is_open(&self) -> bool {
        self.decide.is_some()
    }

    /// Answers the caller; `at` is when it was committed, unless it changed nothing.
    pub(super) fn answer(self, at: Result<Option<Timestamp>>) {
        let value = self.value;
        // A caller that stopped waiting needs no answer.
        drop(self.reply.send(at.map(|at| Updated { at, value })));
    }

    /// Takes over what a read has left; `false` while it is under way.
    fn take_read(&mut self) -> Result<bool> {
        let Read::UnderWay(place) = &self.read else {
            return Ok(true);
        };
        let Some(found) = place.take() else {
            return Ok(false);
        };
        self.read = Read::Done(found?);
        Ok(true)
    }
}

/// Runs a function on a version of its key.
fn run(decide: &mut Option<Decide>, version: Option<Version<'_>>) -> Result<Outcome, String> {
    let decide = decide.take().expect("a function runs once");
    let value = version.and_then(|version| version.value);
    let change = catch_panic_of(|| decide.on(value)).map_err(|panic| panic.0)?;
    let kept = value.filter(|_| change == Change::Keep);
    Ok(Outcome {
        kept: kept.map(Bytes::copy_from_slice),
        change: match change {
            Change::Delete if value.is_none() => Change::Keep,
            change => change,
        },
        hold: version
            .filter(|version| !version.relaxed)
            .map(|version| version.timestamp),
    })
}

impl<E: Env> Shard<E> {
    /// Has the function of an update run, and turns what it decides into operations; other writes
    /// pass.
    pub(super) fn decide(&self, write: Deferred) -> Decided {
        let Deferred {
            ops,
            durability,
            caller,
        } = write;
        let mut update = match caller {
            Caller::Update(update) if update.is_open() => update,
            caller => {
                return Decided::Write(Deferred {
                    ops,
                    durability,
                    caller,
                });
            }
        };
        let outcome = match update.take_read() {
            Ok(true) => self.run_on_newest(&mut update),
            Ok(false) => {
                return Decided::Later(Deferred::of_update(update, durability));
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(Probe::Known(outcome)) => self.settle_update(update, durability, outcome),
            Ok(Probe::NeedsDisk) => self.read_for_update(update, durability),
            Err(error) => {
                update.answer(Err(error));
                Decided::Gone
            }
        }
    }

    /// Runs the function of an update on the newest version, if that is known.
    fn run_on_newest(&self, update: &mut Update) -> Result<Probe<Outcome>> {
        let Update {
            key, decide, read, ..
        } = update;
        let skips_memory = matches!(read, Read::Done(_)) && planted!("update_skips_memory");
        let known = if skips_memory {
            Probe::NeedsDisk
        } else {
            self.probe(key, Timestamp::MAX, |version| run(decide, version))?
        };
        let outcome = match (known, read) {
            (Probe::Known(outcome), _) => outcome,
            // Memtables are asked before the tree, so they do not have the key.
            (Probe::NeedsDisk, Read::Done(found))
                if found.tree.shows_what(&self.0.view.borrow())
                    || planted!("update_trusts_old_tree") =>
            {
                let is_over = found.end.is_some_and(|end| end <= self.0.clock.now());
                let version = Version {
                    timestamp: Timestamp::ZERO,
                    value: found.value.as_deref().filter(|_| !is_over),
                    relaxed: true,
                    end: found.end,
                };
                run(decide, Some(version))
            }
            (Probe::NeedsDisk, _) => return Ok(Probe::NeedsDisk),
        };
        let shard = self.id();
        let outcome = outcome.map_err(|cause| Error::Panicked { shard, cause })?;
        Ok(Probe::Known(outcome))
    }

    /// Answers an update that changes nothing, or has the change written.
    fn settle_update(
        &self,
        mut update: Box<Update>,
        durability: Durability,
        outcome: Outcome,
    ) -> Decided {
        update.hold = outcome.hold.filter(|_| !planted!("update_holds_nothing"));
        let mut ops = Ops::default();
        let added = match outcome.change {
            Change::Keep => {
                update.value = outcome.kept;
                self.show(update.hold, |shown| update.answer(shown.map(|()| None)));
                return Decided::Gone;
            }
            Change::Put(value) => {
                let added = ops.put_stored(&update.key, &value, update.ttl);
                update.value = Some(Bytes::from(value));
                added
            }
            Change::Delete => {
                ops.delete_stored(&update.key);
                Ok(())
            }
        };
        if let Err(error) = added {
            update.answer(Err(error));
            return Decided::Gone;
        }
        Decided::Write(Deferred {
            ops,
            durability,
            caller: Caller::Update(update),
        })
    }

    /// Reads the value for an update from disk: the first time off the queue, then in its place.
    fn read_for_update(&self, mut update: Box<Update>, durability: Durability) -> Decided {
        if update.reads == READS_MAX {
            let (shard, what) = (self.id(), "the tree changes faster than it is read");
            update.answer(Err(Error::Busy { shard, what }));
            return Decided::Gone;
        }
        count(&self.0.counters.gets_from_disk, 1);
        update.reads += 1;
        let (shard, key) = (self.clone(), update.key.clone());
        let view = ReadView {
            memtables: Vec::new(),
            tree: self.0.view.borrow().clone(),
        };
        let read = async move {
            let answer = shard
                .get_in(&view, &key, Timestamp::MAX, Want::Value)
                .await?;
            Ok(Found {
                tree: view.tree,
                value: answer.value,
                end: answer.end,
            })
        };
        let shard = self.clone();
        if update.reads > 1 {
            let place = Rc::new(RefCell::new(None));
            update.read = Read::UnderWay(Rc::clone(&place));
            self.spawn_counted(async move {
                let found = read.await;
                place.replace(Some(found));
                shard.resume_deferred();
            });
            return Decided::Later(Deferred::of_update(update, durability));
        }
        self.spawn_counted(async move {
            match read.await {
                Ok(found) => {
                    update.read = Read::Done(found);
                    shard.write(Deferred::of_update(update, durability));
                }
                Err(error) => update.answer(Err(error)),
            }
        });
        Decided::Gone
    }

    /// Answers an update whose commit is in the log's group `lsn`.
    pub(super) fn finish_update(
        &self,
        update: Box<Update>,
        timestamp: Timestamp,
        lsn: Lsn,
        durability: Durability,
    ) {
        let hold = update.hold;
        let answer = move |outcome: Result<()>| update.answer(outcome.map(|()| Some(timestamp)));
        match durability {
            // Its own commit need not be durable, but what it was made of has to be.
            Durability::Relaxed => self.show(hold, answer),
            Durability::Sync => self.0.wal.when_durable(lsn, Waiter::Held(Box::new(answer))),
        }
    }
}
