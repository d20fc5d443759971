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
    });
}
