//! Each fault strikes, counts, and leaves the damage that the ledger tells of.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::sim::{CrashModel, Fault, FaultConfig, Image, Knob, PPM, Rng, Script, Space};
use crate::{IoError, IoErrorKind, IoOp};

/// A world in which a fault strikes at the first opportunity, once.
fn once(seed: u64, fault: Fault) -> World {
    let config = SimConfig {
        faults: FaultConfig::default().with(fault, Knob::new(PPM, 1)),
        ..SimConfig::default()
    };
    World::new(seed, config)
}

/// Makes one file of three blocks, 1, 2 and 3, without any fault.
fn prepared(access: Access) -> (Image, Access) {
    let world = world(1);
    let env = world.env(0);
    world
        .run(async {
            let file = create(&env, "file", Access::ReadWrite).await;
            for (offset, byte) in [(0, 1), (4096, 2), (8192, 3)] {
                file.write_at(offset, page(byte)).await.unwrap();
            }
            file.sync().await.unwrap();
        })
        .unwrap();
    (world.shutdown(), access)
}

/// Runs a program on the prepared file in a world where one fault strikes once.
fn struck<T>(
    seed: u64,
    fault: Fault,
    access: Access,
    program: impl AsyncFnOnce(SimEnv, SimFile) -> T,
) -> (World, T) {
    let config = SimConfig {
        faults: FaultConfig::default().with(fault, Knob::new(PPM, 1)),
        ..SimConfig::default()
    };
    let (image, access) = prepared(access);
    let world = World::with_image(seed, config, image);
    let env = world.env(0);
    let output = world
        .run(async {
            let path = Path::new("file");
            let file = env.open(path, access, Creation::MustExist).await.unwrap();
            program(env.clone(), file).await
        })
        .unwrap();
    (world, output)
}

fn assert_fired(world: &World, fault: Fault) {
    assert_eq!(world.faults_fired(), [(fault, 1)]);
}

fn contents(world: &World) -> Vec<u8> {
    blocks(world.read_file(Path::new("file")))
}

fn is_eio<T>(result: &Result<T, IoError>) -> bool {
    let kind = result.as_ref().err().map(IoError::kind);
    matches!(kind, Some(IoErrorKind::Device { errno: Some(5), .. }))
}

#[test]
fn rot_strikes_one_place_and_the_ledger_names_it() {
    let mut lens = BTreeSet::new();
    for seed in 0..50 {
        let (world, ()) = struck(seed, Fault::BitRot, Access::Read, async |_, _| ());
        assert_fired(&world, Fault::BitRot);
        let before = prepared(Access::Read)
            .0
            .read_file(Path::new("file"))
            .unwrap();
        let after = world.read_file(Path::new("file")).unwrap();
        let damage = &world.damage()[0];
        assert_eq!(damage.path, Path::new("file"));
        for (position, (old, new)) in before.iter().zip(&after).enumerate() {
            let position = crate::to_u64(position);
            let inside = (damage.offset..damage.offset + damage.len).contains(&position);
            assert_eq!(inside, old != new, "seed {seed}, byte {position}");
        }
        // It stays through a crash.
        let mut image = world.shutdown();
        image.crash(&mut Rng::new(seed), &CrashModel::default());
        assert_eq!(image.read_file(Path::new("file")).unwrap(), after);
        lens.insert(image.damage()[0].len);
    }
    assert_eq!(lens, BTreeSet::from([1, 512]));
}

#[test]
fn a_misdirected_write_is_acknowledged_and_lands_elsewhere() {
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        let (world, written) = struck(
            seed,
            Fault::MisdirectedWrite,
            Access::ReadWriteDurable,
            async |_, file| file.write_at(0, page(9)).await,
        );
        assert_eq!(written, Ok(()));
        assert_fired(&world, Fault::MisdirectedWrite);
        assert_eq!(world.damage().len(), 2, "the victim and the intended place");
        seen.insert(contents(&world));
    }
    assert_eq!(seen, BTreeSet::from([vec![1, 9, 3], vec![1, 2, 9]]));
}

#[test]
fn at_most_one_misdirected_write_is_live() {
    let config = SimConfig {
        faults: FaultConfig::default().with(Fault::MisdirectedWrite, Knob::new(PPM, 100)),
        ..SimConfig::default()
    };
    let world = World::with_image(1, config, prepared(Access::Read).0);
    let env = world.env(0);
    world
        .run(async {
            let path = Path::new("file");
            let access = Access::ReadWrite;
            let file = env.open(path, access, Creation::MustExist).await.unwrap();
            for _ in 0..5 {
                file.write_at(0, page(9)).await.unwrap();
            }
        })
        .unwrap();
    assert_fired(&world, Fault::MisdirectedWrite);
}

#[test]
fn a_misdirected_read_brings_another_place_and_harms_nothing() {
    let (world, read) = struck(3, Fault::MisdirectedRead, Access::Read, async |_, file| {
        let first = file.read_at(0, 4096).await.unwrap()[0];
        (first, file.read_at(0, 4096).await.unwrap()[0])
    });
    assert!(read.0 == 2 || read.0 == 3);
    assert_eq!(read.1, 1);
    assert_fired(&world, Fault::MisdirectedRead);
    assert_eq!(contents(&world), [1, 2, 3]);
}

#[test]
fn a_sticky_misdirected_read_agrees_with_itself_until_the_place_is_written() {
    let fault = Fault::StickyMisdirectedRead;
    let (world, ()) = struck(3, fault, Access::ReadWriteDurable, async |_, file| {
        let first = file.read_at(0, 4096).await.unwrap()[0];
        assert!(first == 2 || first == 3);
        assert_eq!(file.read_at(0, 4096).await.unwrap()[0], first);
        file.write_at(0, page(9)).await.unwrap();
        assert_eq!(file.read_at(0, 4096).await.unwrap()[0], 9);
    });
    assert_fired(&world, fault);
    assert_eq!(contents(&world), [9, 2, 3]);
    assert!(!world.damage()[0].live);
}

#[test]
fn a_phantom_write_is_acknowledged_and_lost() {
    let access = Access::ReadWriteDurable;
    let (world, written) = struck(1, Fault::PhantomWrite, access, async |_, file| {
        file.write_at(3 * 4096, page(9)).await
    });
    assert_eq!(written, Ok(()));
    assert_fired(&world, Fault::PhantomWrite);
    assert_eq!(contents(&world), [1, 2, 3, 0]);
    assert_eq!(world.damage()[0].offset, 3 * 4096);
}

#[test]
fn a_stale_read_brings_what_was_there_before() {
    let access = Access::ReadWriteDurable;
    let (world, read) = struck(1, Fault::StaleRead, access, async |_, file| {
        file.write_at(4096, page(9)).await.unwrap();
        let first = file.read_at(4096, 4096).await.unwrap()[0];
        (first, file.read_at(4096, 4096).await.unwrap()[0])
    });
    assert_eq!(read, (2, 9));
    assert_fired(&world, Fault::StaleRead);
}

#[test]
fn a_sticky_stale_read_agrees_with_itself_until_the_block_is_written() {
    let fault = Fault::StickyStaleRead;
    let (world, ()) = struck(1, fault, Access::ReadWriteDurable, async |_, file| {
        file.write_at(4096, page(9)).await.unwrap();
        for _ in 0..3 {
            assert_eq!(file.read_at(4096, 4096).await.unwrap()[0], 2);
        }
        file.write_at(4096, page(8)).await.unwrap();
        assert_eq!(file.read_at(4096, 4096).await.unwrap()[0], 8);
    });
    assert_fired(&world, fault);
    assert!(!world.damage()[0].live);
}

#[test]
fn damage_under_a_durable_write_never_comes_back_and_under_another_one_may() {
    for (access, live) in [(Access::ReadWriteDurable, false), (Access::ReadWrite, true)] {
        let (world, ()) = struck(1, Fault::StickyReadError, access, async |_, file| {
            assert!(is_eio(&file.read_at(4096, 4096).await));
            file.write_at(4096, page(9)).await.unwrap();
        });
        assert!(!world.damage()[0].live);
        let mut image = world.shutdown();
        image.crash(&mut Rng::new(1), &CrashModel::NOTHING_SURVIVES);
        assert_eq!(image.damage()[0].live, live);
    }
}

#[test]
fn a_sync_that_lied_is_forgiven_when_a_later_one_does_not() {
    let access = Access::ReadWrite;
    let (world, ()) = struck(1, Fault::LyingSync, access, async |_, file| {
        file.write_at(0, page(9)).await.unwrap();
        file.sync().await.unwrap();
        file.sync().await.unwrap();
    });
    assert!(!world.damage()[0].live);
    let mut image = world.shutdown();
    image.crash(&mut Rng::new(1), &CrashModel::NOTHING_SURVIVES);
    assert!(!image.damage()[0].live);
    assert_eq!(blocks(image.read_file(Path::new("file"))), [9, 2, 3]);
}

#[test]
fn a_read_error_passes_and_a_sticky_one_stays_until_the_block_is_written() {
    let (world, read) = struck(1, Fault::ReadError, Access::Read, async |_, file| {
        (file.read_at(0, 4096).await, file.read_at(0, 4096).await)
    });
    assert!(is_eio(&read.0) && read.1.is_ok());
    assert_fired(&world, Fault::ReadError);

    let access = Access::ReadWrite;
    let (world, ()) = struck(1, Fault::StickyReadError, access, async |_, file| {
        for _ in 0..3 {
            assert!(is_eio(&file.read_at(4096, 4096).await));
        }
        assert!(file.read_at(0, 4096).await.is_ok());
        file.write_at(4096, page(9)).await.unwrap();
        assert_eq!(file.read_at(4096, 4096).await.unwrap()[0], 9);
    });
    assert_fired(&world, Fault::StickyReadError);
    assert!(!world.damage()[0].live);
}

#[test]
fn a_failed_write_leaves_any_part_and_none_of_it_durable() {
    let cases = [
        (Fault::WriteError, Access::ReadWrite),
        (Fault::DurableWriteError, Access::ReadWriteDurable),
    ];
    for (fault, access) in cases {
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            let (world, written) = struck(seed, fault, access, async |_, file| {
                let both = IoBuf::from_slice(&[9; 8192]);
                file.write_at(0, both).await
            });
            assert!(is_eio(&written));
            assert_fired(&world, fault);
            seen.insert(contents(&world));
            let mut image = world.shutdown();
            image.crash(&mut Rng::new(seed), &CrashModel::NOTHING_SURVIVES);
            assert_eq!(blocks(image.read_file(Path::new("file"))), [1, 2, 3]);
        }
        assert_eq!(seen.len(), 4, "none, either, both: {seen:?}");
    }
}

#[test]
fn a_block_that_cannot_be_written_stays_so_and_others_work() {
    let access = Access::ReadWrite;
    let (world, ()) = struck(1, Fault::StickyWriteError, access, async |_, file| {
        for _ in 0..3 {
            assert!(is_eio(&file.write_at(4096, page(9)).await));
        }
        file.write_at(0, page(9)).await.unwrap();
    });
    assert_fired(&world, Fault::StickyWriteError);
}

#[test]
fn a_failed_sync_can_lose_what_later_syncs_claim_to_have_saved() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let access = Access::ReadWrite;
        let (world, ()) = struck(seed, Fault::SyncError, access, async |_, file| {
            file.write_at(0, page(9)).await.unwrap();
            assert!(is_eio(&file.sync().await));
            file.sync().await.unwrap();
            assert_eq!(file.read_at(0, 4096).await.unwrap()[0], 9, "reads show it");
        });
        assert_fired(&world, Fault::SyncError);
        let mut image = world.shutdown();
        image.crash(&mut Rng::new(seed), &CrashModel::EVERYTHING_SURVIVES);
        seen.insert(blocks(image.read_file(Path::new("file"))));
    }
    assert_eq!(seen, BTreeSet::from([vec![1, 2, 3], vec![9, 2, 3]]));
}

#[test]
fn a_failed_sync_of_a_directory_can_lose_entries() {
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        let world = once(seed, Fault::SyncError);
        let env = world.env(0);
        world
            .run(async {
                let path = Path::new("file");
                let access = Access::ReadWriteDurable;
                env.open(path, access, Creation::MustCreate).await.unwrap();
                assert!(is_eio(&env.sync_dir(Path::new("/")).await));
                env.sync_dir(Path::new("/")).await.unwrap();
            })
            .unwrap();
        let mut image = world.shutdown();
        image.crash(&mut Rng::new(seed), &CrashModel::EVERYTHING_SURVIVES);
        seen.insert(image.list_files().len());
    }
    assert_eq!(seen, BTreeSet::from([0, 1]));
}

#[test]
fn a_lying_sync_succeeds_and_saves_nothing() {
    let access = Access::ReadWrite;
    let (world, ()) = struck(1, Fault::LyingSync, access, async |_, file| {
        file.write_at(0, page(9)).await.unwrap();
        file.sync().await.unwrap();
    });
    assert_fired(&world, Fault::LyingSync);
    let mut image = world.shutdown();
    image.crash(&mut Rng::new(1), &CrashModel::NOTHING_SURVIVES);
    assert_eq!(blocks(image.read_file(Path::new("file"))), [1, 2, 3]);
}

#[test]
fn space_runs_out_for_what_grows_and_comes_back() {
    let world = world(1);
    let env = world.env(0);
    world
        .run(async {
            let file = create(&env, "file", Access::ReadWriteDurable).await;
            file.write_at(0, page(1)).await.unwrap();
            world.set_capacity(Some(world.image().used_bytes()));
            let full = file.write_at(4096, page(2)).await.unwrap_err();
            assert_eq!(full.kind(), &IoErrorKind::NoSpace);
            let full = file.preallocate(8192).await.unwrap_err();
            assert_eq!(full.kind(), &IoErrorKind::NoSpace);
            let path = Path::new("other");
            let access = Access::ReadWrite;
            let full = env.open(path, access, Creation::MustCreate).await;
            assert_eq!(full.unwrap_err().kind(), &IoErrorKind::NoSpace);
            file.write_at(0, page(3)).await.unwrap();
            assert_eq!(file.length().await.unwrap(), 4096, "nothing grew");
            world.set_capacity(None);
            file.write_at(4096, page(2)).await.unwrap();
        })
        .unwrap();
    assert_eq!(world.faults_fired(), [(Fault::NoSpace, 3)]);
}

#[test]
fn removing_a_file_gives_its_space_back() {
    let world = world(1);
    let env = world.env(0);
    world
        .run(async {
            let file = create(&env, "first", Access::ReadWrite).await;
            file.preallocate(1 << 20).await.unwrap();
            world.set_capacity(Some(world.image().used_bytes() + 8192));
            let second = create(&env, "second", Access::ReadWrite).await;
            assert!(second.preallocate(1 << 20).await.is_err());
            env.remove_file(Path::new("first")).await.unwrap();
            assert!(second.preallocate(1 << 20).await.is_err(), "it is open");
            file.close().await.unwrap();
            second.preallocate(1 << 20).await.unwrap();
        })
        .unwrap();
}

#[test]
fn space_returns_at_its_time() {
    let config = SimConfig {
        faults: FaultConfig::default().with_space(Space {
            capacity_bytes: 8192,
            returns_at: Some(Duration::from_secs(5)),
        }),
        ..SimConfig::default()
    };
    let world = World::new(1, config);
    let env = world.env(0);
    world
        .run(async {
            let file = create(&env, "file", Access::ReadWrite).await;
            assert!(file.write_at(0, page(1)).await.is_err());
            env.sleep(Duration::from_secs(5)).await;
            file.write_at(0, page(1)).await.unwrap();
        })
        .unwrap();
}

#[test]
fn an_allocation_is_refused_at_random_although_there_is_space() {
    let (world, ()) = struck(1, Fault::NoSpace, Access::ReadWrite, async |_, file| {
        let full = file.preallocate(1 << 20).await.unwrap_err();
        assert_eq!(full.kind(), &IoErrorKind::NoSpace);
        file.preallocate(1 << 20).await.unwrap();
    });
    assert_fired(&world, Fault::NoSpace);
}

#[test]
fn short_transfers_are_errors_that_say_how_far_they_got() {
    let (world, read) = struck(1, Fault::ShortRead, Access::Read, async |_, file| {
        file.read_at(0, 8192).await
    });
    let kind = read.unwrap_err().kind().clone();
    assert!(matches!(kind, IoErrorKind::ShortRead { expected: 8192, found } if found < 8192));
    assert_fired(&world, Fault::ShortRead);

    let mut seen = BTreeSet::new();
    for seed in 0..20 {
        let access = Access::ReadWriteDurable;
        let (world, written) = struck(seed, Fault::ShortWrite, access, async |_, file| {
            file.write_at(0, IoBuf::from_slice(&[9; 8192])).await
        });
        let IoErrorKind::ShortWrite { found, .. } = *written.unwrap_err().kind() else {
            panic!("not a short write");
        };
        assert_fired(&world, Fault::ShortWrite);
        let expected: &[u8] = if found == 4096 {
            &[9, 2, 3]
        } else {
            &[1, 2, 3]
        };
        assert_eq!(contents(&world), expected);
        seen.insert(found);
    }
    assert_eq!(seen, BTreeSet::from([0, 4096]));
}

#[test]
fn a_spike_and_a_stall_take_their_time() {
    let (world, ()) = struck(1, Fault::LatencySpike, Access::Read, async |_, _| ());
    assert_fired(&world, Fault::LatencySpike);
    assert!(world.now() > Duration::from_micros(100));
    let (world, ()) = struck(1, Fault::ShardStall, Access::Read, async |_, file| {
        drop(file.read_at(0, 4096).await);
    });
    assert_fired(&world, Fault::ShardStall);
    assert!(world.now() > Duration::from_millis(100));
}

#[test]
fn a_stall_of_one_shard_leaves_the_files_of_another() {
    let world = world(1);
    let env = world.env(0);
    world.stall_files("shard-000", Duration::from_secs(1));
    world
        .run(async {
            create_dir(&env, "db").await;
            for shard in ["db/shard-000", "db/shard-001"] {
                create_dir(&env, shard).await;
            }
            create(&env, "db/shard-001/wal", Access::ReadWrite).await;
            assert!(env.now() < Duration::from_millis(10));
            create(&env, "db/shard-000/wal", Access::ReadWrite).await;
            assert!(env.now() >= Duration::from_secs(1));
        })
        .unwrap();
}

#[test]
fn tasks_stall_and_the_clock_jumps_when_their_knobs_say_so() {
    let world = once(1, Fault::TaskStall);
    let env = world.env(0);
    let handle = env.spawn(crate::TaskClass::Wal, async {});
    world.run(handle).unwrap().unwrap();
    assert_fired(&world, Fault::TaskStall);
    assert!(world.now() >= Duration::from_millis(1));

    let world = once(1, Fault::ClockJump);
    let before = super::world(1).env(0).wall_clock_us();
    assert_ne!(world.env(0).wall_clock_us(), before);
    assert_fired(&world, Fault::ClockJump);
}

#[test]
fn a_script_fails_each_call_in_turn() {
    let program = async |env: SimEnv| -> Result<(), IoError> {
        let path = Path::new("wal");
        let access = Access::ReadWriteDurable;
        let file = env.open(path, access, Creation::MustCreate).await?;
        env.sync_dir(Path::new("/")).await?;
        for block in 0..5 {
            file.write_at(block * 4096, page(1)).await?;
        }
        file.sync().await
    };
    let clean = world(1);
    clean.run(program(clean.env(0))).unwrap().unwrap();
    assert_eq!(clean.calls(IoOp::Write, "wal"), 5);
    assert_eq!(clean.calls(IoOp::Write, "tree"), 0);
    for op in [IoOp::Create, IoOp::SyncDir, IoOp::Write, IoOp::Sync] {
        let count = clean.calls(op, "");
        assert!(count > 0);
        for nth in 0..=count {
            let world = world(1);
            let error = IoErrorKind::NoSpace;
            world.add_script(Script {
                op,
                path: String::new(),
                nth,
                error: error.clone(),
            });
            let result = world.run(program(world.env(0))).unwrap();
            if nth == count {
                assert_eq!(result, Ok(()));
                assert_eq!(world.faults_fired(), []);
            } else {
                let failed = result.unwrap_err();
                assert_eq!((failed.op(), failed.kind()), (op, &error));
                assert_fired(&world, Fault::Scripted);
            }
        }
    }
}

#[test]
fn a_lasting_script_fails_every_call_from_its_own_on_until_it_is_cleared() {
    let world = world(1);
    let env = world.env(0);
    world.add_lasting_script(Script {
        op: IoOp::Write,
        path: "file".to_owned(),
        nth: 1,
        error: IoErrorKind::NoSpace,
    });
    world
        .run(async {
            let file = create(&env, "file", Access::ReadWrite).await;
            file.write_at(0, page(1)).await.unwrap();
            for _ in 0..3 {
                let failed = file.write_at(4096, page(2)).await.unwrap_err();
                assert_eq!(failed.kind(), &IoErrorKind::NoSpace);
            }
            world.clear_scripts();
            file.write_at(4096, page(3)).await.unwrap();
        })
        .unwrap();
    let strikes = world.strikes();
    assert_eq!(strikes.len(), 3);
    assert_eq!(strikes[0].range, Some((4096, 4096)));
    assert!(strikes.iter().all(|strike| strike.op == IoOp::Write));
    assert!(strikes[0].path.ends_with("file") && strikes[0].at <= strikes[2].at);
}

#[test]
fn a_handle_for_reading_refuses_writes_and_odd_offsets_are_refused() {
    let world = world(1);
    let env = world.env(0);
    world.write_file(Path::new("db/file"), &[7; 5000]);
    world
        .run(async {
            let path = Path::new("db/file");
            let file = env
                .open(path, Access::Read, Creation::MustExist)
                .await
                .unwrap();
            let refused = file.write_at(0, page(1)).await.unwrap_err();
            assert_eq!(refused.kind(), &IoErrorKind::PermissionDenied);
            assert!(file.read_at(100, 4096).await.is_err());
            assert!(file.read_at(u64::MAX - 4095, 4096).await.is_err());
            let short = file.read_at(4096, 4096).await.unwrap_err();
            let found = 5000 - 4096;
            let expected = 4096;
            assert_eq!(short.kind(), &IoErrorKind::ShortRead { expected, found });
        })
        .unwrap();
    assert!(world.flip_bit(Path::new("db/file"), 4999, 3));
    assert!(!world.flip_bit(Path::new("db/file"), 5000, 3));
    let bytes = world.read_file(Path::new("db/file")).unwrap();
    assert_eq!(bytes[4999], 7 ^ 8);
    assert_eq!(world.list_files(), [Path::new("db/file")]);
}

#[test]
fn names_behave_as_in_a_file_system() {
    let world = world(1);
    let env = world.env(0);
    world
        .run(async {
            let kind = |result: Result<(), IoError>| result.unwrap_err().kind().clone();
            let (dir, file, missing) = (Path::new("d"), Path::new("d/f"), Path::new("x/f"));
            env.create_dir(dir).await.unwrap();
            assert_eq!(kind(env.create_dir(dir).await), IoErrorKind::AlreadyExists);
            assert_eq!(kind(env.create_dir(missing).await), IoErrorKind::NotFound);
            let access = Access::ReadWrite;
            env.open(file, access, Creation::MustCreate).await.unwrap();
            let again = env.open(file, access, Creation::MustCreate).await;
            assert_eq!(kind(again.map(drop)), IoErrorKind::AlreadyExists);
            assert!(env.open(dir, access, Creation::MustExist).await.is_err());
            assert!(env.remove_file(dir).await.is_err());
            assert_eq!(kind(env.remove_file(missing).await), IoErrorKind::NotFound);
            env.rename(file, Path::new("d/../d/g")).await.unwrap();
            let names = env.read_dir(Path::new("/d")).await.unwrap();
            assert_eq!(names.len(), 1);
            assert_eq!(
                (names[0].name.as_str(), names[0].kind),
                ("g", crate::FileKind::File)
            );
        })
        .unwrap();
}
