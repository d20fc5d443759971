//! What callers do, and the check of every answer.

use std::ops::Bound;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::join_all;
use futures_util::future::{Either, select};
use lightning_io::Env;
use lightning_io::sim::Rng;
use lightning_shards::client::{Merge, Target};
use lightning_shards::{
    ADD_U64, Change, Decide, Durability, Error, KeyspaceId, KeyspaceOptions, KeyspaceRecord,
    MergeOperators, Ops, Ttl,
};

use super::Scene;
use super::truth::{DEFAULT, Fate, SpaceId, Truth, When, Written};
use crate::keys::{Value, draw_value_bytes};
use crate::plan::log_uniform;

/// Keys of one caller in one keyspace.
const KEYS: usize = 24;

/// Names of one caller.
const NAMES: usize = 2;

/// One caller.
pub(super) struct Caller {
    scene: Rc<Scene>,
    number: usize,
    rng: Rng,
}

/// A handle, as a caller picks it.
#[derive(Debug, Clone, Copy)]
struct Handle {
    space: SpaceId,
    id: KeyspaceId,
    /// What was known of its keyspace then.
    fate: Fate,
    /// Its default for what is written.
    ttl_us: Option<u64>,
}

impl Caller {
    pub(super) fn new(scene: &Rc<Scene>, number: usize, rng: Rng) -> Self {
        Self {
            scene: Rc::clone(scene),
            number,
            rng,
        }
    }

    /// Does a number of operations.
    pub(super) async fn work(mut self, operations: u64) {
        for _ in 0..operations {
            if self.truth(|truth| truth.violation().is_some()) {
                return;
            }
            self.truth(|truth| truth.figures.operations += 1);
            match self.rng.below(100) {
                0..26 => self.write().await,
                26..34 => self.update().await,
                34..42 => self.batch().await,
                42..44 => self.fill().await,
                44..60 => self.read().await,
                60..63 => self.scan().await,
                63..66 => self.add().await,
                66..72 => self.delete_range().await,
                72..84 => self.create().await,
                84..91 => self.drop_one().await,
                91..94 => drop(self.scene.client.flush().await),
                _ => {
                    let time = Duration::from_micros(log_uniform(&mut self.rng, 15));
                    self.scene.env.sleep(time).await;
                }
            }
        }
    }

    fn truth<T>(&self, look: impl FnOnce(&mut Truth) -> T) -> T {
        look(&mut self.scene.truth.borrow_mut())
    }

    fn violate(&self, what: impl Into<String>) {
        self.scene.violate(what);
    }

    fn draw_handle(&mut self) -> Handle {
        let handles = self.truth(|truth| truth.handles.clone());
        // Mostly the newest ones, so that a keyspace that comes and goes is worked on.
        let recent = handles.len().saturating_sub(4);
        let space = match self.rng.below(4) {
            0 => DEFAULT,
            1 => self.rng.pick(&handles),
            _ => self.rng.pick(&handles[recent..]),
        };
        self.truth(|truth| Handle {
            space,
            id: truth.spaces[space].id,
            fate: truth.spaces[space].fate,
            ttl_us: truth.spaces[space].ttl_us,
        })
    }

    /// How long something lives: some have expired when they are read next, and some have not.
    fn draw_ttl_us(&mut self) -> u64 {
        log_uniform(&mut self.rng, 15)
    }

    /// A key that this caller alone writes.
    fn draw_key(&mut self) -> Vec<u8> {
        let number = self.rng.index(KEYS);
        let mut key = format!("{}/{number:02}", self.number).into_bytes();
        // Some are long.
        key.resize(
            key.len() + if number.is_multiple_of(8) { 300 } else { 0 },
            b'-',
        );
        key
    }

    /// All keys of this caller.
    fn own_range(&self) -> (Vec<u8>, Vec<u8>) {
        let end = |separator| format!("{}{separator}", self.number).into_bytes();
        (end('/'), end('0'))
    }

    /// A value for a key, or none to delete it; where it goes, and that it was submitted now.
    fn begin(&mut self, handle: Handle, key: &[u8]) -> (Option<Value>, Target) {
        let len = draw_value_bytes(self.rng.below(4) == 0, &mut self.rng);
        let deletes = self.rng.below(5) == 0;
        let own = self.rng.below(5) == 0;
        let ttl_us = if own {
            Some(self.draw_ttl_us())
        } else {
            handle.ttl_us
        };
        let now_us = self.scene.now_us(handle.id, key);
        let value = self.truth(|truth| {
            let value = (!deletes).then(|| truth.new_value(len));
            let written = value.map(|value| Written::new(value, ttl_us, now_us));
            truth.key(handle.space, key).begin(written);
            value
        });
        let ttl = ttl_us.map(Duration::from_micros).map(Ttl::new);
        let target = Target {
            keyspace: handle.id,
            ttl: ttl.and_then(Result::ok),
        };
        (value, target)
    }

    /// The write that was submitted last to a key is done.
    fn acknowledge(&self, handle: Handle, key: &[u8]) {
        let now_us = self.scene.now_us(handle.id, key);
        self.truth(|truth| truth.key(handle.space, key).acknowledge(now_us));
    }

    /// Whether a call on a handle went well; every other outcome is judged.
    fn is_done<T>(&self, handle: Handle, what: &str, outcome: &Result<T, Error>) -> bool {
        match outcome {
            Ok(_) if handle.fate == Fate::Gone => {
                self.violate(format!(
                    "{what} went well on a dropped keyspace: {handle:?}"
                ));
                false
            }
            Ok(_) => true,
            Err(Error::KeyspaceDropped { id }) => {
                self.truth(|truth| truth.refused(handle.space, *id));
                false
            }
            Err(Error::Busy { .. }) => false,
            Err(error) => {
                self.violate(format!("{what}: {error}"));
                false
            }
        }
    }

    async fn write(&mut self) {
        let (handle, key) = (self.draw_handle(), self.draw_key());
        let (value, target) = self.begin(handle, &key);
        let mut ops = Ops::default();
        let added = match value {
            Some(value) => ops.put_to(target, &key, &value.to_bytes()),
            None => ops.delete(handle.id, &key),
        };
        if let Err(error) = added {
            return self.violate(format!("a sound operation was refused: {error}"));
        }
        let written = self.scene.client.write(ops, Durability::Sync).await;
        if self.is_done(handle, "a write", &written) {
            self.acknowledge(handle, &key);
        } else {
            self.truth(|truth| truth.key(handle.space, &key).refuse());
        }
    }

    /// A read-modify-write, whose function sees what may be there.
    async fn update(&mut self) {
        let (handle, key) = (self.draw_handle(), self.draw_key());
        let began_us = self.scene.now_us(handle.id, &key);
        let before = self.truth(|truth| truth.key(handle.space, &key).clone());
        let (value, target) = self.begin(handle, &key);
        let new = value.map(Value::to_bytes);
        let (sender, mut seen) = oneshot::channel();
        let decide = Decide::new(move |found: Option<&[u8]>| {
            drop(sender.send(found.map(<[u8]>::to_vec)));
            Change::from(new)
        });
        let client = &self.scene.client;
        let updated = client.update(target, &key, decide, Durability::Sync).await;
        if !self.is_done(handle, "an update", &updated) {
            return self.truth(|truth| truth.key(handle.space, &key).refuse());
        }
        if let Ok(Some(seen)) = seen.try_recv() {
            let to_us = self.truth(Truth::latest_us);
            let when = When {
                from_us: began_us,
                to_us,
            };
            let mut before = before;
            if let Err(what) = before.read(seen.as_deref(), when) {
                let key = key.escape_ascii();
                self.violate(format!(
                    "an update of {key} of keyspace {}: {what}",
                    handle.id
                ));
            }
        }
        if value.is_some() {
            return self.acknowledge(handle, &key);
        }
        let now_us = self.scene.now_us(handle.id, &key);
        self.truth(|truth| truth.key(handle.space, &key).acknowledge_if_there(now_us));
    }

    /// A batch over several keyspaces: each part is there whole or not at all.
    async fn batch(&mut self) {
        let (mut ops, mut parts) = (Ops::default(), Vec::new());
        for _ in 0..=self.rng.index(12) {
            let (handle, key) = (self.draw_handle(), self.draw_key());
            if parts
                .iter()
                .any(|(other, of): &(Handle, Vec<u8>)| other.id == handle.id && *of == key)
            {
                continue;
            }
            let (value, target) = self.begin(handle, &key);
            let added = match value {
                Some(value) => ops.put_to(target, &key, &value.to_bytes()),
                None => ops.delete(handle.id, &key),
            };
            if let Err(error) = added {
                return self.violate(format!("a sound operation was refused: {error}"));
            }
            parts.push((handle, key));
        }
        let written = self.scene.client.write(ops, Durability::Sync).await;
        if let Err(Error::KeyspaceDropped { id }) = &written {
            let dropped = parts.iter().find(|(handle, _)| handle.id == *id);
            return match dropped {
                Some((handle, _)) => self.truth(|truth| truth.refused(handle.space, *id)),
                None => self.violate(format!("a batch was refused because of keyspace {id}")),
            };
        }
        for (handle, key) in parts {
            if self.is_done(handle, "a batch", &written) {
                self.acknowledge(handle, &key);
            }
        }
    }

    /// More keys than a deletion takes at once, on each of a few shards.
    async fn fill(&mut self) {
        /// The keys alone are four times what one piece deletes.
        const KEYS: usize = 90;
        const KEY_BYTES: usize = 3_000;
        let (handle, mut ops) = (self.draw_handle(), Ops::default());
        let mut keys = Vec::new();
        for number in 0..KEYS {
            let mut key = format!("{}/fill {number:03} ", self.number).into_bytes();
            key.resize(KEY_BYTES, b'-');
            let (value, target) = self.begin(handle, &key);
            let added = match value {
                Some(value) => ops.put_to(target, &key, &value.to_bytes()),
                None => ops.delete(handle.id, &key),
            };
            if let Err(error) = added {
                return self.violate(format!("a sound operation was refused: {error}"));
            }
            keys.push(key);
        }
        let written = self.scene.client.write(ops, Durability::Sync).await;
        if self.is_done(handle, "a large batch", &written) {
            for key in keys {
                self.acknowledge(handle, &key);
            }
        }
    }

    async fn read(&mut self) {
        let (handle, key) = (self.draw_handle(), self.draw_key());
        let began_us = self.scene.now_us(handle.id, &key);
        let read = self.scene.client.get(handle.id, &key).await;
        if self.is_done(handle, "a read", &read)
            && let Ok(value) = read
        {
            let read =
                self.truth(|truth| truth.read((handle.space, &key), value.as_deref(), began_us));
            if let Err(what) = read {
                let key = key.escape_ascii();
                self.violate(format!("{key} of keyspace {}: {what}", handle.id));
            }
        }
    }

    /// A scan of what this caller alone writes shows exactly that.
    async fn scan(&mut self) {
        let (handle, (from, to)) = (self.draw_handle(), self.own_range());
        let (from, to) = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
        let began_us = self.truth(|truth| truth.now_least_us());
        let mut scanner = self.scene.client.scan(handle.id, from, to);
        if self.rng.coin() {
            scanner.reverse();
        }
        let mut rows = std::collections::BTreeMap::new();
        loop {
            let next = scanner.next().await;
            if !self.is_done(handle, "a scan", &next) {
                return;
            }
            match next {
                Ok(Some((key, value))) => drop(rows.insert(key, value)),
                _ => break,
            }
        }
        self.truth(|truth| {
            let keys: Vec<_> = truth.spaces[handle.space].keys.keys().cloned().collect();
            let own = format!("{}/", self.number);
            for key in keys.iter().filter(|key| key.starts_with(own.as_bytes())) {
                let value = rows.remove(&key[..]);
                if let Err(what) = truth.read((handle.space, key), value.as_deref(), began_us) {
                    let key = key.escape_ascii();
                    truth.violate(format!("{key} in a scan of keyspace {}: {what}", handle.id));
                }
            }
            if let Some(key) = rows.keys().next() {
                truth.violate(format!(
                    "a scan shows {}, which nobody wrote",
                    key.escape_ascii()
                ));
            }
        });
    }

    /// Adds one to a counter that everybody adds to, several times at once.
    async fn add(&mut self) {
        let handle = self.draw_handle();
        if handle.ttl_us.is_some() {
            return;
        }
        let key = format!("counter {}", self.rng.index(2)).into_bytes();
        let count = 1 + self.rng.index(4);
        let additions = (0..count).map(|_| self.add_one(handle, &key));
        join_all(additions.collect::<Vec<_>>()).await;
    }

    async fn add_one(&self, handle: Handle, key: &[u8]) {
        let operator = match MergeOperators::default().for_keyspace("counters", Some(ADD_U64)) {
            Ok(Some(operator)) => operator,
            other => return self.violate(format!("no {ADD_U64}: {:?}", other.err())),
        };
        let one = 1_u64.to_le_bytes();
        let merge = Merge {
            operator,
            operand: &one,
        };
        let above = self.truth(|truth| truth.counter(handle.space, key).begin());
        let client = &self.scene.client;
        let merged = client.merge(handle.id, key, merge, Durability::Sync).await;
        if !self.is_done(handle, "a merge", &merged) {
            return self.truth(|truth| truth.counter(handle.space, key).refuse());
        }
        let sum = merged.ok().and_then(|sum| sum[..].try_into().ok());
        let sum = sum.map_or(0, u64::from_le_bytes);
        let added = self.truth(|truth| {
            truth.figures.merges += 1;
            truth.counter(handle.space, key).acknowledge(above, sum)
        });
        if let Err(what) = added {
            let key = key.escape_ascii();
            self.violate(format!("{key} of keyspace {}: {what}", handle.id));
        }
    }

    async fn delete_range(&mut self) {
        let (handle, (from, to)) = (self.draw_handle(), self.own_range());
        let own = format!("{}/", self.number).into_bytes();
        let (least, most) = self.truth(|truth| {
            let keys = truth.spaces[handle.space].keys.iter_mut();
            let (mut least, mut most) = (0, 0);
            for (_, key) in keys.filter(|(key, _)| key.starts_with(&own)) {
                least += u64::from(key.is_there() == Some(true));
                most += u64::from(key.is_there() != Some(false));
                key.begin(None);
            }
            (least, most)
        });
        let (from, to) = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
        let deleted = self.scene.client.delete_range(handle.id, from, to).await;
        if !self.is_done(handle, "a deletion", &deleted) {
            return;
        }
        let deleted = deleted.unwrap_or_default();
        if deleted < least || deleted > most {
            let what = format!("{deleted} keys were deleted, expected {least} to {most}");
            self.violate(what);
        }
        self.truth(|truth| {
            truth.figures.ranges += 1;
            let now_us = truth.latest_us();
            let keys = truth.spaces[handle.space].keys.iter_mut();
            for (_, key) in keys.filter(|(key, _)| key.starts_with(&own)) {
                key.acknowledge_if_there(now_us);
            }
        });
    }

    fn draw_name(&mut self) -> String {
        format!("name {} of {}", self.rng.index(NAMES), self.number)
    }

    async fn create(&mut self) {
        let name = self.draw_name();
        let space = self.truth(|truth| {
            let known = truth.names.entry(name.clone()).or_default();
            let space = known.space;
            known.creating = true;
            space.map(|space| (truth.spaces[space].id, truth.spaces[space].fate))
        });
        let options = self.options_of(&name);
        let either = self.rng.coin();
        let client = &self.scene.client;
        let created = if either {
            client.keyspace_or_create(&name, &options).await
        } else {
            client.create_keyspace(&name, &options).await
        };
        self.judge_creation(&name, space, either, created);
    }

    /// Every second name has a time to live; a name always has the same options.
    fn options_of(&self, name: &str) -> KeyspaceOptions {
        let options = KeyspaceOptions::new();
        if name.starts_with("name 0") {
            let ttl_us = 500 + 3_000 * lightning_io::to_u64(self.number);
            options.ttl(Duration::from_micros(ttl_us))
        } else {
            options
        }
    }

    fn judge_creation(
        &self,
        name: &str,
        space: Option<(KeyspaceId, Fate)>,
        either: bool,
        created: Result<KeyspaceRecord, Error>,
    ) {
        // This caller alone creates and drops it, so it is what it was before the call. A drop that
        // was left may not have come to anything.
        let exists = space.filter(|(_, fate)| *fate == Fate::Live);
        let may_exist = space.filter(|(_, fate)| *fate != Fate::Gone);
        let clear = |truth: &mut Truth| {
            if let Some(known) = truth.names.get_mut(name) {
                known.creating = false;
            }
        };
        match (created, exists) {
            (Ok(record), _) if either && may_exist.is_some_and(|(id, _)| record.id == id) => {
                self.truth(clear);
            }
            (Ok(record), None) => self.truth(|truth| {
                // The drop that had been cut short is finished.
                truth.is_gone(name);
                truth.created(name, &record);
            }),
            (Err(Error::KeyspaceExists { .. }), _) if !either && may_exist.is_some() => {
                self.truth(clear);
            }
            // The record was not swapped, or the queue was full before that.
            (Err(Error::Busy { .. }), _) => self.truth(clear),
            (created, exists) => {
                self.violate(format!(
                    "creating {name:?}: {created:?}, expected {exists:?}"
                ));
            }
        }
    }

    async fn drop_one(&mut self) {
        let name = self.draw_name();
        let (space, was_left) = self.truth(|truth| {
            let known = truth.names.entry(name.clone()).or_default();
            let (space, was_left) = (known.space, known.is_left);
            if let Some(space) = space {
                truth.spaces[space].fate = truth.spaces[space].fate.max(Fate::Doomed);
            }
            (space, was_left)
        });
        let patience = log_uniform(&mut self.rng, 10);
        let leaves = self.rng.below(3) == 0;
        let dropped = {
            let drop = pin!(self.scene.client.drop_keyspace(&name));
            let sleep = pin!(self.scene.env.sleep(Duration::from_micros(patience)));
            match select(drop, sleep).await {
                Either::Left((dropped, _)) => Some(dropped),
                Either::Right(_) if leaves => None,
                Either::Right(((), drop)) => Some(drop.await),
            }
        };
        let leave = |is_left| {
            self.truth(|truth| {
                truth.names.entry(name.clone()).or_default().is_left = is_left;
            });
        };
        let Some(dropped) = dropped else {
            return leave(true);
        };
        match (dropped, space) {
            (Ok(()), Some(_)) => {
                leave(false);
                self.truth(|truth| {
                    truth.figures.dropped += 1;
                    truth.is_gone(&name);
                });
            }
            // What was left of an earlier drop is gone by now.
            (Ok(()), None) if was_left => leave(false),
            (Err(Error::KeyspaceNotFound { .. }), Some(_)) if was_left => {
                leave(false);
                self.truth(|truth| truth.is_gone(&name));
            }
            // When it is busy, whether the record was swapped is open until it is dropped again.
            (Err(Error::KeyspaceNotFound { .. }), None) | (Err(Error::Busy { .. }), _) => {}
            (dropped, space) => {
                self.violate(format!(
                    "dropping {name:?}: {dropped:?}, expected {space:?}"
                ));
            }
        }
    }
}
