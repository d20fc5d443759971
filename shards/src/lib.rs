//! The engine of one shard, and the client that speaks to all of them.
//!
//! A shard owns its slice of the key space whole: a write-ahead log, a memtable, a B+tree with its
//! page cache, and the files under them. It runs on one thread, shares no memory with any other,
//! and sees the world only through [`lightning_io::Env`], its one type parameter.

#![forbid(unsafe_code)]

// For `planted!`, which is `false` in an ordinary build: a line where it is used, and no other.
#[macro_use]
extern crate lightning_io;

mod block;
mod cache;
pub mod client;
mod clock;
mod compression;
mod config;
mod direction;
mod entry;
mod error;
mod estimate;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod identity;
mod memtable;
mod message;
mod reread;
mod root;
mod router;
mod salvage;
mod shard;
mod signal;
mod stats;
mod stored_range;
mod superblock;
mod tree;
mod types;
mod verify;
mod wal;

pub use block::FORMAT_VERSION;
pub use compression::{Codec, CodecError, Compression, Compressor, Decompressor};
pub use config::ShardConfig;
pub use direction::Direction;
pub use entry::{Entry, EntryFlags, EntrySource};
pub use error::{Corruption, Error, KeyRange, Place, Result};
pub use identity::{Identity, SHARDS_MAX};
pub use message::{
    Change, Decide, Durability, Estimate, Lease, Mismatch, OpenScan, Reply, Request, ScanId,
    ScanPage, ScanSpec, Updated, Want,
};
pub use root::{OpenMode, Root, finish_create, open_root};
pub use router::Router;
pub use salvage::{Loss, Lost, Salvage, SalvageConfig, SalvageReport, ShardSalvage, Sink};
pub use shard::{Probe, Shard, Version};
pub use stats::ShardStats;
pub use stored_range::StoredRange;
pub use tree::{PageCount, PagesByCodec};
pub use types::{
    BATCH_BYTES_MAX, DatabaseId, FileOwner, KEY_BYTES_MAX, KeyspaceId, Lsn, SegmentId, ShardId,
    StorageKey, Timestamp, TxnId, VALUE_BYTES_MAX,
};
pub use verify::VerifyReport;
pub use wal::Ops;
