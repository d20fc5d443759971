//! A creation that was interrupted is started over; one that only seems to have been destroys
//! nothing.

use std::path::Path;

use lightning_io::sim::{CrashModel, CrashPoint, Image, Rng, World};
use lightning_shards::Error;

use crate::site::{ROOT, Site, small, world, world_on};

const SHARDS: usize = 2;

/// More than what a creation takes.
const IOS_MAX: u64 = 120;

/// Opens or creates, until the crash point; what the killed process left.
fn opened_until(world: World, ios: u64) -> Image {
    let site = Site::new(&world, SHARDS);
    let point = CrashPoint::AfterIos(ios);
    let cut = world.run_until_crash(site.open(small()), point).unwrap();
    drop(cut);
    world.shutdown()
}

#[test]
fn a_creation_that_was_killed_and_then_lost_power_can_be_started_over() {
    let (mut rng, model) = (Rng::new(1), CrashModel::default());
    for killed_after in 1..IOS_MAX / 4 {
        let killed = opened_until(world(killed_after), killed_after);
        for ios in (1..IOS_MAX / 2).step_by(3) {
            let cut_off = opened_until(world_on(ios, killed.clone()), ios);
            for _ in 0..4 {
                let mut image = cut_off.clone();
                image.crash(&mut rng, &model);
                let world = world_on(1, image);
                let opened = world.run(Site::new(&world, SHARDS).open(small())).unwrap();
                assert!(
                    opened.is_ok(),
                    "killed after {killed_after}, power lost after {ios}: {:?}",
                    opened.err()
                );
            }
        }
    }
}

/// The identity that says that the database is being created, of the database of a seed.
fn being_created(seed: u64) -> Vec<u8> {
    let identity = Path::new(ROOT).join("DATABASE");
    let found = (1..IOS_MAX).find_map(|ios| {
        let bytes = opened_until(world(seed), ios).read_file(&identity)?;
        let mut copies = bytes.chunks(4096);
        let whole = copies.all(|copy| copy.iter().any(|&byte| byte != 0));
        (whole && bytes.len() == 8192).then_some(bytes)
    });
    found.unwrap()
}

#[test]
fn a_database_with_commits_is_not_created_over_whatever_its_identity_says() {
    for flushed in [false, true] {
        let seed = 7;
        let world = world(seed);
        let site = Site::new(&world, SHARDS);
        let written = world.run(async {
            let database = site.open(small()).await?;
            for key in 0..20_u8 {
                database.put(&key.to_string(), b"value").await?;
            }
            if flushed {
                database.client.flush().await?;
            }
            Ok::<_, Error>(())
        });
        written.unwrap().unwrap();
        let mut image = world.shutdown();
        let identity = Path::new(ROOT).join("DATABASE");
        let ready = image.read_file(&identity).unwrap();
        let creating = being_created(seed);
        assert_ne!(ready, creating);

        image.write_file(&identity, &creating);
        let world = world_on(8, image);
        let opened = world.run(Site::new(&world, SHARDS).open(small())).unwrap();
        match opened.err() {
            Some(Error::Corruption(damage)) => assert_eq!(damage.place.file, identity),
            other => panic!("{other:?}"),
        }
        let mut image = world.shutdown();
        image.write_file(&identity, &ready);
        let world = world_on(9, image);
        let site = Site::new(&world, SHARDS);
        let found = world.run(async {
            let database = site.open(small()).await?;
            database.get("3").await
        });
        assert_eq!(found.unwrap().unwrap().unwrap(), b"value");
    }
}
