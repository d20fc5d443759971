//! What is on disk when: copies of the files of an open database, taken as a crash would leave
//! them.
//!
//! A copy is taken while nobody writes, so that it is a state that a crash could leave: a copy of
//! changing files could mix moments. Processes killed while they write are `tests/crash.rs`.

use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{TryStreamExt, poll};
use lightning_db::{Batch, Database, Durability};

use crate::scratch;
use crate::support::{crash_image, run};

/// Copies the files of an open database, and reads what recovery makes of them.
async fn after_a_crash(path: &Path, number: usize) -> Vec<(Bytes, Bytes)> {
    let copy = path.with_file_name(format!("crash-{number}"));
    crash_image(path, &copy);
    let db = Database::open(&copy).await.unwrap();
    let rows = db.scan(..).try_collect().await.unwrap();
    db.flush().await.unwrap();
    assert_eq!(db.verify().await.unwrap().damages, []);
    db.close().await.unwrap();
    rows
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = scratch();
    let path = directory.path().join("db");
    (directory, path)
}

#[test]
fn what_was_acknowledged_as_durable_survives_a_crash() {
    let (_directory, path) = place();
    run("crash images of durable writes", async move {
        let db = Database::builder(&path).shards(2).create().await.unwrap();
        let mut expected = std::collections::BTreeMap::new();
        for round in 0..5_u8 {
            for number in 0..20_u8 {
                let key = format!("{round}-{number}");
                db.put(&key, [round, number]).await.unwrap();
                expected.insert(Bytes::from(key), Bytes::from(vec![round, number]));
            }
            let mut batch = Batch::new();
            batch
                .delete(format!("{round}-3"))
                .put("large", vec![round; 300_000]);
            db.write(batch).await.unwrap();
            expected.remove(format!("{round}-3").as_bytes());
            expected.insert("large".into(), vec![round; 300_000].into());
            // Rows only in the log, then in both, then in a log behind a flush.
            if round % 2 == 1 {
                db.flush().await.unwrap();
            }
            let found = after_a_crash(&path, usize::from(round)).await;
            assert!(expected.clone().into_iter().eq(found), "round {round}");
        }
        db.close().await.unwrap();
    });
}

#[test]
fn a_crash_during_recovery_changes_nothing() {
    let (_directory, path) = place();
    run("crash images of crash images", async move {
        let db = Database::builder(&path).shards(2).create().await.unwrap();
        for number in 0..50_u8 {
            db.put([number], [number; 50]).await.unwrap();
        }
        let mut image = path.with_file_name("first");
        crash_image(&path, &image);
        db.close().await.unwrap();
        for depth in 0..4 {
            // Recovered, opened, and lost again before anything was closed.
            let recovered = Database::open(&image).await.unwrap();
            let next = path.with_file_name(format!("depth-{depth}"));
            crash_image(&image, &next);
            recovered.close().await.unwrap();
            image = next;
        }
        let db = Database::open(&image).await.unwrap();
        let rows: Vec<_> = db.scan(..).try_collect().await.unwrap();
        let expected = (0..50_u8).map(|n| (vec![n].into(), vec![n; 50].into()));
        assert!(expected.eq(rows));
        db.close().await.unwrap();
    });
}

#[test]
fn relaxed_writes_reach_the_disk_by_themselves() {
    let (_directory, path) = place();
    run("waiting for relaxed writes", async move {
        let db = Database::builder(&path)
            .shards(2)
            .durability(Durability::Relaxed)
            .relaxed_interval(Duration::from_millis(5))
            .create()
            .await
            .unwrap();
        for number in 0..50_u8 {
            db.put([number], [number]).await.unwrap();
        }
        // Nobody asks for them to be written; how soon they are is the machine's affair.
        let mut looks = 0;
        loop {
            let found = after_a_crash(&path, looks).await;
            if found.len() == 50 {
                break;
            }
            looks += 1;
            assert!(looks < 200, "relaxed writes stay in memory");
        }
        db.close().await.unwrap();
    });
}

#[test]
fn a_durable_write_takes_the_relaxed_ones_before_it_along() {
    let (_directory, path) = place();
    run("relaxed and durable writes", async move {
        let db = Database::builder(&path)
            .shards(1)
            .durability(Durability::Relaxed)
            .relaxed_interval(Duration::from_hours(1))
            .create()
            .await
            .unwrap();
        for number in 0..50_u8 {
            db.put([number], [number]).await.unwrap();
        }
        // A crash now may lose the newest of them, and only those.
        let found = after_a_crash(&path, 0).await;
        let expected = (0..50_u8).map(|n| (Bytes::from(vec![n]), Bytes::from(vec![n])));
        assert!(expected.clone().take(found.len()).eq(found.iter().cloned()));
        let mut batch = Batch::new();
        batch.put([50], [50]);
        db.write_with(batch, Durability::Sync).await.unwrap();
        assert_eq!(after_a_crash(&path, 1).await.len(), 51);
        for number in 51..60_u8 {
            db.put([number], [number]).await.unwrap();
        }
        db.flush().await.unwrap();
        assert_eq!(after_a_crash(&path, 2).await.len(), 60);
        db.put([60], [60]).await.unwrap();
        db.close().await.unwrap();
        assert_eq!(after_a_crash(&path, 3).await.len(), 61);
    });
}

#[test]
fn what_a_reader_saw_of_durable_writes_survives_a_crash() {
    let (_directory, path) = place();
    run("reads beside durable writes", async move {
        let db = Database::builder(&path).shards(1).create().await.unwrap();
        for number in 0..100_usize {
            // The write is under way and nobody waits for its answer; the reader's answer is held
            // until what it shows is on disk.
            let write = db.put("key", number.to_string());
            let mut write = std::pin::pin!(write);
            if let Poll::Ready(written) = poll!(write.as_mut()) {
                // This thread lost its core, and the shard was faster.
                written.unwrap();
            }
            let seen = db.get("key").await.unwrap();
            if number % 10 == 9 {
                let found = after_a_crash(&path, number).await;
                assert_eq!(found.first().map(|(_, value)| value.clone()), seen);
            }
        }
        db.close().await.unwrap();
    });
}
