//! What a database tells about itself.

use lightning_shards::{Corruption, ShardStats};

/// Counters since the database was opened, and sizes now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// One entry a shard, in shard order.
    pub shards: Vec<ShardStats>,
}

impl Stats {
    /// Adds a figure up over all shards.
    pub fn total(&self, figure: impl Fn(&ShardStats) -> u64) -> u64 {
        self.shards.iter().map(figure).sum()
    }
}

/// What a check of everything on disk found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Live keys that could be read.
    pub entries: u64,
    /// Damages, shard by shard; empty when all is well.
    pub damages: Vec<Corruption>,
}
