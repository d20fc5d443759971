//! The check of what a recovery brought: exact contents, and containment where there is damage.
//!
//! # Algorithm
//! 1. Everything is scanned. If the scan meets damage, every key is read by itself: those that can
//!    be read must be at one state of the shard, and each that cannot must be named by its error
//!    and, on a quiet disk, by the verifier as well: damage takes the keys that it covers and no
//!    other.
//! 2. Where each shard stands in its history is settled by that. A state older than what was
//!    promised is a claim, which the ledger of damages has to support.
//! 3. Every key is read again by itself, and in one of two cases everything is verified.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use lightning_io::{Env, to_u64};
use lightning_shards::{Corruption, Error};

use crate::keys::{KEYSPACE, KeyId};
use crate::model::{Recovered, Shown};
use crate::scans::Wanted;
use crate::workload::Caller;

/// Reads of one key before it counts as unreadable: a fault that passes may strike twice.
const ATTEMPTS_MAX: usize = 3;

/// What a recovered database showed.
#[derive(Debug, Default)]
struct Found {
    /// Each key that has a value.
    values: BTreeMap<KeyId, Bytes>,
    /// Each key that could not be read, with the damage that its last error reported, if it did.
    unread: BTreeMap<KeyId, Option<Box<Corruption>>>,
}

impl Caller {
    /// Checks everything that a recovery brought, and settles where in its history each shard
    /// stands; false when that could not be found out.
    pub(crate) async fn check_recovery(&mut self) -> bool {
        let step = self.name.clone();
        let Some(found) = self.find_all(&step).await else {
            return false;
        };
        let mut all = Vec::new();
        for shard in 0..usize::from(self.router().shards()) {
            match self.recovered(shard, &found) {
                Ok(recovered) => all.push(recovered),
                Err(what) => {
                    self.scene.violate(&step, format!("recovery: {what}"));
                    return false;
                }
            }
        }
        for (shard, recovered) in all.iter().enumerate() {
            let unread = found.unread.keys().copied();
            let unread = unread.filter(|&id| self.shard_of(id) == shard);
            let mut model = self.scene.model.borrow_mut();
            model.rebase(shard, recovered, unread);
        }
        self.count(&found);
        *self.scene.recovered.borrow_mut() = Some(all);
        self.get_all(&step).await;
        if !found.unread.is_empty() && !self.scene.faulty {
            self.check_containment(&step, &found).await;
        } else if self.rng.coin() {
            self.verify_at_rest(&step).await;
        }
        true
    }

    fn shard_of(&self, key: KeyId) -> usize {
        self.scene.keys.shard(self.router(), key)
    }

    fn count(&self, found: &Found) {
        let mut figures = self.scene.figures.borrow_mut();
        figures.recoveries += 1;
        figures.crash_images += u64::from(self.scene.after_crash);
        figures.unread += to_u64(found.unread.len());
        if !found.unread.is_empty() {
            figures.contained += to_u64(self.scene.keys.len() - found.unread.len());
        }
    }

    /// Reads everything: in a scan, or key by key where the scan fails.
    async fn find_all(&mut self, step: &str) -> Option<Found> {
        let rows = match self.read_all().await {
            Ok(rows) => rows,
            Err(error) => {
                self.scene.note_error(step, error);
                return self.find_each(step).await;
            }
        };
        let mut found = Found::default();
        for (key, value) in rows {
            let Some(id) = self.scene.keys.id(&key) else {
                let what = format!("the key {} was never written", key.escape_ascii());
                self.scene.violate(step, what);
                return None;
            };
            found.values.insert(id, value);
        }
        Some(found)
    }

    async fn find_each(&self, step: &str) -> Option<Found> {
        let mut found = Found::default();
        for key in 0..self.scene.keys.len() {
            let mut attempts = 0;
            loop {
                attempts += 1;
                let bytes = self.scene.keys.bytes(key);
                let error = match self.database.client.get(KEYSPACE, bytes).await {
                    Ok(value) => {
                        found.values.extend(value.map(|value| (key, value)));
                        break;
                    }
                    Err(error) => error,
                };
                self.read_failed(step, &[key], error.clone());
                if self.scene.violation.borrow().is_some() {
                    return None;
                }
                if attempts == ATTEMPTS_MAX {
                    let damage = match error {
                        Error::Corruption(damage) => Some(damage),
                        _ => None,
                    };
                    found.unread.insert(key, damage);
                    break;
                }
            }
        }
        Some(found)
    }

    /// Every row; in order, or it is a violation.
    async fn read_all(&mut self) -> Result<Vec<(Bytes, Bytes)>, Error> {
        use std::ops::Bound::Unbounded;
        let mut scanner = self.database.client.scan(KEYSPACE, Unbounded, Unbounded);
        let mut rows: Vec<(Bytes, Bytes)> = Vec::new();
        loop {
            let next = scanner.next().await;
            let Some(row) = next? else {
                return Ok(rows);
            };
            if rows.last().is_some_and(|last| last.0 >= row.0) {
                self.scene
                    .violate(&self.name, "the rows of a scan are not in order");
            }
            rows.push(row);
        }
    }

    /// Where a shard stands: at a state that was promised, or at an older one that is claimed.
    fn recovered(&self, shard: usize, found: &Found) -> Result<Recovered, String> {
        let model = self.scene.model.borrow();
        let here = found.values.keys().copied();
        let here = here.filter(|&id| self.shard_of(id) == shard);
        let all: BTreeSet<KeyId> = model.live_keys(shard).into_iter().chain(here).collect();
        let known = || {
            let known = all.iter().copied();
            known.filter(|id| !found.unread.contains_key(id))
        };
        let shown = |id| Shown::of(found.values.get(&id).map(AsRef::as_ref));
        let recovered = match model.check_recovery(shard, model.durable(shard), known(), shown) {
            Ok(recovered) => recovered,
            Err(what) => {
                let (recovered, claim) = model.check_loss(shard, known(), shown, what)?;
                self.scene.claims.borrow_mut().push(claim);
                recovered
            }
        };
        let mut figures = self.scene.figures.borrow_mut();
        figures.tails_lost += u64::from(recovered.lost > 0);
        figures.unanswered_kept += to_u64(recovered.unanswered_kept);
        Ok(recovered)
    }

    /// On a quiet disk the verifier names every key that cannot be read.
    async fn check_containment(&self, step: &str, found: &Found) {
        let reports = match self.database.client.verify().await {
            Ok(reports) => reports,
            Err(error) => return self.scene.note_error(step, error),
        };
        self.scene.figures.borrow_mut().verifies += 1;
        for report in &reports {
            for damage in &report.damages {
                let error = Error::Corruption(Box::new(damage.clone()));
                self.scene.note_error(step, error);
            }
        }
        for (&key, damage) in &found.unread {
            let damages = &reports[self.shard_of(key)].damages;
            if damage.is_some() && !damages.iter().any(|damage| self.names(damage, key)) {
                let name = self.scene.keys.name(key);
                let what = format!("{name} cannot be read, but nothing says that it is damaged");
                return self.scene.violate(step, what);
            }
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

    /// Checks everything while nothing else is under way.
    pub(crate) async fn check_at_rest(&mut self) {
        use std::ops::Bound::Unbounded;
        let step = self.name.clone();
        self.scan_range(&step, &(Unbounded, Unbounded), Wanted::ALL)
            .await;
        self.get_all(&step).await;
        self.verify_at_rest(&step).await;
    }
}
