//! One shard: its log, its memtables, its tree, and the loop that serves requests.
//!
//! # Write path
//! 1. A batch gets a timestamp, goes into the log's filling group and into the active memtable, all
//!    in one turn: the log, the memtable and the clock agree on the order.
//! 2. A durable write is answered when its record is on disk, a relaxed one at once.
//! 3. A full memtable is sealed and flushed: it becomes a run in the tree's file, a new superblock
//!    points to it, and the log below it is freed.
//! 4. In the background, runs are merged into the base, piece by piece.
//!
//! # Read path
//! The active memtable, the sealed one, the runs, the base: the first version found at or below the
//! snapshot is the newest. A hit in memory is answered in the same turn. What was committed as
//! durable and is not yet on disk may be read, but the answer is held until it is.
//!
//! # Read-modify-write
//! A write may let the current value decide what it writes: see `update`.
//!
//! # Keyspaces
//! A shard knows them by their numbers alone, and of these only which were dropped: see `dropped`.
//!
//! # Ownership
//! Everything is reached through one `Rc`; tasks of the shard share it. No borrow of a cell lives
//! across an await.

mod create;
mod delete;
mod dropped;
mod estimate;
mod flush;
mod merge;
mod news;
mod policy;
mod read;
mod recovery;
mod reserve;
mod scan;
mod serve;
mod space;
mod throttle;
mod turns;
mod update;
mod write;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use lightning_io::{Env, TaskClass, catch_panic};

use crate::clock::Clock;
use crate::config::ShardConfig;
use crate::memtable::Memtable;
use crate::message::ScanId;
use crate::signal::{Event, Signal};
use crate::superblock::Superblock;
use crate::tree::{Tree, TreeView};
use crate::wal::{RecordHash, Wal};
use crate::{Error, FileOwner, Lsn, Result, ShardId, Timestamp};

pub(crate) use policy::Settings as MergeSettings;
pub use read::{Probe, Version};

use dropped::Dropped;
use merge::Merges;
use scan::Scan;
use space::Space;
use throttle::Throttle;
use turns::Turns;
use write::{Deferred, Waiter};

/// A memtable that is shared between the shard, its flush and open scans.
pub(crate) type SharedMemtable = Rc<RefCell<Memtable>>;

/// The engine of one shard. Clones share it; it never leaves its thread.
pub struct Shard<E: Env>(Rc<Inner<E>>);

impl<E: Env> Clone for Shard<E> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<E: Env> std::fmt::Debug for Shard<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shard({})", self.0.owner.shard)
    }
}

/// A memtable on its way to the tree.
#[derive(Clone)]
struct Sealed {
    table: SharedMemtable,
    /// The last record that it covers whole, and that record's hash: the next checkpoint.
    checkpoint: Lsn,
    checkpoint_hash: RecordHash,
}

/// # Invariants
/// * Every commit at or below the superblock's checkpoint is in a run or in the base; every later
///   one is in `sealed` or in `active`.
/// * `view` is the current version of base and runs.
/// * The tree's file and the superblock are changed by whoever has the turn, and by nobody else.
/// * At most one flush runs, and it runs while `sealed` is there, until closing gives it up.
struct Inner<E: Env> {
    env: E,
    owner: FileOwner,
    config: ShardConfig,

    clock: Clock,
    wal: Wal<E, Waiter>,
    tree: Tree<E>,
    view: RefCell<TreeView>,
    superblock: Superblock<E::File>,
    active: RefCell<SharedMemtable>,
    sealed: RefCell<Option<Sealed>>,

    /// Writes that wait for room, oldest first.
    deferred: RefCell<VecDeque<Deferred>>,
    /// Why the last attempt at a flush failed, until one succeeds.
    flush_error: RefCell<Option<Error>>,
    /// Tasks that flush: besides the one at work, those before it may still free their log.
    flushing: Cell<usize>,
    /// Raised when an attempt at a flush ends, well or not.
    flush_ended: Event,
    /// Raised when a flush that waits to try again should do so now.
    flush_wanted: Signal,
    /// Whether closing has given up on a flush that cannot succeed.
    flush_given_up: Cell<bool>,
    /// Who may change the tree's file.
    turns: Turns,
    merges: Merges,
    throttle: Throttle,
    space: Space,
    /// Why no more writes are taken: this shard or a peer failed.
    refused: RefCell<Option<Error>>,

    /// Keyspaces that were dropped since the shard was opened: what concerns them is refused.
    dropped: RefCell<Dropped>,

    scans: RefCell<BTreeMap<ScanId, Scan<E>>>,
    next_scan: Cell<u64>,
    /// Reads, pages and checks that are under way in tasks of their own.
    tasks: Cell<usize>,
    tasks_ended: Event,
    closing: Cell<bool>,
    counters: Counters,
}

/// A task that closing waits for, counted from before it is spawned until it has ended.
struct Counted<E: Env>(Shard<E>);

impl<E: Env> Counted<E> {
    fn new(shard: &Shard<E>) -> Self {
        shard.0.tasks.set(shard.0.tasks.get() + 1);
        Self(shard.clone())
    }
}

impl<E: Env> Drop for Counted<E> {
    fn drop(&mut self) {
        let inner = &self.0.0;
        inner.tasks.set(inner.tasks.get() - 1);
        inner.tasks_ended.occur();
    }
}

#[derive(Debug, Default)]
struct Counters {
    gets: Cell<u64>,
    gets_from_disk: Cell<u64>,
    puts: Cell<u64>,
    deletes: Cell<u64>,
    scans: Cell<u64>,
    deferred: Cell<u64>,
    pauses: Cell<u64>,
    flushes: Cell<u64>,
    flush_bytes: Cell<u64>,
    merge_steps: Cell<u64>,
    merge_bytes: Cell<u64>,
    shortages: Cell<u64>,
    reserve_deletes: Cell<u64>,
    replayed_records: Cell<u64>,
}

fn count(counter: &Cell<u64>, by: usize) {
    counter.set(counter.get() + lightning_io::to_u64(by));
}

/// The directory of a shard inside its database's.
pub(crate) fn directory(root: &Path, shard: ShardId) -> PathBuf {
    root.join(format!("shard-{:03}", shard.0))
}

/// The shard whose directory has this name.
pub(crate) fn shard_of_directory(name: &str) -> Option<ShardId> {
    let number = name.strip_prefix("shard-")?.parse().ok()?;
    let shard = ShardId(number);
    (directory(Path::new(""), shard).as_os_str() == name).then_some(shard)
}

/// The name of the tree's file in a shard's directory.
pub(crate) const TREE_FILE_NAME: &str = "tree";

impl<E: Env> Shard<E> {
    /// Its time: everything committed so far is at or below it, and what expires is judged by it.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Which shard it is.
    pub fn id(&self) -> ShardId {
        self.0.owner.shard
    }

    /// Runs a read or a check in a task of its own; closing waits for it.
    fn spawn_counted(&self, future: impl Future<Output = ()> + 'static) {
        let counted = Counted::new(self);
        let task = async move {
            counted.0.contain(future).await;
            drop(counted);
        };
        // The task answers for itself; nobody joins it.
        drop(self.0.env.spawn(TaskClass::Foreground, task));
    }

    /// Runs a part of the shard whose panic poisons the shard and goes no further: there is no
    /// output then, and what the part was about to answer is dropped.
    async fn contain<T>(&self, part: impl Future<Output = T>) -> Option<T> {
        match catch_panic(part).await {
            Ok(output) => Some(output),
            Err(panic) => {
                tracing::error!(shard = %self.id(), %panic, "a part of the shard panicked");
                self.fail(&panic.to_string());
                None
            }
        }
    }

    /// Poisons the shard: no more writes, here or on its peers.
    pub(crate) fn fail(&self, cause: &str) {
        self.0.wal.fail(cause);
    }

    /// Why writes are refused, if they are.
    fn check_writable(&self) -> Result<()> {
        if self.0.closing.get() {
            return Err(Error::Closed);
        }
        match &*self.0.refused.borrow() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }
}
