//! Point reads: in the same turn when memory has the answer, in a task of their own when it has
//! not.

use std::rc::Rc;

use bytes::Bytes;
use lightning_io::Env;

use super::write::Waiter;
use super::{Shard, SharedMemtable, count};
use crate::entry::EntryFlags;
use crate::message::{Reply, Want};
use crate::tree::{Lookup, TreeValue, TreeView};
use crate::{Result, StorageKey, Timestamp};

/// The version of a key that a read found, borrowed for the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version<'a> {
    /// When it was committed.
    pub timestamp: Timestamp,
    /// Its value; `None` when it says that the key was deleted.
    pub value: Option<&'a [u8]>,
    /// Whether it may be shown before it is durable.
    pub relaxed: bool,
}

/// What memory knows of a key.
#[derive(Debug)]
pub enum Probe<R> {
    /// Everything: the caller's function has seen the version, or its absence.
    Known(R),
    /// Not enough: the disk has to be asked.
    NeedsDisk,
}

/// Everything that a read at some moment can see; later flushes do not change it.
#[derive(Clone)]
pub(super) struct ReadView {
    /// Newest first.
    pub(super) memtables: Vec<SharedMemtable>,
    pub(super) tree: TreeView,
}

/// A value on its way to a caller.
pub(super) struct Answer {
    pub(super) value: Option<Bytes>,
    /// When it was committed, if the answer has to wait until that is durable.
    pub(super) hold: Option<Timestamp>,
}

impl Answer {
    const ABSENT: Self = Self {
        value: None,
        hold: None,
    };

    fn of(version: Version<'_>, want: Want) -> Self {
        let counts_deleted = want == Want::Presence && planted!("exists_counts_deleted");
        let gone = counts_deleted.then_some(&[][..]);
        Self {
            value: version.value.or(gone).map(|value| match want {
                Want::Value => Bytes::copy_from_slice(value),
                Want::Presence => Bytes::new(),
            }),
            hold: (!version.relaxed).then_some(version.timestamp),
        }
    }
}

impl<E: Env> Shard<E> {
    /// Looks a key up in memory alone: memtables and cached pages.
    ///
    /// Nothing is allocated, spawned or asked of the clock. `seen` gets the newest version at or
    /// below `at`, or `None` when there is none.
    ///
    /// # Errors
    /// [`crate::Error::Corruption`] when the key lies under a damaged page.
    pub fn probe<R>(
        &self,
        key: &StorageKey,
        at: Timestamp,
        seen: impl FnOnce(Option<Version<'_>>) -> R,
    ) -> Result<Probe<R>> {
        self.look(key, at, Want::Value, seen)
    }

    /// As [`Self::probe`]; a value that is not wanted may be empty in what `seen` gets.
    fn look<R>(
        &self,
        key: &StorageKey,
        at: Timestamp,
        want: Want,
        seen: impl FnOnce(Option<Version<'_>>) -> R,
    ) -> Result<Probe<R>> {
        let key = key.as_slice();
        let active = self.0.active.borrow();
        if let Some(entry) = active.borrow().get(key, at) {
            return Ok(Probe::Known(seen(Some(version(&entry)))));
        }
        drop(active);
        if let Some(sealed) = &*self.0.sealed.borrow()
            && let Some(entry) = sealed.table.borrow().get(key, at)
        {
            return Ok(Probe::Known(seen(Some(version(&entry)))));
        }
        let view = self.0.view.borrow();
        match self.0.tree.try_get(&view, key, at)? {
            Lookup::Found(value) => match value.as_slice().or(match want {
                Want::Value => None,
                Want::Presence => Some(&[]),
            }) {
                Some(bytes) => {
                    let deleted = value.flags.contains(EntryFlags::TOMBSTONE);
                    // What is in the tree was durable in the log before it got there.
                    let version = Version {
                        timestamp: value.timestamp,
                        value: (!deleted).then_some(bytes),
                        relaxed: true,
                    };
                    Ok(Probe::Known(seen(Some(version))))
                }
                None => Ok(Probe::NeedsDisk),
            },
            Lookup::Absent => Ok(Probe::Known(seen(None))),
            Lookup::NeedIo => Ok(Probe::NeedsDisk),
        }
    }

    /// Answers a get.
    pub(super) fn get(&self, key: StorageKey, want: Want, reply: Reply<Option<Bytes>>) {
        count(&self.0.counters.gets, 1);
        let found = self.look(&key, Timestamp::MAX, want, |found| {
            found.map_or(Answer::ABSENT, |found| Answer::of(found, want))
        });
        match found {
            Ok(Probe::Known(answer)) => self.show(answer.hold, move |shown| {
                drop(reply.send(shown.map(|()| answer.value)));
            }),
            Ok(Probe::NeedsDisk) => self.get_from_disk(key, want, reply),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn get_from_disk(&self, key: StorageKey, want: Want, reply: Reply<Option<Bytes>>) {
        count(&self.0.counters.gets_from_disk, 1);
        let (shard, view) = (self.clone(), self.read_view());
        self.spawn_counted(async move {
            match shard.get_in(&view, &key, Timestamp::MAX, want).await {
                Ok(answer) => shard.show(answer.hold, move |shown| {
                    drop(reply.send(shown.map(|()| answer.value)));
                }),
                Err(error) => drop(reply.send(Err(error))),
            }
        });
    }

    /// Answers a multi-get, as of one moment.
    pub(super) fn get_many(&self, keys: Vec<StorageKey>, reply: Reply<Vec<Option<Bytes>>>) {
        count(&self.0.counters.gets, keys.len());
        let mut values = Vec::with_capacity(keys.len());
        let mut hold = None;
        for key in &keys {
            let found = self.probe(key, Timestamp::MAX, |found| {
                found.map_or(Answer::ABSENT, |found| Answer::of(found, Want::Value))
            });
            match found {
                Ok(Probe::Known(answer)) => {
                    hold = hold.filter(|_| !planted!("multi_get_holds_last"));
                    hold = hold.max(answer.hold);
                    values.push(answer.value);
                }
                Ok(Probe::NeedsDisk) => return self.get_many_from_disk(keys, reply),
                Err(error) => return drop(reply.send(Err(error))),
            }
        }
        self.show(hold, move |shown| drop(reply.send(shown.map(|()| values))));
    }

    fn get_many_from_disk(&self, keys: Vec<StorageKey>, reply: Reply<Vec<Option<Bytes>>>) {
        count(&self.0.counters.gets_from_disk, keys.len());
        let (shard, view, at) = (self.clone(), self.read_view(), self.0.clock.now());
        self.spawn_counted(async move {
            let mut values = Vec::with_capacity(keys.len());
            let mut hold = None;
            for key in &keys {
                match shard.get_in(&view, key, at, Want::Value).await {
                    Ok(answer) => {
                        hold = hold.max(answer.hold);
                        values.push(answer.value);
                    }
                    Err(error) => return drop(reply.send(Err(error))),
                }
            }
            shard.show(hold, move |shown| drop(reply.send(shown.map(|()| values))));
        });
    }

    /// Pins what a read can see now.
    pub(super) fn read_view(&self) -> ReadView {
        let active = Rc::clone(&self.0.active.borrow());
        let sealed = self
            .0
            .sealed
            .borrow()
            .as_ref()
            .map(|sealed| Rc::clone(&sealed.table));
        let sealed = sealed.filter(|_| !planted!("scan_skips_sealed"));
        let memtables = std::iter::once(active).chain(sealed).collect();
        ReadView {
            memtables,
            tree: self.0.view.borrow().clone(),
        }
    }

    /// Looks a key up in a view, waiting for the disk where memory does not do.
    pub(super) async fn get_in(
        &self,
        view: &ReadView,
        key: &StorageKey,
        at: Timestamp,
        want: Want,
    ) -> Result<Answer> {
        for table in &view.memtables {
            if let Some(entry) = table.borrow().get(key.as_slice(), at) {
                return Ok(Answer::of(version(&entry), want));
            }
        }
        let found = self.0.tree.get(&view.tree, key.as_slice(), at).await?;
        match found {
            Some(value) if !value.flags.contains(EntryFlags::TOMBSTONE) => {
                let value = match want {
                    Want::Value => self.load(&value).await?,
                    Want::Presence => Bytes::new(),
                };
                Ok(Answer {
                    value: Some(value),
                    hold: None,
                })
            }
            _ => Ok(Answer::ABSENT),
        }
    }

    /// The bytes of a value that the tree holds.
    pub(super) async fn load(&self, value: &TreeValue) -> Result<Bytes> {
        match value.as_slice() {
            Some(bytes) => Ok(Bytes::copy_from_slice(bytes)),
            None => self.0.tree.load(value).await,
        }
    }

    /// Gives an answer once everything up to `hold` is durable, which is mostly at once.
    pub(super) fn show(&self, hold: Option<Timestamp>, answer: impl FnOnce(Result<()>) + 'static) {
        let hold = hold.filter(|_| !planted!("show_before_durable"));
        match hold.and_then(|timestamp| self.0.wal.pending(timestamp)) {
            None => answer(Ok(())),
            Some(lsn) => self.0.wal.when_durable(lsn, Waiter::Held(Box::new(answer))),
        }
    }
}

/// What a memtable's entry says.
fn version<'a>(entry: &crate::Entry<'a>) -> Version<'a> {
    Version {
        timestamp: entry.timestamp,
        value: (!entry.is_tombstone()).then_some(entry.value),
        relaxed: entry.flags.contains(EntryFlags::RELAXED),
    }
}
