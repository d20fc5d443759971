//! A database next to a `BTreeMap`, one operation after the other.
//!
//! The oracle of concurrent runs is clever; this one cannot be wrong.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::rc::Rc;

use lightning_io::sim::{Rng, SimConfig, World};
use lightning_shards::client::Swap;
use lightning_shards::{Change, Decide, Durability, Error, OpenMode, Ops};

use crate::database::{Database, Opening, Site};
use crate::keys::{KEYSPACE, KeyShape, Keys, Value, draw_value_bytes};
use crate::model::{Model, PendingWrite};
use crate::plan::Plan;

/// How long a comparison is.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Operations in all.
    pub operations: usize,
    /// Operations after which the database is closed and opened again.
    pub reopen_every: usize,
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Runs operations on both.
///
/// # Errors
/// Where they differ.
pub fn compare(seed: u64, settings: Settings) -> Result<(), String> {
    let rng = &mut Rng::stream(seed, 0x5e9);
    let shape = KeyShape {
        count: 300 + rng.index(1_500),
        long: rng.coin(),
        giant: rng.coin(),
    };
    let keys = Keys::draw(shape, rng);
    let shards = 1 + rng.index(4);
    let (mut map, mut image) = (Map::new(), None);
    let mut left = settings.operations;
    while left > 0 {
        let count = left.min(settings.reopen_every);
        left -= count;
        let config = SimConfig::default();
        let world = match image.take() {
            None => World::new(rng.next_u64(), config),
            Some(image) => World::with_image(rng.next_u64(), config, image),
        };
        let site = Site::new(&world, shards, 1 << 10);
        let opening = Opening {
            mode: OpenMode::OpenOrCreate,
            name_shards: true,
            config: Plan::shard_config(rng),
        };
        let session = session(site, opening, &keys, &mut map, rng, count);
        world
            .run(session)
            .map_err(|failure| failure.to_string())??;
        // What was closed well survives a power failure.
        image = Some(if rng.coin() {
            world.crash()
        } else {
            world.shutdown()
        });
    }
    Ok(())
}

async fn session(
    site: Site,
    opening: Opening,
    keys: &Keys,
    map: &mut Map,
    rng: &mut Rng,
    operations: usize,
) -> Result<(), String> {
    // The model is along because the way in needs one; it is not asked.
    let model = Rc::new(RefCell::new(Model::new(Rc::new(Keys::default()), 8)));
    let database = Database::open(site, opening, &model).await;
    let database = database.map_err(|error| format!("opening: {error}"))?;
    let pair = Pair {
        database: &database,
        model: &model,
        keys,
    };
    pair.scan(map, &(Bound::Unbounded, Bound::Unbounded), false)
        .await?;
    for number in 0..operations {
        pair.operate(map, rng)
            .await
            .map_err(|what| format!("operation {number}: {what}"))?;
    }
    pair.scan(map, &(Bound::Unbounded, Bound::Unbounded), true)
        .await?;
    let closed = database.close().await;
    closed.map_err(|error| format!("closing: {error}"))
}

struct Pair<'a> {
    database: &'a Database,
    model: &'a Rc<RefCell<Model>>,
    keys: &'a Keys,
}

impl Pair<'_> {
    async fn operate(&self, map: &mut Map, rng: &mut Rng) -> Result<(), String> {
        match rng.below(100) {
            0..50 => self.write(map, rng).await,
            50..60 => self.update(map, rng).await,
            60..80 => self.get(map, rng).await,
            80..84 => self.exists(map, rng).await,
            84..88 => self.look_at_range(map, rng).await,
            88..97 => {
                let range = (self.draw_end(rng), self.draw_end(rng));
                self.scan(map, &range, rng.coin()).await
            }
            97..99 => {
                let flushed = self.database.client.flush().await;
                flushed.map_err(|error| format!("flush: {error}"))
            }
            _ => self.verify(map).await,
        }
    }

    fn draw_end(&self, rng: &mut Rng) -> Bound<Vec<u8>> {
        let key = self.keys.bytes(rng.index(self.keys.len())).to_vec();
        match rng.below(5) {
            0 | 1 => Bound::Included(key),
            2 | 3 => Bound::Excluded(key),
            _ => Bound::Unbounded,
        }
    }

    async fn write(&self, map: &mut Map, rng: &mut Rng) -> Result<(), String> {
        let count = if rng.below(4) == 0 {
            1 + rng.index(60)
        } else {
            1
        };
        let (mut ops, mut pending) = (Ops::default(), BTreeMap::new());
        for at in 0..count {
            let id = rng.index(self.keys.len());
            let key = self.keys.bytes(id);
            let shard = self.keys.shard(self.database.router, id);
            pending.entry(shard).or_insert_with(Vec::new);
            let added = if rng.below(4) == 0 {
                map.remove(key);
                ops.delete(KEYSPACE, key)
            } else {
                let len = draw_value_bytes(rng.below(8) == 0, rng);
                let value = Value::new(rng.below(1 << 40), lightning_io::to_u64(at), len);
                map.insert(key.to_vec(), value.to_bytes());
                ops.put(KEYSPACE, key, &value.to_bytes())
            };
            added.map_err(|error| error.to_string())?;
        }
        let durability = rng.pick(&[Durability::Sync, Durability::Relaxed]);
        let expected = PendingWrite {
            parts: pending,
            durability,
        };
        self.model.borrow_mut().expect_write(expected);
        let written = self.database.client.write(ops, durability).await;
        written.map_err(|error| format!("write: {error}"))
    }

    async fn get(&self, map: &Map, rng: &mut Rng) -> Result<(), String> {
        let ids: Vec<_> = (0..=rng.index(20))
            .map(|_| rng.index(self.keys.len()))
            .collect();
        let keys: Vec<&[u8]> = ids.iter().map(|&id| self.keys.bytes(id)).collect();
        let values = if let [key] = keys[..] {
            self.database
                .client
                .get(KEYSPACE, key)
                .await
                .map(|value| vec![value])
        } else {
            self.database.client.get_many(KEYSPACE, &keys).await
        };
        let values = values.map_err(|error| format!("get: {error}"))?;
        for (&id, value) in ids.iter().zip(&values) {
            let expected = map.get(self.keys.bytes(id)).map(Vec::as_slice);
            if value.as_deref() != expected {
                return Err(format!("get: {} is wrong", self.keys.name(id)));
            }
        }
        Ok(())
    }

    async fn scan(
        &self,
        map: &Map,
        range: &(Bound<Vec<u8>>, Bound<Vec<u8>>),
        reverse: bool,
    ) -> Result<(), String> {
        let (from, to) = (range.0.as_ref(), range.1.as_ref());
        let slices = (from.map(Vec::as_slice), to.map(Vec::as_slice));
        let mut scanner = self.database.client.scan(KEYSPACE, slices.0, slices.1);
        let mut expected: Vec<_> = map
            .iter()
            .filter(|(key, _)| RangeBounds::<[u8]>::contains(&slices, key.as_slice()))
            .collect();
        if reverse {
            scanner.reverse();
            expected.reverse();
        }
        let mut expected = expected.into_iter();
        loop {
            let row = match scanner.next().await {
                Err(Error::Invalid { what: "range", .. }) if ends_before_it_starts(range) => {
                    return Ok(());
                }
                row => row.map_err(|error| format!("scan: {error}"))?,
            };
            if ends_before_it_starts(range) {
                return Err("scan: a range that ends before it starts was taken".to_owned());
            }
            let wanted = expected.next();
            let same = match (&row, wanted) {
                (Some((key, value)), Some((other, wanted))) => key == other && value == wanted,
                (None, None) => return Ok(()),
                _ => false,
            };
            if !same {
                let found = row.map(|row| row.0.escape_ascii().to_string());
                let wanted = wanted.map(|row| row.0.escape_ascii().to_string());
                return Err(format!("scan: expected {wanted:?}, found {found:?}"));
            }
        }
    }

    /// A read-modify-write, conditional or not.
    async fn update(&self, map: &mut Map, rng: &mut Rng) -> Result<(), String> {
        let key = self.keys.bytes(rng.index(self.keys.len()));
        let current = map.get(key).cloned();
        let expected = match rng.below(3) {
            0 => None,
            1 => Some(b"another".to_vec()),
            _ => current.clone(),
        };
        let len = draw_value_bytes(rng.below(8) == 0, rng);
        let new = (rng.below(4) > 0).then(|| Value::new(rng.below(1 << 40), 0, len).to_bytes());
        let durability = rng.pick(&[Durability::Sync, Durability::Relaxed]);
        let client = &self.database.client;
        if rng.coin() {
            let swap = Swap {
                expected: expected.as_deref(),
                new: new.as_deref(),
            };
            let swapped = client
                .compare_and_swap(KEYSPACE, key, swap, durability)
                .await;
            let swapped = swapped.map_err(|error| format!("swap: {error}"))?;
            if swapped.is_ok() != (expected == current) {
                return Err(format!("swap: {swapped:?} of {}", key.escape_ascii()));
            }
            if let Err(mismatch) = swapped {
                return if mismatch.found.as_deref() == current.as_deref() {
                    Ok(())
                } else {
                    Err(format!("swap: a wrong value of {}", key.escape_ascii()))
                };
            }
        } else {
            let put = new.clone();
            let decide = Decide::new(move |found| match put {
                _ if found != current.as_deref() => Change::Put(b"a wrong value was seen".to_vec()),
                put => Change::from(put),
            });
            let updated = client.update(KEYSPACE, key, decide, durability).await;
            let updated = updated.map_err(|error| format!("update: {error}"))?;
            if updated.value.as_deref() != new.as_deref() {
                return Err(format!(
                    "update: {:?} of {}",
                    updated.value,
                    key.escape_ascii()
                ));
            }
        }
        match new {
            Some(new) => map.insert(key.to_vec(), new),
            None => map.remove(key),
        };
        Ok(())
    }

    async fn exists(&self, map: &Map, rng: &mut Rng) -> Result<(), String> {
        let key = self.keys.bytes(rng.index(self.keys.len()));
        let found = self.database.client.exists(KEYSPACE, key).await;
        let found = found.map_err(|error| format!("exists: {error}"))?;
        if found != map.contains_key(key) {
            return Err(format!("exists: {found} for {}", key.escape_ascii()));
        }
        Ok(())
    }

    /// The number of rows of a range, and what is at its ends.
    async fn look_at_range(&self, map: &Map, rng: &mut Rng) -> Result<(), String> {
        let range = (self.draw_end(rng), self.draw_end(rng));
        if ends_before_it_starts(&range) {
            return Ok(());
        }
        let slices = (range.0.as_ref(), range.1.as_ref());
        let (from, to) = (slices.0.map(Vec::as_slice), slices.1.map(Vec::as_slice));
        let inside = |row: &(&Vec<u8>, &Vec<u8>)| {
            RangeBounds::<[u8]>::contains(&(from, to), row.0.as_slice())
        };
        let rows: Vec<_> = map.iter().filter(inside).collect();
        let client = &self.database.client;
        let counted = client.scan(KEYSPACE, from, to).count().await;
        let counted = counted.map_err(|error| format!("count: {error}"))?;
        if counted != lightning_io::to_u64(rows.len()) {
            return Err(format!("count: {counted} of {} rows", rows.len()));
        }
        for (reverse, expected) in [(false, rows.first()), (true, rows.last())] {
            let mut scanner = client.scan(KEYSPACE, from, to);
            scanner.set_limit(1);
            if reverse {
                scanner.reverse();
            }
            let row = scanner.next().await;
            let row = row.map_err(|error| format!("first or last: {error}"))?;
            let row = row.as_ref().map(|row| (row.0.as_ref(), row.1.as_ref()));
            if row != expected.map(|row| (row.0.as_slice(), row.1.as_slice())) {
                return Err(format!("first or last: wrong, in reverse {reverse}"));
            }
        }
        let estimated = client.estimate(KEYSPACE, from, to).await;
        let estimated = estimated.map_err(|error| format!("estimate: {error}"))?;
        // A key counts in each memtable, in each run and in the base, deleted or not.
        if estimated.entries > lightning_io::to_u64((3 + 64) * self.keys.len()) {
            return Err(format!("estimate: {} entries", estimated.entries));
        }
        Ok(())
    }

    async fn verify(&self, map: &Map) -> Result<(), String> {
        let reports = self.database.client.verify().await;
        let reports = reports.map_err(|error| format!("verify: {error}"))?;
        if let Some(damage) = reports.iter().flat_map(|report| &report.damages).next() {
            return Err(format!("verify: {damage}"));
        }
        let entries: u64 = reports.iter().map(|report| report.entries).sum();
        if entries != lightning_io::to_u64(map.len()) {
            return Err(format!("verify: {entries} entries, expected {}", map.len()));
        }
        Ok(())
    }
}

/// Whether a range is one that the database refuses.
fn ends_before_it_starts(range: &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> bool {
    let key = |bound: &Bound<Vec<u8>>| match bound {
        Bound::Included(key) | Bound::Excluded(key) => Some(key.clone()),
        Bound::Unbounded => None,
    };
    let (from, to) = (key(&range.0), key(&range.1));
    to.is_some() && to < from
}
