//! A small database with a little of everything, and what was written to it.
//!
//! Its process is killed at the end, as closing would leave nothing in the log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use lightning_io::sim::{Image, SimConfig, SimEnv, World};
use lightning_io::{Env, TaskClass};

use crate::client::Client;
use crate::superblock::{self, Checkpoint};
use crate::tree::{TreePart, TreeReader, WalkStep, large_value_extent};
use crate::{
    Compression, Durability, EntryFlags, FileOwner, Identity, KeyRange, KeyspaceId, Lsn, OpenMode,
    Ops, Request, Router, Shard, ShardConfig, ShardId, StorageKey, finish_create, open_root,
};

pub(super) const ROOT: &str = "db";
pub(super) const SHARDS: u16 = 2;
const KEYSPACES: [u32; 3] = [1, 2, 300];
/// Longer than anything takes but the pause at the end: then every LSN is known by counting.
const MARK_INTERVAL: Duration = Duration::from_secs(10);

/// One write of one key.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) lsn: Lsn,
    pub(super) value: Option<Vec<u8>>,
}

/// A database, and everything that was ever written to it.
pub(super) struct Built {
    pub(super) image: Image,
    pub(super) router: Router,
    /// By stored key, oldest first.
    pub(super) history: BTreeMap<Vec<u8>, Vec<Write>>,
}

/// Settings with which all that was flushed is in the base.
pub(super) fn without_runs() -> ShardConfig {
    ShardConfig {
        memory_bytes: ShardConfig::MEMORY_BYTES_MIN * 32,
        page_bytes: 4096,
        compression: Compression::Lz4,
        runs: 0,
        segment_bytes_first: 64 << 10,
        segment_bytes_max: 128 << 10,
        relaxed_interval: Duration::from_millis(1),
        mark_interval: MARK_INTERVAL,
        reserve_bytes: 64 << 10,
    }
}

/// Settings with which runs of both tiers and the base are in use, and merges under way.
pub(super) fn with_runs() -> ShardConfig {
    ShardConfig {
        memory_bytes: ShardConfig::MEMORY_BYTES_MIN,
        runs: 2,
        ..without_runs()
    }
}

pub(super) fn sim_config() -> SimConfig {
    SimConfig {
        root: PathBuf::from(ROOT),
        ..SimConfig::default()
    }
}

pub(super) fn path(file: &str) -> PathBuf {
    Path::new(ROOT).join(file)
}

/// Writes, one at a time, with the LSN that each gets.
struct Author<'a> {
    client: &'a Client<lightning_io::sim::SimSubmitter<Request>>,
    router: Router,
    next: &'a mut [u64],
    history: &'a mut BTreeMap<Vec<u8>, Vec<Write>>,
}

impl Author<'_> {
    async fn write(&mut self, number: u32, value: Option<Vec<u8>>) {
        let (keyspace, key) = key(number);
        let stored = StorageKey::new(keyspace, key.as_bytes());
        let mut ops = Ops::default();
        match &value {
            Some(value) => ops.put(keyspace, key.as_bytes(), value).unwrap(),
            None => ops.delete(keyspace, key.as_bytes()).unwrap(),
        }
        self.client.write(ops, Durability::Sync).await.unwrap();
        let shard = self.router.shard_of(stored.as_slice()).index();
        let lsn = Lsn(self.next[shard]);
        self.next[shard] += 1;
        let writes = self.history.entry(stored.as_slice().to_vec()).or_default();
        writes.push(Write { lsn, value });
    }

    /// Writes many keys at once: a record on each shard. Four of them fill a leaf.
    async fn bulk(&mut self, numbers: std::ops::Range<u32>) {
        let mut ops = Ops::default();
        for number in numbers {
            let (keyspace, key) = key(number);
            let mut value = value(number, 0);
            value.resize(value.len().max(900), b'.');
            ops.put(keyspace, key.as_bytes(), &value).unwrap();
            let stored = StorageKey::new(keyspace, key.as_bytes());
            let shard = self.router.shard_of(stored.as_slice()).index();
            let writes = self.history.entry(stored.as_slice().to_vec()).or_default();
            let (lsn, value) = (Lsn(self.next[shard]), Some(value));
            writes.push(Write { lsn, value });
        }
        self.client.write(ops, Durability::Sync).await.unwrap();
        for next in self.next.iter_mut() {
            *next += 1;
        }
    }
}

fn key(number: u32) -> (KeyspaceId, String) {
    let index = lightning_io::to_usize(u64::from(number)) % KEYSPACES.len();
    (KeyspaceId(KEYSPACES[index]), format!("key-{number:05}"))
}

/// A value that says who wrote it and when; every ninth is a large one.
fn value(number: u32, round: u32) -> Vec<u8> {
    let text = format!("value of {number} in round {round};");
    let len = if number < 1000 && number.is_multiple_of(9) {
        5_000 + lightning_io::to_usize(u64::from(number)) * 7
    } else {
        90
    };
    text.bytes().cycle().take(len).collect()
}

async fn life(author: &mut Author<'_>, first: bool) {
    let rounds: &[u32] = if first { &[1, 2, 3] } else { &[4] };
    if first {
        author.bulk(1000..2100).await;
    }
    for &round in rounds {
        for number in 0..150 {
            match (round, number % 7) {
                (1, _) => author.write(number, Some(value(number, round))).await,
                (2, 1) | (3, 2) | (4, 3) => author.write(number, None).await,
                (2, 3) | (3, 3 | 4) | (4, 0 | 4) => {
                    author.write(number, Some(value(number, round))).await;
                }
                _ => {}
            }
        }
        if round < 4 {
            author.client.flush().await.unwrap();
        }
    }
    if !first {
        for number in 150..330 {
            author.write(number, Some(value(number, 5))).await;
        }
    }
}

/// Runs one life of the database: open, write, and close the first time.
async fn live(
    world: &World,
    config: &ShardConfig,
    next: &mut [u64],
    history: &mut BTreeMap<Vec<u8>, Vec<Write>>,
) -> Router {
    let (ports, submitters) = world.mesh::<Request>(usize::from(SHARDS), 64);
    let clients = world.client();
    let root = Path::new(ROOT);
    let opened = open_root(&clients, root, OpenMode::OpenOrCreate, Some(SHARDS), SHARDS).await;
    let opened = opened.unwrap();
    let identity = opened.identity;
    let mut serving = Vec::new();
    for (index, port) in ports.into_iter().enumerate() {
        let id = ShardId(u16::try_from(index).unwrap());
        let env = world.env(index);
        if opened.creating {
            Shard::create(&env, root, &identity, id, config)
                .await
                .unwrap();
        }
        let shard = Shard::open(&env, root, &identity, id, config)
            .await
            .unwrap();
        serving.push(env.spawn(TaskClass::Foreground, shard.serve(port)));
    }
    if opened.creating {
        finish_create(&clients, root, &identity).await.unwrap();
    }
    let client = Client::new(identity.router(), submitters);
    let mut author = Author {
        client: &client,
        router: identity.router(),
        next,
        history,
    };
    life(&mut author, opened.creating).await;
    if opened.creating {
        client.close().await.unwrap();
        join_all(serving).await;
    } else {
        clients.sleep(3 * MARK_INTERVAL).await;
    }
    // Closing and idling both mark the last record durable.
    for next in next.iter_mut() {
        *next += 1;
    }
    identity.router()
}

pub(super) fn build(config: &ShardConfig) -> Built {
    let mut image = Image::new(Path::new(ROOT));
    let mut history = BTreeMap::new();
    let mut next = vec![1; usize::from(SHARDS)];
    let mut router = None;
    for seed in [1, 2] {
        let world = World::with_image(seed, sim_config(), image);
        router = Some(
            world
                .run(live(&world, config, &mut next, &mut history))
                .unwrap(),
        );
        assert_eq!(world.task_panics(), Vec::<String>::new());
        image = world.shutdown();
    }
    Built {
        image,
        router: router.unwrap(),
        history,
    }
}

/// Something in the tree's file of a shard.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    /// Levels above the leaves; `None` for a large value.
    pub(super) level: Option<u8>,
    pub(super) keys: KeyRange,
}

/// What the superblock of a shard says, by generation, newest first.
pub(super) async fn checkpoints(env: &SimEnv, shard: u16) -> Vec<(u64, Checkpoint)> {
    let file = path(&format!("shard-{shard:03}/superblock"));
    let slots = superblock::read_slots(env, &file).await.unwrap();
    let mut found: Vec<_> = slots
        .into_iter()
        .filter_map(|(_, slot)| {
            slot.ok()
                .map(|(_, generation, content)| (generation, content))
        })
        .collect();
    found.sort_by_key(|(generation, _)| std::cmp::Reverse(*generation));
    found.dedup_by_key(|(generation, _)| *generation);
    found
}

pub(super) async fn owner(env: &SimEnv, shard: u16) -> FileOwner {
    let (identity, _): (Identity, _) = crate::identity::read(env, Path::new(ROOT)).await.unwrap();
    FileOwner {
        database: identity.database(),
        shard: ShardId(shard),
    }
}

/// Every page and large value of the newest tree of a shard.
pub(super) async fn parts(env: &SimEnv, shard: u16) -> Vec<Part> {
    let file = path(&format!("shard-{shard:03}/tree"));
    let reader = TreeReader::open(env, &file, owner(env, shard).await)
        .await
        .unwrap();
    let newest = checkpoints(env, shard).await[0].1;
    let mut trees = vec![TreePart::base(&newest.tree)];
    trees.extend(reader.runs(&newest.tree).await.unwrap());
    let mut parts = Vec::new();
    for tree in &trees {
        parts.extend(parts_of(&reader, tree).await);
    }
    parts
}

async fn parts_of(reader: &TreeReader<SimEnv>, tree: &TreePart) -> Vec<Part> {
    let mut walk = reader.walk(tree, b"");
    let mut parts = Vec::new();
    while let Some(step) = walk.next().await {
        let WalkStep::Page(reference, page) = step else {
            panic!("the tree is whole");
        };
        let fences = page.fences();
        let lower = (!fences.lower.is_empty()).then(|| fences.lower.to_vec());
        parts.push(Part {
            offset: reference.offset(),
            bytes: u64::from(reference.len_bytes),
            level: Some(page.level()),
            keys: (lower, fences.upper.map(<[u8]>::to_vec)),
        });
        if page.level() > 0 {
            continue;
        }
        let mut key = Vec::new();
        for index in 0..page.entry_count() {
            let entry = page.entry_at(index, &mut key);
            if entry.flags.contains(EntryFlags::OVERFLOW) && tree.has(entry.key) {
                let (offset, bytes) = large_value_extent(entry.value);
                parts.push(Part {
                    offset,
                    bytes,
                    level: None,
                    keys: crate::salvage::ranges::only(entry.key),
                });
            }
        }
    }
    parts
}
