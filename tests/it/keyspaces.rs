//! Keyspaces: made, found, listed and dropped by name, and apart from each other.

use std::ops::Bound;
use std::path::Path;

use futures_executor::block_on;
use futures_util::TryStreamExt;
use futures_util::future::join_all;
use lightning_db::{
    Batch, Builder, DEFAULT_KEYSPACE_NAME, Database, ErrorKind, Keyspace, KeyspaceInfo,
    KeyspaceOptions,
};

use crate::scratch;
use crate::support::{crash_image, run};

const SHARDS: usize = 3;

fn small(path: &Path) -> Builder {
    Database::builder(path)
        .shards(SHARDS)
        .memory_budget(SHARDS * (256 << 10))
}

async fn create(db: &Database, name: &str) -> Keyspace {
    let created = db.create_keyspace(name, KeyspaceOptions::new());
    created.await.unwrap()
}

async fn names(db: &Database) -> Vec<String> {
    let infos = db.keyspaces().await.unwrap().into_iter();
    infos.map(|info| info.name).collect()
}

async fn value(keyspace: &Keyspace, key: &str) -> Option<Vec<u8>> {
    keyspace.get(key).await.unwrap().map(|value| value.to_vec())
}

/// Waits for a deletion in the background.
async fn wait_until_entries(db: &Database, expected: u64) {
    while db.verify().await.unwrap().entries != expected {
        std::thread::yield_now();
    }
}

#[test]
fn keyspaces_are_apart_and_stay_so() {
    let directory = scratch();
    let path = directory.path().join("db");
    run("two keyspaces and the default one", async move {
        let db = small(&path).create().await.unwrap();
        let (users, orders) = (create(&db, "users").await, create(&db, "orders").await);
        db.put("k", "default").await.unwrap();
        users.put("k", "user").await.unwrap();
        orders.put("k", "order").await.unwrap();
        let mut batch = Batch::new();
        batch
            .put_in(&users, "l", "one more")
            .delete_in(&orders, "k")
            .put("m", "");
        db.write(batch).await.unwrap();
        check_apart(&db, &users, &orders).await;
        db.flush().await.unwrap();
        check_apart(&db, &users, &orders).await;
        db.close().await.unwrap();

        let db = Database::open(&path).await.unwrap();
        let users = db.keyspace("users").await.unwrap();
        let orders = db.keyspace("orders").await.unwrap();
        check_apart(&db, &users, &orders).await;
        assert_eq!(users.name(), "users");
        assert_eq!(format!("{orders:?}"), "Keyspace(\"orders\")");
        db.close().await.unwrap();
        assert_eq!(users.get("k").await.unwrap_err().kind(), ErrorKind::Closed);
    });
}

async fn check_apart(db: &Database, users: &Keyspace, orders: &Keyspace) {
    let default = db.keyspace(DEFAULT_KEYSPACE_NAME).await.unwrap();
    assert_eq!(value(&default, "k").await.unwrap(), b"default");
    assert_eq!(value(users, "k").await.unwrap(), b"user");
    assert_eq!(value(orders, "k").await, None);
    let rows: Vec<_> = users.scan(..).try_collect().await.unwrap();
    let expected = [("k".into(), "user".into()), ("l".into(), "one more".into())];
    assert_eq!(rows, expected);
    let in_reverse: Vec<_> = users.scan_prefix("").reverse().try_collect().await.unwrap();
    assert_eq!(in_reverse, [expected[1].clone(), expected[0].clone()]);
    // Neither the others nor the catalogue are in the way, at either end.
    let everything = (Bound::<&[u8]>::Unbounded, Bound::Unbounded);
    assert_eq!(db.count(everything).await.unwrap(), 2);
    assert_eq!(orders.count(..).await.unwrap(), 0);
    assert_eq!(db.first(..).await.unwrap().unwrap().0, "k");
    assert_eq!(db.last(..).await.unwrap().unwrap().0, "m");
    assert_eq!(orders.first(..).await.unwrap(), None);
    assert_eq!(orders.last(..).await.unwrap(), None);
    assert!(users.exists("l").await.unwrap() && !db.exists("l").await.unwrap());
    let many = users.get_many(["l", "m", "k"]).await.unwrap();
    let many: Vec<_> = many.iter().map(Option::is_some).collect();
    assert_eq!(many, [true, false, true]);
}

#[test]
fn read_modify_write_and_deletions_stay_in_their_keyspace() {
    let directory = scratch();
    let path = directory.path().join("db");
    run("updates in a keyspace", async move {
        let db = small(&path).create().await.unwrap();
        let users = create(&db, "users").await;
        db.put("k", "default").await.unwrap();
        let seen = users.update("k", |found| {
            assert_eq!(found, None);
            Some(b"one".to_vec())
        });
        assert_eq!(seen.await.unwrap().as_deref(), Some(&b"one"[..]));
        let swapped = users.compare_and_swap("k", Some(b"one"), Some(b"two"));
        assert_eq!(swapped.await.unwrap(), Ok(()));
        let refused = users.compare_and_swap("k", Some(b"default"), None);
        assert!(refused.await.unwrap().is_err());
        users.put("l", "").await.unwrap();
        users.delete_many(["k", "m"]).await.unwrap();
        assert_eq!(users.count(..).await.unwrap(), 1);
        users.delete("l").await.unwrap();
        // What was deleted counts until it is merged.
        db.compact().await.unwrap();
        assert_eq!(users.estimate(..).await.unwrap().entries, 0);
        assert_eq!(db.get("k").await.unwrap().as_deref(), Some(&b"default"[..]));
        db.close().await.unwrap();
    });
}

#[test]
fn names_are_checked_and_told_apart() {
    let directory = scratch();
    let path = directory.path().join("db");
    run("names", async move {
        let db = small(&path).create().await.unwrap();
        let options = KeyspaceOptions::new;
        assert_eq!(names(&db).await, ["default"]);
        let long = "n".repeat(129);
        for name in ["", "a\nb", "\0", &long] {
            let refused = [
                db.create_keyspace(name, options()).await.unwrap_err(),
                db.keyspace(name).await.unwrap_err(),
                db.keyspace_or_create(name, options()).await.unwrap_err(),
                db.drop_keyspace(name).await.unwrap_err(),
            ];
            assert!(
                refused
                    .iter()
                    .all(|error| error.kind() == ErrorKind::Invalid)
            );
        }
        for name in ["users", "Users", "users ", "ü", &long[1..]] {
            let missing = db.keyspace(name).await.unwrap_err();
            assert_eq!(missing.kind(), ErrorKind::NotFound);
            assert!(missing.to_string().contains(name), "{missing}");
            create(&db, name).await.put("k", name).await.unwrap();
            let twice = db.create_keyspace(name, options()).await.unwrap_err();
            assert_eq!(twice.kind(), ErrorKind::AlreadyExists);
            assert!(twice.to_string().contains(name), "{twice}");
        }
        for name in ["users", "Users", "users ", "ü", &long[1..]] {
            let keyspace = db.keyspace_or_create(name, options()).await.unwrap();
            assert_eq!(value(&keyspace, "k").await.unwrap(), name.as_bytes());
        }
        let default = db.create_keyspace("default", options()).await.unwrap_err();
        assert_eq!(default.kind(), ErrorKind::AlreadyExists);
        let default = db.drop_keyspace("default").await.unwrap_err();
        assert_eq!(default.kind(), ErrorKind::Invalid);
        let listed = ["default", "Users", &long[1..], "users", "users ", "ü"];
        assert_eq!(names(&db).await, listed);
        let infos: Vec<KeyspaceInfo> = db.keyspaces().await.unwrap();
        let mut ids: Vec<_> = infos.iter().map(|info| info.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), infos.len());
        assert_eq!(db.keyspace("ü").await.unwrap().info(), infos[5]);
        db.close().await.unwrap();
    });
}

#[test]
fn of_several_who_create_one_name_one_succeeds() {
    let directory = scratch();
    let path = directory.path().join("db");
    run("creations at once", async move {
        let db = small(&path).create().await.unwrap();
        for round in 0..10 {
            let name = format!("round {round}");
            let creations = (0..8).map(|_| db.create_keyspace(&name, KeyspaceOptions::new()));
            let outcomes = join_all(creations).await;
            let refused = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
            let refused: Vec<_> = refused.map(lightning_db::Error::kind).collect();
            assert_eq!(refused, [ErrorKind::AlreadyExists; 7]);
            let either = (0..8).map(|_| db.keyspace_or_create(&name, KeyspaceOptions::new()));
            let handles = join_all(either).await;
            let created = outcomes.into_iter().flatten().next().unwrap();
            for handle in handles {
                assert_eq!(handle.unwrap().info(), created.info());
            }
        }
        db.close().await.unwrap();
    });
}

#[test]
fn a_batch_is_for_one_database() {
    let directory = scratch();
    let (one, other) = (directory.path().join("one"), directory.path().join("other"));
    run("a batch of another database", async move {
        let one = small(&one).create().await.unwrap();
        let other = small(&other).create().await.unwrap();
        let (here, there) = (create(&one, "k").await, create(&other, "k").await);
        let mut batch = Batch::new();
        batch.put_in(&here, "key", "value");
        let refused = other.write(batch.clone()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        batch.put_in(&there, "key", "value");
        let refused = one.write(batch).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        assert_eq!(
            here.count(..).await.unwrap() + there.count(..).await.unwrap(),
            0
        );
        one.close().await.unwrap();
        other.close().await.unwrap();
    });
}

#[test]
fn a_dropped_keyspace_is_gone_for_everybody_and_for_good() {
    let directory = scratch();
    let path = directory.path().join("db");
    run("a drop", async move {
        let db = small(&path).create().await.unwrap();
        let users = create(&db, "users").await;
        fill(&users, 3_000).await;
        db.put("stays", "").await.unwrap();
        let mut scan = users.scan(..);
        assert!(scan.try_next().await.unwrap().is_some());
        let clone = users.clone();
        db.drop_keyspace("users").await.unwrap();
        for handle in [&users, &clone] {
            check_dropped(&db, handle).await;
        }
        // What it had at hand it may still give.
        let ended = loop {
            match scan.try_next().await {
                Ok(Some(_)) => {}
                ended => break ended,
            }
        };
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Dropped);
        let missing = db.drop_keyspace("users").await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);

        let again = create(&db, "users").await;
        assert_ne!(again.info().id, users.info().id);
        assert_eq!(again.count(..).await.unwrap(), 0);
        again.put("row-00001", "new").await.unwrap();
        check_dropped(&db, &users).await;
        assert_eq!(value(&again, "row-00001").await.unwrap(), b"new");
        // The row, the key that stays, the record and the count of numbers.
        assert_eq!(db.verify().await.unwrap().entries, 4);
        db.close().await.unwrap();

        let db = Database::open(&path).await.unwrap();
        assert_eq!(names(&db).await, ["default", "users"]);
        let users = db.keyspace("users").await.unwrap();
        assert_eq!(users.count(..).await.unwrap(), 1);
        db.close().await.unwrap();
    });
}

async fn fill(keyspace: &Keyspace, rows: usize) {
    let rows: Vec<_> = (0..rows).map(|row| format!("row-{row:05}")).collect();
    for rows in rows.chunks(500) {
        let puts = rows.iter().map(|row| keyspace.put(row, [7; 100]));
        for put in join_all(puts).await {
            put.unwrap();
        }
    }
}

async fn check_dropped(db: &Database, handle: &Keyspace) {
    let mut batch = Batch::new();
    batch.put("beside", "").put_in(handle, "k", "v");
    let refused = [
        handle.get("row-00001").await.err(),
        handle.exists("row-00001").await.err(),
        handle.get_many(["row-00001", "x"]).await.err(),
        handle.put("k", "v").await.err(),
        handle.delete("k").await.err(),
        handle.delete_many(["k"]).await.err(),
        handle.delete_range(..).await.err(),
        handle.update("k", |_| Some(Vec::new())).await.err(),
        handle.compare_and_swap("k", None, None).await.err(),
        handle.scan(..).try_next().await.err(),
        handle.first(..).await.err(),
        handle.last(..).await.err(),
        handle.count(..).await.err(),
        handle.estimate(..).await.err(),
        db.write(batch).await.err(),
    ];
    for (call, refused) in refused.into_iter().enumerate() {
        let refused = refused.unwrap_or_else(|| panic!("call {call} went well"));
        assert_eq!(refused.kind(), ErrorKind::Dropped, "call {call}: {refused}");
        assert!(!refused.is_retryable() && !refused.is_maybe_committed());
    }
    // Between shards a batch is not atomic: what is beside may be there.
    db.delete("beside").await.unwrap();
}

#[test]
fn writers_of_a_keyspace_that_is_dropped_leave_nothing_behind() {
    let directory = scratch();
    let path = directory.path().join("db");
    run("a drop beside writers", async move {
        let db = small(&path).create().await.unwrap();
        for round in 0_u8..5 {
            let users = create(&db, "users").await;
            let writers: Vec<_> = (0..3)
                .map(|writer| {
                    let users = users.clone();
                    std::thread::spawn(move || {
                        block_on(async {
                            for number in 0.. {
                                let key = format!("{writer}-{number}");
                                if let Err(error) = users.put(key, [round; 300]).await {
                                    return (number, error.kind());
                                }
                            }
                            unreachable!("the keyspace is dropped some time")
                        })
                    })
                })
                .collect();
            while users.count(..).await.unwrap() < 200 {
                std::thread::yield_now();
            }
            db.drop_keyspace("users").await.unwrap();
            for writer in writers {
                let (_, kind) = writer.join().unwrap();
                assert_eq!(kind, ErrorKind::Dropped);
            }
            // The count of numbers is all that is left.
            assert_eq!(db.verify().await.unwrap().entries, 1);
        }
        db.close().await.unwrap();
    });
}

#[test]
fn a_drop_whose_caller_left_goes_on() {
    let directory = scratch();
    let path = directory.path().join("db");
    run("a drop without a caller", async move {
        let db = small(&path).create().await.unwrap();
        let users = create(&db, "users").await;
        fill(&users, 2_000).await;
        let mut dropping = Box::pin(db.drop_keyspace("users"));
        assert!(futures_util::poll!(&mut dropping).is_pending());
        drop(dropping);
        wait_until_entries(&db, 1).await;
        assert_eq!(names(&db).await, ["default"]);
        db.close().await.unwrap();
    });
}

#[test]
fn a_drop_that_a_crash_cut_short_is_finished_at_the_next_open() {
    let directory = scratch();
    let (path, image) = (directory.path().join("db"), directory.path().join("image"));
    run("a drop and a crash", async move {
        let db = small(&path).create().await.unwrap();
        let users = create(&db, "users").await;
        fill(&users, 2_000).await;
        db.put("stays", "").await.unwrap();
        // Closing ends the deletion after its piece.
        let mut dropping = Box::pin(db.drop_keyspace("users"));
        assert!(futures_util::poll!(&mut dropping).is_pending());
        while users.get("row-00001").await.is_ok() {
            std::thread::yield_now();
        }
        db.close().await.unwrap();
        drop(dropping.await);
        crash_image(&path, &image);
        for path in [path, image] {
            let db = Database::open(&path).await.unwrap();
            assert_eq!(names(&db).await, ["default"]);
            let again = create(&db, "users").await;
            assert_eq!(again.count(..).await.unwrap(), 0);
            // The key that stays, the record and the count of numbers.
            wait_until_entries(&db, 3).await;
            db.close().await.unwrap();
        }
    });
}

#[test]
fn a_range_is_deleted_and_its_keys_are_counted() {
    let directory = scratch();
    let path = directory.path().join("db");
    run("deleted ranges", async move {
        let db = small(&path).create().await.unwrap();
        let users = create(&db, "users").await;
        fill(&users, 5_000).await;
        db.put("row-00001", "default").await.unwrap();
        assert_eq!(
            users.delete_range("row-01000".."row-01500").await.unwrap(),
            500
        );
        assert_eq!(
            users.delete_range("row-01000"..="row-01500").await.unwrap(),
            1
        );
        assert_eq!(users.delete_range("x"..).await.unwrap(), 0);
        assert_eq!(users.delete_range("x".."x").await.unwrap(), 0);
        let refused = users.delete_range("y".."x").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        assert_eq!(users.count(..).await.unwrap(), 4_499);
        db.flush().await.unwrap();
        // More than a piece on each shard, in the tree and in memory.
        assert_eq!(users.delete_range("row-00000"..).await.unwrap(), 4_499);
        assert_eq!(users.count(..).await.unwrap(), 0);
        assert_eq!(db.delete_range(..).await.unwrap(), 1);
        assert_eq!(users.delete_range(..).await.unwrap(), 0);
        users.put("k", "v").await.unwrap();
        // The key, the record and the count of numbers.
        assert_eq!(db.verify().await.unwrap().entries, 3);
        db.close().await.unwrap();
    });
}
