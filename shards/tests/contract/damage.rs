//! A damaged page is contained: it concerns the keys that it held, and the writes of its shard once
//! memory is full. Nothing is poisoned, other shards go on, and the database closes and opens.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use lightning_io::Env;
use lightning_io::sim::{Fault, FaultConfig, Image, Knob, PPM, World};
use lightning_shards::{Error, Result, ShardConfig};

use crate::site::{Running, Site, small, world, world_on};

const SHARDS: usize = 2;
const TREE: &str = "db/shard-000/tree";
const UNIT: usize = 4096;

type Content = BTreeMap<String, Vec<u8>>;

/// Settings with which a flush goes straight into the base.
fn straight() -> ShardConfig {
    ShardConfig { runs: 0, ..small() }
}

/// Where the leaves of a tree that was flushed once lie.
fn leaves(image: &Image) -> Vec<u64> {
    let bytes = image.read_file(Path::new(TREE)).unwrap();
    let leaf = |unit: &[u8]| &unit[4..8] == b"LDBP" && unit[9] == 0;
    let units = bytes.chunks(UNIT).enumerate();
    let leaves = units.filter(|(_, unit)| leaf(unit));
    leaves.map(|(number, _)| (number * UNIT) as u64).collect()
}

/// A closed database whose first shard has a tree of some leaves, and what it holds.
fn template() -> (Image, Content) {
    let world = world(1);
    let site = Site::new(&world, SHARDS);
    let content = world.run(async {
        let db = site.open(straight()).await.unwrap();
        let mut content = Content::new();
        for number in 0..150_u8 {
            let (key, value) = (format!("key{number:03}"), vec![number; 300]);
            db.put(&key, &value).await.unwrap();
            content.insert(key, value);
        }
        db.client.flush().await.unwrap();
        db.close().await.unwrap();
        content
    });
    let image = world.shutdown();
    assert!(leaves(&image).len() > 4);
    (image, content.unwrap())
}

fn names_the_place(error: &Error) -> bool {
    match error {
        Error::Corruption(found) => {
            found.place.shard.is_some_and(|shard| shard.0 == 0)
                && found.place.file.ends_with("tree")
                && found.keys.is_some()
                && error.to_string().contains("offset")
        }
        _ => false,
    }
}

/// Reads everything; returns the keys that cannot be read, each with the right error.
async fn unreadable(db: &Running, content: &Content) -> Vec<String> {
    let mut lost = Vec::new();
    for (key, value) in content {
        match db.get(key).await {
            Ok(found) => assert_eq!(found.as_ref(), Some(value), "{key}"),
            Err(error) => {
                assert!(names_the_place(&error), "{error}");
                lost.push(key.clone());
            }
        }
    }
    lost
}

/// Puts new keys to a shard until it refuses.
async fn fill(db: &Running, shard: u16, prefix: &str, content: &mut Content) -> (u64, Error) {
    for (count, key) in (0..).zip(db.keys_of(shard, prefix)) {
        let value = vec![7; 500];
        match db.put(&key, &value).await {
            Ok(()) => drop(content.insert(key, value)),
            Err(error) => return (count, error),
        }
        assert!(count < 10_000, "nothing was refused");
    }
    unreachable!("there are enough keys")
}

async fn flush_blocked(db: &Running) -> Vec<bool> {
    let stats = db.client.stats().await.unwrap();
    stats.iter().map(|shard| shard.flush_blocked).collect()
}

#[test]
fn a_flush_that_meets_a_damaged_page_keeps_the_shard_alive() {
    let (image, content) = template();
    for leaf in leaves(&image) {
        let mut content = content.clone();
        let world = world_on(2, image.clone());
        assert!(world.flip_bit(Path::new(TREE), leaf + 100, 3));
        let site = Site::new(&world, SHARDS);
        let (content, log_bytes) = world
            .run(async move {
                let db = site.open(straight()).await.unwrap();
                let lost = unreadable(&db, &content).await;
                assert!(!lost.is_empty() && lost.len() < content.len() / 2);

                // One of the lost keys gets a new value, which can be read.
                db.put(&lost[0], b"new").await.unwrap();
                content.insert(lost[0].clone(), b"new".to_vec());
                let flushed = db.client.flush().await;
                assert!(names_the_place(&flushed.unwrap_err()));
                let (count, refused) = fill(&db, 0, "more", &mut content).await;
                assert!(names_the_place(&refused), "{refused}");
                assert!(count > 100, "{count} writes fill two memtables");
                assert_eq!(flush_blocked(&db).await, [true, false]);
                for key in db.keys_of(1, "other").take(600) {
                    db.put(&key, &[8; 500]).await.unwrap();
                    content.insert(key, vec![8; 500]);
                }
                // Longer than three attempts at a flush.
                db.clients.sleep(Duration::from_mins(1)).await;
                let lost_now = unreadable(&db, &content).await;
                assert_eq!(lost_now, lost[1..]);
                let (count, refused) = fill(&db, 0, "late", &mut content).await;
                assert!(count == 0 && names_the_place(&refused), "{refused}");

                let reports = db.client.verify().await.unwrap();
                assert_eq!(reports[0].damages.len(), 1);
                assert_eq!(reports[1].damages, []);
                assert_eq!(reports[0].damages[0].place.offset, leaf);
                let log_bytes = db.client.stats().await.unwrap()[0].wal_bytes;
                db.close().await.unwrap();
                (content, log_bytes)
            })
            .unwrap();
        reopen(&world.shutdown(), content, log_bytes);
    }
}

/// Opens a database again and again whose log holds more than a memtable for the damaged page.
fn reopen(image: &Image, mut content: Content, log_bytes: u64) {
    let mut image = image.clone();
    for round in 0..4_usize {
        let world = world_on(10, image);
        let site = Site::new(&world, SHARDS);
        content = world
            .run(async move {
                let config = if round == 2 {
                    ShardConfig {
                        memory_bytes: 300 << 10,
                        ..straight()
                    }
                } else {
                    straight()
                };
                let db = site.open(config).await.unwrap();
                assert!(!unreadable(&db, &content).await.is_empty());
                let (count, refused) = fill(&db, 0, &format!("r{round}-"), &mut content).await;
                assert!(names_the_place(&refused), "{refused}");
                assert!(flush_blocked(&db).await[0]);
                // The first time there is room for a second memtable, later for none, but for what a
                // larger budget brings.
                assert!(
                    count <= [150, 1, 50, 0][round],
                    "round {round}: {count} writes"
                );
                assert_eq!(db.client.verify().await.unwrap()[0].damages.len(), 1);
                let stats = db.client.stats().await.unwrap();
                assert!(stats[0].memtable_bytes > stats[0].memtable_budget_bytes);
                assert!(stats[0].wal_bytes < 4 * log_bytes);
                if round % 2 == 0 {
                    db.close().await.unwrap();
                }
                content
            })
            .unwrap();
        image = world.crash();
    }
}

#[test]
fn a_page_that_was_misread_is_flushed_later() {
    let (image, mut content) = template();
    let world = world_on(3, image);
    let always = |fault| FaultConfig::default().with(fault, Knob::new(PPM, u64::MAX).only(TREE));
    let site = Site::new(&world, SHARDS);
    let run = async {
        let db = site.open(straight()).await.unwrap();
        for fault in [Fault::ReadError, Fault::MisdirectedRead, Fault::ShortRead] {
            for key in db.keys_of(0, "key").take(20) {
                db.put(&key, b"new").await.unwrap();
                content.insert(key, b"new".to_vec());
            }
            world.set_faults(always(fault));
            db.client.flush().await.unwrap_err();
            db.clients.sleep(Duration::from_secs(30)).await;
            assert_eq!(flush_blocked(&db).await, [true, false], "{fault:?}");
            world.set_faults(FaultConfig::default());
            let flushed: Result<()> = db.client.flush().await;
            flushed.unwrap();
            assert_eq!(flush_blocked(&db).await, [false, false]);
        }
        assert_eq!(unreadable(&db, &content).await, [""; 0]);
        assert_eq!(db.client.verify().await.unwrap()[0].damages, []);
        db.close().await.unwrap();
    };
    world.run(run).unwrap();
    drop(World::crash(world));
}

#[test]
fn a_merge_that_meets_a_damaged_page_holds_up_neither_flushes_nor_writes() {
    let (image, mut content) = template();
    let world = world_on(4, image.clone());
    let leaf = leaves(&image)[0];
    assert!(world.flip_bit(Path::new(TREE), leaf + 100, 3));
    let site = Site::new(&world, SHARDS);
    let run = async {
        let db = site.open(small()).await.unwrap();
        let lost = unreadable(&db, &content).await;
        // As much as several memtables hold, and one of the lost keys.
        for round in 0..8_u8 {
            let others = db.keys_of(0, "other").take(400);
            for key in others.chain([lost[0].clone()]) {
                db.put(&key, &[round; 500]).await.unwrap();
                content.insert(key, vec![round; 500]);
            }
            db.client.flush().await.unwrap();
        }
        db.clients.sleep(Duration::from_secs(30)).await;
        let stats = db.client.stats().await.unwrap();
        assert!(stats[0].merge_blocked && !stats[1].merge_blocked);
        assert!(!stats[0].flush_blocked && stats[0].runs > 0);
        assert!(names_the_place(&db.client.compact().await.unwrap_err()));
        // What was lost and is written again can be read, from the runs.
        assert_eq!(unreadable(&db, &content).await, lost[1..]);
        let damages = &db.client.verify().await.unwrap()[0].damages;
        assert_eq!(damages.len(), 1, "{damages:?}");
        db.close().await.unwrap();
    };
    world.run(run).unwrap();
    drop(World::crash(world));
}
