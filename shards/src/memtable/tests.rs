use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use super::*;
use crate::{
    Direction, Entry, EntryFlags, EntrySource, KeyspaceId, StorageKey, StoredRange, Timestamp,
};

/// What a memtable has to agree with.
type Model = BTreeMap<ModelKey, ModelValue>;
type ModelKey = (Vec<u8>, Reverse<Timestamp>);
type ModelValue = (EntryFlags, Vec<u8>);

/// The generator of Marsaglia, "Xorshift RNGs", 2003, with the shifts 13, 7, 17.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn index(&mut self, bound: usize) -> usize {
        lightning_io::to_usize(self.below(lightning_io::to_u64(bound)))
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[5]
    }
}

/// How the keys of a run are made.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Random,
    Ascending,
    Descending,
    /// Ascending and descending runs in several places at once.
    Interleaved,
    /// Descending towards a fixed key, with full leaves below it.
    TowardsFixed,
    /// Few bytes, of the extreme kinds, of many lengths: keys that are prefixes of one another.
    Nested,
    /// The same long start, and differences at random distances behind it.
    SharedPrefix,
    /// Text with digits at the end, in several keyspaces.
    Keyspaces,
    /// Lengths up to the longest key.
    Long,
    /// All of them in one table.
    Mixed,
}

const SHAPES: [Shape; 10] = [
    Shape::Random,
    Shape::Ascending,
    Shape::Descending,
    Shape::Interleaved,
    Shape::TowardsFixed,
    Shape::Nested,
    Shape::SharedPrefix,
    Shape::Keyspaces,
    Shape::Long,
    Shape::Mixed,
];

impl Shape {
    fn key(self, n: u64, random: &mut Random) -> Vec<u8> {
        let user = |keyspace, key: &[u8]| {
            StorageKey::new(KeyspaceId(keyspace), key)
                .as_slice()
                .to_vec()
        };
        match self {
            Self::Random => user(1, &random.next().to_be_bytes()),
            Self::Ascending => user(1, &(n * 3).to_be_bytes()),
            Self::Descending => user(1, &(u64::MAX - n * 3).to_be_bytes()),
            Self::Interleaved => {
                let stream = n % 4;
                let place = if stream < 2 { n } else { u64::MAX - n };
                user(1, format!("stream-{stream}-{place:020}").as_bytes())
            }
            Self::TowardsFixed if n < 200 => user(1, &n.to_be_bytes()),
            Self::TowardsFixed => user(1, &(1_000_000 - n).to_be_bytes()),
            Self::Nested => {
                let length = random.index(14);
                let bytes: Vec<u8> = (0..length).map(|_| [0, 0xff, 1][random.index(3)]).collect();
                user(u32::from(random.byte() % 2), &bytes)
            }
            Self::SharedPrefix => {
                let mut bytes = vec![b'p'; 40 + random.index(30)];
                bytes.extend_from_slice(&random.below(300).to_be_bytes());
                user(1, &bytes)
            }
            Self::Keyspaces => {
                let keyspace = [0, 1, 2, 255, 256, u32::MAX][random.index(6)];
                user(
                    keyspace,
                    format!("user:{:012}", random.below(500)).as_bytes(),
                )
            }
            Self::Long => {
                let length = 65_536 - random.index(3) * random.index(32_000);
                let mut bytes = vec![0xff; length];
                let place = random.index(bytes.len().min(9));
                bytes[length - 1 - place] = random.byte();
                user(1, &bytes)
            }
            Self::Mixed => SHAPES[random.index(9)].key(n, random),
        }
    }

    fn count(self) -> u64 {
        match self {
            Self::Long => 150,
            _ => 3000,
        }
    }
}

/// A table and its model after the same insertions.
struct Run {
    table: Memtable,
    model: Model,
    keys: Vec<Vec<u8>>,
    clock: u64,
    random: Random,
}

impl Run {
    fn new(seed: u64) -> Self {
        Self {
            table: Memtable::new(1 << 20),
            model: Model::new(),
            keys: Vec::new(),
            clock: 1,
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        }
    }

    fn fill(&mut self, shape: Shape) {
        for n in 0..shape.count() {
            // A batch of several entries has one timestamp, and may name a key repeatedly.
            self.clock += self.random.below(3) / 2 * 10;
            let again = !self.keys.is_empty() && self.random.below(4) == 0;
            let key = if again {
                let index = self.random.index(self.keys.len());
                self.keys[index].clone()
            } else {
                shape.key(n, &mut self.random)
            };
            let tombstone = self.random.below(8) == 0;
            let flags = if tombstone {
                EntryFlags::TOMBSTONE
            } else {
                [EntryFlags::VALUE, EntryFlags::RELAXED][self.random.index(2)]
            };
            let length = if tombstone { 0 } else { self.random.index(60) };
            let value: Vec<u8> = (0..length).map(|_| self.random.byte()).collect();
            self.insert(&key, flags, &value);
            if self.random.below(500) == 0 {
                self.table.check();
            }
        }
    }

    fn insert(&mut self, key: &[u8], flags: EntryFlags, value: &[u8]) {
        let timestamp = Timestamp(self.clock);
        self.table.insert(Entry {
            key,
            timestamp,
            flags,
            value,
        });
        self.model
            .insert((key.to_vec(), Reverse(timestamp)), (flags, value.to_vec()));
        self.keys.push(key.to_vec());
    }

    fn check(&mut self) {
        self.table.check();
        assert_eq!(self.table.versions(), self.model.len());
        let mut keys: Vec<_> = self.model.keys().map(|(key, _)| key).collect();
        keys.dedup();
        assert_eq!(self.table.keys(), keys.len());
        let newest = self
            .model
            .keys()
            .map(|(_, Reverse(timestamp))| *timestamp)
            .max();
        assert_eq!(self.table.newest(), newest.unwrap_or_default());
        assert!(self.table.iter().eq(entries(&self.model, &[])));
        for _ in 0..500 {
            let key = self.probe();
            let at = Timestamp(self.random.below(self.clock + 5));
            let expected = self
                .model
                .range((key.clone(), Reverse(at))..=(key.clone(), Reverse(Timestamp::ZERO)))
                .next()
                .map(entry);
            assert_eq!(self.table.get(&key, at), expected);
            let found = self.table.iter_from(&key, Direction::Forward).take(40);
            assert!(
                found.eq(entries(&self.model, &key).take(40)),
                "from {key:?}"
            );
            let found = self.table.iter_from(&key, Direction::Reverse).take(40);
            assert!(
                found.eq(entries_below(&self.model, &key, 40)),
                "below {key:?}"
            );
        }
    }

    /// A key that is in the table, or one beside such a key, or any.
    fn probe(&mut self) -> Vec<u8> {
        let mut key = match self.keys.len() {
            0 => Vec::new(),
            len => self.keys[self.random.index(len)].clone(),
        };
        match self.random.below(8) {
            0 => key.push(0),
            1 => key.push(0xff),
            2 => {
                key.pop();
            }
            3 => key.truncate(self.random.index(8)),
            4 if !key.is_empty() => {
                let index = self.random.index(key.len());
                key[index] =
                    key[index].wrapping_add(if self.random.below(2) == 0 { 1 } else { 0xff });
            }
            5 => {
                let length = self.random.index(12);
                key = (0..length).map(|_| self.random.byte()).collect();
            }
            _ => (),
        }
        key
    }
}

fn entry<'a>((key, value): (&'a ModelKey, &'a ModelValue)) -> Entry<'a> {
    Entry {
        key: &key.0,
        timestamp: key.1.0,
        flags: value.0,
        value: &value.1,
    }
}

fn entries<'a>(model: &'a Model, from: &[u8]) -> impl Iterator<Item = Entry<'a>> {
    model
        .range((from.to_vec(), Reverse(Timestamp::MAX))..)
        .map(entry)
}

/// The first entries of a walk in reverse from below a key.
fn entries_below<'a>(model: &'a Model, to: &[u8], count: usize) -> Vec<Entry<'a>> {
    let mut found: Vec<Entry<'a>> = Vec::new();
    let mut key_start = 0;
    let below = model.range(..(to.to_vec(), Reverse(Timestamp::MAX)));
    for entry in below.rev().map(entry) {
        if found.last().is_some_and(|last| last.key != entry.key) {
            if found.len() >= count {
                break;
            }
            key_start = found.len();
        }
        // The older ones of a key come first here.
        found.insert(key_start, entry);
    }
    found.truncate(count);
    found
}

fn put(key: &[u8], timestamp: u64, value: &[u8], table: &mut Memtable) {
    let timestamp = Timestamp(timestamp);
    table.insert(Entry {
        key,
        timestamp,
        flags: EntryFlags::VALUE,
        value,
    });
}

/// Everything a source yields, compared with the table as it is now.
fn assert_yields_all(source: &mut MemtableSource, table: &Rc<RefCell<Memtable>>) {
    let table = table.borrow();
    let mut iter = table.iter();
    while let Some(entry) = source.peek() {
        assert_eq!(Some(entry), iter.next());
        source.advance();
    }
    assert_eq!(iter.next(), None);
    source.advance();
    assert_eq!(source.peek(), None);
}

#[test]
fn agrees_with_the_model_for_keys_of_every_shape() {
    for shape in SHAPES {
        for seed in 1..=4 {
            println!("{shape:?}, seed {seed}");
            let mut run = Run::new(seed);
            run.check();
            run.fill(shape);
            run.check();
        }
    }
}

#[test]
fn agrees_with_the_model_when_shapes_follow_one_another() {
    let mut run = Run::new(99);
    for shape in SHAPES {
        run.fill(shape);
        run.check();
    }
}

#[test]
fn an_empty_table_costs_nothing_and_has_nothing() {
    let table = Memtable::new(1 << 20);
    assert_eq!(table.bytes(), 0);
    assert!(table.is_empty() && !table.is_full());
    assert_eq!(table.get(b"", Timestamp::MAX), None);
    assert_eq!(table.iter().next(), None);
    for direction in [Direction::Forward, Direction::Reverse] {
        assert_eq!(table.iter_from(b"", direction).next(), None);
    }
    let table = Rc::new(RefCell::new(table));
    let mut source = MemtableSource::new(Rc::clone(&table));
    assert_yields_all(&mut source, &table);
}

#[test]
fn the_empty_key_is_a_key() {
    let mut table = Memtable::new(1 << 20);
    put(b"", 1, b"one", &mut table);
    put(b"", 2, b"two", &mut table);
    put(b"\0", 2, b"zero", &mut table);
    assert_eq!(table.get(b"", Timestamp(1)).unwrap().value, b"one");
    assert_eq!(table.get(b"", Timestamp(9)).unwrap().value, b"two");
    assert_eq!(table.get(b"", Timestamp(0)), None);
    assert_eq!(table.iter().count(), 3);
    table.check();
}

#[test]
fn a_later_entry_of_the_same_batch_replaces_the_earlier() {
    let mut table = Memtable::new(1 << 20);
    put(b"key", 1, b"old", &mut table);
    put(b"key", 2, b"first", &mut table);
    put(b"key", 2, b"second", &mut table);
    let values: Vec<&[u8]> = table.iter().map(|entry| entry.value).collect();
    assert_eq!(values, [&b"second"[..], b"old"]);
    assert_eq!((table.keys(), table.versions()), (1, 2));
}

#[test]
fn tombstones_are_returned_as_entries() {
    let mut table = Memtable::new(1 << 20);
    put(b"key", 1, b"value", &mut table);
    table.insert(Entry {
        key: b"key",
        timestamp: Timestamp(2),
        flags: EntryFlags::TOMBSTONE.with(EntryFlags::RELAXED),
        value: b"",
    });
    let found = table.get(b"key", Timestamp::MAX).unwrap();
    assert!(found.is_tombstone() && found.flags.contains(EntryFlags::RELAXED));
    assert_eq!(table.get(b"key", Timestamp(1)).unwrap().value, b"value");
}

#[test]
#[should_panic(expected = "in the order of their commits")]
fn an_older_version_after_a_newer_is_an_error_of_the_caller() {
    let mut table = Memtable::new(1 << 20);
    put(b"key", 2, b"", &mut table);
    put(b"key", 1, b"", &mut table);
}

#[test]
fn bytes_grow_with_what_is_stored_until_the_budget_is_used_up() {
    let budget = 1 << 20;
    let mut table = Memtable::new(budget);
    let mut stored = 0;
    for n in 0_u64.. {
        let before = table.bytes();
        put(&n.to_be_bytes(), n, &[1; 100], &mut table);
        stored += 8 + 100;
        assert!(table.bytes() > before);
        assert_eq!(table.is_full(), table.bytes() >= budget);
        if table.is_full() {
            break;
        }
    }
    // The record header, rounding, and nodes that ascending keys fill: below half as much again.
    assert!(
        stored < budget && table.bytes() < stored * 3 / 2,
        "{stored} {table:?}"
    );
}

#[test]
fn runs_of_keys_fill_their_leaves() {
    type KeyOf = fn(u64) -> u64;
    let orders: [KeyOf; 4] = [
        |n| n,
        |n| u64::MAX - n,
        |n| ((n % 7) << 56) | n,
        |n| ((n % 7) << 56) | ((u64::MAX >> 8) - n),
    ];
    for key_of in orders {
        let mut table = Memtable::new(1 << 30);
        for n in 0..20_000 {
            put(&key_of(n).to_be_bytes(), n, b"", &mut table);
        }
        let nodes = table.bytes() - 20_000 * 32;
        // A full leaf has 14 bytes a key, halves have 28; the rest is for inner nodes.
        assert!(
            nodes < 20_000 * 18,
            "{} bytes a key, like {}",
            nodes / 20_000,
            key_of(8)
        );
        table.check();
    }
}

#[test]
fn no_order_of_keys_leaves_leaves_nearly_empty() {
    // A run up to a full leaf, then keys that each go before the one inserted last, right behind
    // it.
    let mut table = Memtable::new(1 << 30);
    for n in 0..20_000_u64 {
        let key = if n < 320 { n } else { 1_000_000 - n };
        put(&key.to_be_bytes(), n, b"", &mut table);
    }
    for n in 0..20_000_u64 {
        let key = n << 40 | if n % 2 == 0 { 5 } else { 3 };
        put(&key.to_be_bytes(), 30_000 + n, b"", &mut table);
    }
    // Two runs that meet in one leaf.
    for n in 0..20_000_u64 {
        let key = if n % 2 == 0 {
            3 << 60 | n
        } else {
            (3 << 60) + u64::from(u32::MAX) - n
        };
        put(&key.to_be_bytes(), 60_000 + n, b"", &mut table);
    }
    let nodes = table.bytes() - 60_000 * 32;
    assert!(nodes < 60_000 * 34, "{} bytes a key", nodes / 60_000);
    table.check();
}

#[test]
fn keys_with_much_in_common_have_heads_of_their_own() {
    let mut table = Memtable::new(1 << 30);
    let mut random = Random(5);
    for n in 0..20_000 {
        let keyspace = KeyspaceId(1 + u32::from(random.byte() % 2));
        let group = random.below(20);
        let user = format!(
            "group-{group:02}-of-the-keys-{:06}",
            random.below(1_000_000)
        );
        let key = StorageKey::new(keyspace, user.as_bytes());
        put(key.as_slice(), n, b"", &mut table);
    }
    // Only leaves where two of the forty groups meet have ties: fewer than one full leaf a group.
    assert!(
        table.ties() < 40 * 32,
        "{} of {} keys",
        table.ties(),
        table.keys()
    );
    table.check();
}

#[test]
fn the_longest_key_and_value_come_back() {
    let mut table = Memtable::new(16 << 20);
    let key = vec![0xff; StorageKey::BYTES_MAX];
    let value: Vec<u8> = (0..=250).cycle().take(crate::VALUE_BYTES_MAX).collect();
    put(b"before", 1, b"small", &mut table);
    put(&key, 2, &value, &mut table);
    put(&key, 3, b"", &mut table);
    put(b"middle", 4, b"small", &mut table);
    assert!(table.get(&key, Timestamp(2)).unwrap().value == value);
    assert!(
        table.is_full() && table.bytes() > value.len() && table.bytes() < value.len() + (1 << 20)
    );
    let table = Rc::new(RefCell::new(table));
    let mut source = MemtableSource::new(Rc::clone(&table));
    assert_yields_all(&mut source, &table);
}

#[test]
fn a_source_yields_what_iteration_does() {
    for shape in SHAPES {
        let mut run = Run::new(7);
        run.fill(shape);
        let table = Rc::new(RefCell::new(run.table));
        let mut source = MemtableSource::new(Rc::clone(&table));
        assert_yields_all(&mut source, &table);
    }
}

#[test]
fn a_source_passes_through_a_chain_longer_than_a_piece() {
    for key_bytes in [4, 5000] {
        let mut table = Memtable::new(1 << 20);
        for n in 0..5000_u64 {
            put(&vec![5; key_bytes], n, &n.to_le_bytes(), &mut table);
        }
        put(&[6], 5000, b"", &mut table);
        let table = Rc::new(RefCell::new(table));
        let mut source = MemtableSource::new(Rc::clone(&table));
        assert_yields_all(&mut source, &table);
    }
}

#[test]
fn a_source_holds_no_borrow_and_sees_what_is_inserted_ahead_of_it() {
    let table = Rc::new(RefCell::new(Memtable::new(1 << 20)));
    for n in 0..5000_u64 {
        put(&(n * 2).to_be_bytes(), 1, &[0; 50], &mut table.borrow_mut());
    }
    let mut source = MemtableSource::new(Rc::clone(&table));
    for _ in 0..3000 {
        source.advance();
    }
    for n in 0..5000_u64 {
        put(
            &(n * 2 + 1).to_be_bytes(),
            2,
            &[0; 50],
            &mut table.borrow_mut(),
        );
    }
    let mut keys = Vec::new();
    while let Some(entry) = source.peek() {
        keys.push(entry.key.to_vec());
        source.advance();
    }
    assert!(keys.is_sorted_by(|a, b| a < b));
    assert!(keys.len() > 2000 + 1000, "{}", keys.len());
    assert_eq!(keys.last().unwrap(), &9999_u64.to_be_bytes());
}

#[test]
fn an_estimate_is_right_to_a_factor_of_two_and_mostly_to_a_tenth() {
    let mut random = Random(11);
    for count in [1, 20, 5_000, 40_000] {
        let mut table = Memtable::new(64 << 20);
        let mut keys: Vec<Vec<u8>> = (0..count)
            .map(|_| random.next().to_be_bytes().to_vec())
            .collect();
        for key in &keys {
            let stored = StorageKey::new(KeyspaceId::DEFAULT, key);
            put(stored.as_slice(), 1, &[7; 100], &mut table);
        }
        keys.sort();
        let mut errors = 0;
        for _ in 0..500 {
            let from = random.index(keys.len());
            let to = from + random.index(keys.len() - from);
            let bounds = (
                Bound::Included(&keys[from][..]),
                Bound::Excluded(&keys[to][..]),
            );
            let range = StoredRange::new(KeyspaceId::DEFAULT, bounds.0, bounds.1).unwrap();
            let (found, bytes) = table.estimate(&range);
            let (found, expected) = (lightning_io::to_usize(found), to - from);
            let (least, most) = (expected / 2, expected * 2);
            errors += found.abs_diff(expected) * 1_000 / (expected + 64);
            assert!(
                found + 64 >= least && found <= most + 64,
                "{expected}, {found}"
            );
            assert!(lightning_io::to_usize(bytes) <= 400 * (most + 64));
            if count <= 20 {
                assert_eq!(found, expected);
            }
        }
        assert!(errors / 500 < 100, "{errors} thousandths in 500 guesses");
        let all = StoredRange::new(KeyspaceId::DEFAULT, Bound::Unbounded, Bound::Unbounded);
        let (found, bytes) = table.estimate(&all.unwrap());
        assert_eq!(lightning_io::to_usize(found), table.keys());
        assert_eq!(lightning_io::to_usize(bytes), table.bytes());
    }
}
