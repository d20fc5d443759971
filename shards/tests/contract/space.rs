//! A full disk: writes are refused before they are acknowledged, deletions and reads go on as far as
//! the reserve reaches, and when space returns so do writes, without reopening.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use lightning_io::Env;
use lightning_io::sim::{CrashPoint, Fault, FaultConfig, Image, Knob, SimEnv, SimPort, World};
use lightning_shards::{Error, Request, ShardConfig};

use crate::site::{Running, Site, small, world, world_on};

/// Content as far as it is known; `None` for keys whose last write was not answered.
type Content = BTreeMap<String, Option<Vec<u8>>>;

fn config(reserve_bytes: u64) -> ShardConfig {
    ShardConfig {
        reserve_bytes,
        ..small()
    }
}

/// Three segments of the log: one for deletions, and as much again twice for the tree.
const RESERVE: u64 = 192 << 10;

async fn open(world: &World, reserve_bytes: u64) -> Running {
    open_with(world, config(reserve_bytes)).await
}

async fn open_with(world: &World, config: ShardConfig) -> Running {
    let site: Site<SimEnv, SimPort<Request>> = Site::new(world, 1);
    site.open(config).await.unwrap()
}

fn limit(world: &World, more: u64) {
    let used = world.image().used_bytes();
    world.set_capacity(Some(used + more));
}

async fn put(
    db: &Running,
    key: String,
    value: Vec<u8>,
    content: &mut Content,
) -> Result<(), Error> {
    let written = db.put(&key, &value).await;
    if written.is_ok() {
        content.insert(key, Some(value));
    }
    written
}

/// Puts until it is refused for lack of space; returns how many were taken.
async fn fill(db: &Running, content: &mut Content) -> usize {
    for number in 0..20_000 {
        let value = vec![u8::try_from(number % 251).unwrap(); 700];
        match put(db, format!("key{number:05}"), value, content).await {
            Ok(()) => {}
            Err(Error::NoSpace { .. }) => return number,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the disk is never full")
}

/// Deletes what is there, oldest first, up to a number of keys; returns how many were taken.
async fn delete(db: &Running, content: &mut Content, most: usize) -> usize {
    let keys: Vec<String> = content.keys().take(most).cloned().collect();
    for (count, key) in keys.iter().enumerate() {
        match db.delete(key).await {
            Ok(()) => drop(content.remove(key)),
            Err(Error::NoSpace { .. }) => return count,
            Err(error) => panic!("{error}"),
        }
    }
    keys.len()
}

async fn assert_holds(db: &Running, content: &Content) {
    let mut rows = 0;
    let unbounded = std::ops::Bound::Unbounded;
    let keyspace = lightning_shards::KeyspaceId::DEFAULT;
    let mut scan = db.client.scan(keyspace, unbounded, unbounded);
    while let Some((key, value)) = scan.next().await.unwrap() {
        let key = String::from_utf8(key.to_vec()).unwrap();
        let known = content.get(&key).unwrap_or_else(|| panic!("{key} is back"));
        assert!(
            known.as_ref().is_none_or(|known| known[..] == value[..]),
            "{key}"
        );
        rows += 1;
    }
    let sure = content.values().filter(|value| value.is_some()).count();
    assert!((sure..=content.len()).contains(&rows), "{rows} of {sure}");
}

async fn is_short(db: &Running) -> bool {
    db.client.stats().await.unwrap()[0].space_short
}

/// Longer than it takes a shard to see that there is space.
async fn wait(db: &Running) {
    db.clients.sleep(Duration::from_secs(1)).await;
}

fn holds_reserve(image: &Image) -> bool {
    let file = image.read_file(Path::new("db/shard-000/reserve"));
    file.is_some_and(|bytes| bytes.len() as u64 == RESERVE)
}

#[test]
fn writes_stop_deletions_go_on_and_writes_resume_without_reopening() {
    // The disk runs full at every point of the life of segments and memtables.
    let mut refusals = 0;
    for more in (0..900).step_by(28) {
        let first = world(more);
        let content = first.run(async {
            let db = open(&first, RESERVE).await;
            assert!(holds_reserve(&first.image()));
            limit(&first, more << 10);
            let mut content = Content::new();
            fill(&db, &mut content).await;
            assert!(is_short(&db).await);
            wait(&db).await;
            assert!(!(is_short(&db).await && holds_reserve(&first.image())));

            assert_holds(&db, &content).await;
            let wanted = content.len().min(40);
            let deleted = delete(&db, &mut content, wanted).await;
            assert!(
                deleted >= wanted.min(14),
                "{more} KiB: {deleted} of {wanted}"
            );
            // What was deleted may have made room in the tree.
            match put(&db, "late".to_owned(), vec![1], &mut content).await {
                Err(Error::NoSpace { .. }) => refusals += 1,
                outcome => outcome.unwrap(),
            }
            assert_holds(&db, &content).await;

            first.set_capacity(None);
            wait(&db).await;
            assert!(!is_short(&db).await && holds_reserve(&first.image()));
            for number in 0..400 {
                let key = format!("new{number}");
                put(&db, key, vec![3; 700], &mut content).await.unwrap();
            }
            db.client.flush().await.unwrap();
            assert_eq!(db.client.verify().await.unwrap()[0].damages, []);
            content
        });
        let world = world_on(more, first.crash());
        let content = content.unwrap();
        world
            .run(async {
                let db = open(&world, RESERVE).await;
                assert_holds(&db, &content).await;
                db.close().await.unwrap();
            })
            .unwrap();
    }
    assert!(refusals > 5, "{refusals}");
}

#[test]
fn without_a_reserve_writes_stop_and_resume_too() {
    for more in (0..500).step_by(60) {
        let world = world(more);
        world
            .run(async {
                let db = open(&world, 0).await;
                limit(&world, more << 10);
                let mut content = Content::new();
                fill(&db, &mut content).await;
                wait(&db).await;
                delete(&db, &mut content, 40).await;
                assert_holds(&db, &content).await;
                world.set_capacity(None);
                wait(&db).await;
                put(&db, "late".to_owned(), vec![1], &mut content)
                    .await
                    .unwrap();
                assert_holds(&db, &content).await;
                db.close().await.unwrap();
            })
            .unwrap();
    }
}

#[test]
fn what_is_deleted_makes_room_in_the_tree() {
    let world = world(3);
    world
        .run(async {
            // With runs a merge has to have room for what it moves before anything is free.
            let straight = ShardConfig {
                runs: 0,
                ..config(RESERVE)
            };
            let db = open_with(&world, straight).await;
            limit(&world, 3 << 20);
            let mut content = Content::new();
            fill(&db, &mut content).await;
            // Far more than the reserve has room for: what they free carries them.
            let all = content.len();
            assert!(all > 1000);
            assert_eq!(delete(&db, &mut content, all - 100).await, all - 100);
            wait(&db).await;
            // No space came back to the disk; the tree has room of its own.
            assert!(!is_short(&db).await);
            for number in 0..400 {
                let key = format!("new{number}");
                put(&db, key, vec![3; 700], &mut content).await.unwrap();
            }
            assert_holds(&db, &content).await;
            db.close().await.unwrap();
        })
        .unwrap();
}

#[test]
fn a_database_opens_on_a_full_disk() {
    let mut shortages = 0;
    for more in [0, 40, 100, 300, 500, 800] {
        let first = world(more);
        let content = first.run(async {
            let db = open(&first, RESERVE).await;
            limit(&first, more << 10);
            let mut content = Content::new();
            fill(&db, &mut content).await;
            wait(&db).await;
            delete(&db, &mut content, 10).await;
            content
        });
        let (mut content, mut image) = (content.unwrap(), first.crash());
        for round in 0..4 {
            let world = world_on(round, image);
            content = world
                .run(async {
                    limit(&world, 0);
                    let db = open(&world, RESERVE).await;
                    assert_holds(&db, &content).await;
                    wait(&db).await;
                    // The crash may have brought the reserve back, and files may have room.
                    let short = is_short(&db).await;
                    let late = put(&db, "late".to_owned(), vec![1], &mut content).await;
                    assert_eq!(
                        matches!(late, Err(Error::NoSpace { .. })),
                        short,
                        "{late:?}"
                    );
                    shortages += u32::from(short);
                    delete(&db, &mut content, 5).await;
                    assert_holds(&db, &content).await;
                    if round == 3 {
                        world.set_capacity(None);
                        wait(&db).await;
                        put(&db, "late".to_owned(), vec![1], &mut content)
                            .await
                            .unwrap();
                    }
                    if round % 2 == 1 {
                        db.close().await.unwrap();
                    }
                    content
                })
                .unwrap();
            image = world.crash();
        }
        let world = world_on(9, image);
        world
            .run(async {
                let db = open(&world, RESERVE).await;
                assert_holds(&db, &content).await;
                assert!(!is_short(&db).await);
            })
            .unwrap();
    }
    assert!(shortages > 10, "{shortages}");
}

#[test]
fn a_crash_anywhere_in_a_shortage_loses_nothing() {
    for ios in (1..260).step_by(3) {
        let first = world(ios);
        let mut content = Content::new();
        let ran = first.run(async {
            let db = open(&first, RESERVE).await;
            limit(&first, 400 << 10);
            fill(&db, &mut content).await;
            db
        });
        let db = ran.unwrap();
        let course = async {
            // What is under way when the power fails may be there or not.
            for key in content.keys().take(20).cloned().collect::<Vec<_>>() {
                let before = content.insert(key.clone(), None);
                match db.delete(&key).await {
                    Ok(()) => drop(content.remove(&key)),
                    Err(_) => drop(content.insert(key, before.flatten())),
                }
            }
            first.set_capacity(None);
            for number in 0..200 {
                let key = format!("new{number}");
                let written = put(&db, key, vec![3; 700], &mut content).await;
                if written.is_err() {
                    db.clients.sleep(Duration::from_millis(20)).await;
                }
            }
        };
        first
            .run_until_crash(course, CrashPoint::AfterIos(ios))
            .unwrap();
        drop(db);
        let world = world_on(ios, first.crash());
        world
            .run(async {
                let db = open(&world, RESERVE).await;
                let mut found = content.clone();
                // A put that was not answered may be there as well.
                for number in 0..200 {
                    found.entry(format!("new{number}")).or_insert(None);
                }
                assert_holds(&db, &found).await;
                assert!(holds_reserve(&world.image()) && !is_short(&db).await);
                db.close().await.unwrap();
            })
            .unwrap();
    }
}

#[test]
fn a_refusal_of_the_moment_is_over_at_once() {
    let world = world(8);
    world
        .run(async {
            let db = open(&world, RESERVE).await;
            let mut content = Content::new();
            for round in 0..8 {
                let before = world.faults_fired().first().map_or(0, |fired| fired.1);
                let strikes = Knob::new(1_000_000, before + 1 + round);
                world.set_faults(FaultConfig::default().with(Fault::NoSpace, strikes));
                for number in 0..60 {
                    let key = format!("key{round}-{number}");
                    // A strike or two are mended before anybody is refused.
                    let written = put(&db, key, vec![7; 700], &mut content).await;
                    assert!(written.is_ok() || round > 1, "{written:?}");
                }
                wait(&db).await;
                assert!(!is_short(&db).await, "round {round}");
            }
            assert!(world.faults_fired()[0].1 > 8);
            assert_holds(&db, &content).await;
            db.close().await.unwrap();
        })
        .unwrap();
}

#[test]
fn what_no_room_can_be_made_for_is_refused_and_the_rest_goes_on() {
    let world = world(10);
    world
        .run(async {
            let db = open(&world, RESERVE).await;
            let mut content = Content::new();
            limit(&world, 512 << 10);
            for round in 0..4 {
                // There is space, but not as much as its record takes; nothing waits for ever.
                let large = put(&db, "large".to_owned(), vec![1; 2 << 20], &mut content).await;
                assert!(matches!(large, Err(Error::NoSpace { .. })), "{large:?}");
                let key = format!("small{round}");
                put(&db, key, vec![1; 700], &mut content).await.unwrap();
            }
            wait(&db).await;
            assert!(!is_short(&db).await && holds_reserve(&world.image()));
            assert_holds(&db, &content).await;
            db.close().await.unwrap();
        })
        .unwrap();
}

#[test]
fn a_reserve_of_another_size_replaces_the_old_one() {
    let world = world(9);
    let file = Path::new("db/shard-000/reserve");
    let length = || world.read_file(file).map(|bytes| bytes.len() as u64);
    world
        .run(async {
            for reserve in [RESERVE, 4096, 2 * RESERVE, 0, 0, 8192] {
                let db = open(&world, reserve).await;
                assert_eq!(length(), (reserve > 0).then_some(reserve));
                db.close().await.unwrap();
                assert_eq!(length(), (reserve > 0).then_some(reserve));
            }
        })
        .unwrap();
    let odd = config(4097).validate();
    assert!(matches!(odd, Err(Error::Invalid { .. })));
}
