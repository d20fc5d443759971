//! A small program over a whole database: the calls that it makes of the disk are those that fail.
//!
//! Its first life creates the database, works and closes it; its second opens it, works and is cut
//! off. A life does something of everything: durable and relaxed writes, single ones, batches over
//! all shards and many at once, deletions, large values, reads of every kind, flushes, pauses in
//! which timers fire. Memtables, segments and pages are as small as can be, so that some dozen
//! writes flush, split pages and recycle segments.
//!
//! It goes on after any error, as callers do. A model follows what was acknowledged, refused or
//! left open, so that everything that is read, and everything that a recovery brings, is checked for
//! exact contents.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::Unbounded;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use lightning_io::sim::{Rng, SimEnv, World};
use lightning_io::{Env, to_u64};
use lightning_shards::{Durability, Error, OpenMode, Ops, Router};

use super::sample::{SLOTS, opening};
use crate::database::{Database, Site};
use crate::keys::{KEYSPACE, KeyId, KeyShape, Keys, Value};
use crate::model::Shown;
use crate::model::{Model, Moment, PendingWrite};

/// Shards of the program's database.
pub(super) const SHARDS: usize = 3;

/// Keys of the program.
const KEYS: usize = 45;

/// What a life does once the database is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Put(Durability),
    /// Ten operations on all shards.
    Batch(Durability),
    /// Several durable writes at once.
    Burst,
    Delete,
    /// A value of several pages.
    Large,
    Get,
    GetMany,
    Scan,
    Flush,
    Stats,
    /// Long enough for marks, and for relaxed writes to reach the disk.
    Pause,
}

const STEPS: [Step; 24] = [
    Step::Put(Durability::Sync),
    Step::Burst,
    Step::Get,
    Step::Flush,
    Step::Batch(Durability::Sync),
    Step::Put(Durability::Relaxed),
    Step::Scan,
    Step::Large,
    Step::Delete,
    Step::Burst,
    Step::Flush,
    Step::Batch(Durability::Relaxed),
    Step::GetMany,
    Step::Pause,
    Step::Burst,
    Step::Large,
    Step::Delete,
    Step::Flush,
    Step::Put(Durability::Relaxed),
    Step::Batch(Durability::Sync),
    Step::Stats,
    Step::Burst,
    Step::Scan,
    Step::Put(Durability::Sync),
];

/// One write of a life, when all its shards have answered.
#[derive(Debug)]
pub(super) struct Written {
    /// When it was submitted.
    pub(super) at: Duration,
    /// The shards that it touched.
    pub(super) shards: BTreeSet<usize>,
    /// What became of it.
    pub(super) outcome: Result<(), Error>,
}

/// What all lives of one program share.
pub(super) struct Program {
    pub(super) keys: Rc<Keys>,
    pub(super) seed: u64,
}

impl Program {
    /// The program of a seed.
    pub(super) fn new(seed: u64) -> Self {
        let shape = KeyShape {
            count: KEYS,
            long: false,
            giant: false,
        };
        Self {
            keys: Rc::new(Keys::draw(shape, &mut Rng::stream(seed, 0x9e7))),
            seed,
        }
    }

    /// The model of a database that was never written.
    pub(super) fn model(&self) -> Model {
        Model::new(Rc::clone(&self.keys), SHARDS)
    }
}

/// One life: a process with the database, from its opening on.
pub(super) struct Life {
    keys: Rc<Keys>,
    pub(super) model: Rc<RefCell<Model>>,
    pub(super) database: Option<Database>,
    env: SimEnv,
    rng: Rng,
    next_write: u64,
    pub(super) writes: Vec<Written>,
    /// Errors of anything: where, and which.
    pub(super) errors: Vec<(&'static str, Error)>,
    /// Keys of writes whose outcome is open: whether they can be read is open too.
    pub(super) doubtful: BTreeSet<KeyId>,
    pub(super) violation: Option<String>,
}

impl Life {
    /// A life in a world; `number` tells its writes from those of other lives.
    pub(super) fn new(program: &Program, world: &World, model: Model, number: u64) -> Self {
        Self {
            keys: Rc::clone(&program.keys),
            model: Rc::new(RefCell::new(model)),
            database: None,
            env: world.client(),
            rng: Rng::stream(program.seed, 0x11fe + number),
            next_write: 1 + number * 1_000,
            writes: Vec::new(),
            errors: Vec::new(),
            doubtful: BTreeSet::new(),
            violation: None,
        }
    }

    pub(super) fn violate(&mut self, what: impl Into<String>) {
        self.violation.get_or_insert(what.into());
    }

    /// Opens the database; false when that failed.
    pub(super) async fn open(&mut self, world: &World, mode: OpenMode) -> bool {
        let site = Site::new(world, SHARDS, SLOTS);
        match Database::open(site, opening(mode), &self.model).await {
            Ok(database) => self.database = Some(database),
            Err(error) => self.errors.push(("open", error)),
        }
        self.database.is_some()
    }

    /// Closes the database, if it is open; true when that went well.
    pub(super) async fn close(&mut self) -> bool {
        let Some(database) = self.database.take() else {
            return false;
        };
        let visible = self.model.borrow().visible();
        match database.close().await {
            Ok(()) => {
                self.model.borrow_mut().made_durable(&visible);
                true
            }
            Err(error) => {
                self.errors.push(("close", error));
                false
            }
        }
    }

    fn database(&self) -> &Database {
        let database = self.database.as_ref();
        database.expect("nothing is done before the database is open")
    }

    fn router(&self) -> Router {
        self.database().router
    }

    /// Does everything once.
    pub(super) async fn work(&mut self) {
        for step in STEPS {
            match step {
                Step::Put(durability) => {
                    let wanted = vec![self.draw(900)];
                    self.write_all(vec![wanted], durability).await;
                }
                Step::Batch(durability) => {
                    let wanted = (0..10).map(|_| self.draw(300)).collect();
                    self.write_all(vec![wanted], durability).await;
                }
                Step::Burst => {
                    let wanted = (0..9).map(|_| vec![self.draw(1_800)]).collect();
                    self.write_all(wanted, Durability::Sync).await;
                }
                Step::Delete => {
                    let wanted = vec![vec![(self.rng.index(KEYS), None)]];
                    self.write_all(wanted, Durability::Sync).await;
                }
                Step::Large => {
                    let wanted = vec![(self.rng.index(KEYS), Some(9_000))];
                    self.write_all(vec![wanted], Durability::Sync).await;
                }
                Step::Get => {
                    let key = self.rng.index(KEYS);
                    self.get(key).await;
                }
                Step::GetMany => self.get_many().await,
                Step::Scan => self.scan().await,
                Step::Flush => {
                    let visible = self.model.borrow().visible();
                    match self.database().client.flush().await {
                        Ok(()) => self.model.borrow_mut().made_durable(&visible),
                        Err(error) => self.errors.push(("flush", error)),
                    }
                }
                Step::Stats => {
                    if let Err(error) = self.database().client.stats().await {
                        self.errors.push(("stats", error));
                    }
                }
                Step::Pause => self.env.sleep(Duration::from_millis(30)).await,
            }
        }
    }

    fn draw(&mut self, len_max: usize) -> (KeyId, Option<usize>) {
        let len = 8 + self.rng.index(len_max);
        (self.rng.index(KEYS), Some(len))
    }

    /// A durable write of one key of each shard, several times if need be; what the last attempt
    /// gave, shard by shard.
    pub(super) async fn probe(&mut self, attempts: usize) -> Vec<Result<(), Error>> {
        let mut outcomes = Vec::new();
        for shard in 0..SHARDS {
            let mut outcome = Ok(());
            for _ in 0..attempts {
                outcome = self.write_one_of(shard, Some(100)).await;
                if outcome.is_ok() {
                    break;
                }
                self.env.sleep(Duration::from_millis(200)).await;
            }
            outcomes.push(outcome);
        }
        outcomes
    }

    /// Deletes one key of each shard.
    pub(super) async fn delete_one_of_each(&mut self) -> Vec<Result<(), Error>> {
        let mut outcomes = Vec::new();
        for shard in 0..SHARDS {
            outcomes.push(self.write_one_of(shard, None).await);
        }
        outcomes
    }

    /// Writes the first key of a shard durably.
    async fn write_one_of(&mut self, shard: usize, len: Option<usize>) -> Result<(), Error> {
        let router = self.router();
        let mut ids = 0..self.keys.len();
        let key = ids.find(|&id| self.keys.shard(router, id) == shard);
        let key = key.expect("every shard has some of the keys");
        let wanted = vec![vec![(key, len)]];
        self.write_all(wanted, Durability::Sync).await;
        let last = self.writes.last();
        last.map_or(Ok(()), |written| written.outcome.clone())
    }

    /// Submits writes at once, each a list of keys with the length of the value, or none to delete.
    async fn write_all(
        &mut self,
        writes: Vec<Vec<(KeyId, Option<usize>)>>,
        durability: Durability,
    ) {
        let mut pending = Vec::new();
        for wanted in writes {
            let keys: Vec<KeyId> = wanted.iter().map(|(key, _)| *key).collect();
            let (ops, parts) = match self.encode(wanted) {
                Ok(encoded) => encoded,
                Err(error) => return self.violate(format!("a sound operation: {error}")),
            };
            let shards: BTreeSet<usize> = parts.keys().copied().collect();
            let (at, client) = (self.env.now(), self.database().client.clone());
            // All parts are submitted in the first poll.
            let mut written = Box::pin(async move { client.write(ops, durability).await });
            self.model
                .borrow_mut()
                .expect_write(PendingWrite { parts, durability });
            let first =
                std::future::poll_fn(|cx| Poll::Ready(Future::poll(written.as_mut(), cx))).await;
            self.model.borrow_mut().end_write();
            pending.push(async move {
                let outcome = match first {
                    Poll::Ready(outcome) => outcome,
                    Poll::Pending => written.await,
                };
                let written = Written {
                    at,
                    shards,
                    outcome,
                };
                (keys, written)
            });
        }
        for (keys, written) in join_all(pending).await {
            if let Err(error) = &written.outcome {
                if matches!(error, Error::MaybeCommitted { .. } | Error::Closed) {
                    self.doubtful.extend(keys);
                }
                self.errors.push(("write", error.clone()));
            }
            self.writes.push(written);
        }
    }

    #[expect(clippy::type_complexity, reason = "what a pending write is made of")]
    fn encode(
        &mut self,
        wanted: Vec<(KeyId, Option<usize>)>,
    ) -> Result<(Ops, BTreeMap<usize, Vec<(KeyId, Option<Value>)>>), Error> {
        let number = self.next_write;
        self.next_write += 1;
        let mut ops = Ops::default();
        let mut parts: BTreeMap<usize, Vec<(KeyId, Option<Value>)>> = BTreeMap::new();
        for (at, (key, len)) in wanted.into_iter().enumerate() {
            let value = len.map(|len| Value::new(number, to_u64(at), len));
            let bytes = self.keys.bytes(key);
            match value {
                Some(value) => ops.put(KEYSPACE, bytes, &value.to_bytes())?,
                None => ops.delete(KEYSPACE, bytes)?,
            }
            let part = parts
                .entry(self.keys.shard(self.router(), key))
                .or_default();
            part.retain(|(other, _)| *other != key);
            part.push((key, value));
        }
        Ok((ops, parts))
    }

    /// Reads a key; true when it could be read.
    async fn get(&mut self, key: KeyId) -> bool {
        let began = self.model.borrow().visible();
        let got = self.database().client.get(KEYSPACE, self.keys.bytes(key));
        match got.await {
            Ok(value) => {
                self.check(&began, &BTreeMap::from([(key, value)]));
                true
            }
            Err(error) => {
                self.errors.push(("get", error));
                false
            }
        }
    }

    async fn get_many(&mut self) {
        let ids: Vec<KeyId> = (0..12).map(|_| self.rng.index(KEYS)).collect();
        let began = self.model.borrow().visible();
        let keys: Vec<&[u8]> = ids.iter().map(|&id| self.keys.bytes(id)).collect();
        match self.database().client.get_many(KEYSPACE, &keys).await {
            Ok(values) => {
                let shown = ids.into_iter().zip(values).collect();
                self.check(&began, &shown);
            }
            Err(error) => self.errors.push(("get_many", error)),
        }
    }

    /// Scans everything.
    pub(super) async fn scan(&mut self) {
        let began = self.model.borrow().visible();
        match self.rows().await {
            Ok(rows) => self.check(&began, &rows),
            Err(error) => self.errors.push(("scan", error)),
        }
    }

    /// Every key with its value, or none.
    async fn rows(&mut self) -> Result<BTreeMap<KeyId, Option<Bytes>>, Error> {
        let client = self.database().client.clone();
        let mut scanner = client.scan(KEYSPACE, Unbounded, Unbounded);
        let mut rows: BTreeMap<KeyId, Option<Bytes>> =
            (0..self.keys.len()).map(|id| (id, None)).collect();
        while let Some((key, value)) = scanner.next().await? {
            match self.keys.id(&key) {
                Some(id) => drop(rows.insert(id, Some(value))),
                None => self.violate(format!("a scan shows a key {}", key.escape_ascii())),
            }
        }
        Ok(rows)
    }

    /// Checks values of one moment on each shard.
    fn check(&mut self, began: &Moment, shown: &BTreeMap<KeyId, Option<Bytes>>) {
        let router = self.router();
        for shard in 0..SHARDS {
            let ids = shown.keys().copied();
            let here = ids.filter(|&id| self.keys.shard(router, id) == shard);
            let here: Vec<KeyId> = here.collect();
            if here.is_empty() {
                continue;
            }
            let value = |id: KeyId| Shown::of(shown[&id].as_deref());
            let cuts = (began.cut(shard), None);
            let checked = self.model.borrow_mut().check_read(shard, cuts, here, value);
            if let Err(what) = checked {
                self.violate(what);
            }
        }
    }

    /// Reads every key, one by one; those that could not be read.
    pub(super) async fn read_all(&mut self) -> Vec<KeyId> {
        let mut unreadable = Vec::new();
        for key in 0..self.keys.len() {
            if !self.get(key).await {
                unreadable.push(key);
            }
        }
        unreadable
    }

    /// Checks everything that a recovery brought, settles the model on it, and uses the database.
    pub(super) async fn check_recovery(&mut self) {
        let rows = match self.rows().await {
            Ok(rows) => rows,
            Err(error) => return self.violate(format!("a scan after recovery: {error}")),
        };
        let router = self.router();
        for shard in 0..SHARDS {
            let ids = 0..self.keys.len();
            let here = ids.filter(|&id| self.keys.shard(router, id) == shard);
            let value = |id: KeyId| Shown::of(rows[&id].as_deref());
            let floor = self.model.borrow().durable(shard);
            let recovered = self
                .model
                .borrow()
                .check_recovery(shard, floor, here, value);
            match recovered {
                Ok(recovered) => self.model.borrow_mut().rebase(shard, &recovered, []),
                Err(what) => return self.violate(format!("recovery: {what}")),
            }
        }
        self.doubtful.clear();
        self.check_sound().await;
    }

    /// The database takes writes, shows everything, passes its own check.
    pub(super) async fn check_sound(&mut self) {
        for outcome in self.probe(1).await {
            if let Err(error) = outcome {
                return self.violate(format!("a write to a sound database: {error}"));
            }
        }
        let unreadable = self.read_all().await;
        if !unreadable.is_empty() {
            let last = self.errors.last().map(|(_, error)| error.to_string());
            return self.violate(format!("keys {unreadable:?} of a sound database: {last:?}"));
        }
        let reports = match self.database().client.verify().await {
            Ok(reports) => reports,
            Err(error) => return self.violate(format!("the check of a sound database: {error}")),
        };
        for (shard, report) in reports.iter().enumerate() {
            if let Some(damage) = report.damages.first() {
                return self.violate(format!("the check of a sound database: {damage}"));
            }
            let live = self.model.borrow().live_count(shard);
            if self.model.borrow().is_settled(shard) && report.entries != live {
                let found = report.entries;
                return self.violate(format!("shard {shard} holds {found} entries, not {live}"));
            }
        }
    }
}
