//! Settings, and the three ways to get at a database with them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lightning_shards::{Compression, Durability, OpenMode, ShardConfig};

use crate::{Database, Result, start};

/// Settings for opening or creating a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builder {
    pub(crate) path: PathBuf,
    pub(crate) shards: Option<usize>,
    pub(crate) memory_budget: Option<usize>,
    pub(crate) durability: Durability,
    pub(crate) spin: Spin,
    pub(crate) shard: ShardConfig,
}

/// How long an idle shard polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spin {
    For(Duration),
    Forever,
}

impl Builder {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            shards: None,
            memory_budget: None,
            durability: Durability::default(),
            spin: Spin::For(Duration::from_micros(30)),
            shard: ShardConfig::default(),
        }
    }

    /// The number of shards of a database that is created; by default, the cores that the process
    /// may use. It is fixed then: opening with another number is an error, opening on a machine
    /// with more or fewer cores is not.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Bytes of memory for memtables and page caches of all shards together; by default 64 MiB a
    /// shard. The least is 256 KiB a shard.
    #[must_use]
    pub fn memory_budget(mut self, bytes: usize) -> Self {
        self.memory_budget = Some(bytes);
        self
    }

    /// When writes count as done, unless they say otherwise; by default when they are on disk.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The longest that a relaxed write stays in memory alone; by default 50 ms.
    #[must_use]
    pub fn relaxed_interval(mut self, interval: Duration) -> Self {
        self.shard.relaxed_interval = interval;
        self
    }

    /// How pages that are written from now on are compressed; by default not at all. What lies
    /// on disk stays readable, and as it is until it is rewritten.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.shard.compression = compression;
        self
    }

    /// How many runs of one kind a shard keeps before it merges them into one; by default 8, from 2
    /// to 16. More take fewer writes, and more reads. With 0 no runs are kept, and everything that
    /// is written goes straight into the base: the fewest reads, and by far the most writes.
    #[must_use]
    pub fn runs(mut self, runs: usize) -> Self {
        self.shard.runs = runs;
        self
    }

    /// Bytes of the disk that each shard holds back for when it is full; by default 2 MiB. A multiple
    /// of 4 KiB; zero for none.
    ///
    /// On a full disk, writes that put are refused with [`crate::ErrorKind::NoSpace`], before anybody
    /// can see them. Reads go on, and so do writes that only delete, as far as the reserve carries
    /// them: what it has to hold is one segment of the log, 1 MiB at first, and what a flush adds to
    /// the tree. When there is space, all writes are taken again, without reopening. Less than 1 MiB
    /// may not be enough for a single deletion.
    #[must_use]
    pub fn reserve_bytes(mut self, bytes: u64) -> Self {
        self.shard.reserve_bytes = bytes;
        self
    }

    /// How long an idle shard polls for requests before it sleeps; by default 30 us. Longer answers
    /// faster and uses more of the core; zero suits a laptop.
    #[must_use]
    pub fn spin(mut self, time: Duration) -> Self {
        self.spin = Spin::For(time);
        self
    }

    /// Has idle shards poll for ever: each takes its core whole.
    #[must_use]
    pub fn busy_poll(mut self) -> Self {
        self.spin = Spin::Forever;
        self
    }

    /// Opens a database that exists.
    ///
    /// # Errors
    /// As for [`Database::open`].
    ///
    /// # Cancel safety
    /// As for [`Database::open`].
    pub async fn open(self) -> Result<Database> {
        start::start(self, OpenMode::Open).await
    }

    /// Creates a database where there is none; its parent directory must exist.
    ///
    /// # Errors
    /// As for [`Database::create`].
    ///
    /// # Cancel safety
    /// As for [`Database::open`].
    pub async fn create(self) -> Result<Database> {
        start::start(self, OpenMode::Create).await
    }

    /// Opens a database, or creates it where there is none.
    ///
    /// # Errors
    /// As for [`Database::open`], but for a missing database.
    ///
    /// # Cancel safety
    /// As for [`Database::open`].
    pub async fn open_or_create(self) -> Result<Database> {
        start::start(self, OpenMode::OpenOrCreate).await
    }
}
