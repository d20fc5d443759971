//! Writing, reading, closing and opening again.

use futures_executor::block_on;
use futures_util::TryStreamExt;
use lightning_db::{Batch, Database, Durability, ErrorKind};

use crate::scratch;

#[test]
fn what_was_written_is_there_after_reopening() {
    let directory = scratch();
    let path = directory.path().join("db");
    block_on(async {
        let db = Database::builder(&path).shards(3).create().await.unwrap();
        for number in 0..1000_u32 {
            db.put(format!("key-{number:04}"), number.to_string())
                .await
                .unwrap();
        }
        db.delete("key-0500").await.unwrap();
        db.close().await.unwrap();

        let db = Database::open(&path).await.unwrap();
        assert_eq!(db.shard_count(), 3);
        assert_eq!(
            db.get("key-0007").await.unwrap().as_deref(),
            Some(&b"7"[..])
        );
        assert_eq!(db.get("key-0500").await.unwrap(), None);
        let rows: Vec<_> = db.scan(..).try_collect().await.unwrap();
        assert_eq!(rows.len(), 999);
        assert!(rows.is_sorted());
        let report = db.verify().await.unwrap();
        assert_eq!((report.entries, report.damages), (999, vec![]));
        db.close().await.unwrap();
    });
}

#[test]
fn relaxed_writes_are_there_after_closing() {
    let directory = scratch();
    let path = directory.path().join("db");
    block_on(async {
        let db = Database::builder(&path)
            .durability(Durability::Relaxed)
            .create()
            .await
            .unwrap();
        let mut batch = Batch::new();
        for number in 0..100_u32 {
            batch.put(number.to_le_bytes(), [1; 100]);
        }
        db.write(batch).await.unwrap();
        db.close().await.unwrap();
        let db = Database::open(&path).await.unwrap();
        let keys: Vec<_> = (0..100_u32).map(u32::to_le_bytes).collect();
        let values = db.get_many(&keys).await.unwrap();
        assert!(
            values
                .iter()
                .all(|value| value.as_deref() == Some(&[1; 100][..]))
        );
        db.close().await.unwrap();
    });
}

#[test]
fn a_closed_database_says_so() {
    let directory = scratch();
    block_on(async {
        let db = Database::create(directory.path().join("db")).await.unwrap();
        db.close().await.unwrap();
        db.close().await.unwrap();
        assert_eq!(db.get("key").await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(
            db.put("key", "value").await.unwrap_err().kind(),
            ErrorKind::Closed
        );
        let update = db.update("key", |_| Some(Vec::new())).await;
        assert_eq!(update.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(db.count(..).await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(db.first(..).await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(db.estimate(..).await.unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn deleting_many_keys_leaves_the_others() {
    let directory = scratch();
    block_on(async {
        let path = directory.path().join("db");
        let db = Database::builder(&path).shards(3).create().await.unwrap();
        for key in ["a", "b", "c", "d", "e"] {
            db.put(key, key).await.unwrap();
        }
        db.flush().await.unwrap();
        db.delete_many(["b", "d", "b", "never"]).await.unwrap();
        db.delete_many(Vec::<String>::new()).await.unwrap();
        let error = db.delete_many(["a", ""]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let rows: Vec<_> = db.scan(..).keys_only().try_collect().await.unwrap();
        let keys: Vec<_> = rows.iter().map(|row| row.0.as_ref()).collect();
        assert_eq!(keys, [b"a", b"c", b"e"]);
        assert_eq!(db.count(..).await.unwrap(), 3);
        assert_eq!(db.count("b"..="d").await.unwrap(), 1);
        assert_eq!(db.first("b"..).await.unwrap().unwrap().0, "c");
        assert_eq!(db.last(.."e").await.unwrap().unwrap().0, "c");
        assert_eq!(db.last("f"..).await.unwrap(), None);
        db.close().await.unwrap();
    });
}

#[test]
fn whether_a_key_exists_is_known_without_its_value() {
    let directory = scratch();
    block_on(async {
        let path = directory.path().join("db");
        let db = Database::builder(&path).shards(1).create().await.unwrap();
        db.put("large", vec![1; 1 << 20]).await.unwrap();
        db.put("empty", "").await.unwrap();
        db.flush().await.unwrap();
        // Brings the page into the cache; values of this size lie outside of pages.
        assert_eq!(db.get("large").await.unwrap().unwrap().len(), 1 << 20);
        let from_disk = async || {
            let stats = db.stats().await.unwrap();
            stats.total(|shard| shard.gets_from_disk)
        };
        let before = from_disk().await;
        assert!(db.exists("large").await.unwrap());
        assert!(db.exists("empty").await.unwrap());
        assert!(!db.exists("other").await.unwrap());
        assert_eq!(from_disk().await, before);
        assert!(db.get("large").await.unwrap().is_some());
        assert_eq!(from_disk().await, before + 1);
        db.delete("large").await.unwrap();
        assert!(!db.exists("large").await.unwrap());
        db.close().await.unwrap();
    });
}
