//! Shards as threads: messages, sleep and wake-ups, start and end.

use super::*;

/// Answers every request until told to end.
async fn answer(port: GlommioPort<Option<Reply>>) -> u64 {
    let mut got = Vec::new();
    let mut answered = 0;
    loop {
        port.recv(&mut got, 16).await;
        assert!(!got.is_empty() && got.len() <= 16);
        for request in got.drain(..) {
            let Some(reply) = request else {
                return answered;
            };
            answered += 1;
            assert!(reply.send(answered).is_ok());
        }
    }
}

fn ask(shard: &Submitter<Option<Reply>>) -> Result<u64, oneshot::Canceled> {
    let (sender, reply) = oneshot::channel();
    let mut request = Some(sender);
    loop {
        match shard.try_submit(request) {
            Ok(()) => return block_on(reply),
            Err(SendError::Full(back)) => request = back,
            Err(SendError::Closed(_)) => return Err(oneshot::Canceled),
        }
        thread::yield_now();
    }
}

#[test]
#[expect(clippy::disallowed_types, reason = "bounds the time of the test")]
fn a_parked_shard_wakes_for_every_submission() {
    for spin in [
        Spin::For(Duration::ZERO),
        Spin::For(Duration::from_micros(30)),
    ] {
        let config = ExecutorConfig { spin, ..config() };
        let make = |_, _env, port| answer(port);
        let (executors, submitters) = Executors::start(&config, 1, make).unwrap();
        let shard = &submitters[0];
        let start = Instant::now();
        let rounds: u64 = thread::scope(|scope| {
            let ask_often = |seed: u64| {
                let mut random = seed;
                for round in 0..5_000 {
                    if start.elapsed() > Duration::from_secs(2) {
                        // A machine with other work to do gets fewer rounds.
                        return round;
                    }
                    // Pauses of up to 60 us, so that the shard is met polling, parking, parked.
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    for _ in 0..(random >> 50) % 2048 {
                        std::hint::spin_loop();
                    }
                    ask(shard).unwrap();
                }
                5_000
            };
            let other = scope.spawn(move || ask_often(1));
            ask_often(2) + other.join().unwrap()
        });
        shard.try_submit(None).unwrap();
        assert_eq!(executors.join(), [Ok(rounds)]);
        assert_eq!(ask(shard), Err(oneshot::Canceled));
    }
}

#[test]
fn requests_that_wait_when_a_shard_ends_are_cancelled() {
    for _ in 0..20 {
        let make = |_, _env, port| answer(port);
        let (executors, submitters) = Executors::start(&config(), 1, make).unwrap();
        let shard = &submitters[0];
        thread::scope(|scope| {
            for _ in 0..3 {
                // Each ends by a cancelled reply; one that hangs, hangs the test.
                scope.spawn(move || while ask(shard).is_ok() {});
            }
            for _ in 0..50 {
                ask(shard).unwrap();
            }
            while shard
                .try_submit(None)
                .is_err_and(|e| matches!(e, SendError::Full(_)))
            {
                thread::yield_now();
            }
        });
        executors.join().remove(0).unwrap();
    }
}

#[test]
fn two_shards_play_ping_pong_while_one_writes() {
    const ROUNDS: u64 = 10_000;
    let scratch = Scratch::new();
    for spin in [
        Spin::For(Duration::ZERO),
        Spin::For(Duration::from_micros(30)),
        Spin::Forever,
    ] {
        let path = scratch.join(&format!("{spin:?}"));
        let config = ExecutorConfig { spin, ..config() };
        let make = move |index: usize, env: GlommioEnv, port: GlommioPort<u64>| async move {
            assert_eq!(port.peers(), 2);
            let peer = 1 - index;
            let writer = (index == 0).then(|| {
                let task_env = env.clone();
                env.spawn(TaskClass::Wal, async move {
                    let file = task_env
                        .open(&path, Access::ReadWriteDurable, Creation::MustCreate)
                        .await
                        .unwrap();
                    for turn in 0..20 {
                        file.write_at(turn * 4096, pattern(4096, 0)).await.unwrap();
                    }
                })
            });
            if index == 0 {
                port.send(peer, 0).unwrap();
            }
            let mut got = Vec::new();
            let mut last = 0;
            while last + 1 < ROUNDS {
                port.recv(&mut got, 4).await;
                assert_eq!(got.len(), 1);
                last = got.pop().unwrap();
                if last < ROUNDS {
                    port.send(peer, last + 1).unwrap();
                }
            }
            if let Some(writer) = writer {
                writer.await.unwrap();
            }
            last
        };
        let (executors, _) = Executors::start(&config, 2, make).unwrap();
        let mut ends: Vec<u64> = executors.join().into_iter().map(Result::unwrap).collect();
        ends.sort_unstable();
        assert_eq!(ends, [ROUNDS - 1, ROUNDS]);
    }
}

#[test]
fn a_shard_sends_to_itself_from_another_task() {
    let make = |_, env: GlommioEnv, port: GlommioPort<u64>| async move {
        let port = Rc::new(port);
        let sender = Rc::clone(&port);
        let pause = env.clone();
        drop(env.spawn(TaskClass::Maintenance, async move {
            for number in 0..100 {
                pause.sleep(Duration::from_micros(100)).await;
                sender.send(0, number).unwrap();
            }
        }));
        let mut got = Vec::new();
        while got.len() < 100 {
            port.recv(&mut got, 8).await;
        }
        got
    };
    let (executors, _) = Executors::start(&config(), 1, make).unwrap();
    let numbers: Vec<u64> = (0..100).collect();
    assert_eq!(executors.join(), [Ok(numbers)]);
}

#[test]
fn more_shards_than_cpus_run_unpinned() {
    let shards = thread::available_parallelism().unwrap().get() + 1;
    let make = |index: usize, _env, _port: GlommioPort<()>| async move { index };
    let (executors, submitters) = Executors::start(&config(), shards, make).unwrap();
    assert_eq!(submitters.len(), shards);
    assert!(executors.cpus().iter().all(Option::is_none));
    let outcomes: Vec<usize> = executors.join().into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes, (0..shards).collect::<Vec<_>>());
}

#[test]
fn a_failed_start_is_an_error_and_leaves_no_thread() {
    let config = ExecutorConfig {
        // More than a ring can have.
        ring_depth: 1 << 30,
        name: "doomed".to_owned(),
        ..config()
    };
    let make = |_, _env, _port: GlommioPort<()>| async {};
    let error = Executors::start(&config, 2, make).unwrap_err();
    assert_eq!(error.op(), IoOp::Start);
    assert!(
        matches!(error.kind(), IoErrorKind::Unsupported { .. }),
        "{error}"
    );
    while threads_named("doomed") > 0 {
        thread::yield_now();
    }
}

fn threads_named(prefix: &str) -> usize {
    fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .filter(|name| name.starts_with(prefix))
        .count()
}

#[test]
fn executors_tell_when_they_are_finished() {
    let make = |_, _env, port| answer(port);
    let (executors, submitters) = Executors::start(&config(), 1, make).unwrap();
    assert!(!executors.is_finished());
    let executors = executors.try_join().unwrap_err();
    ask(&submitters[0]).unwrap();
    submitters[0].try_submit(None).unwrap();
    while !executors.is_finished() {
        thread::yield_now();
    }
    assert_eq!(executors.try_join().unwrap(), [Ok(1)]);
}

#[test]
fn preflight_finds_this_machine_fit() {
    let scratch = Scratch::new();
    let found = Preflight::check(&scratch.0).unwrap();
    assert!(!found.kernel.is_empty());
    assert!(found.open_files.limit.is_none_or(|limit| limit >= 256));
    assert_eq!(
        found.warnings.is_empty(),
        found.does_direct_io() && found.long_slice
    );
    // The probe leaves nothing behind.
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0);
}

/// glommio can sleep on a runnable task when its thread loses the CPU at the wrong moment.
#[test]
fn a_shard_beside_busy_threads_does_not_fall_asleep() {
    let cpu = cpus::usable()[0];
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut set = rustix::thread::CpuSet::new();
                set.set(cpu);
                rustix::thread::sched_setaffinity(None, &set).unwrap();
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let config = ExecutorConfig {
            // Shorter than usual, so that the moment comes often.
            preempt_timer: Duration::from_micros(20),
            spin: Spin::For(Duration::ZERO),
            long_slice: false,
            ..config()
        };
        let ended = on_shard(&config, |env| async move {
            // As many turns as the machine gives in the time: it hangs or it does not.
            let end = env.now() + Duration::from_secs(2);
            while env.now() < end {
                let missing = Path::new("/no/such/file");
                let opened = env.open(missing, Access::Read, Creation::MustExist);
                assert!(opened.await.is_err());
                env.spawn(TaskClass::Flush, async {}).await.unwrap();
            }
        });
        done.store(true, Ordering::Relaxed);
        ended.unwrap();
    });
}

#[test]
fn clocks_go_on_and_sleeps_last() {
    on_shard(&config(), |env| async move {
        let end = env.now() + Duration::from_millis(2);
        env.sleep(Duration::from_millis(2)).await;
        assert!(env.now() >= end);
        // After the year 2020, in microseconds.
        assert!(env.wall_clock_us() > 1_577_836_800 * 1_000_000);
        assert_ne!(env.random_u64(), env.random_u64());
        assert_eq!(env.allocate(1).len(), BLOCK_BYTES);
        assert_eq!(to_u64(env.allocate(1 << 22).len()), 1 << 22);
        env.yield_if_needed().await;
    })
    .unwrap();
}
