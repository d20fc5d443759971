//! The tree of a memtable: descent, insertion and split.
//!
//! # Prefixes
//! A node's prefix is shared by its two fences (the separators around it, and at the edges of the
//! tree the smallest and the largest key), so it is known without reading the node's keys and
//! holds for every key that is routed there.
//! 1. The first key is its own prefix: it is both fences of the one leaf.
//! 2. A key beyond the smallest or largest becomes that fence. Only the nodes along that edge of
//!    the tree have it as a fence; each whose prefix the key does not share is given the shorter
//!    one, and its heads are recomputed. That is one node per level.
//! 3. A split moves fences together, so both halves may lengthen their prefix; they do when half
//!    a head is gained.
//!
//! So the keyspace in front of every key, and whatever a range of keys has in common beyond it,
//! costs no bytes of a head, also when several keyspaces share the table.

use std::cmp::Ordering;
use std::fmt;

use super::arena::{ARENA_BYTES_MIN, Address, Arena};
use super::edge::{Edge, Side, start_of};
use super::head::shared_bytes;
use super::iter::Iter;
use super::node::{Inner, Leaf, NO_NODE, Pool, SLOTS, Slots};
use super::record::Record;
use crate::{Direction, Entry, StorageKey, Timestamp, VALUE_BYTES_MAX};

/// The largest budget: half of what the arena takes for certain, so that the batch that fills the
/// table has as much again.
pub(crate) const BUDGET_BYTES_MAX: usize = ARENA_BYTES_MIN / 2;

/// The leftmost leaf: splits keep the lower half where it is, so it is always the first one.
const FIRST_LEAF: u32 = 0;

/// A step of a descent: which inner node, and the index of the child taken there.
#[derive(Clone, Copy)]
struct Step {
    inner: u32,
    child: usize,
}

/// The newest versions of a shard's keys, in order.
pub struct Memtable {
    arena: Arena,

    // The tree: `root` is a leaf when `height` is 0, and an inner node otherwise.
    pub(super) leaves: Pool<Leaf>,
    pub(super) inners: Pool<Inner>,
    pub(super) root: u32,
    pub(super) height: u32,

    // Records of the outermost fences; `NONE` exactly while the table is empty.
    pub(super) smallest: Edge,
    pub(super) largest: Edge,

    budget_bytes: usize,
    keys: usize,
    versions: usize,
    newest: Timestamp,

    // The descent of the current insertion, kept for its capacity.
    path: Vec<Step>,
}

impl fmt::Debug for Memtable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memtable")
            .field("keys", &self.keys)
            .field("versions", &self.versions)
            .field("bytes", &self.bytes())
            .field("budget_bytes", &self.budget_bytes)
            .finish_non_exhaustive()
    }
}

impl Memtable {
    /// An empty table, which holds no memory until the first insertion.
    ///
    /// A budget beyond [`BUDGET_BYTES_MAX`] counts as that.
    pub fn new(budget_bytes: usize) -> Self {
        Self {
            arena: Arena::default(),
            leaves: Pool::new(),
            inners: Pool::new(),
            root: FIRST_LEAF,
            height: 0,
            smallest: Edge::NONE,
            largest: Edge::NONE,
            budget_bytes: budget_bytes.min(BUDGET_BYTES_MAX),
            keys: 0,
            versions: 0,
            newest: Timestamp::ZERO,
            path: Vec::new(),
        }
    }

    /// Adds a version of a key; one with the same timestamp as the newest takes its place.
    ///
    /// # Panics
    /// When the key or value is longer than the engine takes, when the key has a newer version, or
    /// when the table holds gigabytes beyond its budget: errors of the caller, which checks the
    /// lengths of a batch, orders commits, and seals a full table. And when the operating system
    /// has no more memory.
    pub fn insert(&mut self, entry: Entry<'_>) {
        assert!(
            entry.key.len() <= StorageKey::BYTES_MAX,
            "the key is too long"
        );
        assert!(
            entry.value.len() <= VALUE_BYTES_MAX,
            "the value is too long"
        );
        if self.is_empty() {
            self.insert_first(&entry);
            return;
        }
        let edge_record = self
            .outside(entry.key)
            .map(|side| self.extend(side, &entry));
        let mut path = std::mem::take(&mut self.path);
        path.clear();
        let leaf = self.descend(entry.key, |inner, child| path.push(Step { inner, child }));
        match self.leaves[leaf].slots.search(&self.arena, entry.key) {
            Ok(slot) => self.insert_version(leaf, slot, &entry),
            Err(slot) => {
                let record =
                    edge_record.unwrap_or_else(|| Record::write_first(&mut self.arena, &entry));
                self.insert_key(leaf, slot, entry.key, record, &mut path);
                self.keys += 1;
                self.versions += 1;
            }
        }
        self.path = path;
        self.newest = self.newest.max(entry.timestamp);
    }

    /// The newest version of a key that is not newer than `at`; a tombstone is an entry too.
    pub fn get(&self, key: &[u8], at: Timestamp) -> Option<Entry<'_>> {
        if self.is_empty() || self.outside(key).is_some() {
            return None;
        }
        let slots = &self.leaves[self.descend(key, |_, _| ())].slots;
        let slot = slots.search(&self.arena, key).ok()?;
        let mut record = Record::at(&self.arena, slots.record(slot));
        while record.timestamp() > at {
            if record.older() == Address::NONE {
                return None;
            }
            record = Record::at(&self.arena, record.older());
        }
        Some(record.entry(&self.arena))
    }

    /// All versions of the keys from `key` on, ascending, or in reverse of the keys below `key`,
    /// descending; versions of one key newest first.
    pub fn iter_from(&self, key: &[u8], direction: Direction) -> Iter<'_> {
        if self.is_empty() {
            return Iter::empty(self);
        }
        let (leaf, slot) = self.place(key);
        Iter::new(self, direction, leaf, slot)
    }

    /// All versions of all keys.
    pub fn iter(&self) -> Iter<'_> {
        if self.is_empty() {
            return Iter::empty(self);
        }
        Iter::new(self, Direction::Forward, FIRST_LEAF, 0)
    }

    /// What follows a version that is in the table: older ones of its key, then the next keys.
    pub(super) fn iter_after(&self, version: Address) -> Iter<'_> {
        let key = Record::at(&self.arena, version).key(&self.arena);
        let leaf = self.descend(key, |_, _| ());
        let found = self.leaves[leaf].slots.search(&self.arena, key);
        let slot = found.expect("keys are never removed");
        Iter::new(self, Direction::Forward, leaf, slot + 1).after(version)
    }

    /// Bytes of records and nodes: what the budget is compared with.
    pub fn bytes(&self) -> usize {
        self.arena.used_bytes() + self.leaves.bytes() + self.inners.bytes()
    }

    /// Whether the budget is used up, so that the table is to be sealed.
    pub fn is_full(&self) -> bool {
        self.bytes() >= self.budget_bytes
    }

    /// Versions in the table, of all keys.
    pub fn versions(&self) -> usize {
        self.versions
    }

    /// Keys in the table, deleted ones included.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// Whether nothing was inserted yet.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// The highest timestamp inserted; [`Timestamp::ZERO`] while there is none.
    pub fn newest(&self) -> Timestamp {
        self.newest
    }

    #[inline]
    pub(super) fn arena(&self) -> &Arena {
        &self.arena
    }

    #[inline]
    pub(super) fn leaf(&self, index: u32) -> &Leaf {
        &self.leaves[index]
    }

    /// The edge that a key lies beyond, if any; not for an empty table.
    #[inline]
    fn outside(&self, key: &[u8]) -> Option<Side> {
        let start = start_of(key);
        if self.smallest.start < start && start < self.largest.start {
            return None;
        }
        if key < self.key(self.smallest.record) {
            Some(Side::Smallest)
        } else if key > self.key(self.largest.record) {
            Some(Side::Largest)
        } else {
            None
        }
    }

    /// Where a key belongs: the leaf, and the slot of the first key there that is not below it. Not
    /// for an empty table.
    pub(super) fn place(&self, key: &[u8]) -> (u32, usize) {
        match self.outside(key) {
            Some(Side::Smallest) => (FIRST_LEAF, 0),
            Some(Side::Largest) => {
                let leaf = self.descend(self.key(self.largest.record), |_, _| ());
                (leaf, self.leaves[leaf].slots.len())
            }
            None => {
                let leaf = self.descend(key, |_, _| ());
                let found = self.leaves[leaf].slots.search(&self.arena, key);
                (leaf, found.unwrap_or_else(|slot| slot))
            }
        }
    }

    #[inline]
    pub(super) fn key(&self, record: Address) -> &[u8] {
        Record::at(&self.arena, record).key(&self.arena)
    }

    fn shared_bytes(&self, a: Address, b: Address) -> usize {
        shared_bytes(self.key(a), self.key(b))
    }

    /// The leaf to which a key is routed, which lies between the smallest and the largest;
    /// `visit` is told each inner node on the way, and the index of the child taken.
    #[inline]
    pub(super) fn descend(&self, key: &[u8], mut visit: impl FnMut(u32, usize)) -> u32 {
        let mut node = self.root;
        for _ in 0..self.height {
            let inner = &self.inners[node];
            let child = inner.route(&self.arena, key);
            visit(node, child);
            node = inner.children[child];
        }
        node
    }

    fn insert_first(&mut self, entry: &Entry<'_>) {
        let record = Record::write_first(&mut self.arena, entry);
        let mut slots = Slots::new(entry.key.len());
        slots.insert(0, entry.key, record);
        self.root = self.leaves.add(Leaf {
            slots,
            previous: NO_NODE,
            next: NO_NODE,
        });
        assert_eq!(self.root, FIRST_LEAF);
        self.smallest = Edge::new(entry.key, record);
        self.largest = self.smallest;
        self.keys = 1;
        self.versions = 1;
        self.newest = entry.timestamp;
    }

    /// Writes a record of a key beyond an edge, and makes it that edge.
    fn extend(&mut self, side: Side, entry: &Entry<'_>) -> Address {
        let record = Record::write_first(&mut self.arena, entry);
        let edge = match side {
            Side::Smallest => &mut self.smallest,
            Side::Largest => &mut self.largest,
        };
        let old = std::mem::replace(edge, Edge::new(entry.key, record)).record;
        // Every node along the edge routes the old edge, so it shares its whole prefix with that
        // key: the new key shares as much of the prefix as it shares of the old edge.
        let shared = self.shared_bytes(old, record);
        let mut node = self.root;
        for _ in 0..self.height {
            let inner = &mut self.inners[node];
            inner.slots.shrink_prefix(&self.arena, shared);
            node = match side {
                Side::Smallest => inner.children[0],
                Side::Largest => inner.children[inner.slots.len()],
            };
        }
        self.leaves[node].slots.shrink_prefix(&self.arena, shared);
        record
    }

    fn insert_version(&mut self, leaf: u32, slot: usize, entry: &Entry<'_>) {
        let slots = &mut self.leaves[leaf].slots;
        let newest = slots.record(slot);
        let record = Record::at(&self.arena, newest);
        let older = match entry.timestamp.cmp(&record.timestamp()) {
            Ordering::Less => panic!("versions of a key come in the order of their commits"),
            Ordering::Equal => record.older(),
            Ordering::Greater if planted!("memtable_keeps_one_version") => record.older(),
            Ordering::Greater => {
                self.versions += 1;
                newest
            }
        };
        let record = Record::write_next(&mut self.arena, entry, newest, older);
        slots.set_record(slot, record);
    }

    /// Puts a key that is not in the table before a slot of the leaf that `path` leads to.
    fn insert_key(
        &mut self,
        leaf: u32,
        slot: usize,
        key: &[u8],
        record: Address,
        path: &mut Vec<Step>,
    ) {
        if !self.leaves[leaf].slots.is_full() {
            self.leaves[leaf].slots.insert(slot, key, record);
            return;
        }
        let (low, high) = self.fences(path);
        let left = &mut self.leaves[leaf];
        let cut = left.slots.cut_for(slot);
        let mut right = Leaf {
            slots: left.slots.split_off(cut.start),
            previous: leaf,
            next: left.next,
        };
        if cut.goes_right {
            right.slots.insert(slot - cut.start, key, record);
        } else {
            left.slots.insert(slot, key, record);
        }
        let separator = right.slots.record(0);
        let (left_shares, right_shares) = (
            self.shared_bytes(low, separator),
            self.shared_bytes(separator, high),
        );
        right.slots.grow_prefix(&self.arena, right_shares);
        let right = self.leaves.add(right);
        let left = &mut self.leaves[leaf];
        left.slots.grow_prefix(&self.arena, left_shares);
        let behind = std::mem::replace(&mut left.next, right);
        if behind != NO_NODE {
            self.leaves[behind].previous = right;
        }
        self.insert_separator(separator, right, path);
    }

    /// Tells the inner nodes on the path, from the lowest up, of a node that was split off to the
    /// right of the one the path leads to.
    fn insert_separator(&mut self, mut separator: Address, mut right: u32, path: &mut Vec<Step>) {
        while let Some(step) = path.pop() {
            let key = Record::at(&self.arena, separator).key(&self.arena);
            let slot = step.child;
            if !self.inners[step.inner].slots.is_full() {
                self.inners[step.inner].insert(slot, key, separator, right);
                return;
            }
            let (low, high) = self.fences(path);
            let left = &mut self.inners[step.inner];
            let cut = left.slots.cut_for(slot);
            // The separator that moves up is taken from the half that does not get the new one.
            let middle = if cut.goes_right {
                cut.start - 1
            } else {
                cut.start.min(SLOTS - 1)
            };
            let (middle_separator, mut split_off) = left.split_at(middle);
            if cut.goes_right {
                split_off.insert(slot - middle - 1, key, separator, right);
            } else {
                left.insert(slot, key, separator, right);
            }
            let left_shares = self.shared_bytes(low, middle_separator);
            let right_shares = self.shared_bytes(middle_separator, high);
            self.inners[step.inner]
                .slots
                .grow_prefix(&self.arena, left_shares);
            split_off.slots.grow_prefix(&self.arena, right_shares);
            separator = middle_separator;
            right = self.inners.add(split_off);
        }
        let mut root = Inner::new(
            self.shared_bytes(self.smallest.record, self.largest.record),
            self.root,
        );
        root.insert(0, self.key(separator), separator, right);
        self.root = self.inners.add(root);
        self.height += 1;
    }

    /// Records of the keys between which every key lies that is routed along the path.
    fn fences(&self, path: &[Step]) -> (Address, Address) {
        let below = |step: &Step| {
            let before = step.child.checked_sub(1)?;
            Some(self.inners[step.inner].slots.record(before))
        };
        let above = |step: &Step| {
            let slots = &self.inners[step.inner].slots;
            (step.child < slots.len()).then(|| slots.record(step.child))
        };
        let low = path
            .iter()
            .rev()
            .find_map(below)
            .unwrap_or(self.smallest.record);
        let high = path
            .iter()
            .rev()
            .find_map(above)
            .unwrap_or(self.largest.record);
        (low, high)
    }
}

/// Checks of the whole structure, for tests.
#[cfg(test)]
impl Memtable {
    /// Fails when a fence, a prefix, a head, the order, a link or a count is not as it should be.
    pub(super) fn check(&self) {
        let mut leaves = Vec::new();
        if !self.is_empty() {
            self.check_node(
                self.root,
                self.height,
                (self.smallest.record, self.largest.record),
                &mut leaves,
            );
        }
        let linked: Vec<u32> = std::iter::successors(leaves.first().copied(), |leaf| {
            Some(self.leaves[*leaf].next).filter(|next| *next != NO_NODE)
        })
        .collect();
        assert_eq!(leaves, linked);
        assert!(linked.first().is_none_or(|first| *first == FIRST_LEAF));
        let linked_back = std::iter::successors(leaves.last().copied(), |leaf| {
            Some(self.leaves[*leaf].previous).filter(|previous| *previous != NO_NODE)
        });
        assert!(linked_back.eq(leaves.iter().rev().copied()));
        let keys: usize = leaves
            .iter()
            .map(|leaf| self.leaves[*leaf].slots.len())
            .sum();
        assert_eq!(keys, self.keys);
        assert_eq!(self.iter().count(), self.versions);
    }

    /// Keys whose head the key before them in their leaf has too.
    pub(super) fn ties(&self) -> usize {
        let mut leaf = FIRST_LEAF;
        let mut ties = 0;
        while leaf != NO_NODE {
            ties += self.leaves[leaf].slots.ties();
            leaf = self.leaves[leaf].next;
        }
        ties
    }

    fn check_node(
        &self,
        node: u32,
        height: u32,
        (low, high): (Address, Address),
        leaves: &mut Vec<u32>,
    ) {
        let is_last = high == self.largest.record;
        let slots = match height {
            0 => &self.leaves[node].slots,
            _ => &self.inners[node].slots,
        };
        slots.check(&self.arena);
        assert!(slots.prefix() <= self.shared_bytes(low, high));
        for slot in 0..slots.len() {
            let key = self.key(slots.record(slot));
            assert!(key >= self.key(low));
            assert!(key < self.key(high) || is_last && key <= self.key(high));
        }
        if height == 0 {
            assert!(slots.len() > 0);
            leaves.push(node);
            return;
        }
        for child in 0..=slots.len() {
            let low = if child == 0 {
                low
            } else {
                slots.record(child - 1)
            };
            let high = if child == slots.len() {
                high
            } else {
                slots.record(child)
            };
            self.check_node(
                self.inners[node].children[child],
                height - 1,
                (low, high),
                leaves,
            );
        }
    }
}
