//! Read-modify-write: nothing is lost between a look and a write, whoever else is at it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use futures_executor::block_on;
use futures_util::future::join_all;
use futures_util::poll;
use lightning_db::{Batch, Builder, Change, Database, Durability, ErrorKind, VALUE_BYTES_MAX};

use crate::scratch;
use crate::support::run;

const SHARDS: usize = 2;
/// A value that lies outside of the tree's pages, and is read from disk each time.
const LARGE_BYTES: usize = 6_000;

fn small(directory: &tempfile::TempDir) -> Builder {
    Database::builder(directory.path().join("db"))
        .shards(SHARDS)
        .memory_budget(SHARDS * (256 << 10))
}

fn number(value: Option<&[u8]>) -> u64 {
    value.map_or(0, |value| {
        u64::from_le_bytes(value[..8].try_into().unwrap())
    })
}

fn one_more(value: Option<&[u8]>) -> Change {
    Change::Put(one_more_of(number(value)))
}

fn one_more_of(number: u64) -> Vec<u8> {
    let mut value = (number + 1).to_le_bytes().to_vec();
    value.resize(LARGE_BYTES, 0);
    value
}

/// Rows that take many times the memory of the database.
async fn fill(db: &Database, round: u8) {
    for rows in (0..4_000_u32).collect::<Vec<_>>().chunks(100) {
        let mut batch = Batch::new();
        for row in rows {
            batch.put(format!("row-{row:05}"), vec![round; 400]);
        }
        db.write_with(batch, Durability::Relaxed).await.unwrap();
    }
}

#[test]
fn an_update_keeps_puts_or_deletes() {
    let directory = scratch();
    let builder = small(&directory);
    run("updates", async move {
        let db = builder.create().await.unwrap();
        let put = db.update("k", |value| {
            assert_eq!(value, None);
            Change::Put(b"one".to_vec())
        });
        assert_eq!(put.await.unwrap().as_deref(), Some(&b"one"[..]));
        let kept = db.update("k", |value| {
            assert_eq!(value, Some(&b"one"[..]));
            Change::Keep
        });
        assert_eq!(kept.await.unwrap().as_deref(), Some(&b"one"[..]));
        let deleted = db.update("k", |_| None);
        assert_eq!(deleted.await.unwrap(), None);
        assert_eq!(db.get("k").await.unwrap(), None);
        let before = db.stats().await.unwrap().total(|shard| shard.wal_commits);
        assert_eq!(db.update("k", |_| Change::Delete).await.unwrap(), None);
        assert_eq!(db.update("k", |_| Change::Keep).await.unwrap(), None);
        let after = db.stats().await.unwrap().total(|shard| shard.wal_commits);
        assert_eq!(before, after, "what changes nothing is not written");
        db.close().await.unwrap();
    });
}

#[test]
fn a_swap_happens_only_on_the_expected_value() {
    let directory = scratch();
    let builder = small(&directory);
    run("swaps", async move {
        let db = builder.create().await.unwrap();
        let found = |swapped: Result<(), lightning_db::Mismatch>| swapped.unwrap_err().found;
        let swapped = db.compare_and_swap("k", Some(b"x"), Some(b"y")).await;
        assert_eq!(found(swapped.unwrap()), None);
        let swapped = db.compare_and_swap("k", None, Some(b"y")).await.unwrap();
        assert_eq!(swapped, Ok(()));
        for expected in [None, Some(&b"x"[..]), Some(b""), Some(b"yy")] {
            let swapped = db.compare_and_swap("k", expected, None).await.unwrap();
            assert_eq!(found(swapped).as_deref(), Some(&b"y"[..]));
        }
        let swapped = db
            .compare_and_swap("k", Some(b"y"), Some(b"y"))
            .await
            .unwrap();
        assert_eq!(swapped, Ok(()));
        let swapped = db
            .compare_and_swap("k", Some(b"y"), Some(b""))
            .await
            .unwrap();
        assert_eq!(swapped, Ok(()));
        let swapped = db.compare_and_swap("k", Some(b""), None).await.unwrap();
        assert_eq!(swapped, Ok(()));
        let swapped = db.compare_and_swap("k", None, None).await.unwrap();
        assert_eq!(swapped, Ok(()));
        assert!(!db.exists("k").await.unwrap());
        let long = vec![0; VALUE_BYTES_MAX + 1];
        let refused = db
            .compare_and_swap("k", None, Some(&long))
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        let refused = db.compare_and_swap("", None, None).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        db.close().await.unwrap();
    });
}

#[test]
fn a_panic_in_a_function_is_its_callers_alone() {
    let directory = scratch();
    let builder = small(&directory);
    run("a function that panics", async move {
        let db = builder.create().await.unwrap();
        db.put("k", "v").await.unwrap();
        let panics = |_: Option<&[u8]>| -> Change { panic!("no such unit: {}", 7) };
        let error = db.update("k", panics).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panicked);
        assert!(error.to_string().contains("no such unit: 7"), "{error}");
        assert!(!error.is_retryable() && !error.is_maybe_committed());
        let long = |_: Option<&[u8]>| Change::Put(vec![0; VALUE_BYTES_MAX + 1]);
        let error = db.update("k", long).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(db.get("k").await.unwrap().as_deref(), Some(&b"v"[..]));
        // From disk as well, with the shard as good as before.
        db.flush().await.unwrap();
        fill(&db, 1).await;
        db.flush().await.unwrap();
        let error = db.update("k", panics).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panicked);
        db.put("k", "w").await.unwrap();
        assert_eq!(db.get("k").await.unwrap().as_deref(), Some(&b"w"[..]));
        db.close().await.unwrap();
    });
}

#[test]
fn an_update_whose_caller_left_is_made_all_the_same() {
    let directory = scratch();
    let builder = small(&directory);
    run("a caller that leaves", async move {
        let db = builder.create().await.unwrap();
        db.put("k", one_more_of(0)).await.unwrap();
        for in_memory in [true, false] {
            if !in_memory {
                db.flush().await.unwrap();
                fill(&db, 1).await;
                db.flush().await.unwrap();
            }
            let before = number(db.get("k").await.unwrap().as_deref());
            let mut update = Box::pin(db.update("k", one_more));
            assert!(poll!(update.as_mut()).is_pending());
            drop(update);
            while number(db.get("k").await.unwrap().as_deref()) == before {}
        }
        assert_eq!(number(db.get("k").await.unwrap().as_deref()), 3);
        db.close().await.unwrap();
    });
}

#[test]
fn counters_lose_nothing_while_their_values_come_from_disk() {
    let directory = scratch();
    let builder = small(&directory);
    let path = directory.path().join("db");
    run("counters beside a writer", async move {
        let db = builder.create().await.unwrap();
        // They are large, so each has to be read from disk once a flush has moved it there.
        let counters: Vec<_> = (0..40)
            .map(|n| format!("row-{:05}-counter", n * 100))
            .collect();
        let (done, calls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let writers = (0..4).map(|_| {
            let (db, counters) = (db.clone(), counters.clone());
            let (done, calls) = (Arc::clone(&done), Arc::clone(&calls));
            thread::spawn(move || {
                for round in 0..25 {
                    let updates = counters.iter().map(|key| {
                        let calls = Arc::clone(&calls);
                        let durability = [Durability::Sync, Durability::Relaxed][round % 2];
                        db.update_with(key, durability, move |value| {
                            calls.fetch_add(1, Ordering::Relaxed);
                            one_more(value)
                        })
                    });
                    for updated in block_on(join_all(updates)) {
                        assert!(number(updated.unwrap().as_deref()) > 0);
                    }
                }
                done.fetch_add(1, Ordering::Relaxed);
            })
        });
        let writers: Vec<_> = writers.collect();
        let mut round = 0;
        while done.load(Ordering::Relaxed) < writers.len() {
            fill(&db, round).await;
            round = round.wrapping_add(1);
        }
        for writer in writers {
            writer.join().unwrap();
        }
        assert_eq!(calls.load(Ordering::Relaxed), 4 * 25 * counters.len());
        let stats = db.stats().await.unwrap();
        assert!(
            stats.total(|shard| shard.gets_from_disk) > 0,
            "all were in memory"
        );
        db.close().await.unwrap();
        let db = Database::open(&path).await.unwrap();
        for key in &counters {
            assert_eq!(number(db.get(key).await.unwrap().as_deref()), 100, "{key}");
        }
        db.close().await.unwrap();
    });
}
