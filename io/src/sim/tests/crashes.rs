//! What survives a crash: all that is durable, and any subset of what is not.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::sim::{CrashModel, CrashPoint, CrashReport, Image, PPM, Rng};

/// The image after a program, with all that is pending.
fn image_after<F: Future<Output = ()>>(program: impl FnOnce(SimEnv) -> F) -> Image {
    let world = world(7);
    world.run(program(world.env(0))).unwrap();
    world.shutdown()
}

async fn create_unsynced(env: &SimEnv, path: &str) -> SimFile {
    let path = Path::new(path);
    let created = env.open(path, Access::ReadWrite, Creation::MustCreate);
    created.await.unwrap()
}

/// Every outcome of many crashes of one image.
fn outcomes<T: Ord>(image: &Image, ask: impl Fn(&Image) -> T) -> BTreeSet<T> {
    (0..400)
        .map(|seed| {
            let mut image = image.clone();
            image.crash(&mut Rng::new(seed), &CrashModel::default());
            assert_eq!(image.pending_count(), 0);
            ask(&image)
        })
        .collect()
}

#[test]
fn a_synced_write_survives_every_crash_and_an_unsynced_one_some() {
    let image = image_after(async |env| {
        let file = create(&env, "file", Access::ReadWrite).await;
        file.write_at(0, page(1)).await.unwrap();
        file.write_at(4096, page(2)).await.unwrap();
        file.sync().await.unwrap();
        file.write_at(4096, page(3)).await.unwrap();
    });
    let model = CrashModel {
        torn_ppm: Some(0),
        ..CrashModel::default()
    };
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let mut image = image.clone();
        image.crash(&mut Rng::new(seed), &model);
        seen.insert(blocks(image.read_file(Path::new("file"))));
    }
    assert_eq!(seen, BTreeSet::from([vec![1, 2], vec![1, 3]]));
}

#[test]
fn a_durable_write_survives_every_crash_although_the_file_was_never_synced() {
    let image = image_after(async |env| {
        let lazy = create(&env, "file", Access::ReadWrite).await;
        let path = Path::new("file");
        let durable = env
            .open(path, Access::ReadWriteDurable, Creation::MustExist)
            .await
            .unwrap();
        lazy.write_at(0, IoBuf::from_slice(&[1; 3 * 4096]))
            .await
            .unwrap();
        durable.write_at(4096, page(2)).await.unwrap();
        lazy.write_at(8192, page(3)).await.unwrap();
    });
    let seen = outcomes(&image, |image| {
        let bytes = image.read_file(Path::new("file")).unwrap();
        assert!(bytes.len() >= 8192, "the length that the write needs");
        assert!(bytes[4096..8192].iter().all(|&byte| byte == 2));
        (bytes[0], bytes.get(8192).copied())
    });
    assert!(seen.len() > 2, "what surrounds it varies: {seen:?}");
}

#[test]
fn writes_survive_independently_of_each_other() {
    let image = image_after(async |env| {
        let file = create(&env, "file", Access::ReadWrite).await;
        file.preallocate(4 * 4096).await.unwrap();
        file.sync().await.unwrap();
        for block in 0..4 {
            file.write_at(block * 4096, page(1)).await.unwrap();
        }
    });
    let model = CrashModel {
        survival_ppm: Some(500_000),
        torn_ppm: Some(0),
    };
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        let mut image = image.clone();
        image.crash(&mut Rng::new(seed), &model);
        seen.insert(blocks(image.read_file(Path::new("file"))));
    }
    assert_eq!(seen.len(), 16, "every subset");
}

#[test]
fn a_write_can_be_torn_inside_a_block() {
    let image = image_after(async |env| {
        let file = create(&env, "file", Access::ReadWrite).await;
        file.write_at(0, page(1)).await.unwrap();
        file.sync().await.unwrap();
        file.write_at(0, page(2)).await.unwrap();
    });
    let (mut sectors, mut bytes, mut garbage) = (0, 0, 0);
    for seed in 0..400 {
        let mut image = image.clone();
        let report = image.crash(&mut Rng::new(seed), &CrashModel::default());
        let found = image.read_file(Path::new("file")).unwrap();
        let mixed = |unit: &[u8]| unit.iter().any(|byte| *byte != unit[0]);
        let torn = mixed(&found);
        assert!(!torn || report.writes_torn == 1);
        let foreign = found.iter().any(|byte| !matches!(byte, 0..=2));
        let inside = found.chunks(512).any(mixed);
        garbage += u32::from(foreign);
        bytes += u32::from(inside && !foreign);
        sectors += u32::from(torn && !inside);
    }
    assert!(
        sectors > 5 && bytes > 5 && garbage > 5,
        "{sectors} {bytes} {garbage}"
    );
}

#[test]
fn writes_of_one_block_are_taken_back_in_order() {
    let image = image_after(async |env| {
        let file = create(&env, "file", Access::ReadWrite).await;
        file.write_at(0, page(1)).await.unwrap();
        file.sync().await.unwrap();
        for byte in 2..5 {
            file.write_at(0, page(byte)).await.unwrap();
        }
    });
    for (model, expected) in [
        (CrashModel::NOTHING_SURVIVES, 1),
        (CrashModel::EVERYTHING_SURVIVES, 4),
    ] {
        let mut image = image.clone();
        image.crash(&mut Rng::new(1), &model);
        assert_eq!(blocks(image.read_file(Path::new("file"))), [expected]);
    }
}

#[test]
fn what_shows_nowhere_is_not_counted_as_lost_or_torn() {
    let image = image_after(async |env| {
        let file = create(&env, "file", Access::ReadWrite).await;
        file.write_at(0, page(1)).await.unwrap();
        file.sync().await.unwrap();
        file.write_at(0, page(1)).await.unwrap();
        create_unsynced(&env, "other").await;
        env.remove_file(Path::new("other")).await.unwrap();
    });
    let torn = CrashModel {
        survival_ppm: Some(PPM),
        torn_ppm: Some(PPM),
    };
    for model in [CrashModel::NOTHING_SURVIVES, torn] {
        let mut image = image.clone();
        let mut report = image.crash(&mut Rng::new(1), &model);
        // What fills a tear shows where what was written would not.
        assert_eq!(report.writes_kept + report.writes_torn, 1);
        report.writes_kept = 0;
        report.writes_torn = 0;
        report.shards_cut = 0;
        assert_eq!(report, CrashReport::default());
    }
}

#[test]
fn what_is_lost_or_torn_is_counted() {
    let image = image_after(async |env| {
        let file = create(&env, "file", Access::ReadWrite).await;
        file.preallocate(2 * 4096).await.unwrap();
        file.sync().await.unwrap();
        file.write_at(0, page(1)).await.unwrap();
        file.preallocate(4 * 4096).await.unwrap();
        create_unsynced(&env, "other").await;
    });
    let crash = |model| image.clone().crash(&mut Rng::new(1), &model);
    let lost = crash(CrashModel::NOTHING_SURVIVES);
    assert_eq!(
        (lost.writes_lost, lost.lengths_lost, lost.entries_lost),
        (1, 1, 1)
    );
    let kept = crash(CrashModel::EVERYTHING_SURVIVES);
    assert_eq!(
        (kept.writes_lost, kept.lengths_lost, kept.entries_lost),
        (0, 0, 0)
    );
    assert_eq!(kept.writes_kept, 1);
    let torn = crash(CrashModel {
        survival_ppm: Some(PPM),
        torn_ppm: Some(PPM),
    });
    assert_eq!((torn.writes_torn, torn.writes_kept), (1, 0));
}

#[test]
fn a_new_file_can_keep_its_name_and_lose_its_length() {
    let image = image_after(async |env| {
        let file = create_unsynced(&env, "file").await;
        file.preallocate(4096).await.unwrap();
    });
    let seen = outcomes(&image, |image| {
        image.read_file(Path::new("file")).map(|bytes| bytes.len())
    });
    assert_eq!(seen, BTreeSet::from([None, Some(0), Some(4096)]));
}

#[test]
fn the_length_survives_apart_from_the_data() {
    let image = image_after(async |env| {
        let file = create(&env, "file", Access::ReadWrite).await;
        file.write_at(0, page(1)).await.unwrap();
    });
    let seen = outcomes(&image, |image| blocks(image.read_file(Path::new("file"))));
    assert!(seen.contains(&vec![]), "the length was lost: {seen:?}");
    assert!(seen.contains(&vec![0]), "the data alone was lost: {seen:?}");
    assert!(seen.contains(&vec![1]), "both survived: {seen:?}");
}

#[test]
fn an_entry_that_was_not_synced_can_vanish_with_a_synced_file() {
    let image = image_after(async |env| {
        let path = Path::new("file");
        let file = env
            .open(path, Access::ReadWriteDurable, Creation::MustCreate)
            .await
            .unwrap();
        file.write_at(0, page(1)).await.unwrap();
        file.sync().await.unwrap();
    });
    let seen = outcomes(&image, |image| blocks(image.read_file(Path::new("file"))));
    assert_eq!(seen, BTreeSet::from([vec![], vec![1]]));
}

#[test]
fn a_lost_directory_takes_what_is_in_it() {
    let image = image_after(async |env| {
        env.create_dir(Path::new("dir")).await.unwrap();
        create(&env, "dir/file", Access::ReadWrite).await;
    });
    let seen = outcomes(&image, |image| image.list_files().len());
    assert_eq!(seen, BTreeSet::from([0, 1]));
}

#[test]
fn a_rename_leaves_the_old_file_or_the_new_and_never_none() {
    let image = image_after(async |env| {
        for (path, byte) in [("current", 1), ("temporary", 2)] {
            let file = create(&env, path, Access::ReadWriteDurable).await;
            file.write_at(0, page(byte)).await.unwrap();
        }
        let (from, to) = (Path::new("temporary"), Path::new("current"));
        env.rename(from, to).await.unwrap();
    });
    let seen = outcomes(&image, |image| {
        let read = |path| blocks(image.read_file(Path::new(path)));
        (read("current"), read("temporary"))
    });
    let old = (vec![1], vec![2]);
    let new = (vec![2], vec![]);
    assert_eq!(seen, BTreeSet::from([old, new]));
}

#[test]
fn a_removed_file_can_come_back_until_its_directory_is_synced() {
    let removed = |synced: bool| {
        image_after(async move |env| {
            let file = create(&env, "file", Access::ReadWriteDurable).await;
            file.write_at(0, page(1)).await.unwrap();
            file.close().await.unwrap();
            env.remove_file(Path::new("file")).await.unwrap();
            if synced {
                env.sync_dir(Path::new("/")).await.unwrap();
            }
        })
    };
    let ask = |image: &Image| blocks(image.read_file(Path::new("file")));
    assert_eq!(
        outcomes(&removed(false), ask),
        BTreeSet::from([vec![], vec![1]])
    );
    assert_eq!(outcomes(&removed(true), ask), BTreeSet::from([vec![]]));
}

#[test]
fn the_tails_of_two_shards_are_cut_differently() {
    let image = image_after(async |env| {
        create_dir(&env, "db").await;
        for shard in ["db/shard-000", "db/shard-001"] {
            create_dir(&env, shard).await;
            let file = create(&env, &format!("{shard}/wal"), Access::ReadWrite).await;
            file.preallocate(8 * 4096).await.unwrap();
            file.sync().await.unwrap();
            for block in 0..8 {
                file.write_at(block * 4096, page(1)).await.unwrap();
            }
        }
    });
    let kept = |image: &Image, path: &str| {
        let blocks = blocks(image.read_file(Path::new(path)));
        blocks.into_iter().map(usize::from).sum::<usize>()
    };
    let seen = outcomes(&image, |image| {
        let first = kept(image, "db/shard-000/wal");
        (first, kept(image, "db/shard-001/wal"))
    });
    assert!(seen.contains(&(0, 8)) && seen.contains(&(8, 0)), "{seen:?}");
}

#[test]
fn a_write_in_flight_at_a_crash_may_be_there_or_not() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let config = SimConfig {
            crash: CrashModel::EVERYTHING_SURVIVES,
            ..SimConfig::default()
        };
        let world = World::new(seed, config);
        let env = world.env(0);
        let file = world
            .run(create(&env, "file", Access::ReadWriteDurable))
            .unwrap();
        let point = CrashPoint::AtTime(world.now() + std::time::Duration::from_micros(15));
        let cut = world.run_until_crash(file.write_at(0, page(1)), point);
        assert!(matches!(cut, Ok(None)));
        seen.insert(blocks(world.crash().read_file(Path::new("file"))));
    }
    assert_eq!(seen, BTreeSet::from([vec![], vec![1]]));
}

#[test]
fn a_crash_during_a_durable_write_loses_keeps_or_tears_it_and_none_before_it() {
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        let world = world(seed);
        let env = world.env(0);
        let file = world
            .run(create(&env, "file", Access::ReadWriteDurable))
            .unwrap();
        let program = async {
            file.write_at(0, page(1)).await.unwrap();
            file.sync().await.unwrap();
            file.write_at(0, IoBuf::from_slice(&[2; 2 * 4096])).await
        };
        let cut = world.run_until_crash(program, CrashPoint::DuringWrite(1));
        assert!(matches!(cut, Ok(None)));
        let bytes = world.crash().read_file(Path::new("file")).unwrap();
        let count = |wanted: u8| {
            let found = bytes.iter().map(|&byte| usize::from(byte == wanted));
            found.sum::<usize>()
        };
        seen.insert((count(1), count(2)));
    }
    assert!(seen.contains(&(4096, 0)), "lost");
    assert!(seen.contains(&(0, 2 * 4096)), "kept");
    assert!(seen.len() > 10, "torn in many ways: {seen:?}");
}

#[test]
fn a_kill_keeps_what_was_written_and_leaves_it_pending() {
    let image = image_after(async |env| {
        let file = create(&env, "file", Access::ReadWrite).await;
        file.write_at(0, page(1)).await.unwrap();
    });
    assert_eq!(blocks(image.read_file(Path::new("file"))), [1]);
    assert!(image.pending_count() > 0);
    let next = World::with_image(8, SimConfig::default(), image);
    let env = next.env(0);
    next.run(async {
        let path = Path::new("file");
        let file = env
            .open(path, Access::ReadWrite, Creation::MustExist)
            .await
            .unwrap();
        assert_eq!(file.read_at(0, 4096).await.unwrap()[0], 1);
        file.sync().await.unwrap();
    })
    .unwrap();
    let mut image = next.shutdown();
    image.crash(&mut Rng::new(1), &CrashModel::NOTHING_SURVIVES);
    assert_eq!(blocks(image.read_file(Path::new("file"))), [1]);
}

#[test]
fn a_crash_is_a_function_of_image_model_and_generator() {
    let image = image_after(async |env| {
        for name in ["a", "b", "c"] {
            let file = create(&env, name, Access::ReadWrite).await;
            file.write_at(0, page(1)).await.unwrap();
        }
    });
    let crashed = |seed| {
        let mut image = image.clone();
        image.crash(&mut Rng::new(seed), &CrashModel::default());
        ["a", "b", "c"].map(|name| image.read_file(Path::new(name)))
    };
    assert_eq!(crashed(3), crashed(3));
    assert!((0..20).any(|seed| crashed(seed) != crashed(3)));
}
