//! The engine of one shard, and the client that speaks to all of them.
//!
//! A shard owns its slice of the key space whole: a write-ahead log, a memtable, a B+tree with its
//! page cache, and the files under them. It runs on one thread, shares no memory with any other,
//! and sees the world only through [`lightning_io::Env`], its one type parameter.

#![forbid(unsafe_code)]

mod block;
mod clock;
mod entry;
mod error;
mod identity;
mod router;
mod signal;
mod types;
mod wal;

pub use block::FORMAT_VERSION;
pub use entry::{Entry, EntryFlags, EntrySource};
pub use error::{Corruption, Error, KeyRange, Place, Result};
pub use identity::{Identity, SHARDS_MAX};
pub use router::Router;
pub use types::{
    BATCH_BYTES_MAX, DatabaseId, FileOwner, KEY_BYTES_MAX, KeyspaceId, Lsn, SegmentId, ShardId,
    StorageKey, Timestamp, TxnId, VALUE_BYTES_MAX,
};
pub use wal::Ops;
