//! Figures about one shard.

use crate::{PagesByCodec, ShardId};

/// Counters since the shard was opened, and sizes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ShardStats {
    /// The shard.
    pub shard: ShardId,
    /// About the keys on disk: those in the base, and each version in a run once more, deletions
    /// included. Keys that are only in memory are not counted yet.
    pub entries: u64,
    /// Runs ahead of the base.
    pub runs: u64,
    /// Bytes of their pages and large values.
    pub runs_bytes: u64,
    /// What of that is still to be merged into the base.
    pub debt_bytes: u64,
    /// Gets answered, counting each key of a multi-get.
    pub gets: u64,
    /// Gets that had to wait for the disk.
    pub gets_from_disk: u64,
    /// Puts committed.
    pub puts: u64,
    /// Deletions committed.
    pub deletes: u64,
    /// Scans opened.
    pub scans: u64,
    /// Scans open now.
    pub scans_open: u64,
    /// Commits that were refused or put off for lack of room.
    pub writes_deferred: u64,
    /// Bytes in memtables.
    pub memtable_bytes: u64,
    /// What memtables may take. Where a damaged page or a full disk keeps them from the tree, the
    /// last open may have left more than that in memory.
    pub memtable_budget_bytes: u64,
    /// Whether the last attempt at a flush failed: because of damage, or for lack of space.
    pub flush_blocked: bool,
    /// Whether the last step of a merge failed: because of damage, or for lack of space.
    pub merge_blocked: bool,
    /// Whether there is no space: only deletions and reads are taken, until there is some again.
    pub space_short: bool,
    /// How often something found no space, although there was enough before.
    pub shortages: u64,
    /// Of the deletions, those that were taken after the reserve had been given up.
    pub reserve_deletes: u64,
    /// Memtables flushed to disk.
    pub flushes: u64,
    /// Bytes that flushes wrote to the tree's file.
    pub flush_bytes_written: u64,
    /// Steps of merges.
    pub merge_steps: u64,
    /// Bytes that they wrote to the tree's file. With those of flushes and of the log, these are
    /// all that the shard writes, but for its superblock.
    pub merge_bytes_written: u64,
    /// Pauses that writers made because merges had not kept up.
    pub write_pauses: u64,
    /// Commits that the log took.
    pub wal_commits: u64,
    /// Records written to the log: each is one durable write.
    pub wal_records: u64,
    /// Bytes written to the log.
    pub wal_bytes_written: u64,
    /// Bytes of the log's files.
    pub wal_bytes: u64,
    /// Segments that a recovery would read.
    pub wal_segments: u64,
    /// Bytes of the tree's file.
    pub tree_bytes: u64,
    /// Bytes of pages and large values of base and runs, in whole units.
    pub tree_live_bytes: u64,
    /// The pages of base and runs by the codec that they are stored with.
    pub pages: PagesByCodec,
    /// Levels of the base.
    pub tree_height: u64,
    /// Pages found in the cache.
    pub cache_hits: u64,
    /// Pages read from disk.
    pub cache_misses: u64,
    /// Bytes in the page cache.
    pub cache_bytes: u64,
    /// Records that the last open replayed.
    pub replayed_records: u64,
}
