//! Merge operators: built in and one's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use futures_executor::block_on;
use futures_util::future::join_all;
use lightning_db::{
    ADD_U64, APPEND, Builder, Database, ErrorKind, KeyspaceOptions, MergeOperator, VALUE_BYTES_MAX,
};

use crate::scratch;
use crate::support::run;

fn small(directory: &tempfile::TempDir) -> Builder {
    Database::builder(directory.path().join("db"))
        .shards(2)
        .memory_budget(2 * (256 << 10))
}

fn with(operator: &str) -> KeyspaceOptions {
    KeyspaceOptions::new().merge_operator(operator)
}

/// Keeps the longer one, and has opinions.
struct Longest(Arc<AtomicUsize>);

impl MergeOperator for Longest {
    fn merge(
        &self,
        key: &[u8],
        existing: Option<&[u8]>,
        operand: &[u8],
    ) -> Result<Vec<u8>, String> {
        self.0.fetch_add(1, Ordering::Relaxed);
        assert_ne!(operand, b"panic", "asked to");
        if operand.is_empty() {
            return Err(format!("nothing for {}", key.escape_ascii()));
        }
        let existing = existing.unwrap_or_default();
        Ok(if existing.len() < operand.len() {
            operand
        } else {
            existing
        }
        .to_vec())
    }
}

#[test]
fn counters_that_several_threads_add_to_lose_nothing() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 200;
    let directory = scratch();
    let builder = small(&directory);
    let path = directory.path().join("db");
    run("counters", async move {
        let db = builder.create().await.unwrap();
        let counters = db.create_keyspace("counters", with(ADD_U64)).await.unwrap();
        let adding: Vec<_> = (0..THREADS)
            .map(|_| {
                let counters = counters.clone();
                thread::spawn(move || {
                    for round in 0..ROUNDS {
                        let keys = (0..8).map(|key| format!("counter {key}"));
                        let merges = keys.map(|key| counters.merge(key, round.to_le_bytes()));
                        for merged in block_on(join_all(merges)) {
                            merged.unwrap();
                        }
                    }
                })
            })
            .collect();
        while adding.iter().any(|thread| !thread.is_finished()) {
            // So that values come from disk as well.
            db.flush().await.unwrap();
        }
        for thread in adding {
            thread.join().unwrap();
        }
        db.close().await.unwrap();
        let db = Database::open(&path).await.unwrap();
        let counters = db.keyspace("counters").await.unwrap();
        let sum = THREADS * ROUNDS * (ROUNDS - 1) / 2;
        for key in 0..8 {
            let value = counters.get(format!("counter {key}")).await.unwrap();
            assert_eq!(value.as_deref(), Some(&sum.to_le_bytes()[..]));
        }
        db.close().await.unwrap();
    });
}

#[test]
fn what_cannot_be_merged_is_refused_to_its_caller_alone() {
    let directory = scratch();
    let builder = small(&directory);
    run("merges that are refused", async move {
        let calls = Arc::new(AtomicUsize::new(0));
        let builder = builder.merge_operator("longest", Longest(Arc::clone(&calls)));
        let db = builder.create().await.unwrap();
        let counters = db.create_keyspace("counters", with(ADD_U64)).await.unwrap();
        counters.merge("k", u64::MAX.to_le_bytes()).await.unwrap();
        for operand in [&1_u64.to_le_bytes()[..], b"1", b""] {
            let refused = counters.merge("k", operand).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        }
        let value = counters.get("k").await.unwrap();
        assert_eq!(value.as_deref(), Some(&u64::MAX.to_le_bytes()[..]));

        let texts = db.create_keyspace("texts", with(APPEND)).await.unwrap();
        texts.merge("k", "one ").await.unwrap();
        assert_eq!(texts.merge("k", "two").await.unwrap(), "one two");
        texts.put("long", vec![0; VALUE_BYTES_MAX]).await.unwrap();
        let refused = texts.merge("long", "x").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");

        let longest = db
            .create_keyspace("longest", with("longest"))
            .await
            .unwrap();
        longest.merge("k", "abc").await.unwrap();
        let refused = longest.merge("k", "").await.unwrap_err();
        assert!(refused.to_string().contains("nothing for k"), "{refused}");
        let panicked = longest.merge("k", "panic").await.unwrap_err();
        assert_eq!(panicked.kind(), ErrorKind::Panicked, "{panicked}");
        assert_eq!(longest.merge("k", "ab").await.unwrap(), "abc");
        assert_eq!(calls.load(Ordering::Relaxed), 4);

        let none = db.keyspace("default").await.unwrap();
        assert_eq!(
            none.merge("k", "v").await.unwrap_err().kind(),
            ErrorKind::Invalid
        );
        db.close().await.unwrap();
    });
}

#[test]
fn a_keyspace_needs_its_operator_to_be_opened() {
    let directory = scratch();
    let path = directory.path().join("db");
    let builder = small(&directory);
    run("a missing operator", async move {
        let open = |builder: Builder| builder.merge_operator("mine", Longest(Arc::default()));
        let db = builder.create().await.unwrap();
        let refused = db.create_keyspace("users", with("mine")).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        assert_eq!(db.keyspaces().await.unwrap().len(), 1);
        db.close().await.unwrap();
        let db = open(Database::builder(&path)).open().await.unwrap();
        let users = db.create_keyspace("users", with("mine")).await.unwrap();
        users.merge("k", "v").await.unwrap();
        db.close().await.unwrap();

        let db = Database::open(&path).await.unwrap();
        let refused = db.keyspace("users").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        let text = refused.to_string();
        assert!(
            text.contains("\"users\"") && text.contains("\"mine\""),
            "{text}"
        );
        // It is listed all the same, and can be dropped.
        let listed = &db.keyspaces().await.unwrap()[1];
        assert_eq!(listed.options.merge_operator.as_deref(), Some("mine"));
        db.drop_keyspace("users").await.unwrap();
        db.close().await.unwrap();
        let twice = open(open(Database::builder(&path)))
            .open()
            .await
            .unwrap_err();
        assert_eq!(twice.kind(), ErrorKind::Invalid, "{twice}");
    });
}
