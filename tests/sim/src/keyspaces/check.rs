//! Checks of everything: after a recovery, and when all work is done.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use lightning_io::sim::Rng;
use lightning_io::{Env, JoinHandle, TaskClass, to_u64};
use lightning_shards::{Error, KeyspaceId, Result};

use super::Scene;
use super::truth::{Fate, KeyTruth, SpaceId};

/// How long a deletion in the background waits before it asks busy shards again.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);

impl Scene {
    pub(super) fn violate(&self, what: impl Into<String>) {
        self.truth.borrow_mut().violate(what);
    }

    /// Goes on with drops that were cut short, sooner or later, as whoever opens a database does.
    pub(super) fn resume_drops(self: &Rc<Self>, rng: &mut Rng) -> JoinHandle<()> {
        let delay = Duration::from_micros(rng.pick(&[0, 0, 300, 20_000]));
        let scene = Rc::clone(self);
        self.env.spawn(TaskClass::Foreground, async move {
            scene.env.sleep(delay).await;
            loop {
                match scene.client.resume_drops().await {
                    Err(Error::Busy { .. }) => scene.env.sleep(RETRY_INTERVAL).await,
                    Err(error) => return scene.violate(format!("drops were not resumed: {error}")),
                    Ok(()) => return,
                }
            }
        })
    }

    /// Asks until the queues have room.
    async fn insist<T>(&self, ask: impl AsyncFn() -> Result<T>) -> Result<T> {
        loop {
            match ask().await {
                Err(Error::Busy { .. }) => self.env.sleep(RETRY_INTERVAL).await,
                outcome => return outcome,
            }
        }
    }

    /// Settles what the recovery brought, and checks that it may be.
    pub(super) async fn check_recovery(&self) {
        let listed = match self.insist(async || self.client.keyspaces().await).await {
            Ok(listed) => listed,
            Err(error) => return self.violate(format!("keyspaces cannot be listed: {error}")),
        };
        let listed: BTreeMap<_, _> = listed.into_iter().collect();
        self.truth.borrow_mut().recovered(&listed);
        self.check_live("after a recovery").await;
    }

    /// Reads every key by itself, then all of them in a scan.
    async fn check_live(&self, when: &str) {
        let live = self.truth.borrow().live();
        for space in live {
            let id = self.truth.borrow().spaces[space].id;
            let keys: Vec<_> = self.truth.borrow().spaces[space]
                .keys
                .keys()
                .cloned()
                .collect();
            for key in keys {
                let began_us = self.now_us(id, &key);
                let read = self.insist(async || self.client.get(id, &key).await).await;
                let mut truth = self.truth.borrow_mut();
                truth.figures.checked += 1;
                let checked = match &read {
                    Ok(value) => truth.read((space, &key), value.as_deref(), began_us),
                    Err(error) => Err(error.to_string()),
                };
                if let Err(what) = checked {
                    let key = key.escape_ascii();
                    truth.violate(format!("{when}, {key} of keyspace {id}: {what}"));
                }
            }
            self.check_rows(when, space, id).await;
        }
    }

    async fn check_rows(&self, when: &str, space: SpaceId, id: KeyspaceId) {
        // The snapshot is the latest time of all shards, and so no earlier than any.
        let began_us = self.truth.borrow().now_least_us();
        let rows = match self.insist(async || self.rows(id).await).await {
            Ok(rows) => rows,
            Err(error) => return self.violate(format!("{when}, a scan of keyspace {id}: {error}")),
        };
        let mut truth = self.truth.borrow_mut();
        let mut shown: BTreeMap<_, _> = rows.iter().map(|(key, value)| (&key[..], value)).collect();
        let keys: Vec<_> = truth.spaces[space].keys.keys().cloned().collect();
        for key in keys {
            let value = shown.remove(&key[..]);
            if let Err(what) = truth.read((space, &key), value.map(AsRef::as_ref), began_us) {
                let key = key.escape_ascii();
                truth.violate(format!("{when}, {key} in a scan of keyspace {id}: {what}"));
            }
        }
        let counters = truth.spaces[space].counters.iter_mut();
        let mut wrong = None;
        for (key, counter) in counters {
            let value = shown.remove(&key[..]);
            if let Err(what) = counter.read(value.map(AsRef::as_ref)) {
                wrong.get_or_insert((key.escape_ascii().to_string(), what));
            }
        }
        if let Some((key, what)) = wrong {
            truth.violate(format!("{when}, {key} of keyspace {id}: {what}"));
        }
        if let Some(key) = shown.keys().next() {
            let key = key.escape_ascii();
            truth.violate(format!(
                "{when}, keyspace {id} has the key {key} that nobody wrote"
            ));
        }
    }

    async fn rows(&self, id: KeyspaceId) -> Result<Vec<(Bytes, Bytes)>> {
        let mut scanner = self.client.scan(id, Bound::Unbounded, Bound::Unbounded);
        let mut rows = Vec::new();
        while let Some(row) = scanner.next().await? {
            rows.push(row);
        }
        Ok(rows)
    }

    /// Checks everything while nothing else is under way.
    pub(super) async fn check_at_rest(&self) {
        if self.truth.borrow().violation().is_some() {
            return;
        }
        self.check_live("at rest").await;
        // What callers left of drops in this life is for the next opening.
        if let Err(error) = self.insist(async || self.client.resume_drops().await).await {
            return self.violate(format!("drops were not resumed: {error}"));
        }
        self.check_gone().await;
        self.check_entries().await;
    }

    /// Nothing is left of keyspaces that were dropped. In a later life their numbers are nothing
    /// special, so a scan shows whether keys are left.
    async fn check_gone(&self) {
        let gone: Vec<KeyspaceId> = {
            let truth = self.truth.borrow();
            let handles = &truth.handles;
            let gone = truth.spaces.iter().enumerate();
            gone.filter(|(space, known)| known.fate == Fate::Gone && !handles.contains(space))
                .map(|(_, known)| known.id)
                .collect()
        };
        for id in gone {
            match self.insist(async || self.rows(id).await).await {
                Ok(rows) if rows.is_empty() => {}
                // One whose drop this life has finished.
                Err(Error::KeyspaceDropped { .. }) => {
                    self.truth.borrow_mut().figures.drops_resumed += 1;
                }
                Ok(rows) => {
                    let left = rows.len();
                    self.violate(format!("{left} keys are left of the dropped keyspace {id}"));
                }
                Err(error) => self.violate(format!("a scan of keyspace {id}: {error}")),
            }
        }
    }

    /// The trees hold what is live and the catalogue, and nothing else.
    async fn check_entries(&self) {
        let reports = match self.insist(async || self.client.verify().await).await {
            Ok(reports) => reports,
            Err(error) => return self.violate(format!("nothing can be verified: {error}")),
        };
        if let Some(damage) = reports.iter().flat_map(|report| &report.damages).next() {
            self.violate(format!("there is damage: {damage}"));
        }
        let entries: u64 = reports.iter().map(|report| report.entries).sum();
        let numbered = self.client.get(KeyspaceId::SYSTEM, &[0]).await;
        let numbered = usize::from(matches!(numbered, Ok(Some(_))));
        let truth = self.truth.borrow();
        // A drop that was refused half-way leaves its record, and some keys.
        if truth.spaces.iter().any(|space| space.fate == Fate::Doomed) {
            return;
        }
        let live = truth.live();
        let keys = live
            .iter()
            .flat_map(|&space| truth.spaces[space].keys.values());
        let keys: Vec<_> = keys.map(KeyTruth::is_there).collect();
        let there = keys.iter().filter(|there| **there == Some(true)).count();
        let counters = live
            .iter()
            .flat_map(|&space| truth.spaces[space].counters.values());
        let there = there + counters.filter(|counter| counter.is_there()).count();
        // What has expired is there until a flush comes by.
        let expiring = to_u64(keys.iter().filter(|there| there.is_none()).count());
        let expected = to_u64(there + live.len() - 1 + numbered);
        drop(truth);
        if !(expected..=expected + expiring).contains(&entries) {
            let what =
                format!("{entries} entries at rest, expected {expected}, up to {expiring} more");
            self.violate(what);
        }
    }
}
