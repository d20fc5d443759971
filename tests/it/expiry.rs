//! Values that expire, on real files and clocks.
//!
//! A test waits for what expires by asking until it is gone: how long that takes is no matter of
//! these tests.

use std::time::Duration;

use futures_util::TryStreamExt;
use lightning_db::{
    Batch, Builder, Database, ErrorKind, KeyspaceOptions, VALUE_BYTES_MAX, salvage,
};

use crate::scratch;
use crate::support::run;

/// Longer than any test takes.
const LONG: Duration = Duration::from_hours(24);
const SHORT: Duration = Duration::from_millis(5);
/// A value that lies outside of the tree's pages.
const LARGE_BYTES: usize = 20_000;

fn small(directory: &tempfile::TempDir) -> Builder {
    Database::builder(directory.path().join("db"))
        .shards(2)
        .memory_budget(2 * (256 << 10))
}

async fn wait_until_gone(db: &Database, key: &str) {
    while db.exists(key).await.unwrap() {
        std::thread::yield_now();
    }
}

#[test]
fn an_expired_value_is_gone_for_every_call() {
    let directory = scratch();
    let builder = small(&directory);
    run("values that expire", async move {
        let db = builder.create().await.unwrap();
        for (lasting, large) in [("a", false), ("b", true)] {
            let value = if large {
                vec![7; LARGE_BYTES]
            } else {
                b"v".to_vec()
            };
            db.put_with_ttl(lasting, &value, LONG).await.unwrap();
            assert_eq!(db.get(lasting).await.unwrap().as_deref(), Some(&value[..]));
            db.flush().await.unwrap();
            assert_eq!(db.get(lasting).await.unwrap().as_deref(), Some(&value[..]));
            assert_eq!(db.last(..).await.unwrap().unwrap().1, value);
        }
        assert_eq!(db.count(..).await.unwrap(), 2);
        for (key, flushed, large) in [
            ("memory", false, false),
            ("tree", true, false),
            ("large in memory", false, true),
            ("large", true, true),
        ] {
            let value = vec![9; if large { LARGE_BYTES } else { 10 }];
            // What is older must not come back.
            db.put(key, "older").await.unwrap();
            db.flush().await.unwrap();
            db.put_with_ttl(key, &value, SHORT).await.unwrap();
            if flushed {
                db.flush().await.unwrap();
            }
            wait_until_gone(&db, key).await;
            check_gone(&db, key).await;
            db.flush().await.unwrap();
            check_gone(&db, key).await;
        }
        assert_eq!(db.count(..).await.unwrap(), 2);
        db.close().await.unwrap();
    });
}

async fn check_gone(db: &Database, key: &str) {
    assert_eq!(db.get(key).await.unwrap(), None);
    assert!(!db.exists(key).await.unwrap());
    assert_eq!(db.get_many([key, "a"]).await.unwrap()[0], None);
    assert_eq!(db.count(key..=key).await.unwrap(), 0);
    assert_eq!(db.first(key..=key).await.unwrap(), None);
    assert_eq!(db.last(key..=key).await.unwrap(), None);
    let rows: Vec<_> = db.scan(key..=key).try_collect().await.unwrap();
    assert_eq!(rows, []);
    assert_eq!(db.delete_range(key..=key).await.unwrap(), 0);
    let swapped = db.compare_and_swap(key, Some(b"older"), Some(b"x")).await;
    assert_eq!(swapped.unwrap().unwrap_err().found, None);
    let seen = db.update(key, |found| {
        assert_eq!(found, None);
        lightning_db::Change::Keep
    });
    assert_eq!(seen.await.unwrap(), None);
}

#[test]
fn a_keyspace_may_have_a_time_to_live() {
    let directory = scratch();
    let builder = small(&directory);
    let path = directory.path().join("db");
    run("a keyspace whose values expire", async move {
        let db = builder.create().await.unwrap();
        let short = KeyspaceOptions::new().ttl(SHORT);
        let sessions = db.create_keyspace("sessions", short.clone()).await.unwrap();
        assert_eq!(sessions.info().options, short);
        sessions.put("put", "v").await.unwrap();
        sessions
            .update("update", |_| Some(b"v".to_vec()))
            .await
            .unwrap();
        let swapped = sessions.compare_and_swap("swap", None, Some(b"v")).await;
        assert_eq!(swapped.unwrap(), Ok(()));
        let mut batch = Batch::new();
        batch
            .put_in(&sessions, "batch", "v")
            .put_in_with_ttl(&sessions, "own", "v", LONG)
            .put("default", "v");
        db.write(batch).await.unwrap();
        sessions.put_with_ttl("long", "v", LONG).await.unwrap();
        while sessions.count(..).await.unwrap() > 2 {
            std::thread::yield_now();
        }
        let keys: Vec<_> = sessions
            .scan(..)
            .map_ok(|row| row.0)
            .try_collect()
            .await
            .unwrap();
        assert_eq!(keys, ["long", "own"]);
        assert!(db.exists("default").await.unwrap());
        db.close().await.unwrap();

        let db = Database::open(&path).await.unwrap();
        let sessions = db.keyspace("sessions").await.unwrap();
        assert_eq!(sessions.info().options, short);
        assert_eq!(sessions.count(..).await.unwrap(), 2);
        let other = KeyspaceOptions::new().ttl(LONG);
        for options in [KeyspaceOptions::new(), other] {
            let refused = db
                .keyspace_or_create("sessions", options)
                .await
                .unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        }
        assert!(db.keyspace_or_create("sessions", short).await.is_ok());
        db.close().await.unwrap();
    });
}

#[test]
fn times_to_live_out_of_their_bounds_are_refused() {
    let directory = scratch();
    let builder = small(&directory);
    run("bad times to live", async move {
        let db = builder.create().await.unwrap();
        for ttl in [Duration::ZERO, Duration::from_nanos(999), Duration::MAX] {
            let mut batch = Batch::new();
            let default = db.keyspace("default").await.unwrap();
            batch.put_in_with_ttl(&default, "k", "v", ttl);
            let options = KeyspaceOptions::new().ttl(ttl);
            let refused = [
                db.put_with_ttl("k", "v", ttl).await.unwrap_err(),
                db.write(batch).await.unwrap_err(),
                db.create_keyspace("k", options).await.unwrap_err(),
            ];
            assert!(
                refused
                    .iter()
                    .all(|error| error.kind() == ErrorKind::Invalid)
            );
        }
        let longest = vec![0; VALUE_BYTES_MAX];
        let refused = db.put_with_ttl("k", &longest, LONG).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        db.put_with_ttl("k", &longest[8..], LONG).await.unwrap();
        assert_eq!(
            db.get("k").await.unwrap().unwrap().len(),
            VALUE_BYTES_MAX - 8
        );
        db.delete("k").await.unwrap();
        assert_eq!(db.keyspaces().await.unwrap().len(), 1);
        db.close().await.unwrap();
    });
}

#[test]
fn a_salvage_copies_what_has_not_expired_and_when_it_will() {
    let directory = scratch();
    let builder = small(&directory);
    let (old, new) = (directory.path().join("db"), directory.path().join("new"));
    run("a salvage of values that expire", async move {
        let db = builder.create().await.unwrap();
        let options = KeyspaceOptions::new().ttl(LONG);
        let sessions = db.create_keyspace("sessions", options).await.unwrap();
        sessions.put("in the tree", "v").await.unwrap();
        db.put_with_ttl("large", vec![7; LARGE_BYTES], LONG)
            .await
            .unwrap();
        db.put_with_ttl("gone", "v", SHORT).await.unwrap();
        db.flush().await.unwrap();
        sessions.put("in the log", "v").await.unwrap();
        wait_until_gone(&db, "gone").await;
        db.close().await.unwrap();

        let report = salvage(&old, &new).await.unwrap();
        assert!(report.is_whole(), "{report:?}");
        let db = Database::open(&new).await.unwrap();
        let sessions = db.keyspace("sessions").await.unwrap();
        assert_eq!(sessions.count(..).await.unwrap(), 2);
        assert_eq!(
            db.get("large").await.unwrap().unwrap(),
            vec![7; LARGE_BYTES]
        );
        check_gone(&db, "gone").await;
        // Numbers go on where they were.
        let other = db
            .create_keyspace("other", KeyspaceOptions::new())
            .await
            .unwrap();
        assert!(other.info().id > sessions.info().id);
        db.close().await.unwrap();
    });
}
