//! Settings for a kind of use, in one word.

use std::time::Duration;

use lightning_shards::{Compression, Durability};

use crate::builder::{Settings, Spin};

/// A choice of settings for a kind of use. What is set by a call of its own wins over it.
///
/// | preset | shards | page size | compression | memory | writes count | relaxed interval | an idle shard polls |
/// |---|---|---|---|---|---|---|---|
/// | `Oltp` | one a core | 16 KiB | none | 64 MiB a shard | on disk | 50 ms | 30 us |
/// | `Olap` | one a core | 64 KiB | adaptive | 256 MiB a shard | on disk | 50 ms | 30 us |
/// | `Cache` | one a core | 16 KiB | none | 256 MiB a shard | in memory | 1 s | 30 us |
/// | `TimeSeries` | one a core | 64 KiB | Zstandard, level 3 | 64 MiB a shard | on disk | 200 ms | 30 us |
/// | `Graph` | one a core | 4 KiB | none | 256 MiB a shard | on disk | 50 ms | 30 us |
/// | `Edge` | 1 | 16 KiB | LZ4 | 10 MiB in all | on disk | 200 ms | not at all |
///
/// Memory is that of memtables and page caches, as for [`crate::Builder::memory_budget`]; buffers,
/// threads and code come on top. The number of shards counts when a database is created; everything
/// else may differ each time that it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Preset {
    /// Many small reads and writes, each durable: what a database has without a preset.
    Oltp,
    /// Long scans over much data: large pages, compressed, and memory for them.
    Olap,
    /// What can be computed again: writes are done when they are in memory.
    Cache,
    /// Measurements in the order of time: they compress well and are read in ranges.
    TimeSeries,
    /// Small values all over the place: pages of one unit, and memory for many of them.
    Graph,
    /// A small device: little memory, few writes, no polling.
    Edge,
}

const MIB: usize = 1 << 20;

impl Preset {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Oltp => "oltp",
            Self::Olap => "olap",
            Self::Cache => "cache",
            Self::TimeSeries => "time-series",
            Self::Graph => "graph",
            Self::Edge => "edge",
        }
    }

    /// What it sets, over the settings of a database without one.
    pub(crate) fn settings(self) -> Settings {
        let base = Settings::default();
        match self {
            Self::Oltp => base,
            Self::Olap => Settings {
                page_bytes: 64 << 10,
                compression: Compression::Adaptive,
                memory_bytes_a_shard: 256 * MIB,
                ..base
            },
            Self::Cache => Settings {
                memory_bytes_a_shard: 256 * MIB,
                durability: Durability::Relaxed,
                relaxed_interval: Duration::from_secs(1),
                ..base
            },
            Self::TimeSeries => Settings {
                page_bytes: 64 << 10,
                compression: Compression::Zstd { level: 3 },
                relaxed_interval: Duration::from_millis(200),
                ..base
            },
            Self::Graph => Settings {
                page_bytes: 4 << 10,
                memory_bytes_a_shard: 256 * MIB,
                ..base
            },
            Self::Edge => Settings {
                shards_when_new: Some(1),
                compression: Compression::Lz4,
                memory_budget: Some(10 * MIB),
                relaxed_interval: Duration::from_millis(200),
                spin: Spin::For(Duration::ZERO),
                ..base
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_preset_a_database_is_set_up_for_transactions() {
        assert_eq!(Preset::Oltp.settings(), Settings::default());
    }

    #[test]
    fn every_preset_gives_settings_that_can_be_used_and_a_name() {
        let all = [
            Preset::Oltp,
            Preset::Olap,
            Preset::Cache,
            Preset::TimeSeries,
            Preset::Graph,
            Preset::Edge,
        ];
        for preset in all {
            let settings = preset.settings();
            for shards in [1, 2, 16] {
                assert_eq!(settings.shard(shards).validate(), Ok(()), "{preset:?}");
            }
        }
        let names: Vec<_> = all.iter().map(|preset| preset.name()).collect();
        assert_eq!(
            names,
            ["oltp", "olap", "cache", "time-series", "graph", "edge"]
        );
        assert_eq!(Preset::Edge.settings().shard(1).memory_bytes, 10 * MIB);
    }
}
