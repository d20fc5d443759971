//! An embedded, async-first, thread-per-core key-value store.
//!
//! The key space is spread over shards. Each shard has a core, a thread and files of its own,
//! shares no memory with the others, and reads and writes with direct I/O. Callers on any runtime,
//! or on none, talk to the shards through [`Database`], which is `Clone + Send + Sync`.
//!
//! ```
//! # fn main() -> Result<(), lightning_db::Error> {
//! # futures_executor::block_on(async {
//! # let directory = tempfile::tempdir().expect("a temporary directory");
//! # let path = directory.path().join("db");
//! use lightning_db::Database;
//!
//! let db = Database::builder(&path).open_or_create().await?;
//! db.put("user:1", "Ada").await?;
//! assert_eq!(db.get("user:1").await?.as_deref(), Some(&b"Ada"[..]));
//! db.close().await?;
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! What is promised under which fault is in `docs/architecture.md`. Linux with `io_uring` (5.6 or
//! newer) is required; what is missing on a machine is told by an error that names the remedy.

#![forbid(unsafe_code)]

mod batch;
mod builder;
mod database;
mod error;
mod key_range;
mod keyspace;
mod preset;
mod report;
mod salvage;
mod scan;
mod start;
mod typed;

pub use batch::Batch;
pub use builder::Builder;
pub use database::Database;
pub use error::{Error, ErrorKind};
pub use key_range::KeyRange;
pub use keyspace::{Keyspace, KeyspaceInfo};
pub use lightning_shards::{
    ADD_U64, APPEND, BATCH_BYTES_MAX, Change, Codec, Compression, Corruption,
    DEFAULT_KEYSPACE_NAME, DatabaseId, Durability, Estimate, KEY_BYTES_MAX,
    KEYSPACE_NAME_BYTES_MAX, KeyspaceId, KeyspaceOptions, Loss, Lost, Lsn, MergeOperator, Mismatch,
    PageCount, PagesByCodec, Place, SHARDS_MAX, SalvageReport, ShardId, ShardSalvage, ShardStats,
    VALUE_BYTES_MAX,
};
pub use preset::Preset;
pub use report::{Stats, VerifyReport};
pub use salvage::salvage;
pub use scan::Scan;
pub use typed::{Key, TypedKeyspace, TypedScan, Value};

/// What the functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
