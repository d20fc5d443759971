//! Files, directories and locks.

use super::*;

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
