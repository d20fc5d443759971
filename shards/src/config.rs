//! How a shard is set up.

use std::time::Duration;

use lightning_io::to_u64;

use crate::shard::MergeSettings;
use crate::tree::TreeConfig;
use crate::wal::WalConfig;
use crate::{Compression, Error, Result};

/// Settings of one shard; they may differ each time that a database is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardConfig {
    /// Bytes of memory for memtables and page cache together.
    pub memory_bytes: usize,
    /// The size that pages of the tree aim at: 4 KiB to 1 MiB, a power of two.
    pub page_bytes: usize,
    /// How new pages of the tree are compressed.
    pub compression: Compression,
    /// Runs of one tier that are merged into one: more of them take fewer writes, and more reads.
    /// With 0 a flush merges straight into the base: that takes the fewest reads and by far the
    /// most writes.
    pub runs: usize,
    /// The length of the log's first segment; each next one is twice as long.
    pub segment_bytes_first: u64,
    /// The length that segments grow to.
    pub segment_bytes_max: u64,
    /// The longest that a relaxed write stays in memory alone.
    pub relaxed_interval: Duration,
    /// How long the log is idle before a mark is written behind its last record.
    pub mark_interval: Duration,
    /// Bytes of the disk that are held back, so that deletions go on when it is full; zero for none.
    pub reserve_bytes: u64,
}

impl Default for ShardConfig {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            page_bytes: 16 << 10,
            compression: Compression::default(),
            runs: 8,
            segment_bytes_first: 1 << 20,
            segment_bytes_max: 64 << 20,
            relaxed_interval: Duration::from_millis(50),
            mark_interval: Duration::from_millis(10),
            reserve_bytes: Self::RESERVE_BYTES,
        }
    }
}

impl ShardConfig {
    /// The least memory that a shard works with: two small memtables and a few dozen pages.
    pub const MEMORY_BYTES_MIN: usize = 256 << 10;

    /// The most runs of one tier: with two tiers, twice as many of the first, and a growing one,
    /// that is still well below what a list of runs holds.
    pub const RUNS_MAX: usize = 16;

    /// The debt of runs in memtables that is left alone, however small the base is: it is merged
    /// with a base that is as large, so a byte is written once more for each time that the base
    /// doubles.
    const DEBT_MEMTABLES_MIN: usize = 4;

    /// What a step of a merge takes from its inputs: a flush waits for one step at the most, some
    /// ten milliseconds, and the writes that end a step are still small beside it.
    const MERGE_STEP_BYTES_MAX: usize = 1 << 20;

    /// The most that an active memtable takes, so that it stays near the processor's cache.
    const MEMTABLE_BYTES_MAX: usize = 32 << 20;

    /// What deletions need when nothing is left: a first segment of the log, 1 MiB, so that they
    /// are durable, and as much for the tree, the least that its file grows by, so that they get
    /// there and free the log for the next ones. Twice what an empty shard takes is little enough
    /// for a small database.
    const RESERVE_BYTES: u64 = 2 << 20;

    /// Checks every bound.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the first setting that is out of bounds.
    pub fn validate(&self) -> Result<()> {
        let invalid = |what, reason| Err(Error::Invalid { what, reason });
        if self.memory_bytes < Self::MEMORY_BYTES_MIN {
            let least = Self::MEMORY_BYTES_MIN;
            return invalid(
                "memory budget",
                format!("{} bytes a shard; the least is {least}", self.memory_bytes),
            );
        }
        if !self.page_bytes.is_power_of_two() || !(4 << 10..=1 << 20).contains(&self.page_bytes) {
            let reason = format!(
                "{} bytes; it is a power of two from 4 KiB to 1 MiB",
                self.page_bytes
            );
            return invalid("page size", reason);
        }
        self.compression.validate()?;
        if self.runs == 1 || self.runs > Self::RUNS_MAX {
            let most = Self::RUNS_MAX;
            return invalid(
                "runs",
                format!("{}; there are 2 to {most}, or 0", self.runs),
            );
        }
        let block = lightning_io::to_u64(lightning_io::BLOCK_BYTES);
        let whole = |length: u64| length >= 3 * block && length.is_multiple_of(block);
        if !whole(self.segment_bytes_first)
            || !whole(self.segment_bytes_max)
            || self.segment_bytes_first > self.segment_bytes_max
        {
            let reason = format!(
                "{} growing to {} bytes; both are multiples of 4 KiB, from 12 KiB on",
                self.segment_bytes_first, self.segment_bytes_max
            );
            return invalid("segment size", reason);
        }
        if !self.reserve_bytes.is_multiple_of(block) {
            let reason = format!("{} bytes; it is a multiple of 4 KiB", self.reserve_bytes);
            return invalid("reserve of space", reason);
        }
        Ok(())
    }

    /// A quarter for the active memtable; while it is flushed, another fills.
    pub(crate) fn memtable_bytes(&self) -> usize {
        (self.memory_bytes / 4).min(Self::MEMTABLE_BYTES_MAX)
    }

    /// What two memtables leave goes to the page cache.
    pub(crate) fn tree(&self) -> TreeConfig {
        TreeConfig {
            page_bytes: self.page_bytes,
            compression: self.compression,
            cache_bytes: self.memory_bytes - 2 * self.memtable_bytes(),
        }
    }

    /// The bound of a step of a merge, which is in memory while it is taken.
    pub(crate) fn merge_step_bytes(&self) -> usize {
        (self.memtable_bytes() / 4).min(Self::MERGE_STEP_BYTES_MAX)
    }

    /// What the policy of merges goes by.
    pub(crate) fn merge_settings(&self) -> MergeSettings {
        MergeSettings {
            fan: self.runs,
            debt_bytes_min: to_u64(Self::DEBT_MEMTABLES_MIN * self.memtable_bytes()),
            everything: false,
        }
    }

    pub(crate) fn wal(&self) -> WalConfig {
        WalConfig {
            segment_bytes_first: self.segment_bytes_first,
            segment_bytes_max: self.segment_bytes_max,
            relaxed_interval: self.relaxed_interval,
            mark_interval: self.mark_interval,
        }
    }
}
