//! The hot path is synchronous: a hit in memory allocates nothing and spawns nothing.
//!
//! A test binary of its own, because it counts every allocation of the process; and one test,
//! because tests that run beside it would be counted too. A task cannot be spawned without an
//! allocation, as the control at the start shows, so no allocation means no spawn as well.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests"
)]
#![expect(clippy::disallowed_types, reason = "that list is for shards")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_channel::{mpsc, oneshot};
use futures_executor::block_on;
use futures_util::StreamExt;
use lightning_db::Database;
use lightning_io::glommio::{ExecutorConfig, Executors, GlommioEnv, GlommioPort};
use lightning_io::{Env, TaskClass};
use lightning_shards::client::Client;
use lightning_shards::{
    Durability, Identity, KeyspaceId, OpenMode, Ops, Probe, Request, Shard, ShardConfig, ShardId,
    StorageKey, Timestamp, finish_create, open_root,
};

/// Rows that are read: more than one leaf of the tree holds.
const ROWS: u32 = 1_000;

/// Allocations that a cached `Database::get` makes from its call to its answer, on both threads
/// together: the stored key, the reply's channel, and the value that the caller keeps.
const GET_ALLOCATIONS: u64 = 3;

/// Gets between two counts: they take far less time than passes between two ticks of a shard.
const RUN_GETS: usize = 10;

thread_local! {
    /// Allocations of this thread. Constant, and without a destructor: counting allocates nothing.
    static OF_THREAD: Cell<u64> = const { Cell::new(0) };
}

/// Allocations of all threads.
static OF_PROCESS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `alloc`, which is the system's too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: as in `alloc`; `old` came from the system's allocator.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as in `realloc`.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note() {
    OF_PROCESS.fetch_add(1, Ordering::Relaxed);
    OF_THREAD.with(|count| count.set(count.get() + 1));
}

/// Runs something, and returns how often this thread allocated meanwhile.
fn allocations(run: impl FnOnce()) -> u64 {
    let before = OF_THREAD.with(Cell::get);
    run();
    OF_THREAD.with(Cell::get) - before
}

fn key(row: u32) -> String {
    format!("key-{row:06}")
}

fn value(row: u32) -> Vec<u8> {
    row.to_le_bytes().repeat(20)
}

/// What the shard's thread reports of one pass over all keys.
#[derive(Debug, PartialEq, Eq)]
struct Pass {
    allocations: u64,
    found: u32,
    absent: u32,
    from_disk: u32,
}

/// Probes every key, and as many that are not there.
fn probe_all<E: Env>(shard: &Shard<E>) -> Pass {
    let keys: Vec<(u32, StorageKey, StorageKey)> = (0..ROWS)
        .map(|row| {
            let absent = format!("key-{row:06}-absent");
            let stored = |key: &str| StorageKey::new(KeyspaceId::DEFAULT, key.as_bytes());
            (row, stored(&key(row)), stored(&absent))
        })
        .collect();
    let expected: Vec<Vec<u8>> = (0..ROWS).map(value).collect();
    let mut pass = Pass {
        allocations: 0,
        found: 0,
        absent: 0,
        from_disk: 0,
    };
    pass.allocations = allocations(|| {
        for ((_, key, absent), expected) in keys.iter().zip(&expected) {
            let is_right = |version: Option<lightning_shards::Version<'_>>| {
                version.is_some_and(|version| version.value == Some(expected.as_slice()))
            };
            match shard.probe(key, Timestamp::MAX, is_right) {
                Ok(Probe::Known(right)) => pass.found += u32::from(right),
                Ok(Probe::NeedsDisk) => pass.from_disk += 1,
                Err(_) => {}
            }
            match shard.probe(absent, Timestamp::MAX, |version| version.is_none()) {
                Ok(Probe::Known(right)) => pass.absent += u32::from(right),
                Ok(Probe::NeedsDisk) => pass.from_disk += 1,
                Err(_) => {}
            }
        }
    });
    pass
}

/// Serves a shard, and probes it whenever it is asked to.
async fn serve_and_probe(
    env: GlommioEnv,
    port: GlommioPort<Request>,
    root: std::path::PathBuf,
    identity: Identity,
    mut asked: mpsc::UnboundedReceiver<oneshot::Sender<Pass>>,
) {
    let control = allocations(|| drop(env.spawn(TaskClass::Foreground, async {})));
    assert!(
        control > 0,
        "a spawn is an allocation, so it would be counted"
    );
    let (id, config) = (ShardId(0), ShardConfig::default());
    Shard::create(&env, &root, &identity, id, &config)
        .await
        .unwrap();
    let shard = Shard::open(&env, &root, &identity, id, &config)
        .await
        .unwrap();
    let serving = env.spawn(TaskClass::Foreground, shard.clone().serve(port));
    while let Some(reply) = asked.next().await {
        reply.send(probe_all(&shard)).unwrap();
    }
    serving.await.unwrap();
}

fn ask(asking: &mpsc::UnboundedSender<oneshot::Sender<Pass>>) -> Pass {
    let (reply, answer) = oneshot::channel();
    asking.unbounded_send(reply).unwrap();
    block_on(answer).unwrap()
}

fn a_hit_on_the_shard_allocates_nothing(root: &Path) {
    let config = ExecutorConfig::default();
    let place = root.to_path_buf();
    let make_root = move |_, env: GlommioEnv, _port: GlommioPort<()>| async move {
        let root = open_root(&env, &place, OpenMode::Create, Some(1), 1)
            .await
            .unwrap();
        finish_create(&env, &place, &root.identity).await.unwrap();
        root.identity
    };
    let (executors, _) = Executors::start(&config, 1, make_root).unwrap();
    let identity = executors.join().remove(0).unwrap();

    let (asking, asked) = mpsc::unbounded();
    // One shard takes it; the closure has to be cloneable for others that there are not.
    let asked = Arc::new(Mutex::new(Some(asked)));
    let place = root.to_path_buf();
    let make = move |_, env, port| {
        let asked = asked.lock().unwrap().take().expect("there is one shard");
        serve_and_probe(env, port, place, identity, asked)
    };
    let (executors, submitters) = Executors::start(&config, 1, make).unwrap();
    let client = Client::new(identity.router(), submitters);
    let mut ops = Ops::default();
    for row in 0..ROWS {
        ops.put(KeyspaceId::DEFAULT, key(row).as_bytes(), &value(row))
            .unwrap();
    }
    block_on(client.write(ops, Durability::Sync)).unwrap();
    let hits = Pass {
        allocations: 0,
        found: ROWS,
        absent: ROWS,
        from_disk: 0,
    };
    assert_eq!(ask(&asking), hits, "in the memtable");

    block_on(client.flush()).unwrap();
    // Reads bring the pages into the cache, if the flush has not left them there.
    for row in 0..ROWS {
        let found = block_on(client.get(KeyspaceId::DEFAULT, key(row).as_bytes())).unwrap();
        assert_eq!(found.as_deref(), Some(value(row).as_slice()));
    }
    assert_eq!(ask(&asking), hits, "in the page cache");
    drop(asking);
    block_on(client.close()).unwrap();
    executors.join().remove(0).unwrap();
}

fn a_cached_get_allocates_a_fixed_number_of_times(path: &Path) {
    block_on(async {
        let db = Database::builder(path).shards(1).create().await.unwrap();
        let mut batch = lightning_db::Batch::new();
        for row in 0..ROWS {
            batch.put(key(row), value(row));
        }
        db.write(batch).await.unwrap();
        let keys: Vec<_> = (0..ROWS).map(key).collect();
        let values: Vec<_> = (0..ROWS).map(value).collect();
        let rows: Vec<_> = keys.iter().zip(&values).collect();
        for place in ["memtable", "page cache"] {
            // Timers of the shard tick meanwhile, and allocate. Of many short runs some have none,
            // and the first ones, which fill caches and grow queues, do not count either.
            let (gets, mut least) = (u64::try_from(RUN_GETS).unwrap(), u64::MAX);
            for rows in rows.chunks(RUN_GETS) {
                let before = OF_PROCESS.load(Ordering::Relaxed);
                for (key, value) in rows {
                    let found = db.get(key).await.unwrap();
                    assert!(found.as_deref() == Some(value.as_slice()));
                }
                least = least.min(OF_PROCESS.load(Ordering::Relaxed) - before);
            }
            println!("{place}: {least} allocations for {RUN_GETS} gets");
            assert!(least >= gets, "the value is the caller's own");
            assert!(least <= gets * GET_ALLOCATIONS, "{place}: {least}");
            db.flush().await.unwrap();
        }
        db.close().await.unwrap();
    });
}

#[test]
fn a_hit_in_memory_stays_on_the_hot_path() {
    let directory = tempfile::tempdir().unwrap();
    a_hit_on_the_shard_allocates_nothing(&directory.path().join("shard"));
    a_cached_get_allocates_a_fixed_number_of_times(&directory.path().join("db"));
}
