//! Random operations on real files, each compared with a `BTreeMap` that did the same.
//!
//! Memory is as little as a shard works with, so that memtables are flushed and pages read from
//! disk all the time. A failure names the seed and the step; the seed alone repeats the run.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::panic::AssertUnwindSafe;
use std::path::Path;

use bytes::Bytes;
use futures_util::{FutureExt, TryStreamExt};
use lightning_db::{Batch, Builder, Database, Durability, ErrorKind, KEY_BYTES_MAX, ShardStats};

use crate::scratch;
use crate::support::{Random, run};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;
type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Operations of one seed.
const STEPS: usize = 10_000;
/// Different keys: few enough that most operations meet a key that is there.
const KEYS: usize = 3_000;
/// Every so many steps on average the database is closed and opened again.
const STEPS_PER_OPEN: usize = 1_500;

struct Run {
    random: Random,
    model: Map,
    db: Database,
    shards: usize,
    /// What earlier opens counted.
    flushes: u64,
    misses: u64,
}

/// The n-th key: runs with a common prefix, binary ones with the extreme bytes, and a few of the
/// greatest length that differ in their last byte only.
fn key(number: usize) -> Vec<u8> {
    let low = u8::try_from(number % 256).unwrap();
    match number % 100 {
        0 => {
            let mut key = vec![b'K'; KEY_BYTES_MAX - 1];
            key.push(u8::try_from(number / 100).unwrap());
            key
        }
        1..=9 => vec![0xFF; 1 + number % 40]
            .into_iter()
            .chain([low])
            .collect(),
        10..=19 => vec![0x00; number % 30].into_iter().chain([low]).collect(),
        20..=49 => format!("user:{number:08}:profile").into_bytes(),
        _ => number.to_le_bytes().to_vec(),
    }
}

impl Run {
    fn any_key(&mut self) -> Vec<u8> {
        key(self.random.below(KEYS))
    }

    fn any_value(&mut self) -> Vec<u8> {
        let len = match self.random.below(10_000) {
            0..=2 => 5 << 20,
            3..=40 => 100 << 10,
            41..=400 => self.random.below(20_000),
            401..=800 => 0,
            _ => self.random.below(300),
        };
        self.random.bytes(len)
    }

    fn any_bound(&mut self) -> Bound<Vec<u8>> {
        // Mostly a key that may be there, sometimes one that cannot, the empty one included.
        let key = if self.random.chance(4) {
            let len = self.random.below(5);
            self.random.bytes(len)
        } else {
            self.any_key()
        };
        match self.random.below(3) {
            0 => Bound::Unbounded,
            1 => Bound::Included(key),
            _ => Bound::Excluded(key),
        }
    }

    async fn step(&mut self) {
        match self.random.below(1000) {
            0..300 => {
                let (key, value) = (self.any_key(), self.any_value());
                self.db.put(&key, &value).await.unwrap();
                self.model.insert(key, value);
            }
            300..400 => {
                let key = self.any_key();
                self.db.delete(&key).await.unwrap();
                self.model.remove(&key);
            }
            400..500 => self.batch().await,
            500..800 => {
                let key = self.any_key();
                let found = self.db.get(&key).await.unwrap();
                assert_eq!(found.as_deref(), self.model.get(&key).map(Vec::as_slice));
            }
            800..900 => {
                let keys: Vec<_> = (0..self.random.below(20)).map(|_| self.any_key()).collect();
                let found = self.db.get_many(&keys).await.unwrap();
                assert_eq!(found.len(), keys.len());
                for (key, value) in keys.iter().zip(found) {
                    assert_eq!(value.as_deref(), self.model.get(key).map(Vec::as_slice));
                }
            }
            900..920 => self.update().await,
            920..940 => self.scan().await,
            940..950 => {
                let keys: Vec<_> = (0..self.random.below(20)).map(|_| self.any_key()).collect();
                self.db.delete_many(&keys).await.unwrap();
                self.model.retain(|key, _| !keys.contains(key));
            }
            950..970 => {
                let key = self.any_key();
                let exists = self.db.exists(&key).await.unwrap();
                assert_eq!(exists, self.model.contains_key(&key));
            }
            970..990 => self.look_at_range().await,
            990..995 => self.db.flush().await.unwrap(),
            995..997 => self.verify().await,
            _ => {
                let stats = self.db.stats().await.unwrap();
                assert_eq!(stats.shards.len(), self.shards);
                assert_eq!(stats.total(|shard| shard.scans_open), 0);
            }
        }
    }

    async fn batch(&mut self) {
        let mut batch = Batch::new();
        for _ in 0..self.random.below(30) {
            let key = self.any_key();
            if self.random.chance(4) {
                batch.delete(&key);
                self.model.remove(&key);
            } else {
                let value = self.any_value();
                batch.put(&key, &value);
                self.model.insert(key, value);
            }
        }
        let durability = if self.random.chance(8) {
            Durability::Sync
        } else {
            Durability::Relaxed
        };
        self.db.write_with(batch, durability).await.unwrap();
    }

    /// A read-modify-write, conditional or not.
    async fn update(&mut self) {
        let (key, value) = (self.any_key(), self.any_value());
        let current = self.model.get(&key).cloned();
        let (expected, new) = (
            [current.clone(), None, Some(b"another".to_vec())][self.random.below(3)].clone(),
            (!self.random.chance(4)).then_some(value),
        );
        if self.random.chance(2) {
            let swapped = self
                .db
                .compare_and_swap(&key, expected.as_deref(), new.as_deref());
            let swapped = swapped.await.unwrap();
            assert_eq!(swapped.is_ok(), expected == current);
            if let Err(mismatch) = swapped {
                assert!(mismatch.found.as_deref() == current.as_deref());
                return;
            }
        } else {
            let (saw, put) = (current, new.clone());
            let updated = self.db.update(&key, move |found| {
                assert!(
                    found == saw.as_deref(),
                    "another value than that of the model"
                );
                put
            });
            assert!(updated.await.unwrap().as_deref() == new.as_deref());
        }
        match new {
            Some(new) => self.model.insert(key, new),
            None => self.model.remove(&key),
        };
    }

    async fn scan(&mut self) {
        let (bounds, scan): (Bounds, _) = if self.random.chance(3) {
            let key = self.any_key();
            let prefix = key[..self.random.below(key.len().min(8) + 1)].to_vec();
            let scan = self.db.scan_prefix(&prefix);
            (prefix_bounds(prefix), scan)
        } else {
            let bounds = (self.any_bound(), self.any_bound());
            (bounds.clone(), self.db.scan(bounds))
        };
        let limit = if self.random.chance(10) {
            usize::MAX
        } else {
            self.random.below(100)
        };
        let (keys_only, reverse) = (self.random.chance(2), self.random.chance(2));
        let scan = scan.limit(limit);
        let scan = if keys_only { scan.keys_only() } else { scan };
        let scan = if reverse { scan.reverse() } else { scan };
        let found: lightning_db::Result<Vec<(Bytes, Bytes)>> = scan.try_collect().await;
        if ends_before_it_starts(&bounds) && limit > 0 {
            assert_eq!(found.unwrap_err().kind(), ErrorKind::Invalid);
            return;
        }
        let found = found.unwrap();
        let mut expected = rows_within(&self.model, &bounds);
        if reverse {
            expected.reverse();
        }
        let expected = expected.into_iter().take(limit);
        let mut found = found.iter();
        for (key, value) in expected {
            let (found_key, found_value) = found.next().expect("a row of the model is missing");
            assert_eq!(found_key, key);
            let value = if keys_only { &[][..] } else { value };
            assert!(found_value == value, "the value of {}", key.escape_ascii());
        }
        assert_eq!(found.next(), None, "a row too many");
    }

    /// First, last, number and estimate of a range.
    async fn look_at_range(&mut self) {
        let bounds = (self.any_bound(), self.any_bound());
        let first = self.db.first(bounds.clone()).await;
        if ends_before_it_starts(&bounds) {
            assert_eq!(first.unwrap_err().kind(), ErrorKind::Invalid);
            let counted = self.db.count(bounds.clone()).await;
            assert_eq!(counted.unwrap_err().kind(), ErrorKind::Invalid);
            let estimated = self.db.estimate(bounds).await;
            assert_eq!(estimated.unwrap_err().kind(), ErrorKind::Invalid);
            return;
        }
        let rows = rows_within(&self.model, &bounds);
        let owned = |row: &(&Vec<u8>, &Vec<u8>)| (row.0.clone().into(), row.1.clone().into());
        assert!(first.unwrap() == rows.first().map(owned));
        assert!(self.db.last(bounds.clone()).await.unwrap() == rows.last().map(owned));
        let counted = self.db.count(bounds.clone()).await.unwrap();
        assert_eq!(counted, u64::try_from(rows.len()).unwrap());
        // Keys in memory count for themselves and once more where they are on disk.
        let estimate = self.db.estimate(bounds).await.unwrap();
        assert!(estimate.entries <= 3 * u64::try_from(KEYS).unwrap());
    }

    /// The check must count every live key once all of them are in the tree.
    async fn verify(&mut self) {
        self.db.flush().await.unwrap();
        let report = self.db.verify().await.unwrap();
        assert_eq!(report.damages, []);
        assert_eq!(report.entries, u64::try_from(self.model.len()).unwrap());
    }

    async fn reopen(&mut self, path: &Path) {
        self.note_counters().await;
        self.db.close().await.unwrap();
        self.db = builder(path, self.shards).open().await.unwrap();
        assert_eq!(self.db.shard_count(), self.shards);
    }

    async fn note_counters(&mut self) {
        let stats = self.db.stats().await.unwrap();
        self.flushes += stats.total(|shard| shard.flushes);
        self.misses += stats.total(|shard| shard.cache_misses);
        let within = |shard: &ShardStats| shard.cache_bytes <= CACHE_BYTES_MAX;
        assert!(
            stats.shards.iter().all(within),
            "the page cache is within its budget"
        );
    }

    async fn compare_everything(&self) {
        let mut rows = self.db.scan(..);
        for (key, value) in &self.model {
            let (found_key, found_value) = rows.try_next().await.unwrap().expect("a missing row");
            assert_eq!(found_key, key);
            assert!(found_value == value, "the value of {}", key.escape_ascii());
        }
        assert_eq!(rows.try_next().await.unwrap(), None, "a row too many");
    }
}

/// The least memory that a shard works with.
const SHARD_BYTES: usize = 256 << 10;

/// What the page cache of such a shard may hold: a page has at least four entries, so the longest
/// keys make one of more than 256 KiB, which is kept although it is more than the cache's share.
/// Four of them: on the way from the root to a leaf, pages in use are not evicted.
const CACHE_BYTES_MAX: u64 = 4 * (320 << 10);

fn builder(path: &Path, shards: usize) -> Builder {
    Database::builder(path)
        .memory_budget(shards * SHARD_BYTES)
        .durability(Durability::Relaxed)
}

fn rows_within<'a>(model: &'a Map, bounds: &Bounds) -> Vec<(&'a Vec<u8>, &'a Vec<u8>)> {
    let within = |row: &(&Vec<u8>, &Vec<u8>)| is_within(bounds, row.0);
    model.iter().filter(within).collect()
}

fn ends_before_it_starts(bounds: &Bounds) -> bool {
    let key = |bound: &Bound<Vec<u8>>| match bound {
        Bound::Included(key) | Bound::Excluded(key) => Some(key.clone()),
        Bound::Unbounded => None,
    };
    let (from, to) = (key(&bounds.0), key(&bounds.1));
    to.is_some() && to < from
}

fn is_within((from, to): &Bounds, key: &[u8]) -> bool {
    let above = match from {
        Bound::Included(from) => key >= from.as_slice(),
        Bound::Excluded(from) => key > from.as_slice(),
        Bound::Unbounded => true,
    };
    above
        && match to {
            Bound::Included(to) => key <= to.as_slice(),
            Bound::Excluded(to) => key < to.as_slice(),
            Bound::Unbounded => true,
        }
}

/// The keys that begin with a prefix, computed another way than the library does.
fn prefix_bounds(prefix: Vec<u8>) -> Bounds {
    let mut end = prefix.clone();
    while end.last() == Some(&0xFF) {
        end.pop();
    }
    let to = match end.last_mut() {
        Some(last) => {
            *last += 1;
            Bound::Excluded(end)
        }
        None => Bound::Unbounded,
    };
    (Bound::Included(prefix), to)
}

fn compare(seed: u64, shards: usize) {
    let directory = scratch();
    let path = directory.path().join("db");
    run(&format!("seed {seed}"), async move {
        let db = builder(&path, shards)
            .shards(shards)
            .create()
            .await
            .unwrap();
        let mut run = Run {
            random: Random::new(seed),
            model: Map::new(),
            db,
            shards,
            flushes: 0,
            misses: 0,
        };
        for step in 0..STEPS {
            let done = AssertUnwindSafe(run.step()).catch_unwind().await;
            assert!(
                done.is_ok(),
                "seed {seed}, step {step}: see the panic above"
            );
            if run.random.chance(STEPS_PER_OPEN) {
                run.reopen(&path).await;
            }
        }
        run.verify().await;
        run.reopen(&path).await;
        run.compare_everything().await;
        assert!(run.flushes > 20, "seed {seed}: {} flushes", run.flushes);
        assert!(run.misses > 200, "seed {seed}: {} misses", run.misses);
        run.db.close().await.unwrap();
    });
}

#[test]
fn one_shard_does_what_a_map_does() {
    compare(1, 1);
}

#[test]
fn two_shards_do_what_a_map_does() {
    compare(2, 2);
}

#[test]
fn five_shards_do_what_a_map_does() {
    compare(3, 5);
}
