//! What a shard is asked, by callers and by its peers, and how it answers.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_channel::oneshot;

use crate::stats::ShardStats;
use crate::verify::VerifyReport;
use crate::wal::Ops;
use crate::{Direction, KeyspaceId, Result, ShardId, StorageKey, StoredRange, Timestamp, Ttl};

/// Where an answer goes. A request that is dropped unanswered reads as [`crate::Error::Closed`].
pub type Reply<T> = oneshot::Sender<Result<T>>;

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// When it is on disk: it survives a crash of the process, the machine and the power.
    #[default]
    Sync,
    /// When it is in memory: it reaches the disk within the database's relaxed interval, and a
    /// crash before that loses it, whole, together with every relaxed write of its shard after it.
    Relaxed,
}

/// Where a value goes, and how long it lives there; for ever when that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The time to live of what is written.
    pub ttl: Option<Ttl>,
}

impl From<KeyspaceId> for Target {
    fn from(keyspace: KeyspaceId) -> Self {
        Self {
            keyspace,
            ttl: None,
        }
    }
}

/// How much of a key a read tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Want {
    /// Its value.
    #[default]
    Value,
    /// Whether it is there: its value is left out and comes as empty.
    Presence,
}

/// What becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It stays as it is.
    Keep,
    /// It gets this value.
    Put(Vec<u8>),
    /// It is deleted.
    Delete,
}

impl From<Option<Vec<u8>>> for Change {
    /// A value is put, and none deletes.
    fn from(value: Option<Vec<u8>>) -> Self {
        value.map_or(Self::Delete, Self::Put)
    }
}

/// A function that sees the current value of a key and says what becomes of it. It runs on the
/// key's shard, once at the most.
pub struct Decide(Box<Function>);

type Function = dyn FnOnce(Option<&[u8]>) -> Change + Send;

impl Decide {
    /// Takes a function.
    pub fn new(function: impl FnOnce(Option<&[u8]>) -> Change + Send + 'static) -> Self {
        Self(Box::new(function))
    }

    /// Calls it with the current value.
    pub fn on(self, value: Option<&[u8]>) -> Change {
        (self.0)(value)
    }
}

impl fmt::Debug for Decide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decide")
    }
}

/// What an update did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updated {
    /// When it was committed; none when nothing was to be written.
    pub at: Option<Timestamp>,
    /// The value that the key had then.
    pub value: Option<Bytes>,
}

/// A conditional change was not made, as the value was another than the expected one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the value is not the expected one")]
pub struct Mismatch {
    /// The value that was there; none when the key was not.
    pub found: Option<Bytes>,
}

/// The caller's claim on something that a shard keeps for it; the shard lets go when it is dropped.
#[derive(Debug, Clone, Default)]
pub struct Lease(Arc<()>);

impl Lease {
    /// Whether the holder of the other copy is gone.
    pub(crate) fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// Which scan of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScanId(pub(crate) u64);

/// What a scan shows, and in which order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanSpec {
    /// The keys.
    pub range: StoredRange,
    /// Their order.
    pub direction: Direction,
    /// Whether values are left out.
    pub keys_only: bool,
}

/// A scan that is open on a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenScan {
    /// Its name there.
    pub id: ScanId,
    /// Everything acknowledged on that shard before the scan was opened is at or below this.
    pub now: Timestamp,
}

/// Some rows of a scan, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanPage {
    /// Keys, without their keyspace, and values (empty for a scan of keys only).
    pub rows: Vec<(Bytes, Bytes)>,
    /// Whether there are no more.
    pub done: bool,
}

/// What about lies in a range of keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Estimate {
    /// Keys.
    pub entries: u64,
    /// Bytes: on disk those of pages and large values in whole units of 4 KiB, in memory those of
    /// the memtables.
    pub bytes: u64,
}

/// Whose keys a deletion is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A keyspace in use: that it was dropped is a reason to refuse.
    InUse,
    /// A keyspace that was dropped.
    Dropped,
}

/// What a piece of a deletion did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedPiece {
    /// Keys that were there.
    pub keys: u64,
    /// What is left of the range; none when that was all.
    pub rest: Option<StoredRange>,
}

/// What a shard can be asked.
#[derive(Debug)]
pub enum Request {
    /// The newest value of a key.
    Get {
        /// The key.
        key: StorageKey,
        /// How much of it is told.
        want: Want,
        /// The answer.
        reply: Reply<Option<Bytes>>,
    },
    /// The newest values of several keys of this shard, as of one moment.
    GetMany {
        /// The keys.
        keys: Vec<StorageKey>,
        /// The answers, in the same order.
        reply: Reply<Vec<Option<Bytes>>>,
    },
    /// A batch, all or nothing on this shard.
    Write {
        /// What to do.
        ops: Ops,
        /// When to answer.
        durability: Durability,
        /// The commit timestamp.
        reply: Reply<Timestamp>,
    },
    /// A read-modify-write of one key: atomic with regard to every other write of the shard.
    Update {
        /// The key.
        key: StorageKey,
        /// How long a value lives that it puts; for ever when left out.
        ttl: Option<Ttl>,
        /// What becomes of it.
        decide: Decide,
        /// When to answer.
        durability: Durability,
        /// What was done.
        reply: Reply<Updated>,
    },
    /// Pins a view of the shard for a scan.
    OpenScan {
        /// What it shows.
        spec: ScanSpec,
        /// Keeps it open.
        lease: Lease,
        /// Its name.
        reply: Reply<OpenScan>,
    },
    /// The next rows of an open scan.
    NextPage {
        /// The scan.
        scan: ScanId,
        /// The snapshot to read at; the same for every page.
        at: Timestamp,
        /// The most rows that the caller can use.
        rows_max: usize,
        /// The rows.
        reply: Reply<ScanPage>,
    },
    /// The number of rows of an open scan, which ends with that.
    CountRows {
        /// The scan.
        scan: ScanId,
        /// The snapshot to read at.
        at: Timestamp,
        /// The number.
        reply: Reply<u64>,
    },
    /// What about lies in a range.
    Estimate {
        /// The range.
        range: StoredRange,
        /// The guess.
        reply: Reply<Estimate>,
    },
    /// A keyspace was dropped: whatever else concerns it is refused from now on.
    DropKeyspace {
        /// Which.
        keyspace: KeyspaceId,
        /// Answered when that is so.
        reply: Reply<()>,
    },
    /// Deletes the first keys of a range, a bounded number, in one durable commit.
    DeletePiece {
        /// The range, within one keyspace.
        range: StoredRange,
        /// Whose keys they are.
        owner: Owner,
        /// What was deleted, and what is left.
        reply: Reply<DeletedPiece>,
    },
    /// Moves what is in memory into the tree's file.
    Flush {
        /// Answered when it is there.
        reply: Reply<()>,
    },
    /// Moves what is in memory into the tree's file, and merges everything there into the base.
    Compact {
        /// Answered when it is done.
        reply: Reply<()>,
    },
    /// Reads and checks everything that the shard has on disk.
    Verify {
        /// What was found.
        reply: Reply<VerifyReport>,
    },
    /// Counters and sizes.
    Stats {
        /// The figures.
        reply: Reply<ShardStats>,
    },
    /// Another shard takes no more writes, so this one stops as well.
    PeerFailed {
        /// Which.
        shard: ShardId,
        /// Why.
        cause: String,
    },
    /// Finishes what is under way and stops.
    Close {
        /// Answered when everything acknowledged is on disk.
        reply: Reply<()>,
    },
}
