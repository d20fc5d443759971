//! Tasks: what is dropped, what panics, what outlives what.

use super::*;

/// Leaves a started write behind at its first suspension.
fn start_and_drop(write: impl Future<Output = ()>) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut write = pin!(write);
    assert!(write.as_mut().poll(&mut cx).is_pending());
}

/// What this crate promises, and what glommio alone would do.
#[test]
fn a_write_whose_future_is_dropped_still_lands() {
    let scratch = Scratch::new();
    let path = scratch.join("a");
    on_shard(&config(), move |env| async move {
        let file = env
            .open(&path, Access::ReadWriteDurable, Creation::MustCreate)
            .await
            .unwrap();
        file.write_at(0, IoBuf::zeroed(8192)).await.unwrap();
        start_and_drop(async { file.write_at(0, pattern(4096, 5)).await.unwrap() });
        // A future that was never polled has started nothing.
        drop(file.write_at(4096, pattern(4096, 6)));
        file.close().await.unwrap();
        let file = loop {
            let again = env.open(&path, Access::Read, Creation::MustExist);
            let again = again.await.unwrap();
            if *again.read_at(0, 4096).await.unwrap() == *pattern(4096, 5) {
                break again;
            }
            env.sleep(Duration::from_millis(1)).await;
        };
        let untouched = file.read_at(4096, 4096).await.unwrap();
        assert!(untouched.iter().all(|&byte| byte == 0));

        let bare = ::glommio::io::OpenOptions::new()
            .read(true)
            .write(true)
            .dma_open(&path)
            .await
            .unwrap();
        let mut buf = bare.alloc_dma_buffer(4096);
        buf.as_bytes_mut().fill(0xEE);
        start_and_drop(async { drop(bare.write_at(buf, 4096).await) });
        env.sleep(Duration::from_millis(20)).await;
        let still = file.read_at(4096, 4096).await.unwrap();
        assert!(
            still.iter().all(|&byte| byte == 0),
            "glommio changed its ways"
        );
        bare.close().await.unwrap();
    })
    .unwrap();
}

#[test]
fn operations_of_a_dropped_task_end_before_its_executor() {
    let scratch = Scratch::new();
    for turn in 0..20_u8 {
        let path = scratch.join(&format!("{turn}"));
        let target = path.clone();
        on_shard(&config(), move |env| async move {
            let file = env
                .open(&target, Access::ReadWrite, Creation::MustCreate)
                .await
                .unwrap();
            file.write_at(0, pattern(1 << 20, turn)).await.unwrap();
            for part in 0..16 {
                let file = file.clone();
                drop(env.spawn(TaskClass::Flush, async move {
                    let offset = part * 65536;
                    file.read_at(offset, 65536).await.unwrap();
                    file.write_at(offset, pattern(65536, turn ^ 0x55))
                        .await
                        .unwrap();
                }));
            }
            // The reads are submitted by the time that the main future ends.
            env.sleep(Duration::from_micros(u64::from(turn) * 20)).await;
        })
        .unwrap();
        #[expect(
            clippy::disallowed_methods,
            reason = "a look from outside of the world"
        )]
        let bytes = fs::read(&path).unwrap();
        let old = pattern(1 << 20, turn);
        let new = pattern(65536, turn ^ 0x55);
        for (part, old) in bytes.chunks(65536).zip(old.chunks(65536)) {
            // Started or not started, but never given up half-way.
            assert!(*part == *new || part == old);
        }
    }
}

/// Panics when dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in a drop");
    }
}

#[test]
fn a_panic_in_a_task_is_reported_and_the_executor_goes_on() {
    on_shard(&config(), |env| async move {
        for class in TaskClass::ALL {
            let failed = env.spawn(class, async move { panic!("task of {class:?}") });
            assert_eq!(
                failed.await,
                Err::<(), _>(TaskPanic(format!("task of {class:?}")))
            );
            assert_eq!(env.spawn(class, async { 7 }).await, Ok(7));
        }
        // A panic in a drop, which nobody can be told of, stays there too.
        let bomb = Bomb;
        let outcome = env.spawn(TaskClass::Foreground, async move {
            let _kept = &bomb;
            1
        });
        drop(outcome.await);
        assert_eq!(env.spawn(TaskClass::Wal, async { 8 }).await, Ok(8));
    })
    .unwrap();
}

#[test]
fn a_panic_in_the_main_future_is_a_value() {
    let make = |index, _env, _port: GlommioPort<()>| async move {
        assert_ne!(index, 1, "shard one fails");
        index
    };
    let (executors, submitters) = Executors::start(&config(), 2, make).unwrap();
    let outcomes = executors.join();
    assert_eq!(outcomes[0], Ok(0));
    let panic = outcomes[1].as_ref().unwrap_err();
    assert!(panic.0.contains("shard one fails"), "{panic}");
    for submitter in submitters {
        assert!(matches!(
            submitter.try_submit(()),
            Err(SendError::Closed(()))
        ));
    }

    let make = |_, _env, _port: GlommioPort<()>| -> std::future::Ready<()> { panic!("no future") };
    let (executors, _) = Executors::start(&config(), 1, make).unwrap();
    assert_eq!(executors.join(), [Err(TaskPanic("no future".to_owned()))]);
}

/// A task that sleeps for ever must not keep what it holds when its shard ends.
#[test]
fn what_tasks_hold_is_dropped_when_the_shard_ends() {
    let (sender, receiver) = oneshot::channel::<()>();
    let held = std::sync::Arc::new(crossbeam_queue::ArrayQueue::new(1));
    held.push(sender).unwrap();
    on_shard(&config(), move |env| async move {
        let sender = held.pop();
        drop(env.spawn(TaskClass::Maintenance, async move {
            std::future::pending::<()>().await;
            drop(sender);
        }));
        let parked = Rc::new(RefCell::new(None));
        let handle = env.spawn(TaskClass::Wal, std::future::pending::<()>());
        *parked.borrow_mut() = Some(handle);
        env.sleep(Duration::from_millis(1)).await;
    })
    .unwrap();
    assert!(block_on(receiver).is_err());
}
