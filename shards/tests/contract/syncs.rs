//! A sync that failed is never tried again: the shard is poisoned at once, and the others hear of
//! it.

use std::collections::BTreeMap;

use lightning_io::sim::{Script, SimEnv, SimPort, World};
use lightning_io::{IoErrorKind, IoOp};
use lightning_shards::{Error, Request, Result};

use crate::site::{Site, is_poisoned, small, world, world_on};

const SHARDS: usize = 2;

fn eio() -> IoErrorKind {
    IoErrorKind::Device {
        errno: Some(5),
        message: "planned".to_owned(),
    }
}

fn fail_next(world: &World, op: IoOp, path: &str, nth: u64, error: IoErrorKind) {
    world.add_script(Script {
        op,
        path: path.to_owned(),
        nth,
        error,
    });
}

#[test]
fn a_failed_sync_of_the_tree_poisons_at_once_and_is_not_made_again() {
    for error in [eio(), IoErrorKind::NoSpace] {
        let world = world(1);
        let site = Site::new(&world, SHARDS);
        world
            .run(async {
                let db = site.open(small()).await.unwrap();
                db.put("a", b"1").await.unwrap();
                let shard = db.shard_of("a");
                let tree = format!("{shard:03}/tree", shard = shard.0);
                let syncs = world.calls(IoOp::Sync, &tree);
                fail_next(&world, IoOp::Sync, &tree, 0, error);
                let flushed = db.client.flush().await;
                assert!(is_poisoned(&flushed), "{flushed:?}");
                assert!(is_poisoned(&db.put("a", b"2").await));
                // The news is on its way to the other shard for a moment.
                let other = db.keys_of(1 - shard.0, "k").next().unwrap();
                while db.put(&other, b"1").await.is_ok() {}
                assert!(is_poisoned(&db.put(&other, b"2").await));
                assert_eq!(db.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
                assert_eq!(world.calls(IoOp::Sync, &tree), syncs + 1);
                assert!(matches!(db.close().await, Err(Error::Poisoned { .. })));
            })
            .unwrap();
        let world = world_on(2, world.crash());
        let site = Site::new(&world, SHARDS);
        world
            .run(async {
                let db = site.open(small()).await.unwrap();
                assert_eq!(db.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
                db.put("a", b"2").await.unwrap();
                db.close().await.unwrap();
            })
            .unwrap();
    }
}

/// Whether an outcome is one that a failed sync or log write may have.
fn is_fail_stop(outcome: &Result<()>) -> bool {
    matches!(
        outcome,
        Ok(()) | Err(Error::Poisoned { .. } | Error::MaybeCommitted { .. })
    )
}

/// Writes through several memtables and segments; returns what was acknowledged.
async fn work(site: Site<SimEnv, SimPort<Request>>) -> (BTreeMap<String, Vec<u8>>, bool) {
    let db = site.open(small()).await.unwrap();
    let (mut acknowledged, mut poisoned) = (BTreeMap::new(), false);
    for number in 0..160_u8 {
        let (key, value) = (format!("key{}", number % 50), vec![number; 3000]);
        let written = db.put(&key, &value).await;
        assert!(is_fail_stop(&written), "{written:?}");
        // Once a shard has failed, none of its writes succeeds again.
        match written {
            Ok(()) => drop(acknowledged.insert(key, value)),
            Err(Error::MaybeCommitted { .. }) => {
                acknowledged.remove(&key);
                poisoned = true;
            }
            Err(_) => poisoned = true,
        }
    }
    let flushed = db.client.flush().await;
    assert!(is_fail_stop(&flushed), "{flushed:?}");
    poisoned |= flushed.is_err();
    let closed = db.close().await;
    assert!(is_fail_stop(&closed), "{closed:?}");
    (acknowledged, poisoned || closed.is_err())
}

async fn assert_holds(world: &World, acknowledged: &BTreeMap<String, Vec<u8>>) {
    let db = Site::new(world, SHARDS).open(small()).await.unwrap();
    for (key, value) in acknowledged {
        assert_eq!(db.get(key).await.unwrap().as_ref(), Some(value), "{key}");
    }
    db.put("new", b"1").await.unwrap();
    db.close().await.unwrap();
}

/// Runs the work with the n-th call of a kind failing, for every n; returns how many there are.
fn sweep(op: IoOp, path: &str) -> u64 {
    for nth in 0.. {
        let first = world(nth);
        let site = Site::new(&first, SHARDS);
        // Creation has its own test: what is counted are the calls after it.
        let created = first.run(async { site.open(small()).await.unwrap().close().await });
        created.unwrap().unwrap();
        let opening = {
            let world = world_on(nth, first.image());
            let site = Site::new(&world, SHARDS);
            let opened = world.run(async { site.open(small()).await.map(drop) });
            opened.unwrap().unwrap();
            world.calls(op, path)
        };
        let world = world_on(nth, first.shutdown());
        fail_next(&world, op, path, opening + nth, eio());
        let site = Site::new(&world, SHARDS);
        let (acknowledged, poisoned) = world.run(work(site)).unwrap();
        if world.faults_fired().is_empty() {
            return nth;
        }
        assert!(
            poisoned,
            "{op:?} {nth} of {path} failed and nobody heard of it"
        );
        let world = world_on(nth + 1000, world.crash());
        world.run(assert_holds(&world, &acknowledged)).unwrap();
    }
    unreachable!("the calls come to an end")
}

#[test]
fn every_failed_sync_after_opening_poisons() {
    let (trees, logs) = (sweep(IoOp::Sync, "tree"), sweep(IoOp::Sync, "wal-"));
    let directories = sweep(IoOp::SyncDir, "");
    assert!(trees > 3 && logs > 0 && directories > 0);
}

#[test]
fn every_failed_write_of_the_log_poisons() {
    assert!(sweep(IoOp::Write, "wal-") > 100);
}

#[test]
fn a_failed_sync_while_opening_fails_the_opening() {
    let first = world(7);
    let site = Site::new(&first, SHARDS);
    let acknowledged = first.run(async {
        let db = site.open(small()).await.unwrap();
        let mut acknowledged = BTreeMap::new();
        for number in 0..40_u8 {
            let (key, value) = (format!("key{number}"), vec![number; 3000]);
            db.put(&key, &value).await.unwrap();
            acknowledged.insert(key, value);
        }
        acknowledged
    });
    let (acknowledged, image) = (acknowledged.unwrap(), first.crash());
    for op in [IoOp::Sync, IoOp::SyncDir] {
        for nth in 0.. {
            let world = world_on(nth, image.clone());
            fail_next(&world, op, "", nth, eio());
            let site = Site::new(&world, SHARDS);
            let opened = world
                .run(async { site.open(small()).await.map(drop) })
                .unwrap();
            if world.faults_fired().is_empty() {
                assert!(opened.is_ok() && nth >= 2);
                break;
            }
            let failed = opened.expect_err("nothing is trusted that was not synced");
            assert!(
                matches!(&failed, Error::Io(error) if error.op() == op),
                "{failed}"
            );
            let world = world_on(nth + 1000, world.crash());
            world.run(assert_holds(&world, &acknowledged)).unwrap();
        }
    }
}
