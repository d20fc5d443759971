//! The tree as its users meet it, in a world of memory.

mod compression;
mod damage;
mod env;
mod estimate;
mod expiry;
mod faults;
mod format;
mod model;
mod runs;
mod views;

use std::collections::BTreeMap;
use std::path::Path;

use futures_executor::block_on;

use self::env::TestEnv;
use super::verify::TreeReport;
use super::{Lookup, Tree, TreeConfig, TreeState};
use crate::{
    Compression, DatabaseId, Direction, Entry, EntryFlags, EntrySource, FileOwner, Result, ShardId,
    Timestamp,
};

const OWNER: FileOwner = FileOwner {
    database: DatabaseId(*b"0123456789abcdef"),
    shard: ShardId(5),
};

/// The newest version of each key, as the tree should have it.
type Model = BTreeMap<Vec<u8>, (u64, Vec<u8>)>;

fn path() -> &'static Path {
    Path::new("db/shard-005/tree")
}

/// A batch in memory.
#[derive(Debug, Clone, Default)]
struct Batch {
    entries: Vec<(Vec<u8>, u64, EntryFlags, Vec<u8>)>,
    next: usize,
}

impl Batch {
    fn put(mut self, key: &[u8], timestamp: u64, value: &[u8]) -> Self {
        self.entries
            .push((key.to_vec(), timestamp, EntryFlags::VALUE, value.to_vec()));
        self
    }

    fn delete(mut self, key: &[u8], timestamp: u64) -> Self {
        self.entries
            .push((key.to_vec(), timestamp, EntryFlags::TOMBSTONE, Vec::new()));
        self
    }

    fn sorted(mut self) -> Self {
        self.entries.sort_by(|a, b| (&a.0, b.1).cmp(&(&b.0, a.1)));
        self
    }

    fn apply_to(&self, model: &mut Model) {
        let mut oldest_first: Vec<_> = self.entries.iter().collect();
        oldest_first.sort_by_key(|entry| entry.1);
        for (key, timestamp, flags, value) in oldest_first {
            if *flags == EntryFlags::TOMBSTONE {
                model.remove(key);
            } else {
                model.insert(key.clone(), (*timestamp, value.clone()));
            }
        }
    }
}

impl EntrySource for Batch {
    fn peek(&self) -> Option<Entry<'_>> {
        let (key, timestamp, flags, value) = self.entries.get(self.next)?;
        Some(Entry {
            key,
            timestamp: Timestamp(*timestamp),
            flags: *flags,
            value,
        })
    }

    fn advance(&mut self) {
        self.next += 1;
    }
}

/// A small generator, so that a failure is replayed by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

fn config(page_bytes: usize, cache_bytes: usize) -> TreeConfig {
    TreeConfig {
        page_bytes,
        cache_bytes,
        compression: Compression::None,
    }
}

fn create(env: &TestEnv, config: TreeConfig) -> (Tree<TestEnv>, TreeState) {
    block_on(Tree::create(env, path(), OWNER, config)).unwrap()
}

fn open(env: &TestEnv, config: TreeConfig, state: &TreeState) -> Result<Tree<TestEnv>> {
    block_on(Tree::open(env, path(), OWNER, config, state))
}

/// Applies and publishes a batch; the state is what a superblock would hold.
fn commit(tree: &Tree<TestEnv>, batch: &Batch) -> TreeState {
    let update = block_on(tree.apply(&mut batch.clone())).unwrap();
    let state = *update.state();
    tree.publish(update);
    state
}

fn verified(tree: &Tree<TestEnv>) -> TreeReport {
    block_on(tree.verify(&tree.view(), &mut |_| {})).unwrap()
}

/// Everything that a verifier sees, a cursor sees and a get finds.
fn assert_holds(tree: &Tree<TestEnv>, model: &Model) {
    let view = tree.view();
    let mut seen = Model::new();
    let report = block_on(tree.verify(&view, &mut |entry| {
        let value = (entry.timestamp.0, entry.value.to_vec());
        assert!(seen.insert(entry.key.to_vec(), value).is_none());
    }))
    .unwrap();
    assert_eq!(report.damages, vec![]);
    assert!(report.is_sound() && report.is_space_checked);
    assert!(report.inner_pages == 0 || report.children_min >= 2);
    assert!(seen == *model, "verify saw another tree");
    if view.version.list.runs.is_empty() {
        assert_eq!(view.state().entry_count(), model.len() as u64);
    }
    assert!(
        scan(tree, &view, b"") == *model,
        "a cursor saw another tree"
    );
    let mut end = model.keys().next_back().cloned().unwrap_or_default();
    end.push(0);
    assert!(
        walk(tree, &view, &end, Direction::Reverse) == *model,
        "a cursor in reverse saw another tree"
    );
    for (key, (timestamp, value)) in model {
        let found = block_on(tree.get(&view, key, Timestamp::MAX)).unwrap();
        let found = found.expect("a key of the model is in the tree");
        assert_eq!((found.timestamp.0, found.len()), (*timestamp, value.len()));
        assert!(block_on(tree.load(&found)).unwrap() == value.as_slice());
    }
}

fn scan(tree: &Tree<TestEnv>, view: &super::TreeView, from: &[u8]) -> Model {
    walk(tree, view, from, Direction::Forward)
}

/// What a cursor meets from a key on.
fn walk(tree: &Tree<TestEnv>, view: &super::TreeView, from: &[u8], direction: Direction) -> Model {
    let mut cursor = tree.cursor(view, direction);
    let (mut seen, mut last) = (Model::new(), None);
    block_on(cursor.seek(from)).unwrap();
    while !cursor.is_end() {
        while let Some(entry) = cursor.peek() {
            let (key, timestamp) = (entry.key.to_vec(), entry.timestamp.0);
            let value = block_on(tree.load(&cursor.value_of().unwrap())).unwrap();
            if !entry.flags.contains(EntryFlags::OVERFLOW) {
                assert_eq!(entry.user_value(), &value[..]);
            }
            let follows = |last: &Vec<u8>| direction.compare(last, &key).is_lt();
            assert!(last.as_ref().is_none_or(follows));
            last = Some(key.clone());
            if !entry.flags.contains(EntryFlags::TOMBSTONE) {
                seen.insert(key, (timestamp, value.to_vec()));
            }
            cursor.advance();
        }
        block_on(cursor.fill()).unwrap();
    }
    seen
}

fn is_cached(lookup: &Lookup) -> bool {
    !matches!(lookup, Lookup::NeedIo)
}
