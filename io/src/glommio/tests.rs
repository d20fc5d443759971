use std::cell::RefCell;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;
#[expect(clippy::disallowed_types, reason = "bounds the time of a test")]
use std::time::Instant;

use futures_channel::oneshot;
use futures_executor::block_on;

use super::*;
use crate::mesh::Submitter;
use crate::{
    Access, BLOCK_BYTES, Creation, Env, File, FileKind, IoBuf, IoErrorKind, IoOp, Port, SendError,
    Submit, TaskClass, TaskPanic, to_u64,
};

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test prepares its own directory"
    )]
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lightning-io-{}-{number}", process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test removes its own directory"
    )]
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn config() -> ExecutorConfig {
    ExecutorConfig {
        name: "test".to_owned(),
        ..ExecutorConfig::default()
    }
}

type Reply = oneshot::Sender<u64>;

/// Runs one shard whose main future needs no messages.
fn on_shard<T, F, Fut>(config: &ExecutorConfig, body: F) -> Result<T, TaskPanic>
where
    T: Send + 'static,
    F: FnOnce(GlommioEnv) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    let make = move |_, env, _port: GlommioPort<()>| body(env);
    let (executors, _) = Executors::start(config, 1, make).unwrap();
    executors.join().remove(0)
}

fn pattern(len: usize, seed: u8) -> IoBuf {
    let mut buf = IoBuf::zeroed(len);
    for (index, byte) in buf.iter_mut().enumerate() {
        *byte = u8::try_from(index % 251).unwrap() ^ seed;
    }
    buf
}

async fn write_sync_and_read_back(env: GlommioEnv, path: PathBuf, direct: bool) {
    let file = env
        .open(&path, Access::ReadWrite, Creation::MustCreate)
        .await
        .unwrap();
    assert_eq!(file.is_direct(), direct);
    assert_eq!(file.path(), path);
    // From the heap, from the executor's memory, and from what a read brought.
    file.write_at(0, pattern(8192, 1)).await.unwrap();
    let mut own = env.allocate(5000);
    assert_eq!(own.len(), 8192);
    assert!(own.iter().all(|&byte| byte == 0));
    own.copy_from_slice(&pattern(8192, 2));
    file.write_at(8192, own).await.unwrap();
    let read = file.read_at(0, 8192).await.unwrap();
    assert_eq!(*read, *pattern(8192, 1));
    file.write_at(16384, read).await.unwrap();
    file.sync().await.unwrap();
    assert_eq!(file.length().await.unwrap(), 24576);
    file.close().await.unwrap();

    let file = env
        .open(&path, Access::Read, Creation::MustExist)
        .await
        .unwrap();
    let mut read = file.read_at(8192, 16384).await.unwrap();
    assert_eq!(read.as_ptr().addr() % BLOCK_BYTES, 0);
    assert_eq!(read[..8192], pattern(8192, 2)[..]);
    assert_eq!(read[8192..], pattern(8192, 1)[..]);
    // What was read can be changed, and the file is not.
    read[0] ^= 0xFF;
    assert_eq!(read[0], pattern(1, 2)[0] ^ 0xFF);
    assert_eq!(read[1..8192], pattern(8192, 2)[1..]);
    assert_eq!(file.read_at(8192, 4096).await.unwrap()[0], pattern(1, 2)[0]);
    let denied = file.write_at(0, pattern(4096, 0)).await.unwrap_err();
    assert_eq!((denied.op(), denied.offset()), (IoOp::Write, Some(0)));
}

#[test]
fn what_was_written_and_synced_reads_back() {
    let scratch = Scratch::new();
    let direct = Preflight::check(&scratch.0).unwrap().does_direct_io();
    let path = scratch.join("a");
    let config = ExecutorConfig {
        direct_io: direct,
        ..config()
    };
    on_shard(&config, move |env| {
        write_sync_and_read_back(env, path, direct)
    })
    .unwrap();
}

#[test]
fn buffered_files_do_the_same() {
    let scratch = Scratch::new();
    let path = scratch.join("a");
    let config = ExecutorConfig {
        direct_io: false,
        ..config()
    };
    on_shard(&config, |env| write_sync_and_read_back(env, path, false)).unwrap();
}

#[test]
fn more_reads_than_registered_memory_come_back_whole() {
    let scratch = Scratch::new();
    let path = scratch.join("a");
    let config = ExecutorConfig {
        io_memory_bytes: 64 << 10,
        ..config()
    };
    on_shard(&config, move |env| async move {
        let file = env
            .open(&path, Access::ReadWrite, Creation::MustCreate)
            .await
            .unwrap();
        for block in 0..32_u8 {
            let offset = u64::from(block) * 16384;
            file.write_at(offset, pattern(16384, block)).await.unwrap();
        }
        // All held at once: eight times what is registered.
        let mut held = Vec::new();
        for block in 0..32_u8 {
            held.push(file.read_at(u64::from(block) * 16384, 16384).await.unwrap());
        }
        for (block, read) in (0..32_u8).zip(&held) {
            assert_eq!(read.as_ptr().addr() % BLOCK_BYTES, 0);
            assert_eq!(**read, *pattern(16384, block));
        }
    })
    .unwrap();
}

#[test]
fn a_read_past_the_end_is_short() {
    for direct_io in [true, false] {
        let scratch = Scratch::new();
        let path = scratch.join("a");
        let config = ExecutorConfig {
            direct_io,
            ..config()
        };
        on_shard(&config, move |env| async move {
            let file = env
                .open(&path, Access::ReadWrite, Creation::MustCreate)
                .await
                .unwrap();
            file.write_at(0, pattern(8192, 7)).await.unwrap();
            let found = async |offset, expected| {
                let error = file.read_at(offset, expected).await.unwrap_err();
                assert_eq!((error.op(), error.offset()), (IoOp::Read, Some(offset)));
                match *error.kind() {
                    IoErrorKind::ShortRead { expected: e, found } if e == expected => found,
                    ref other => panic!("{other:?}"),
                }
            };
            assert_eq!(found(0, 12288).await, 8192);
            assert_eq!(found(4096, 1 << 20).await, 4096);
            assert_eq!(found(8192, 4096).await, 0);
            assert_eq!(found(1 << 40, 4096).await, 0);
        })
        .unwrap();
    }
}

/// The last block of a file that somebody cut in its middle.
#[test]
fn a_file_that_ends_inside_a_block_is_short() {
    for direct_io in [true, false] {
        let scratch = Scratch::new();
        let path = scratch.join("a");
        #[expect(
            clippy::disallowed_methods,
            reason = "a file that no world would write"
        )]
        fs::write(&path, vec![9; 5000]).unwrap();
        let config = ExecutorConfig {
            direct_io,
            ..config()
        };
        let kind = on_shard(&config, move |env| async move {
            let file = env
                .open(&path, Access::Read, Creation::MustExist)
                .await
                .unwrap();
            file.read_at(0, 8192).await.unwrap_err().kind().clone()
        });
        let expected = 8192;
        assert_eq!(
            kind.unwrap(),
            IoErrorKind::ShortRead {
                expected,
                found: 5000
            }
        );
    }
}

#[test]
fn unaligned_requests_are_refused_before_the_kernel_sees_them() {
    let scratch = Scratch::new();
    let path = scratch.join("a");
    on_shard(&config(), move |env| async move {
        let file = env
            .open(&path, Access::ReadWrite, Creation::MustCreate)
            .await
            .unwrap();
        assert!(file.read_at(1, 4096).await.is_err());
        assert!(file.read_at(0, 100).await.is_err());
        assert!(file.read_at(0, 0).await.is_err());
        assert!(file.read_at(u64::MAX - 4095, 4096).await.is_err());
        assert!(file.write_at(512, IoBuf::zeroed(4096)).await.is_err());
        // The kernel's own limit on offsets.
        assert!(file.write_at(1 << 63, IoBuf::zeroed(4096)).await.is_err());
    })
    .unwrap();
}

#[test]
fn durable_writes_carry_the_flag_and_read_back() {
    for direct_io in [true, false] {
        let scratch = Scratch::new();
        let path = scratch.join("wal");
        let config = ExecutorConfig {
            direct_io,
            ..config()
        };
        on_shard(&config, move |env| async move {
            let file = env
                .open(&path, Access::ReadWriteDurable, Creation::MustCreate)
                .await
                .unwrap();
            // The kernel tells of each descriptor with which flags it is open.
            assert_ne!(open_flags(&path) & libc::O_DSYNC, 0);
            assert_eq!(open_flags(&path) & libc::O_DIRECT != 0, direct_io);
            for turn in 0..8 {
                let offset = u64::from(turn) * 4096;
                file.write_at(offset, pattern(4096, turn)).await.unwrap();
            }
            for turn in 0..8 {
                let read = file.read_at(u64::from(turn) * 4096, 4096).await.unwrap();
                assert_eq!(*read, *pattern(4096, turn));
            }
        })
        .unwrap();
    }
}

/// The flags of this process's descriptor of a file.
fn open_flags(path: &Path) -> i32 {
    let descriptor = fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|link| fs::read_link(link).is_ok_and(|target| target == path))
        .unwrap();
    let number = descriptor.file_name().unwrap().to_str().unwrap();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    i32::from_str_radix(flags.unwrap().trim(), 8).unwrap()
}

#[test]
fn preallocation_lengthens_and_never_shortens() {
    for direct_io in [true, false] {
        let scratch = Scratch::new();
        let path = scratch.join("a");
        let config = ExecutorConfig {
            direct_io,
            ..config()
        };
        on_shard(&config, move |env| async move {
            let file = env
                .open(&path, Access::ReadWrite, Creation::MustCreate)
                .await
                .unwrap();
            file.write_at(0, pattern(4096, 3)).await.unwrap();
            file.preallocate(0).await.unwrap();
            file.preallocate(1 << 20).await.unwrap();
            assert_eq!(file.length().await.unwrap(), 1 << 20);
            file.preallocate(4096).await.unwrap();
            assert_eq!(file.length().await.unwrap(), 1 << 20);
            assert_eq!(*file.read_at(0, 4096).await.unwrap(), *pattern(4096, 3));
            let tail = file.read_at((1 << 20) - 4096, 4096).await.unwrap();
            assert!(tail.iter().all(|&byte| byte == 0));
            let error = file.preallocate(u64::MAX).await.unwrap_err();
            assert_eq!(error.kind(), &IoErrorKind::NoSpace);
            // More than any disk has.
            let error = file.preallocate(1 << 62).await.unwrap_err();
            assert_eq!(
                (error.op(), error.kind()),
                (IoOp::Resize, &IoErrorKind::NoSpace)
            );
        })
        .unwrap();
    }
}

#[test]
fn names_that_are_missing_or_taken_are_told_apart() {
    let scratch = Scratch::new();
    let root = scratch.0.clone();
    on_shard(&config(), move |env| async move {
        let path = root.join("a");
        let open = async |path: PathBuf, creation| {
            env.open(&path, Access::ReadWrite, creation)
                .await
                .map_err(|error| (error.op(), error.kind().clone()))
        };
        let missing = (IoOp::Open, IoErrorKind::NotFound);
        let taken = (IoOp::Create, IoErrorKind::AlreadyExists);
        assert_eq!(
            open(path.clone(), Creation::MustExist).await.err(),
            Some(missing)
        );
        open(path.clone(), Creation::MustCreate).await.unwrap();
        assert_eq!(
            open(path.clone(), Creation::MustCreate).await.err(),
            Some(taken)
        );
        let orphan = root.join("no/such/directory");
        let error = open(orphan, Creation::MustCreate).await.unwrap_err();
        assert_eq!(error, (IoOp::Create, IoErrorKind::NotFound));
        // A name that no system call can take is an error too.
        let odd = open(PathBuf::from("a\0b"), Creation::MustExist).await;
        assert!(odd.is_err());
        assert!(env.remove_file(Path::new("a\0b")).await.is_err());
    })
    .unwrap();
}

#[test]
fn directories_list_their_names_in_order() {
    let scratch = Scratch::new();
    let root = scratch.0.clone();
    on_shard(&config(), move |env| async move {
        env.create_dir(&root.join("d")).await.unwrap();
        let error = env.create_dir(&root.join("d")).await.unwrap_err();
        assert_eq!(error.kind(), &IoErrorKind::AlreadyExists);
        for name in ["c", "a", "b"] {
            env.open(&root.join(name), Access::ReadWrite, Creation::MustCreate)
                .await
                .unwrap()
                .close()
                .await
                .unwrap();
        }
        std::os::unix::fs::symlink("a", root.join("e")).unwrap();
        env.rename(&root.join("c"), &root.join("b")).await.unwrap();
        env.sync_dir(&root).await.unwrap();
        let listed = env.read_dir(&root).await.unwrap();
        let listed: Vec<_> = listed.iter().map(|e| (e.name.as_str(), e.kind)).collect();
        assert_eq!(
            listed,
            [
                ("a", FileKind::File),
                ("b", FileKind::File),
                ("d", FileKind::Directory),
                ("e", FileKind::Other),
            ]
        );
        env.remove_file(&root.join("a")).await.unwrap();
        let error = env.remove_file(&root.join("a")).await.unwrap_err();
        assert_eq!(
            (error.op(), error.kind()),
            (IoOp::Remove, &IoErrorKind::NotFound)
        );
        let error = env
            .rename(&root.join("x"), &root.join("y"))
            .await
            .unwrap_err();
        assert_eq!(
            (error.op(), error.kind()),
            (IoOp::Rename, &IoErrorKind::NotFound)
        );
        assert!(env.sync_dir(&root.join("b")).await.is_err());
        assert!(env.read_dir(&root.join("nowhere")).await.is_err());
    })
    .unwrap();
}

#[test]
fn a_lock_is_held_until_it_is_dropped() {
    let scratch = Scratch::new();
    let path = scratch.join("LOCK");
    on_shard(&config(), move |env| async move {
        let held = env.lock(&path).await.unwrap();
        let error = env.lock(&path).await.unwrap_err();
        assert_eq!(
            (error.op(), error.kind()),
            (IoOp::Lock, &IoErrorKind::Locked)
        );
        drop(held);
        env.lock(&path).await.unwrap();
    })
    .unwrap();
}

#[test]
fn a_file_system_without_write_permission_says_so() {
    // Root may write wherever permissions forbid it, but not to the kernel's own tables.
    let target = if rustix::process::geteuid().is_root() {
        let sealed = Path::new("/sys/kernel/lightning-test").to_path_buf();
        (sealed, None)
    } else {
        let scratch = Scratch::new();
        let mut mode = fs::metadata(&scratch.0).unwrap().permissions();
        mode.set_readonly(true);
        fs::set_permissions(&scratch.0, mode).unwrap();
        (scratch.join("a"), Some(scratch))
    };
    let path = target.0.clone();
    let kind = on_shard(&config(), move |env| async move {
        let opened = env.open(&path, Access::ReadWrite, Creation::MustCreate);
        opened.await.unwrap_err().kind().clone()
    });
    assert_eq!(kind.unwrap(), IoErrorKind::PermissionDenied);
}

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
