//! Sequences of operations beside a map: what was acknowledged is there, whole, after every close,
//! kill and power failure, also one in the middle of an operation or of opening.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use lightning_io::sim::{CrashPoint, Image, Rng, World};
use lightning_shards::{Compression, Durability, Error, OpenMode, Ops, ShardId, StorageKey};

use crate::input::Input;
use crate::site::{self, Database, KEYSPACE, Site};
use crate::target::{Target, Verdict};

/// Keys that are used: few, so that they are overwritten and deleted often.
const KEYS: usize = 64;

/// Operations of one input, and lives of the process.
const OPERATIONS_MAX: usize = 400;
const LIVES_MAX: usize = 12;

/// The image, the shards' memory, and both maps: a few hundred values of up to 40 KB.
const HEAP_BYTES_MAX: usize = 96 << 20;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the database should hold.
#[derive(Default)]
struct Model {
    map: Map,
    /// The write that was under way when the process ended: each shard's part of it is there whole
    /// or not at all.
    open: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    operations: usize,
    writes: usize,
}

fn key(number: usize) -> Vec<u8> {
    let len = match number % 16 {
        0 => 400,
        1 => 1,
        _ => number % 9,
    };
    format!("k{number}{}", "-".repeat(len)).into_bytes()
}

impl Model {
    fn draw_value(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        self.writes += 1;
        let len = input.pick(&[
            0, 1, 20, 20, 100, 100, 700, 1_023, 1_024, 1_025, 5_000, 40_000,
        ]);
        let mut value = format!("{}:", self.writes).into_bytes();
        value.resize(len.max(value.len()), b'v');
        value
    }

    /// Takes the open write for done as far as the database shows it.
    fn settle(&mut self, found: &Map, shard_of: impl Fn(&[u8]) -> ShardId) -> Result<(), String> {
        let mut parts: BTreeMap<ShardId, Vec<_>> = BTreeMap::new();
        for (key, value) in self.open.drain(..) {
            parts.entry(shard_of(&key)).or_default().push((key, value));
        }
        for (shard, part) in parts {
            let mut after = self.map.clone();
            apply(&mut after, &part);
            let is_after = part.iter().all(|(key, _)| found.get(key) == after.get(key));
            let is_before = part
                .iter()
                .all(|(key, _)| found.get(key) == self.map.get(key));
            if is_after {
                self.map = after;
            } else if !is_before {
                return Err(format!("a write of shard {shard} is there in part"));
            }
        }
        if *found == self.map {
            return Ok(());
        }
        let keys = found.keys().chain(self.map.keys());
        let wrong: Vec<String> = keys
            .filter(|key| found.get(*key) != self.map.get(*key))
            .take(3)
            .map(|key| key.escape_ascii().to_string())
            .collect();
        Err(format!("other contents: {}", wrong.join(", ")))
    }
}

fn apply(map: &mut Map, ops: &[(Vec<u8>, Option<Vec<u8>>)]) {
    for (key, value) in ops {
        match value {
            Some(value) => map.insert(key.clone(), value.clone()),
            None => map.remove(key),
        };
    }
}

/// How a life of the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Close,
    Kill,
    PowerCut,
}

fn told(what: &str) -> impl Fn(Error) -> String {
    move |error| format!("{what}: {error}")
}

async fn scan(database: &Database, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Map, String> {
    let mut found = Map::new();
    let mut scanner = database.client.scan(KEYSPACE, from, to);
    let mut last: Option<Vec<u8>> = None;
    while let Some((key, value)) = scanner.next().await.map_err(told("scan"))? {
        if last.as_ref().is_some_and(|last| last[..] >= key[..]) {
            return Err("a scan is out of order".to_owned());
        }
        last = Some(key.to_vec());
        found.insert(key.to_vec(), value.to_vec());
    }
    Ok(found)
}

/// One life: opens, compares everything, operates until the input says that it ends.
async fn live(
    site: Site,
    model: &RefCell<Model>,
    input: &RefCell<Input<'_>>,
) -> Result<End, String> {
    let database = Database::open(site, OpenMode::OpenOrCreate).await;
    let database = database.map_err(told("opening"))?;
    let everything = scan(&database, Bound::Unbounded, Bound::Unbounded).await?;
    let router = database.client.router();
    let shard_of = |key: &[u8]| router.shard_of(StorageKey::new(KEYSPACE, key).as_slice());
    model.borrow_mut().settle(&everything, shard_of)?;
    loop {
        let kind = {
            let mut model = model.borrow_mut();
            model.operations += 1;
            let is_over = input.borrow().is_empty() || model.operations > OPERATIONS_MAX;
            if is_over {
                15
            } else {
                input.borrow_mut().below(16)
            }
        };
        match kind {
            0..=4 => write(&database, model, input, 1).await?,
            5..=6 => {
                let count = 1 + input.borrow_mut().below(12);
                write(&database, model, input, count).await?;
            }
            7..=8 => get(&database, model, input).await?,
            9..=10 => scan_part(&database, model, input).await?,
            11 => database.client.flush().await.map_err(told("flush"))?,
            12 => verify(&database, model).await?,
            13 => return Ok(End::Kill),
            14 => return Ok(End::PowerCut),
            _ => {
                database.close().await.map_err(told("close"))?;
                return Ok(End::Close);
            }
        }
    }
}

async fn write(
    database: &Database,
    model: &RefCell<Model>,
    input: &RefCell<Input<'_>>,
    count: usize,
) -> Result<(), String> {
    let (mut ops, mut wanted) = (Ops::default(), Vec::new());
    {
        let (mut model, mut input) = (model.borrow_mut(), input.borrow_mut());
        for _ in 0..count {
            let key = key(input.below(KEYS));
            let value = (input.below(4) > 0).then(|| model.draw_value(&mut input));
            let added = match &value {
                Some(value) => ops.put(KEYSPACE, &key, value),
                None => ops.delete(KEYSPACE, &key),
            };
            added.map_err(told("batch"))?;
            wanted.push((key, value));
        }
        model.open = wanted;
    }
    let written = database.client.write(ops, Durability::Sync).await;
    written.map_err(told("write"))?;
    let model = &mut *model.borrow_mut();
    let done = std::mem::take(&mut model.open);
    apply(&mut model.map, &done);
    Ok(())
}

async fn get(
    database: &Database,
    model: &RefCell<Model>,
    input: &RefCell<Input<'_>>,
) -> Result<(), String> {
    let key = key(input.borrow_mut().below(KEYS));
    let found = database.client.get(KEYSPACE, &key).await;
    let found = found.map_err(told("get"))?;
    if found.as_deref() == model.borrow().map.get(&key).map(Vec::as_slice) {
        Ok(())
    } else {
        Err(format!("get: {} is wrong", key.escape_ascii()))
    }
}

async fn scan_part(
    database: &Database,
    model: &RefCell<Model>,
    input: &RefCell<Input<'_>>,
) -> Result<(), String> {
    let (a, b) = {
        let mut input = input.borrow_mut();
        (key(input.below(KEYS)), key(input.below(KEYS)))
    };
    let (from, to) = if a <= b { (a, b) } else { (b, a) };
    let found = scan(database, Bound::Included(&from), Bound::Excluded(&to)).await?;
    let model = model.borrow();
    if found.iter().eq(model.map.range(from..to)) {
        Ok(())
    } else {
        Err("scan: a range is wrong".to_owned())
    }
}

async fn verify(database: &Database, model: &RefCell<Model>) -> Result<(), String> {
    let reports = database.client.verify().await.map_err(told("verify"))?;
    if let Some(damage) = reports.iter().flat_map(|report| &report.damages).next() {
        return Err(format!("verify: {damage}"));
    }
    let entries: u64 = reports.iter().map(|report| report.entries).sum();
    let expected = lightning_io::to_u64(model.borrow().map.len());
    if entries == expected {
        Ok(())
    } else {
        Err(format!("verify: {entries} entries, expected {expected}"))
    }
}

/// The target.
#[derive(Debug)]
pub(crate) struct OperationsTarget;

impl Target for OperationsTarget {
    fn make(&mut self, rng: &mut Rng) -> Vec<u8> {
        let mut input = vec![0; 20 + rng.index(600)];
        rng.fill(&mut input);
        input
    }

    fn run(&mut self, input: &[u8]) -> Result<Verdict, String> {
        let input = RefCell::new(Input::new(input));
        let model = RefCell::new(Model::default());
        let shards = 1 + input.borrow_mut().below(3);
        let compression = match shards {
            2 => Compression::Adaptive,
            _ => Compression::None,
        };
        let mut image: Option<Image> = None;
        let mut ends = BTreeSet::new();
        for life in 0..LIVES_MAX {
            let seed = lightning_io::to_u64(life);
            let config = site::world_config();
            let world = match image.take() {
                None => World::new(seed, config),
                Some(image) => World::with_image(seed, config, image),
            };
            let site = Site::new(&world, shards, compression);
            let cut = u64::from(input.borrow_mut().byte());
            // Half of the lives are cut off somewhere, if they last that long.
            let cut = if cut < 128 {
                u64::MAX
            } else {
                1 + (cut - 128) * 2
            };
            let lived =
                world.run_until_crash(live(site, &model, &input), CrashPoint::AfterIos(cut));
            let (end, name) = match lived.map_err(|failure| failure.to_string())? {
                Some(end) => match end? {
                    End::Close => (End::Close, "closed"),
                    End::Kill => (End::Kill, "killed"),
                    End::PowerCut => (End::PowerCut, "unplugged"),
                },
                None if cut.is_multiple_of(4) => (End::Kill, "killed amidst"),
                None => (End::PowerCut, "unplugged amidst"),
            };
            ends.insert(name);
            image = Some(match end {
                End::Close | End::PowerCut => world.crash(),
                End::Kill => world.shutdown(),
            });
            if input.borrow().is_empty() && end == End::Close {
                break;
            }
        }
        let ends = ends.into_iter().collect::<Vec<_>>().join(" ");
        Ok(Verdict::Accepted(ends))
    }

    /// Where a life is cut off changes with the engine.
    fn has_lasting_outcomes(&self) -> bool {
        false
    }

    fn heap_bytes_max(&self, _input_bytes: usize) -> usize {
        HEAP_BYTES_MAX
    }
}
