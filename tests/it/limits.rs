//! Arguments at their bounds and beyond them.
//!
//! A full disk is not made here: that needs a file system of its own, so privileges. The simulated
//! disk runs full in the tests of the shards.

use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt;
use lightning_db::{
    BATCH_BYTES_MAX, Batch, Database, Durability, Error, ErrorKind, KEY_BYTES_MAX, SHARDS_MAX,
    VALUE_BYTES_MAX,
};

use crate::scratch;
use crate::support::run;

#[track_caller]
fn invalid<T: std::fmt::Debug>(outcome: Result<T, Error>, text: &str) {
    let error = outcome.expect_err("an argument out of its bounds");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(!error.is_retryable() && !error.is_maybe_committed());
    let message = error.to_string();
    assert!(message.contains(text), "{message} does not say {text}");
}

fn with_database<F: Future<Output = ()> + Send>(
    use_it: impl FnOnce(Database) -> F + Send + 'static,
) {
    let directory = scratch();
    let path = directory.path().join("db");
    run("a use of a small database", async move {
        let db = Database::builder(&path).shards(2).create().await.unwrap();
        use_it(db.clone()).await;
        assert_eq!(db.verify().await.unwrap().damages, []);
        db.close().await.unwrap();
    });
}

#[test]
fn keys_have_one_byte_to_their_maximum() {
    with_database(|db| async move {
        for key in [vec![], vec![7; KEY_BYTES_MAX + 1]] {
            invalid(db.put(&key, "value").await, "key");
            invalid(db.get(&key).await, "key");
            invalid(db.delete(&key).await, "key");
            invalid(db.get_many([b"fine".to_vec(), key.clone()]).await, "key");
        }
        for key in [vec![0], vec![7; KEY_BYTES_MAX]] {
            db.put(&key, "value").await.unwrap();
            assert_eq!(db.get(&key).await.unwrap().as_deref(), Some(&b"value"[..]));
        }
        // Bounds of a scan are no keys: any bytes will do.
        let long = vec![7; KEY_BYTES_MAX + 1];
        let rows: Vec<_> = db.scan(long.clone()..).try_collect().await.unwrap();
        assert_eq!(rows, []);
        let rows: Vec<_> = db.scan(..long).try_collect().await.unwrap();
        assert_eq!(rows.len(), 2);
        let rows: Vec<_> = db.scan(""..).try_collect().await.unwrap();
        assert_eq!(rows.len(), 2);
    });
}

#[test]
fn values_have_nothing_to_their_maximum() {
    with_database(|db| async move {
        invalid(db.put("key", vec![0; VALUE_BYTES_MAX + 1]).await, "value");
        assert_eq!(db.get("key").await.unwrap(), None);
        db.put("empty", "").await.unwrap();
        db.put("long", vec![5; VALUE_BYTES_MAX]).await.unwrap();
        db.flush().await.unwrap();
        assert_eq!(db.get("empty").await.unwrap().as_deref(), Some(&[][..]));
        let long = db.get("long").await.unwrap().unwrap();
        assert!(long.len() == VALUE_BYTES_MAX && long.iter().all(|&byte| byte == 5));
    });
}

#[test]
fn of_a_batch_out_of_bounds_nothing_happens() {
    with_database(|db| async move {
        db.put("kept", "old").await.unwrap();
        let mut bad_key = Batch::new();
        bad_key
            .put("kept", "new")
            .put("", "value")
            .put("other", "value");
        invalid(db.write(bad_key).await, "key");
        let mut bad_delete = Batch::new();
        bad_delete.delete("kept").delete(vec![0; KEY_BYTES_MAX + 1]);
        invalid(db.write(bad_delete).await, "key");
        let mut bad_value = Batch::new();
        bad_value
            .put("kept", "new")
            .put("x", vec![0; VALUE_BYTES_MAX + 1]);
        invalid(db.write(bad_value).await, "value");
        let mut too_long = Batch::new();
        let value = vec![0; VALUE_BYTES_MAX];
        too_long.put("kept", "new");
        for number in 0..=BATCH_BYTES_MAX / VALUE_BYTES_MAX {
            too_long.put([u8::try_from(number).unwrap()], &value);
        }
        invalid(db.write(too_long).await, "batch");
        let rows: Vec<_> = db.scan(..).try_collect().await.unwrap();
        assert_eq!(rows, [("kept".into(), "old".into())]);
    });
}

#[test]
fn an_empty_batch_is_done_at_once() {
    with_database(|db| async move {
        let batch = Batch::new();
        assert!(batch.is_empty());
        db.write(batch).await.unwrap();
        assert_eq!(db.get_many([b""; 0]).await.unwrap(), []);
    });
}

#[test]
fn of_writes_to_one_key_in_a_batch_the_last_counts() {
    with_database(|db| async move {
        let mut batch = Batch::new();
        batch.put("a", "1").delete("a").put("a", "2");
        batch.put("b", "1").put("b", "2").delete("b");
        assert_eq!(batch.len(), 6);
        db.write(batch).await.unwrap();
        let rows: Vec<_> = db.scan(..).try_collect().await.unwrap();
        assert_eq!(rows, [("a".into(), "2".into())]);
    });
}

fn create_fails(path: &Path, builder: lightning_db::Builder, text: &str) {
    let text = text.to_owned();
    run("a creation that must fail", async move {
        invalid(builder.create().await, &text);
    });
    assert!(!path.exists(), "a refused creation leaves nothing behind");
}

#[test]
fn shard_counts_out_of_bounds_are_refused() {
    let directory = scratch();
    let path = directory.path().join("db");
    for shards in [0, usize::from(SHARDS_MAX) + 1, 100_000, usize::MAX] {
        create_fails(
            &path,
            Database::builder(&path).shards(shards),
            "number of shards",
        );
    }
}

#[test]
fn memory_below_the_least_is_refused_and_leaves_nothing_behind() {
    let directory = scratch();
    let path = directory.path().join("db");
    let builder = Database::builder(&path).shards(2);
    for bytes in [0, 2 * (256 << 10) - 1] {
        create_fails(&path, builder.clone().memory_budget(bytes), "memory budget");
    }
}

#[test]
fn a_scan_ends_at_its_limit() {
    with_database(|db| async move {
        let mut batch = Batch::new();
        for number in 0..1000_u32 {
            batch.put(format!("{number:04}"), "value");
        }
        db.write_with(batch, Durability::Relaxed).await.unwrap();
        for limit in [0, 1, 999, 1000, 1001, usize::MAX] {
            let rows: Vec<_> = db.scan(..).limit(limit).try_collect().await.unwrap();
            assert_eq!(rows.len(), limit.min(1000));
        }
        let nothing: Vec<_> = db.scan("2".."2").try_collect().await.unwrap();
        assert_eq!(nothing, []);
    });
}

#[test]
fn extreme_settings_work() {
    let directory = scratch();
    let path = directory.path().join("db");
    run("a database with extreme settings", async move {
        for (interval, spin) in [
            (Duration::ZERO, Duration::ZERO),
            (Duration::MAX, Duration::from_millis(1)),
        ] {
            let db = Database::builder(&path)
                .durability(Durability::Relaxed)
                .relaxed_interval(interval)
                .spin(spin)
                .open_or_create()
                .await
                .unwrap();
            db.put("key", "value").await.unwrap();
            db.close().await.unwrap();
            let db = Database::open(&path).await.unwrap();
            assert!(db.get("key").await.unwrap().is_some());
            db.delete("key").await.unwrap();
            db.close().await.unwrap();
        }
    });
}
