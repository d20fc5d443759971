//! Settings, and the three ways to get at a database with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lightning_shards::{
    Compression, Durability, Error as Cause, MergeOperator, MergeOperators, OpenMode, ShardConfig,
};

use crate::{Database, Error, Preset, Result, start};

/// Settings for opening or creating a database.
///
/// Each is what a call sets, or else what the preset says, or else the default; the order of the
/// calls does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builder {
    pub(crate) path: PathBuf,
    pub(crate) operators: MergeOperators,
    chosen: Chosen,
    preset: Option<Preset>,
    /// The first call that contradicts what was said before it; told when the database is opened.
    error: Option<Error>,
}

/// What calls of their own have set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Chosen {
    shards: Option<usize>,
    memory_budget: Option<usize>,
    durability: Option<Durability>,
    relaxed_interval: Option<Duration>,
    page_bytes: Option<usize>,
    compression: Option<Compression>,
    runs: Option<usize>,
    reserve_bytes: Option<u64>,
    spin: Option<Spin>,
}

/// What a database is opened with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The number of shards that it has to have.
    pub(crate) shards: Option<usize>,
    /// The number of shards of one that is created and need not have another; none is one a core.
    pub(crate) shards_when_new: Option<u16>,
    /// Bytes of memory for all shards together; without it each has as much as the next field says.
    pub(crate) memory_budget: Option<usize>,
    pub(crate) memory_bytes_a_shard: usize,
    pub(crate) durability: Durability,
    pub(crate) relaxed_interval: Duration,
    pub(crate) page_bytes: usize,
    pub(crate) compression: Compression,
    pub(crate) runs: usize,
    pub(crate) reserve_bytes: u64,
    pub(crate) spin: Spin,
}

/// How long an idle shard polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spin {
    For(Duration),
    Forever,
}

impl Default for Settings {
    fn default() -> Self {
        let shard = ShardConfig::default();
        Self {
            shards: None,
            shards_when_new: None,
            memory_budget: None,
            memory_bytes_a_shard: shard.memory_bytes,
            durability: Durability::default(),
            relaxed_interval: shard.relaxed_interval,
            page_bytes: shard.page_bytes,
            compression: shard.compression,
            runs: shard.runs,
            reserve_bytes: shard.reserve_bytes,
            spin: Spin::For(Duration::from_micros(30)),
        }
    }
}

impl Settings {
    /// The settings of each of so many shards.
    pub(crate) fn shard(&self, shards: usize) -> ShardConfig {
        let budget = self.memory_budget.map(|budget| budget / shards);
        ShardConfig {
            memory_bytes: budget.unwrap_or(self.memory_bytes_a_shard),
            page_bytes: self.page_bytes,
            compression: self.compression,
            relaxed_interval: self.relaxed_interval,
            runs: self.runs,
            reserve_bytes: self.reserve_bytes,
            ..ShardConfig::default()
        }
    }
}

impl Builder {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            operators: MergeOperators::default(),
            chosen: Chosen::default(),
            preset: None,
            error: None,
        }
    }

    /// Settings for a kind of use: see [`Preset`]. What is set by a call of its own wins, before or
    /// after this one; a second preset that is another one is [`crate::ErrorKind::Invalid`] when
    /// the database is opened.
    #[must_use]
    pub fn preset(mut self, preset: Preset) -> Self {
        match self.preset.replace(preset) {
            Some(before) if before != preset => {
                let reason = format!("\"{}\", after \"{}\"", preset.name(), before.name());
                let what = "preset";
                self.error
                    .get_or_insert_with(|| Cause::Invalid { what, reason }.into());
            }
            _ => {}
        }
        self
    }

    /// The number of shards of a database that is created; by default, the cores that the process
    /// may use. It is fixed then: opening with another number is an error, opening on a machine
    /// with more or fewer cores is not.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.chosen.shards = Some(shards);
        self
    }

    /// Bytes of memory for memtables and page caches of all shards together; by default 64 MiB a
    /// shard. The least is 256 KiB a shard.
    #[must_use]
    pub fn memory_budget(mut self, bytes: usize) -> Self {
        self.chosen.memory_budget = Some(bytes);
        self
    }

    /// When writes count as done, unless they say otherwise; by default when they are on disk.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.chosen.durability = Some(durability);
        self
    }

    /// The longest that a relaxed write stays in memory alone; by default 50 ms.
    #[must_use]
    pub fn relaxed_interval(mut self, interval: Duration) -> Self {
        self.chosen.relaxed_interval = Some(interval);
        self
    }

    /// The size that pages which are written from now on aim at: 4 KiB to 1 MiB, a power of two; by
    /// default 16 KiB. What lies on disk stays as it is until it is rewritten.
    #[must_use]
    pub fn page_bytes(mut self, bytes: usize) -> Self {
        self.chosen.page_bytes = Some(bytes);
        self
    }

    /// How pages that are written from now on are compressed; by default not at all. What lies
    /// on disk stays readable, and as it is until it is rewritten.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.chosen.compression = Some(compression);
        self
    }

    /// Adds a merge operator, for keyspaces that are created with its name. A name that is taken,
    /// by a built-in operator or another call, is [`crate::ErrorKind::Invalid`] when the database
    /// is opened.
    #[must_use]
    pub fn merge_operator(mut self, name: &str, operator: impl MergeOperator) -> Self {
        if let Err(error) = self.operators.add(name, Arc::new(operator)) {
            self.error.get_or_insert(error.into());
        }
        self
    }

    /// How many runs of one kind a shard keeps before it merges them into one; by default 8, from 2
    /// to 16. More take fewer writes, and more reads. With 0 no runs are kept, and everything that
    /// is written goes straight into the base: the fewest reads, and by far the most writes.
    #[must_use]
    pub fn runs(mut self, runs: usize) -> Self {
        self.chosen.runs = Some(runs);
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
        self.chosen.reserve_bytes = Some(bytes);
        self
    }

    /// How long an idle shard polls for requests before it sleeps; by default 30 us. Longer answers
    /// faster and uses more of the core; zero suits a laptop.
    #[must_use]
    pub fn spin(mut self, time: Duration) -> Self {
        self.chosen.spin = Some(Spin::For(time));
        self
    }

    /// Has idle shards poll for ever: each takes its core whole.
    #[must_use]
    pub fn busy_poll(mut self) -> Self {
        self.chosen.spin = Some(Spin::Forever);
        self
    }

    /// What all calls come to.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] when two of them contradict each other.
    pub(crate) fn settings(&self) -> Result<Settings> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let base = self.preset.map_or_else(Settings::default, Preset::settings);
        let chosen = &self.chosen;
        Ok(Settings {
            shards: chosen.shards,
            shards_when_new: base.shards_when_new,
            memory_budget: chosen.memory_budget.or(base.memory_budget),
            memory_bytes_a_shard: base.memory_bytes_a_shard,
            durability: chosen.durability.unwrap_or(base.durability),
            relaxed_interval: chosen.relaxed_interval.unwrap_or(base.relaxed_interval),
            page_bytes: chosen.page_bytes.unwrap_or(base.page_bytes),
            compression: chosen.compression.unwrap_or(base.compression),
            runs: chosen.runs.unwrap_or(base.runs),
            reserve_bytes: chosen.reserve_bytes.unwrap_or(base.reserve_bytes),
            spin: chosen.spin.unwrap_or(base.spin),
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn builder() -> Builder {
        Builder::new(Path::new("db"))
    }

    #[test]
    fn what_is_set_wins_over_the_preset_in_any_order() {
        let before = builder().page_bytes(4 << 10).preset(Preset::Olap);
        let after = builder().preset(Preset::Olap).page_bytes(4 << 10);
        assert_eq!(before.settings(), after.settings());
        let settings = after.settings().unwrap();
        assert_eq!(settings.page_bytes, 4 << 10);
        assert_eq!(settings.compression, Compression::Adaptive);
        let edge = builder()
            .shards(3)
            .preset(Preset::Edge)
            .memory_budget(3 << 20);
        let settings = edge.settings().unwrap();
        assert_eq!(
            (settings.shards, settings.shard(3).memory_bytes),
            (Some(3), 1 << 20)
        );
        assert_eq!(builder().settings(), Ok(Settings::default()));
    }

    #[test]
    fn two_presets_contradict_each_other_unless_they_are_one() {
        let twice = builder().preset(Preset::Cache).preset(Preset::Cache);
        assert_eq!(twice.settings().unwrap().durability, Durability::Relaxed);
        let refused = twice.preset(Preset::Edge).settings().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        let text = refused.to_string();
        assert!(text.contains("edge") && text.contains("cache"), "{text}");
    }

    #[test]
    fn an_operator_with_a_name_that_is_taken_is_refused() {
        struct Nothing;
        impl MergeOperator for Nothing {
            fn merge(&self, _: &[u8], _: Option<&[u8]>, _: &[u8]) -> Result<Vec<u8>, String> {
                Ok(Vec::new())
            }
        }
        assert!(builder().merge_operator("mine", Nothing).settings().is_ok());
        let refused = builder().merge_operator("append", Nothing).settings();
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    }
}
