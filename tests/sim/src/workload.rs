//! What callers do, several at once, and the check of every answer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, join_all, select};
use lightning_io::Env;
use lightning_io::sim::{Rng, SimEnv};
use lightning_shards::client::Swap;
use lightning_shards::{Change, Corruption, Decide, Durability, Error, Ops, Router, StorageKey};

use crate::database::Database;
use crate::keys::{KEYSPACE, KeyId, Keys, Value, draw_value_bytes};
use crate::model::{Claim, Model, Moment, PendingUpdate, PendingWrite, Recovered, Rule, Shown};
use crate::plan::Habits;
use crate::report::Figures;

/// Where a run is, for its reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Phase {
    /// The database is being opened.
    #[default]
    Opening,
    /// What it holds is being checked.
    Checking,
    /// Clients are at work.
    Working,
    /// It is being closed.
    Closing,
}

/// What all tasks of one life share.
#[derive(Debug)]
pub(crate) struct Scene {
    /// The keys.
    pub keys: Rc<Keys>,
    /// The oracle.
    pub model: Rc<RefCell<Model>>,
    /// The figures of the run.
    pub figures: Rc<RefCell<Figures>>,
    /// How callers behave.
    pub habits: Habits,
    /// Whether faults may strike, so that errors are to be expected.
    pub faulty: bool,
    /// When the disk has space again that was limited.
    pub space_returns_at: Option<Duration>,
    /// Whether the disk is what a power failure left.
    pub after_crash: bool,
    /// Where the life is.
    pub phase: Cell<Phase>,
    /// The first violation.
    pub violation: RefCell<Option<(String, String)>>,
    /// Set once the content of a recovery was found to be right: where each shard stands.
    pub recovered: RefCell<Option<Vec<Recovered>>>,
    /// What a recovery lost although it was promised: only damage can explain that.
    pub claims: RefCell<Vec<Claim>>,
    /// Errors that only a fault can explain: where, and which.
    pub errors: RefCell<Vec<(String, Error)>>,
    /// The number of the next write.
    pub next_write: Rc<Cell<u64>>,
    /// Set when the clients are to stop.
    pub stopped: Cell<bool>,
    /// Set when a shard failed, so that the database takes no more writes.
    pub poisoned: Cell<bool>,
}

/// Errors of one life that are kept for the report.
const ERRORS_KEPT: usize = 64;

impl Scene {
    /// Reports a violation; the first one counts.
    pub(crate) fn violate(&self, step: &str, what: impl Into<String>) {
        self.violation
            .borrow_mut()
            .get_or_insert_with(|| (step.to_owned(), what.into()));
        self.stopped.set(true);
    }

    /// Takes note of an error; whether a fault explains it is decided when the life is over.
    pub(crate) fn note_error(&self, step: &str, error: Error) {
        if matches!(error, Error::Busy { .. }) {
            self.figures.borrow_mut().busy += 1;
            return;
        }
        match error {
            Error::Poisoned { .. } | Error::MaybeCommitted { .. } => {
                self.poisoned.set(true);
                self.stopped.set(true);
            }
            Error::Closed => self.stopped.set(true),
            _ => {}
        }
        let mut errors = self.errors.borrow_mut();
        if errors.len() < ERRORS_KEPT {
            errors.push((step.to_owned(), error));
        }
    }
}

/// One caller.
pub(crate) struct Caller {
    /// What it shares with the others.
    pub scene: Rc<Scene>,
    /// The database.
    pub database: Rc<Database>,
    /// Its way to time.
    pub env: SimEnv,
    /// Its chance.
    pub rng: Rng,
    /// Its name in reports.
    pub name: String,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Caller({})", self.name)
    }
}

/// How long a caller waits before it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Endless,
    For(Duration),
}

impl Caller {
    /// Does a number of operations.
    pub(crate) async fn work(mut self, operations: u64) {
        for number in 0..operations {
            if self.scene.stopped.get() {
                return;
            }
            self.scene.figures.borrow_mut().operations += 1;
            let step = format!("{}, operation {number}", self.name);
            match self.rng.below(100) {
                0..26 => self.put(&step).await,
                26..33 => self.batch(&step).await,
                33..42 => self.update(&step).await,
                42..58 => self.get(&step).await,
                58..61 => self.exists(&step).await,
                61..67 => self.get_many(&step).await,
                67..69 => self.count_range(&step).await,
                69..70 => self.count_key(&step).await,
                70..71 => self.estimate(&step).await,
                71..78 => self.scan(&step).await,
                78..81 => self.flush(&step).await,
                81..82 => self.verify(&step).await,
                82..85 => self.stats(&step).await,
                85..88 => self.contradict(&step).await,
                88..91 => self.rush(&step).await,
                _ => self.pause().await,
            }
            let counts = self.scene.model.borrow_mut().take_update_counts();
            let mut figures = self.scene.figures.borrow_mut();
            figures.updates += counts.taken;
            figures.updates_overtaking += counts.overtaking;
            drop(figures);
            if let Some(what) = self.scene.model.borrow().violation() {
                self.scene.violate(&step, what);
            }
        }
    }

    pub(crate) fn router(&self) -> Router {
        self.database.router
    }

    pub(crate) fn draw_key(&mut self) -> KeyId {
        let count = self.scene.keys.len();
        if self.rng.below(100) < self.scene.habits.hot {
            self.rng.index(count.div_ceil(10))
        } else {
            self.rng.index(count)
        }
    }

    fn draw_durability(&mut self) -> Durability {
        if self.rng.below(100) < self.scene.habits.sync {
            Durability::Sync
        } else {
            Durability::Relaxed
        }
    }

    pub(crate) fn draw_patience(&mut self) -> Patience {
        if self.rng.below(100) >= self.scene.habits.dropped {
            return Patience::Endless;
        }
        let micros = match self.rng.below(3) {
            0 => 0,
            1 => self.rng.below(60),
            _ => self.rng.below(3_000),
        };
        Patience::For(Duration::from_micros(micros))
    }

    /// Waits for an operation as long as patience lasts.
    pub(crate) async fn wait<T>(
        &self,
        operation: impl Future<Output = T>,
        patience: Patience,
    ) -> Option<T> {
        let operation = pin!(operation);
        let Patience::For(time) = patience else {
            return Some(operation.await);
        };
        let sleep = pin!(self.env.sleep(time));
        match select(operation, sleep).await {
            Either::Left((output, _)) => Some(output),
            Either::Right(_) => {
                self.scene.figures.borrow_mut().dropped += 1;
                None
            }
        }
    }

    async fn put(&mut self, step: &str) {
        let deletes = self.rng.below(100) < self.scene.habits.deletes;
        let big = self.scene.habits.big;
        let len = (!deletes).then(|| draw_value_bytes(big, &mut self.rng));
        let key = self.draw_key();
        self.write(step, vec![(key, len)]).await;
    }

    async fn batch(&mut self, step: &str) {
        let count = 2 + crate::plan::small(&mut self.rng, 40);
        let mut ops = Vec::with_capacity(count);
        let deletes_all = self.rng.below(6) == 0;
        for _ in 0..count {
            let deletes = deletes_all || self.rng.below(100) < self.scene.habits.deletes;
            // Mostly small, so that a batch of many is not always a record of many segments.
            let big = self.scene.habits.big && self.rng.below(8) == 0;
            let len = (!deletes).then(|| draw_value_bytes(big, &mut self.rng));
            ops.push((self.draw_key(), len));
        }
        self.write(step, ops).await;
    }

    /// Writes a batch; operations are keys with the length of the value, or none to delete.
    pub(crate) async fn write(&mut self, step: &str, wanted: Vec<(KeyId, Option<usize>)>) {
        let durability = self.draw_durability();
        let patience = self.draw_patience();
        let number = self.scene.next_write.get();
        self.scene.next_write.set(number + 1);
        let mut ops = Ops::default();
        let mut parts: BTreeMap<usize, Vec<(KeyId, Option<Value>)>> = BTreeMap::new();
        for (at, (key, len)) in wanted.into_iter().enumerate() {
            let value = len.map(|len| Value::new(number, lightning_io::to_u64(at), len));
            let bytes = self.scene.keys.bytes(key);
            let added = match value {
                Some(value) => ops.put(KEYSPACE, bytes, &value.to_bytes()),
                None => ops.delete(KEYSPACE, bytes),
            };
            if let Err(error) = added {
                return self
                    .scene
                    .violate(step, format!("a sound operation was refused: {error}"));
            }
            let part = parts
                .entry(self.scene.keys.shard(self.router(), key))
                .or_default();
            part.retain(|(other, _)| *other != key);
            part.push((key, value));
        }
        self.scene.figures.borrow_mut().parts += lightning_io::to_u64(parts.len());
        // The answer of a write that is left behind is mostly heard all the same: then the model
        // knows more. With faults it always is, as a refusal that nobody hears leaves a hole.
        let unheard = patience != Patience::Endless && !self.scene.faulty && self.rng.below(4) == 0;
        let pending = PendingWrite { parts, durability };
        let written = self.database.client.write(ops, durability);
        let written = self.submit(|model| model.expect_write(pending), written, unheard);
        if let Some(Err(error)) = self.wait(written, patience).await {
            self.scene.note_error(step, error);
        }
    }

    /// Writes a value of a length, or deletes, to be durable when it is answered.
    pub(crate) async fn write_key(&self, key: KeyId, len: Option<usize>) -> Result<(), Error> {
        let number = self.scene.next_write.get();
        self.scene.next_write.set(number + 1);
        let value = len.map(|len| Value::new(number, 0, len));
        let (mut ops, bytes) = (Ops::default(), self.scene.keys.bytes(key));
        match value {
            Some(value) => ops.put(KEYSPACE, bytes, &value.to_bytes())?,
            None => ops.delete(KEYSPACE, bytes)?,
        }
        let shard = self.scene.keys.shard(self.router(), key);
        let parts = BTreeMap::from([(shard, vec![(key, value)])]);
        let durability = Durability::Sync;
        let pending = PendingWrite { parts, durability };
        let written = self.database.client.write(ops, durability);
        self.submit(|model| model.expect_write(pending), written, false)
            .await
    }

    /// A read-modify-write of one key, and what the oracle is told by whoever watches it.
    async fn update(&mut self, step: &str) {
        let key = self.draw_key();
        self.update_key(step, key).await;
    }

    /// Updates of one key beside writes of it that fill the memory, so that values come from disk
    /// while trees follow one another.
    async fn rush(&mut self, step: &str) {
        /// Longer than what lies in a page: each look at it needs the disk.
        const LONG: usize = 17 << 10;
        let key = self.draw_key();
        let crowd = (0..6).map(|at| {
            let (updates, others) = (at % 2 == 0, [self.draw_key(), self.draw_key()]);
            let mut one = self.beside(at);
            async move {
                let time = Duration::from_micros(one.rng.below(400));
                one.env.sleep(time).await;
                if updates {
                    return one.update_key(step, key).await;
                }
                let long = others.into_iter().chain([key]);
                let long = long.map(|key| (key, Some(LONG + one.rng.index(LONG))));
                let ops = long.collect();
                one.write(step, ops).await;
            }
        });
        let crowd: Vec<_> = crowd.map(Box::pin).collect();
        join_all(crowd).await;
    }

    /// The same caller once more, with chance of its own, for what it does at the same time.
    pub(crate) fn beside(&mut self, number: u64) -> Self {
        Self {
            scene: Rc::clone(&self.scene),
            database: Rc::clone(&self.database),
            env: self.env.clone(),
            rng: Rng::stream(self.rng.next_u64(), number),
            name: self.name.clone(),
        }
    }

    async fn update_key(&mut self, step: &str, key: KeyId) {
        let (durability, patience) = (self.draw_durability(), self.draw_patience());
        let number = self.scene.next_write.get();
        self.scene.next_write.set(number + 1);
        let deletes = self.rng.below(100) < self.scene.habits.deletes;
        let len = draw_value_bytes(self.scene.habits.big, &mut self.rng);
        let value = (!deletes).then(|| Value::new(number, 0, len));
        let new = value.map(Value::to_bytes);
        let swaps = self.rng.coin();
        let rule = self.draw_rule(key, swaps);
        let met = Rc::new(Cell::new(None));
        let pending = PendingUpdate {
            key,
            rule,
            value,
            durability,
            met: Rc::clone(&met),
        };
        let expect = |model: &mut Model| model.expect_update(pending);
        let (client, bytes) = (&self.database.client, self.scene.keys.bytes(key));
        let outcome = if let Rule::IfEqual(expected) = rule {
            let expected = expected.map(Value::to_bytes);
            let swap = Swap {
                expected: expected.as_deref(),
                new: new.as_deref(),
            };
            let swapped = client.compare_and_swap(KEYSPACE, bytes, swap, durability);
            let swapped = self.submit(expect, swapped, false);
            let swapped = self.wait(swapped, patience).await;
            if let Some(Ok(swapped)) = &swapped
                && met.get() != Some(swapped.is_ok())
            {
                let what = format!("the rule of a swap was met: {met:?}, it told {swapped:?}");
                self.scene.violate(step, what);
            }
            swapped.map(|swapped| swapped.map(drop))
        } else {
            let decide = Decide::new(move |found| {
                if rule.is_met(found) {
                    Change::from(new)
                } else {
                    Change::Keep
                }
            });
            let updated = client.update(KEYSPACE, bytes, decide, durability);
            let updated = self.submit(expect, updated, false);
            let updated = self.wait(updated, patience).await;
            updated.map(|updated| updated.map(drop))
        };
        // Damage may be that of the value, or that which keeps memory from being flushed.
        if let Some(Err(error)) = outcome {
            self.scene.note_error(step, error);
        }
    }

    /// When an update changes its key; a swap does when it finds some value, or none.
    fn draw_rule(&mut self, key: KeyId, swaps: bool) -> Rule {
        let kind = self.rng.below(6);
        if swaps {
            // Mostly what the key has once everything submitted is taken, so that some succeed.
            let shard = self.scene.keys.shard(self.router(), key);
            let newest = self.scene.model.borrow().newest(shard, key);
            return Rule::IfEqual(newest.filter(|_| kind > 0));
        }
        match kind {
            0 => Rule::IfAbsent,
            1 => Rule::IfPresent,
            _ => Rule::Always,
        }
    }

    /// Hands a write to the client so that the model hears of its parts.
    async fn submit<T>(
        &self,
        expect: impl FnOnce(&mut Model),
        write: impl Future<Output = T>,
        unheard: bool,
    ) -> T {
        let mut written = pin!(write);
        // All parts are submitted in the first poll.
        expect(&mut self.scene.model.borrow_mut());
        self.database.unheard.set(unheard);
        let first = std::future::poll_fn(|cx| std::task::Poll::Ready(written.as_mut().poll(cx)));
        let first = first.await;
        self.database.unheard.set(false);
        self.scene.model.borrow_mut().end_write();
        match first {
            std::task::Poll::Ready(outcome) => outcome,
            std::task::Poll::Pending => written.await,
        }
    }

    async fn get(&mut self, step: &str) {
        let key = self.draw_key();
        let patience = self.draw_patience();
        self.get_key(step, key, patience).await;
    }

    /// Reads a key and checks what came.
    pub(crate) async fn get_key(&self, step: &str, key: KeyId, patience: Patience) {
        let began = self.scene.model.borrow().visible();
        let got = self
            .database
            .client
            .get(KEYSPACE, self.scene.keys.bytes(key));
        match self.wait(got, patience).await {
            Some(Ok(value)) => self.check(step, &began, &[(key, value)]),
            Some(Err(error)) => self.read_failed(step, &[key], error),
            None => {}
        }
    }

    /// A read failed: it may not say that there is no space, and damage has to name its keys.
    pub(crate) fn read_failed(&self, step: &str, keys: &[KeyId], error: Error) {
        if error.is_no_space() {
            self.scene
                .violate(step, format!("a read was told: {error}"));
        }
        if let Error::Corruption(corruption) = &error
            && !keys.iter().any(|&key| self.names(corruption, key))
        {
            let what = format!("an error that does not name what was read: {error}");
            self.scene.violate(step, what);
        }
        self.scene.note_error(step, error);
    }

    /// Whether a report of damage names the shard of a key, and a range that the key is in.
    pub(crate) fn names(&self, corruption: &Corruption, key: KeyId) -> bool {
        let stored = StorageKey::new(KEYSPACE, self.scene.keys.bytes(key));
        let (stored, shard) = (stored.as_slice(), self.scene.keys.shard(self.router(), key));
        let here = corruption.place.shard.is_some_and(|id| id.index() == shard);
        let Some((from, to)) = &corruption.keys else {
            return false;
        };
        let (from, to) = (from.as_deref(), to.as_deref());
        here && from.is_none_or(|from| from <= stored) && to.is_none_or(|to| stored < to)
    }

    /// Reads every key of a run, one by one.
    pub(crate) async fn get_all(&self, step: &str) {
        for key in 0..self.scene.keys.len() {
            if self.scene.violation.borrow().is_some() {
                return;
            }
            self.get_key(step, key, Patience::Endless).await;
        }
    }

    async fn exists(&mut self, step: &str) {
        let (key, patience) = (self.draw_key(), self.draw_patience());
        let began = self.scene.model.borrow().visible();
        let client = &self.database.client;
        let looked = client.exists(KEYSPACE, self.scene.keys.bytes(key));
        match self.wait(looked, patience).await {
            Some(Ok(exists)) => {
                self.scene.figures.borrow_mut().reads += 1;
                let shard = self.scene.keys.shard(self.router(), key);
                let shown = if exists {
                    Shown::Present
                } else {
                    Shown::Absent
                };
                let cuts = (began.cut(shard), None);
                let mut model = self.scene.model.borrow_mut();
                if let Err(what) = model.check_read(shard, cuts, [key], |_| shown) {
                    self.scene.violate(step, format!("exists: {what}"));
                }
            }
            Some(Err(error)) => self.read_failed(step, &[key], error),
            None => {}
        }
    }

    async fn get_many(&mut self, step: &str) {
        let count = crate::plan::small(&mut self.rng, 30);
        let ids: Vec<KeyId> = (0..count).map(|_| self.draw_key()).collect();
        let patience = self.draw_patience();
        let keys: Vec<&[u8]> = ids.iter().map(|&key| self.scene.keys.bytes(key)).collect();
        let began = self.scene.model.borrow().visible();
        let got = self.database.client.get_many(KEYSPACE, &keys);
        match self.wait(got, patience).await {
            Some(Ok(values)) if values.len() == ids.len() => {
                let shown: Vec<_> = ids.into_iter().zip(values).collect();
                self.check(step, &began, &shown);
            }
            Some(Ok(values)) => {
                let what = format!("{} values for {} keys", values.len(), ids.len());
                self.scene.violate(step, what);
            }
            Some(Err(error)) => self.read_failed(step, &ids, error),
            None => {}
        }
    }

    /// Checks values that were read as of one moment of each shard.
    fn check(&self, step: &str, began: &Moment, shown: &[(KeyId, Option<Bytes>)]) {
        self.scene.figures.borrow_mut().reads += lightning_io::to_u64(shown.len());
        let mut by_shard: BTreeMap<usize, BTreeMap<KeyId, Option<&[u8]>>> = BTreeMap::new();
        for (key, value) in shown {
            let shard = self.scene.keys.shard(self.router(), *key);
            let value = value.as_deref();
            let before = by_shard.entry(shard).or_default().insert(*key, value);
            if before.is_some_and(|before| before != value) {
                let what = format!("two values of {} in one answer", self.scene.keys.name(*key));
                return self.scene.violate(step, what);
            }
        }
        for (shard, values) in by_shard {
            let keys = values.keys().copied();
            let checked = self.scene.model.borrow_mut().check_read(
                shard,
                (began.cut(shard), None),
                keys,
                |key| Shown::of(values.get(&key).copied().flatten()),
            );
            if let Err(what) = checked {
                self.scene.violate(step, what);
            }
        }
    }

    async fn flush(&mut self, step: &str) {
        let patience = self.draw_patience();
        let visible = self.scene.model.borrow().visible();
        let client = &self.database.client;
        // What is merged was flushed before.
        let flushed = if self.rng.below(4) == 0 {
            self.wait(client.compact(), patience).await
        } else {
            self.wait(client.flush(), patience).await
        };
        match flushed {
            Some(Ok(())) => self.scene.model.borrow_mut().flushed(&visible),
            Some(Err(error)) => self.scene.note_error(step, error),
            None => {}
        }
    }

    async fn verify(&mut self, step: &str) {
        let patience = self.draw_patience();
        match self.wait(self.database.client.verify(), patience).await {
            Some(Ok(reports)) => {
                self.scene.figures.borrow_mut().verifies += 1;
                for damage in reports.iter().flat_map(|report| &report.damages) {
                    let error = Error::Corruption(Box::new(damage.clone()));
                    self.scene.note_error(step, error);
                }
            }
            Some(Err(error)) => self.scene.note_error(step, error),
            None => {}
        }
    }

    async fn stats(&mut self, step: &str) {
        let patience = self.draw_patience();
        match self.wait(self.database.client.stats(), patience).await {
            Some(Ok(stats)) if stats.len() != usize::from(self.router().shards()) => {
                let what = "figures of another number of shards";
                self.scene.violate(step, what);
            }
            Some(Err(error)) => self.scene.note_error(step, error),
            Some(Ok(_)) | None => {}
        }
    }

    /// Asks for what must be refused.
    async fn contradict(&mut self, step: &str) {
        let long = vec![7; lightning_shards::KEY_BYTES_MAX + 1];
        let key: &[u8] = if self.rng.coin() { &[] } else { &long };
        let refused = match self.rng.below(2) {
            0 => self.database.client.get(KEYSPACE, key).await.err(),
            _ => self.database.client.get_many(KEYSPACE, &[key]).await.err(),
        };
        if !matches!(refused, Some(Error::Invalid { what: "key", .. })) {
            let what = format!("a key of {} bytes: {refused:?}", key.len());
            self.scene.violate(step, what);
        }
    }

    async fn pause(&mut self) {
        let millis = if self.scene.habits.pauses {
            self.rng.pick(&[0, 1, 20, 200])
        } else {
            0
        };
        let time = Duration::from_millis(millis) + Duration::from_micros(self.rng.below(300));
        self.env.sleep(time).await;
    }
}
