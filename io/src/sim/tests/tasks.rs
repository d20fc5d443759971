//! Scheduling, time, messages and the ways in which a run can end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::sim::{CrashPoint, Failure, Fault, FaultConfig, Knob, Rng};
use crate::{IoErrorKind, Port, SendError, Submit, TaskClass, to_u64};

/// A program with files, tasks, messages, sleep and chance.
async fn busy(world: &World) -> u64 {
    let (ports, submitters) = world.mesh::<u64>(3, 16);
    let mut handles = Vec::new();
    for (shard, port) in ports.into_iter().enumerate() {
        let env = world.env(shard);
        let body = env.clone();
        handles.push(env.spawn(TaskClass::Foreground, async move {
            let file = create(&body, &format!("wal-{shard}"), Access::ReadWriteDurable).await;
            let (mut sum, mut received) = (0, Vec::new());
            for turn in 0..10 {
                drop(port.send((shard + 1) % 3, turn));
                port.recv(&mut received, 1).await;
                sum += received.drain(..).sum::<u64>();
                file.write_at(turn * 4096, page(1)).await.unwrap();
                body.sleep(Duration::from_micros(body.random_u64() % 100))
                    .await;
                body.yield_if_needed().await;
            }
            sum
        }));
    }
    for (shard, submitter) in submitters.iter().enumerate() {
        for message in 0..8 {
            submitter.try_submit(message + to_u64(shard)).unwrap();
        }
    }
    let mut sum = 0;
    for handle in handles {
        sum += handle.await.unwrap();
    }
    sum
}

fn fingerprint(seed: u64) -> (u64, u64, u64, Duration) {
    let config = SimConfig {
        faults: FaultConfig::default()
            .with(Fault::LatencySpike, Knob::new(10_000, 8))
            .with(Fault::BitRot, Knob::new(10_000, 8)),
        ..SimConfig::default()
    };
    let world = World::new(seed, config);
    let sum = world.run(busy(&world)).unwrap();
    (sum, world.trace_hash(), world.io_count(), world.now())
}

#[test]
fn one_seed_gives_one_run_and_another_seed_another() {
    let hashes: BTreeSet<u64> = (0..50)
        .map(|seed| {
            let first = fingerprint(seed);
            assert_eq!(first, fingerprint(seed));
            first.1
        })
        .collect();
    assert_eq!(hashes.len(), 50);
}

#[test]
fn a_swarm_of_faults_replays_too() {
    let run = |seed| {
        let config = SimConfig {
            faults: FaultConfig::swarm(&mut Rng::new(seed)),
            ..SimConfig::default()
        };
        let world = World::new(seed, config);
        let env = world.env(0);
        world
            .run(async {
                let (path, access) = (Path::new("file"), Access::ReadWrite);
                let Ok(file) = env.open(path, access, Creation::MustCreate).await else {
                    return;
                };
                for turn in 0..100_u64 {
                    drop(file.write_at(turn % 7 * 4096, page(1)).await);
                    drop(file.read_at(turn % 5 * 4096, 8192).await);
                    drop(file.sync().await);
                }
            })
            .unwrap();
        let (hash, fired, damage) = (world.trace_hash(), world.faults_fired(), world.damage());
        (
            hash,
            fired,
            damage,
            world.crash().read_file(Path::new("file")),
        )
    };
    let mut struck = BTreeSet::new();
    for seed in 0..100 {
        let first = run(seed);
        assert_eq!(first, run(seed));
        struck.extend(first.1.iter().map(|fired| fired.0));
    }
    assert!(struck.len() >= 15, "{struck:?}");
}

#[test]
fn tasks_run_in_many_orders() {
    let order = |seed| {
        let world = world(seed);
        let order = Rc::new(RefCell::new(Vec::new()));
        let mut handles = Vec::new();
        for task in 0..4 {
            let order = Rc::clone(&order);
            handles.push(world.env(0).spawn(TaskClass::Flush, async move {
                order.borrow_mut().push(task);
            }));
        }
        world
            .run(async {
                for handle in handles {
                    handle.await.unwrap();
                }
            })
            .unwrap();
        order.take()
    };
    let orders: BTreeSet<Vec<u32>> = (0..400).map(order).collect();
    assert_eq!(orders.len(), 24, "every permutation of four");
}

#[test]
fn time_jumps_and_a_sleep_is_never_short() {
    let world = world(1);
    let env = world.env(0);
    world
        .run(async {
            let before = env.now();
            env.sleep(Duration::from_hours(1)).await;
            assert!(env.now() >= before + Duration::from_hours(1));
        })
        .unwrap();
    assert!(world.poll_count() < 10);
}

#[test]
fn a_deadlock_is_reported_with_who_waits() {
    let world = world(1);
    let (mut ports, _submitters) = world.mesh::<u8>(1, 4);
    let port = ports.remove(0);
    let handle = world.env(0).spawn(TaskClass::Wal, async move {
        port.recv(&mut Vec::new(), 1).await;
    });
    let failure = world.run(handle).unwrap_err();
    let Failure::Deadlock { waiting } = failure else {
        panic!("{failure}");
    };
    assert!(waiting.contains("shard-000/wal: 1"), "{waiting}");
    assert_eq!(world.run(async {}), Err(Failure::Stopped));
}

#[test]
fn a_livelock_is_reported() {
    let config = SimConfig {
        polls_max: 10_000,
        yield_ppm: crate::sim::PPM,
        ..SimConfig::default()
    };
    let world = World::new(1, config);
    let env = world.env(0);
    let spin = async {
        loop {
            env.yield_if_needed().await;
        }
    };
    let failure = world.run::<()>(spin).unwrap_err();
    assert_eq!(failure, Failure::Livelock { polls: 10_000 });
}

#[test]
fn a_spinning_task_does_not_stop_time() {
    let config = SimConfig {
        yield_ppm: crate::sim::PPM,
        ..SimConfig::default()
    };
    let world = World::new(1, config);
    let env = world.env(0);
    let done = Rc::new(Cell::new(false));
    let seen = Rc::clone(&done);
    let file_env = env.clone();
    drop(env.spawn(TaskClass::Flush, async move {
        create(&file_env, "file", Access::ReadWrite).await;
        seen.set(true);
    }));
    world
        .run(async {
            while !done.get() {
                env.yield_if_needed().await;
            }
        })
        .unwrap();
}

#[test]
fn a_panic_ends_its_task_alone_and_is_reported() {
    let world = world(1);
    let handle = world.env(0).spawn(TaskClass::Flush, async {
        assert_eq!(1, 2, "planted");
    });
    let panic = world.run(handle).unwrap().unwrap_err();
    assert!(panic.0.contains("planted"));
    assert_eq!(world.task_panics().len(), 1);
    let failure = world.run(async { panic!("in the main future") });
    let Err(Failure::TaskPanic(panic)) = failure else {
        panic!("no failure");
    };
    assert_eq!(panic.0, "in the main future");
}

#[test]
fn a_dropped_write_may_happen_or_not_and_one_not_started_never_does() {
    let mut seen = BTreeSet::new();
    for seed in 0..300 {
        let world = world(seed);
        let env = world.env(0);
        let was_dropped = world
            .run(async {
                let file = create(&env, "file", Access::ReadWrite).await;
                file.preallocate(2 * 4096).await.unwrap();
                drop(file.write_at(4096, page(1)));
                let write = std::pin::pin!(file.write_at(0, page(1)));
                let pause = std::pin::pin!(env.sleep(Duration::from_micros(5)));
                let first = futures_util::future::select(write, pause).await;
                matches!(first, futures_util::future::Either::Right(_))
            })
            .unwrap();
        world.run(env.sleep(Duration::from_secs(1))).unwrap();
        if was_dropped {
            seen.insert(blocks(world.read_file(Path::new("file"))));
        }
    }
    assert_eq!(seen, BTreeSet::from([vec![0, 0], vec![1, 0]]));
}

#[test]
fn a_cut_run_leaves_nothing_behind_that_acts() {
    struct Acts(SimFile, Rc<Cell<bool>>);
    impl Drop for Acts {
        fn drop(&mut self) {
            let write = Box::pin(self.0.write_at(0, page(9)));
            drop(futures_util::FutureExt::now_or_never(write));
            self.1.set(true);
        }
    }
    let world = world(1);
    let env = world.env(0);
    let dropped = Rc::new(Cell::new(false));
    let flag = Rc::clone(&dropped);
    let inner = env.clone();
    let cut = world.run_until_crash(
        async {
            let file = create(&env, "file", Access::ReadWriteDurable).await;
            let _guard = Acts(file.clone(), Rc::clone(&flag));
            drop(env.spawn(TaskClass::Flush, async move {
                let _guard = Acts(file, flag);
                inner.sleep(Duration::from_mins(1)).await;
            }));
            env.sleep(Duration::from_mins(1)).await;
        },
        CrashPoint::AtTime(Duration::from_secs(1)),
    );
    assert_eq!(cut, Ok(None));
    assert_eq!(world.run(async {}), Err(Failure::Stopped));
    assert!(dropped.replace(false), "the main future is gone");
    assert_eq!(world.calls(crate::IoOp::Write, ""), 0);
    let image = world.crash();
    assert!(dropped.get(), "and so are the tasks");
    assert_eq!(image.read_file(Path::new("file")), Some(vec![]));
}

#[test]
fn every_crash_point_cuts_where_it_says() {
    let program = async |env: SimEnv| {
        let file = create(&env, "file", Access::ReadWriteDurable).await;
        for block in 0..10 {
            file.write_at(block * 4096, page(1)).await.unwrap();
        }
    };
    let whole = world(5);
    whole.run(program(whole.env(0))).unwrap();
    for count in 0..whole.io_count() {
        let world = world(5);
        let cut = world.run_until_crash(program(world.env(0)), CrashPoint::AfterIos(count));
        assert_eq!(cut, Ok(None));
        assert_eq!(world.io_count(), count);
    }
    for count in 0..whole.poll_count() {
        let world = world(5);
        let cut = world.run_until_crash(program(world.env(0)), CrashPoint::AfterPolls(count));
        assert_eq!(cut, Ok(None));
        assert_eq!(world.poll_count(), count);
    }
    let world = world(5);
    let point = CrashPoint::AfterIos(u64::MAX);
    assert_eq!(
        world.run_until_crash(program(world.env(0)), point),
        Ok(Some(()))
    );
}

#[test]
fn messages_keep_their_order_per_pair_and_no_other() {
    let mut interleavings = BTreeSet::new();
    for seed in 0..50 {
        let world = world(seed);
        let (ports, submitters) = world.mesh::<(usize, u32)>(3, 64);
        let received = world
            .run(async {
                for number in 0..5 {
                    ports[1].send(0, (1, number)).unwrap();
                    ports[2].send(0, (2, number)).unwrap();
                    submitters[0].try_submit((3, number)).unwrap();
                }
                let mut received = Vec::new();
                while received.len() < 15 {
                    ports[0].recv(&mut received, 3).await;
                }
                received
            })
            .unwrap();
        for sender in 1..=3 {
            let from = received.iter().filter(|message| message.0 == sender);
            assert!(from.map(|message| message.1).eq(0..5));
        }
        interleavings.insert(received);
    }
    assert!(interleavings.len() > 40);
}

#[test]
fn queues_are_bounded_and_a_dropped_port_closes_them() {
    let world = world(1);
    let (mut ports, submitters) = world.mesh::<Arc<()>>(2, 2);
    let token = Arc::new(());
    for _ in 0..2 {
        submitters[0].try_submit(Arc::clone(&token)).unwrap();
        ports[1].send(0, Arc::clone(&token)).unwrap();
    }
    assert!(matches!(
        submitters[0].try_submit(Arc::clone(&token)),
        Err(SendError::Full(_))
    ));
    assert!(matches!(
        ports[1].send(0, Arc::clone(&token)),
        Err(SendError::Full(_))
    ));
    assert_eq!(Arc::strong_count(&token), 5);
    drop(ports.remove(0));
    assert_eq!(Arc::strong_count(&token), 1);
    assert!(matches!(
        submitters[0].try_submit(token),
        Err(SendError::Closed(_))
    ));
}

#[test]
fn a_stalled_shard_does_not_stop_the_others() {
    let world = world(1);
    world.stall_tasks(0, Duration::from_secs(1));
    let slow = world.env(0).spawn(TaskClass::Wal, async {});
    let (client, fast_env) = (world.client(), world.env(1));
    world
        .run(async {
            fast_env.spawn(TaskClass::Wal, async {}).await.unwrap();
            assert!(client.now() < Duration::from_millis(1));
            slow.await.unwrap();
            assert!(client.now() >= Duration::from_secs(1));
        })
        .unwrap();
}

#[test]
fn a_lock_is_exclusive_until_it_is_dropped() {
    let world = world(1);
    let env = world.env(0);
    world
        .run(async {
            let path = Path::new("lock");
            let held = env.lock(path).await.unwrap();
            let refused = env.lock(path).await.unwrap_err();
            assert_eq!(refused.kind(), &IoErrorKind::Locked);
            drop(held);
            env.lock(path).await.unwrap();
        })
        .unwrap();
}

#[test]
fn groups_draw_their_own_random_bits() {
    let world = world(1);
    let (first, second) = (world.env(0), world.env(1));
    let drawn = [first.random_u64(), second.random_u64(), first.random_u64()];
    assert_eq!(BTreeSet::from(drawn).len(), 3);
    let again = super::world(1);
    assert_eq!(again.env(1).random_u64(), drawn[1]);
    assert_ne!(super::world(2).env(1).random_u64(), drawn[1]);
    assert_ne!(Rng::new(1).next_u64(), drawn[0]);
}

#[test]
fn the_wall_clock_jumps_and_time_does_not() {
    let world = world(1);
    let env = world.env(0);
    let (wall, time) = (env.wall_clock_us(), env.now());
    world.jump_wall_clock(-5_000_000);
    assert_eq!(env.wall_clock_us(), wall - 5_000_000);
    assert_eq!(env.now(), time);
}
