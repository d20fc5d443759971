//! A small database as it lies on disk, with something of everything: the sweeps damage it.
//!
//! Two shards with trees of three levels, large values, units that were freed and taken again, logs
//! of several segments in new use. It ends closed, or cut off with records that the next opening
//! has to replay. In both a durable mark covers the last record that holds anything: what is
//! damaged above every mark cannot be told from what a crash tore.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use lightning_io::Env;
use lightning_io::sim::{Image, Rng, SimConfig, World};
use lightning_shards::{Compression, Durability, OpenMode, Ops, Router, ShardConfig, StorageKey};

use crate::database::{Database, Opening, Site};
use crate::keys::{KEYSPACE, Keys};
use crate::model::{Model, PendingWrite};

/// Shards of the sample.
pub(crate) const SHARDS: usize = 2;

/// Messages that a queue holds: more than anybody sends at once here.
pub(crate) const SLOTS: usize = 64;

/// Keys are this long, nearly all of it shared: few separators fit an inner page, so that the tree
/// has three levels with a few leaves.
const KEY_BYTES: usize = 640;

/// Keys in all.
const KEYS: usize = 60;

/// Rounds of writes: enough for the search for free units to come round in a file of a mebibyte, so
/// that current pages lie where older ones did, sound but for what points to them.
const ROUNDS: usize = 12;

/// How the sample's last life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// Closed: everything is in the trees.
    Closed,
    /// Cut off: the last writes are in the logs alone.
    Crashed,
}

/// The rows that must be read.
pub(crate) type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A database at rest.
#[derive(Debug)]
pub(crate) struct Sample {
    /// The disk.
    pub image: Image,
    /// The disk at earlier moments, oldest first.
    pub older: Vec<Image>,
    /// What it holds.
    pub rows: Rows,
}

/// The settings of the sample's shards.
pub(crate) fn config() -> ShardConfig {
    ShardConfig {
        memory_bytes: ShardConfig::MEMORY_BYTES_MIN,
        page_bytes: 4 << 10,
        // The layout of what a page holds is read from its bytes.
        compression: Compression::None,
        // So that runs of both tiers and the base are in use.
        runs: 2,
        segment_bytes_first: 16 << 10,
        segment_bytes_max: 32 << 10,
        relaxed_interval: Duration::from_millis(5),
        mark_interval: Duration::from_millis(1),
        reserve_bytes: 64 << 10,
    }
}

/// An opening with the sample's settings.
pub(crate) fn opening(mode: OpenMode) -> Opening {
    Opening {
        mode,
        name_shards: false,
        config: config(),
    }
}

/// A model that nobody asks: the way into a database needs one.
pub(crate) fn unasked_model() -> Rc<RefCell<Model>> {
    Rc::new(RefCell::new(Model::new(Rc::new(Keys::default()), SHARDS)))
}

fn key(number: usize) -> Vec<u8> {
    let mut key = vec![b'k'; KEY_BYTES - 4];
    key.extend_from_slice(format!("{number:04}").as_bytes());
    key
}

impl Sample {
    /// Builds the sample of a seed.
    ///
    /// # Errors
    /// What the database said: without faults it has no reason to.
    pub(crate) fn build(seed: u64, ending: Ending) -> Result<Self, String> {
        let world = World::new(seed, SimConfig::default());
        let site = Site::new(&world, SHARDS, SLOTS);
        let env = site.clients.clone();
        let model = unasked_model();
        let opened = Database::open(site, opening(OpenMode::Create), &model);
        let opened = world.run(opened).map_err(|failure| failure.to_string())?;
        let mut writer = Writer {
            database: opened.map_err(|error| error.to_string())?,
            model,
            rng: Rng::stream(seed, 0x5a3),
            rows: Rows::new(),
        };
        let mut older = Vec::new();
        for round in 0..ROUNDS {
            let written = world.run(writer.round(round));
            written.map_err(|failure| failure.to_string())??;
            older.push(world.image());
        }
        let rows = std::mem::take(&mut writer.rows);
        match ending {
            Ending::Closed => {
                let closed = world.run(writer.database.close());
                let closed = closed.map_err(|failure| failure.to_string())?;
                closed.map_err(|error| error.to_string())?;
            }
            // Until every log is marked.
            Ending::Crashed => world
                .run(env.sleep(Duration::from_millis(50)))
                .map_err(|failure| failure.to_string())?,
        }
        Ok(Self {
            image: world.crash(),
            older,
            rows,
        })
    }
}

/// Fills the sample.
struct Writer {
    database: Database,
    model: Rc<RefCell<Model>>,
    rng: Rng,
    rows: Rows,
}

impl Writer {
    /// A round of writes; all but the last end in the trees.
    async fn round(&mut self, round: usize) -> Result<(), String> {
        let last = round + 1 == ROUNDS;
        // The last segment has room for a mark behind them: without one, damage of the last record
        // could not be told from a torn write.
        let count = if last { 5 } else { KEYS };
        for at in 0..count {
            // The last round leaves large values alone: what a log replaces is read by nobody.
            let number = if last { at * 9 + 1 } else { at };
            let deletes = round + 2 == ROUNDS && number % 10 == 9;
            let len = match number % 20 {
                7 => 5_000 + self.rng.index(6_000),
                _ => 500 + self.rng.index(450),
            };
            let mut value = vec![0; len];
            self.rng.fill(&mut value);
            let durability = self.rng.pick(&[Durability::Sync, Durability::Relaxed]);
            let durability = if last { Durability::Sync } else { durability };
            self.write(key(number), (!deletes).then_some(value), durability)
                .await?;
            if !last && at % 25 == 24 {
                self.flush().await?;
            }
        }
        if last { Ok(()) } else { self.flush().await }
    }

    async fn flush(&self) -> Result<(), String> {
        let flushed = self.database.client.flush().await;
        flushed.map_err(|error| format!("flush: {error}"))
    }

    async fn write(
        &mut self,
        key: Vec<u8>,
        value: Option<Vec<u8>>,
        durability: Durability,
    ) -> Result<(), String> {
        let mut ops = Ops::default();
        let added = match &value {
            Some(value) => ops.put(KEYSPACE, &key, value),
            None => ops.delete(KEYSPACE, &key),
        };
        added.map_err(|error| error.to_string())?;
        let shard = shard_of(self.database.router, &key);
        self.model.borrow_mut().expect_write(PendingWrite {
            parts: BTreeMap::from([(shard, Vec::new())]),
            durability,
        });
        let written = self.database.client.write(ops, durability).await;
        written.map_err(|error| format!("write: {error}"))?;
        match value {
            Some(value) => drop(self.rows.insert(key, value)),
            None => drop(self.rows.remove(&key)),
        }
        Ok(())
    }
}

/// The shard of a key.
pub(crate) fn shard_of(router: Router, key: &[u8]) -> usize {
    let stored = StorageKey::new(KEYSPACE, key);
    router.shard_of(stored.as_slice()).index()
}
