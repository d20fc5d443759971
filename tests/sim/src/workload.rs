//! What callers do, several at once, and the check of every answer.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::Bound;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use lightning_io::Env;
use lightning_io::sim::{Rng, SimEnv};
use lightning_shards::client::Scanner;
use lightning_shards::{Corruption, Durability, Error, Ops, Router, StorageKey};

use crate::database::Database;
use crate::keys::{KEYSPACE, KeyId, Keys, Value, draw_value_bytes};
use crate::model::{Claim, Model, Moment, PendingWrite, Recovered, Shown};
use crate::plan::Habits;
use crate::report::Figures;
use crate::spy::Spy;

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
                26..34 => self.batch(&step).await,
                34..56 => self.get(&step).await,
                56..66 => self.get_many(&step).await,
                66..78 => self.scan(&step).await,
                78..81 => self.flush(&step).await,
                81..82 => self.verify(&step).await,
                82..85 => self.stats(&step).await,
                85..90 => self.contradict(&step).await,
                _ => self.pause().await,
            }
            if let Some(what) = self.scene.model.borrow().violation() {
                self.scene.violate(&step, what);
            }
        }
    }

    pub(crate) fn router(&self) -> Router {
        self.database.router
    }

    fn draw_key(&mut self) -> KeyId {
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

    fn draw_patience(&mut self) -> Patience {
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
    async fn wait<T>(&self, operation: impl Future<Output = T>, patience: Patience) -> Option<T> {
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
        for _ in 0..count {
            let deletes = self.rng.below(100) < self.scene.habits.deletes;
            // Mostly small, so that a batch of many is not always a record of many segments.
            let big = self.scene.habits.big && self.rng.below(8) == 0;
            let len = (!deletes).then(|| draw_value_bytes(big, &mut self.rng));
            ops.push((self.draw_key(), len));
        }
        self.write(step, ops).await;
    }

    /// Writes a batch; operations are keys with the length of the value, or none to delete.
    async fn write(&mut self, step: &str, wanted: Vec<(KeyId, Option<usize>)>) {
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
        let written = self.submit(PendingWrite { parts, durability }, ops, unheard);
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
        self.submit(PendingWrite { parts, durability }, ops, false)
            .await
    }

    /// Hands a write to the client so that the model hears of its parts.
    async fn submit(&self, pending: PendingWrite, ops: Ops, unheard: bool) -> Result<(), Error> {
        let durability = pending.durability;
        let mut written = pin!(self.database.client.write(ops, durability));
        // All parts are submitted in the first poll.
        self.scene.model.borrow_mut().expect_write(pending);
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

    async fn scan(&mut self, step: &str) {
        let range = self.draw_range();
        let limit = (self.rng.below(3) == 0).then(|| crate::plan::small(&mut self.rng, 50));
        let keys_only = self.rng.below(4) == 0;
        // Some are abandoned after a few rows.
        let rows_max = if self.rng.below(4) == 0 {
            crate::plan::small(&mut self.rng, 50)
        } else {
            usize::MAX
        };
        let slow = self.rng.below(100) < self.scene.habits.slow_scans;
        self.scan_range(
            step,
            &range,
            Wanted {
                limit,
                rows_max,
                keys_only,
                slow,
            },
        )
        .await;
    }

    fn draw_range(&mut self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        if self.rng.coin() {
            return (Bound::Unbounded, Bound::Unbounded);
        }
        (self.draw_end(), self.draw_end())
    }

    fn draw_end(&mut self) -> Bound<Vec<u8>> {
        let key = self.draw_key();
        let key = self.scene.keys.bytes(key).to_vec();
        match self.rng.below(3) {
            0 => Bound::Included(key),
            1 => Bound::Excluded(key),
            _ => Bound::Unbounded,
        }
    }

    /// Scans and checks order, bounds and contents of what came.
    pub(crate) async fn scan_range(
        &mut self,
        step: &str,
        range: &(Bound<Vec<u8>>, Bound<Vec<u8>>),
        wanted: Wanted,
    ) {
        let (from, to) = (as_slice(&range.0), as_slice(&range.1));
        let mut scanner = self.database.client.scan(KEYSPACE, from, to);
        if wanted.keys_only {
            scanner.set_keys_only();
        }
        if let Some(limit) = wanted.limit {
            scanner.set_limit(limit);
        }
        let mut flushes = None;
        if wanted.slow {
            flushes = self.flush_count().await;
        }
        let began = self.scene.model.borrow().visible();
        // The snapshot is bound once the first row is there: nothing submitted later is in it.
        let mut ended = None;
        let mut rows: Vec<(Bytes, Bytes)> = Vec::new();
        let mut complete = false;
        while rows.len() < wanted.rows_max {
            let patience = self.draw_patience();
            let next = self.next_row(&mut scanner, patience).await;
            ended.get_or_insert_with(|| self.scene.model.borrow().submitted_until());
            match next {
                Some(Ok(Some(row))) => rows.push(row),
                Some(Ok(None)) => {
                    complete = wanted.limit.is_none_or(|limit| rows.len() < limit);
                    break;
                }
                Some(Err(error)) => {
                    self.scene.note_error(step, error);
                    break;
                }
                None => break,
            }
            if wanted.slow {
                let time = Duration::from_micros(self.rng.below(2_000));
                self.env.sleep(time).await;
            }
        }
        drop(scanner);
        if wanted.slow && flushes < self.flush_count().await && self.fills_a_page(&rows) {
            self.scene.figures.borrow_mut().snapshots += 1;
        }
        if wanted.limit.is_some_and(|limit| rows.len() > limit) {
            return self
                .scene
                .violate(step, "a scan gave more rows than its limit");
        }
        self.scene.figures.borrow_mut().scans += 1;
        let ended = ended.unwrap_or_else(|| began.clone());
        let seen = ScanSeen {
            range: (from, to),
            rows: &rows,
            complete,
            keys_only: wanted.keys_only,
        };
        if let Err(what) = self.check_scan(&began, &ended, &seen) {
            self.scene.violate(step, format!("scan: {what}"));
        }
    }

    /// Memtables flushed so far, on all shards.
    async fn flush_count(&self) -> Option<u64> {
        let stats = self.database.client.stats().await.ok()?;
        Some(stats.iter().map(|shard| shard.flushes).sum())
    }

    /// Whether the rows of some shard are more than what one page of a scan holds.
    fn fills_a_page(&self, rows: &[(Bytes, Bytes)]) -> bool {
        /// What a shard answers at once.
        const PAGE_BYTES: usize = 64 << 10;
        let mut bytes: BTreeMap<usize, usize> = BTreeMap::new();
        for (key, value) in rows {
            if let Some(id) = self.scene.keys.id(key) {
                let shard = self.scene.keys.shard(self.router(), id);
                *bytes.entry(shard).or_default() += key.len() + value.len();
            }
        }
        bytes.values().any(|&bytes| bytes > PAGE_BYTES)
    }

    async fn next_row(
        &self,
        scanner: &mut Scanner<Spy>,
        patience: Patience,
    ) -> Option<Result<Option<(Bytes, Bytes)>, Error>> {
        if let Some(row) = scanner.next_ready() {
            return Some(Ok(Some(row)));
        }
        self.wait(scanner.next(), patience).await
    }

    fn check_scan(
        &self,
        began: &Moment,
        ended: &Moment,
        seen: &ScanSeen<'_>,
    ) -> Result<(), String> {
        let keys = &self.scene.keys;
        self.scene.figures.borrow_mut().reads += lightning_io::to_u64(seen.rows.len());
        if let Some(pair) = seen.rows.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            let (first, second) = (pair[0].0.escape_ascii(), pair[1].0.escape_ascii());
            return Err(format!("{first} comes before {second}"));
        }
        let mut shown: BTreeMap<KeyId, &[u8]> = BTreeMap::new();
        for (key, value) in seen.rows {
            let Some(id) = keys.id(key) else {
                return Err(format!("the key {} was never written", key.escape_ascii()));
            };
            if !seen.covers(key) {
                return Err(format!("{} is outside of the range", keys.name(id)));
            }
            shown.insert(id, value);
        }
        let mut model = self.scene.model.borrow_mut();
        for shard in 0..self.router().shards() {
            let shard = usize::from(shard);
            let known: BTreeSet<KeyId> = model.live_keys(shard).into_iter().collect();
            let covered = known.into_iter().filter(|&id| seen.covers(keys.bytes(id)));
            let here = shown.keys().copied();
            let here = here.filter(|&id| keys.shard(self.router(), id) == shard);
            let all: BTreeSet<KeyId> = covered.chain(here).collect();
            let cuts = (began.cut(shard), Some(ended.cut(shard)));
            model.check_read(shard, cuts, all, |id| match shown.get(&id) {
                Some(_) if seen.keys_only => Shown::Present,
                value => Shown::of(value.copied()),
            })?;
        }
        Ok(())
    }

    async fn flush(&mut self, step: &str) {
        let patience = self.draw_patience();
        let visible = self.scene.model.borrow().visible();
        match self.wait(self.database.client.flush(), patience).await {
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

    /// Verifies while nothing else is under way: the number of entries is known then.
    pub(crate) async fn verify_at_rest(&self, step: &str) {
        /// The verifier flushes first and counts what is in the tree; a flush that failed is tried
        /// again, and then everything is.
        const ATTEMPTS_MAX: usize = 4;
        const ATTEMPT_INTERVAL: Duration = Duration::from_millis(300);
        for attempt in 1..=ATTEMPTS_MAX {
            match self.count_entries(step).await {
                Some(what) if attempt == ATTEMPTS_MAX => self.scene.violate(step, what),
                Some(_) => self.env.sleep(ATTEMPT_INTERVAL).await,
                None => return,
            }
        }
    }

    /// Verifies, and says which shard does not hold as many entries as it should.
    async fn count_entries(&self, step: &str) -> Option<String> {
        // A write whose caller has left may still wait for its turn.
        let shards = 0..usize::from(self.router().shards());
        let settled_before: Vec<bool> = shards
            .map(|shard| self.scene.model.borrow().is_settled(shard))
            .collect();
        let reports = match self.database.client.verify().await {
            Ok(reports) => reports,
            Err(error) => {
                self.scene.note_error(step, error);
                return None;
            }
        };
        self.scene.figures.borrow_mut().verifies += 1;
        let stats = self.database.client.stats().await.ok()?;
        let mut wrong = None;
        for (shard, report) in reports.iter().enumerate() {
            for damage in &report.damages {
                let error = Error::Corruption(Box::new(damage.clone()));
                self.scene.note_error(step, error);
            }
            let model = self.scene.model.borrow();
            let settled = settled_before[shard] && model.is_settled(shard);
            let known = settled && !model.has_doubts(shard) && !stats[shard].flush_blocked;
            let live = model.live_count(shard);
            if report.damages.is_empty() && known && report.entries != live {
                let entries = report.entries;
                wrong = Some(format!(
                    "shard {shard} holds {entries} entries, expected {live}"
                ));
            }
        }
        wrong
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

/// What a scan is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// The limit that the scan is told.
    pub limit: Option<usize>,
    /// Rows after which the caller loses interest.
    pub rows_max: usize,
    /// Whether values are left out.
    pub keys_only: bool,
    /// Whether the caller takes its time.
    pub slow: bool,
}

impl Wanted {
    /// Everything, at once.
    pub(crate) const ALL: Self = Self {
        limit: None,
        rows_max: usize::MAX,
        keys_only: false,
        slow: false,
    };
}

/// What a scan showed.
struct ScanSeen<'a> {
    range: (Bound<&'a [u8]>, Bound<&'a [u8]>),
    rows: &'a [(Bytes, Bytes)],
    /// Whether it came to its end.
    complete: bool,
    keys_only: bool,
}

impl ScanSeen<'_> {
    /// Whether the rows say something about a key.
    fn covers(&self, key: &[u8]) -> bool {
        let last = self.rows.last().map(|row| row.0.as_ref());
        let from = match self.range.0 {
            Bound::Included(from) => key >= from,
            Bound::Excluded(from) => key > from,
            Bound::Unbounded => true,
        };
        let to = match self.range.1 {
            Bound::Included(to) => key <= to,
            Bound::Excluded(to) => key < to,
            Bound::Unbounded => true,
        };
        from && to && (self.complete || last.is_some_and(|last| key <= last))
    }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key.as_slice()),
        Bound::Excluded(key) => Bound::Excluded(key.as_slice()),
        Bound::Unbounded => Bound::Unbounded,
    }
}
