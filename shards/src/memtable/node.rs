//! Nodes of the tree: sorted slots, and what leaves and inner nodes add to them.

use std::cmp::Ordering;

use super::arena::{Address, Arena};
use super::head::head_at;
use super::record::Record;

/// Slots of a node. Measured: 64 slots were slower, for insertions move twice the bytes.
pub(super) const SLOTS: usize = 32;

/// Heads that one cache line holds.
const LINE_HEADS: usize = 8;
const _: () = assert!(LINE_HEADS * size_of::<u64>() == 64);
const _: () = assert!(SLOTS == 4 * LINE_HEADS);

/// Insertions next to one another in a row, from which on a full node is split where they arrive:
/// what they leave behind is then full, whereas halves would stay halves. A split takes that many
/// insertions at least, so no order of keys costs more than an eighth of a node a key.
const RUN_MIN: u8 = 8;

/// No slot, and next to none.
const NO_SLOT: u8 = u8::MAX;

/// Bytes by which a prefix has to grow before it does: heads are then recomputed from the records,
/// a cache miss each, which pays once half of every head is the same.
const PREFIX_GAIN_BYTES_MIN: usize = 4;

/// No node.
pub(super) const NO_NODE: u32 = u32::MAX;

/// Where a full node is split for an insertion.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    /// The first slot that moves to the right.
    pub(super) start: usize,
    /// Whether the new slot is the right node's; it has room, and so has the left one otherwise.
    pub(super) goes_right: bool,
}

/// Sorted keys: for each a head and the address of a record that has the key.
///
/// The first `len` slots are in use. Heads ascend, keys with equal heads are in order too, and
/// unused heads are `u64::MAX`, so that ranking needs no length.
#[repr(C)]
pub(super) struct Slots {
    heads: [u64; SLOTS],
    records: [Address; SLOTS],
    /// Bytes shared by every key that can be routed here; heads are what follows them.
    prefix: u32,
    len: u8,
    /// The slot of the insertion before, how many were made in a row each behind the one before,
    /// and how many each in front of it.
    last: u8,
    run_ascending: u8,
    run_descending: u8,
}

impl Slots {
    pub(super) fn new(prefix: usize) -> Self {
        Self {
            heads: [u64::MAX; SLOTS],
            records: [Address::NONE; SLOTS],
            prefix: lightning_io::to_u32(prefix),
            len: 0,
            last: NO_SLOT,
            run_ascending: 0,
            run_descending: 0,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.len() == SLOTS
    }

    #[inline]
    pub(super) fn prefix(&self) -> usize {
        self.prefix as usize
    }

    /// The records of the slots in use.
    #[inline]
    pub(super) fn records(&self) -> &[Address] {
        &self.records[..self.len()]
    }

    #[inline]
    pub(super) fn record(&self, slot: usize) -> Address {
        self.records[slot]
    }

    /// Replaces the record of a slot by another of the same key.
    #[inline]
    pub(super) fn set_record(&mut self, slot: usize, record: Address) {
        self.records[slot] = record;
    }

    /// Finds a key that was routed here: the slot that has it, or else the slot before which it
    /// belongs.
    #[inline]
    pub(super) fn search(&self, arena: &Arena, key: &[u8]) -> Result<usize, usize> {
        let head = head_at(key, self.prefix());
        let slot = rank(&self.heads, head);
        if slot >= self.len() || self.heads[slot] != head {
            return Err(slot);
        }
        let tail = &key[self.prefix()..];
        match self.compare(arena, slot, tail) {
            Ordering::Equal => Ok(slot),
            Ordering::Greater => Err(slot),
            Ordering::Less => self.search_ties(arena, slot + 1, head, tail),
        }
    }

    /// Finds a key among the slots from `start` on that have its head.
    fn search_ties(
        &self,
        arena: &Arena,
        start: usize,
        head: u64,
        tail: &[u8],
    ) -> Result<usize, usize> {
        let rest = &self.heads[start..self.len()];
        let (mut low, mut high) = (start, start + rest.partition_point(|other| *other == head));
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.compare(arena, middle, tail) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// Orders the key of a slot against one of which the shared prefix was cut off.
    #[inline]
    fn compare(&self, arena: &Arena, slot: usize, tail: &[u8]) -> Ordering {
        let key = Record::at(arena, self.records[slot]).key(arena);
        key[self.prefix()..].cmp(tail)
    }

    /// Takes a key before the slot that [`Slots::search`] named; there has to be room.
    pub(super) fn insert(&mut self, slot: usize, key: &[u8], record: Address) {
        let len = self.len();
        assert!(slot <= len && len < SLOTS);
        let last = usize::from(self.last);
        self.run_ascending = if slot == last + 1 {
            self.run_ascending + 1
        } else {
            0
        };
        self.run_descending = if slot == last {
            self.run_descending + 1
        } else {
            0
        };
        self.last = narrow(slot);
        self.heads.copy_within(slot..len, slot + 1);
        self.records.copy_within(slot..len, slot + 1);
        self.heads[slot] = head_at(key, self.prefix());
        self.records[slot] = record;
        self.len += 1;
    }

    /// How to split a full node for an insertion before `slot`: in halves, or behind a run of
    /// ascending insertions, or in front of a run of descending ones, so that the run goes on at
    /// the end of a node that it has for itself.
    pub(super) fn cut_for(&self, slot: usize) -> Cut {
        if slot == usize::from(self.last) + 1 && self.run_ascending >= RUN_MIN {
            Cut {
                start: slot,
                goes_right: slot == SLOTS,
            }
        } else if slot == usize::from(self.last) && self.run_descending >= RUN_MIN {
            Cut {
                start: slot,
                goes_right: slot > 0,
            }
        } else {
            Cut {
                start: SLOTS / 2,
                goes_right: slot > SLOTS / 2,
            }
        }
    }

    /// Moves the slots from `start` on to new ones.
    pub(super) fn split_off(&mut self, start: usize) -> Self {
        let mut right = Self::new(self.prefix());
        let moved = self.len() - start;
        right.heads[..moved].copy_from_slice(&self.heads[start..start + moved]);
        right.records[..moved].copy_from_slice(&self.records[start..start + moved]);
        right.len = self.len - narrow(start);
        self.truncate(start);
        right
    }

    /// Drops the slots from `len` on.
    pub(super) fn truncate(&mut self, len: usize) {
        self.heads[len..].fill(u64::MAX);
        self.records[len..].fill(Address::NONE);
        self.len = narrow(len);
        self.last = NO_SLOT;
        self.run_ascending = 0;
        self.run_descending = 0;
    }

    /// Lengthens the prefix to what the fences share, when that gains enough.
    pub(super) fn grow_prefix(&mut self, arena: &Arena, shared: usize) {
        if shared >= self.prefix() + PREFIX_GAIN_BYTES_MIN {
            self.set_prefix(arena, shared);
        }
    }

    /// Shortens the prefix to what the fences still share.
    pub(super) fn shrink_prefix(&mut self, arena: &Arena, shared: usize) {
        if shared < self.prefix() {
            self.set_prefix(arena, shared);
        }
    }

    fn set_prefix(&mut self, arena: &Arena, prefix: usize) {
        self.prefix = lightning_io::to_u32(prefix);
        let len = self.len();
        for (head, record) in self.heads.iter_mut().zip(&self.records).take(len) {
            *head = head_at(Record::at(arena, *record).key(arena), prefix);
        }
    }
}

fn narrow(slot: usize) -> u8 {
    u8::try_from(slot).expect("a node has 32 slots")
}

/// How many heads are below `head`; they ascend.
///
/// Branch-free in two steps, each of which the compiler turns into independent comparisons: the
/// last heads of three cache lines say which line to count in. Measured: counting in all 32 is
/// slower, for the instructions that every x86-64 has do not compare 64-bit numbers in vectors; so
/// is a binary search, whose five steps wait for one another.
#[inline]
fn rank(heads: &[u64; SLOTS], head: u64) -> usize {
    let line: usize = [LINE_HEADS - 1, 2 * LINE_HEADS - 1, 3 * LINE_HEADS - 1]
        .map(|last| usize::from(heads[last] < head))
        .iter()
        .sum();
    let start = line * LINE_HEADS;
    let in_line = heads[start..start + LINE_HEADS].iter();
    start
        + in_line
            .map(|other| usize::from(*other < head))
            .sum::<usize>()
}

/// Keys with the newest record of each: seven cache lines, of which heads fill the first four.
#[repr(C, align(64))]
pub(super) struct Leaf {
    pub(super) slots: Slots,
    /// The leaves with the next smaller and the next greater keys, or `NO_NODE`.
    pub(super) previous: u32,
    pub(super) next: u32,
}

/// Separators, and one more child than separators: child `i` has the keys from separator `i - 1`
/// on up to below separator `i`.
#[repr(C, align(64))]
pub(super) struct Inner {
    pub(super) slots: Slots,
    pub(super) children: [u32; SLOTS + 1],
}

const _: () = assert!(size_of::<Leaf>() == 7 * 64);

impl Inner {
    pub(super) fn new(prefix: usize, first_child: u32) -> Self {
        let mut children = [NO_NODE; SLOTS + 1];
        children[0] = first_child;
        Self {
            slots: Slots::new(prefix),
            children,
        }
    }

    /// The index of the child to which a key is routed.
    #[inline]
    pub(super) fn route(&self, arena: &Arena, key: &[u8]) -> usize {
        match self.slots.search(arena, key) {
            Ok(slot) => slot + 1,
            Err(slot) => slot,
        }
    }

    /// Takes a separator before `slot`, and the child to the right of it; there has to be room.
    pub(super) fn insert(&mut self, slot: usize, key: &[u8], record: Address, child: u32) {
        let children = self.slots.len() + 1;
        self.slots.insert(slot, key, record);
        self.children.copy_within(slot + 1..children, slot + 2);
        self.children[slot + 1] = child;
    }

    /// Splits a full node at a separator, which belongs to neither half then.
    pub(super) fn split_at(&mut self, middle: usize) -> (Address, Self) {
        let separator = self.slots.record(middle);
        let mut right = Self::new(self.slots.prefix(), NO_NODE);
        let moved = self.slots.len() - middle;
        right.children[..moved].copy_from_slice(&self.children[middle + 1..=middle + moved]);
        right.slots = self.slots.split_off(middle + 1);
        self.slots.truncate(middle);
        self.children[middle + 1..].fill(NO_NODE);
        (separator, right)
    }
}

/// Nodes by number, in slabs, so that growth never copies the nodes that are there.
pub(super) struct Pool<T> {
    slabs: Vec<Vec<T>>,
    count: u32,
}

/// Nodes of a slab: a few tens of KiB.
const SLAB_BITS: u32 = 6;
const SLAB_NODES: usize = 1 << SLAB_BITS;

impl<T> Pool<T> {
    pub(super) const fn new() -> Self {
        Self {
            slabs: Vec::new(),
            count: 0,
        }
    }

    /// Bytes of the nodes in use.
    pub(super) fn bytes(&self) -> usize {
        self.count as usize * size_of::<T>()
    }

    pub(super) fn add(&mut self, node: T) -> u32 {
        let index = self.count;
        if (index as usize).is_multiple_of(SLAB_NODES) {
            self.slabs.push(Vec::with_capacity(SLAB_NODES));
        }
        let slab = self
            .slabs
            .last_mut()
            .expect("a slab was added for the first node");
        slab.push(node);
        self.count += 1;
        index
    }
}

impl<T> std::ops::Index<u32> for Pool<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: u32) -> &T {
        &self.slabs[(index >> SLAB_BITS) as usize][index as usize % SLAB_NODES]
    }
}

impl<T> std::ops::IndexMut<u32> for Pool<T> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.slabs[(index >> SLAB_BITS) as usize][index as usize % SLAB_NODES]
    }
}

#[cfg(test)]
impl Slots {
    /// Slots whose head is that of the slot before.
    pub(super) fn ties(&self) -> usize {
        let pairs = self.heads[..self.len()].windows(2);
        pairs.filter(|pair| pair[0] == pair[1]).count()
    }

    /// Fails when a head, the order of keys or an unused slot is not as it should be.
    pub(super) fn check(&self, arena: &Arena) {
        let len = self.len();
        let keys: Vec<&[u8]> = self.records[..len]
            .iter()
            .map(|record| Record::at(arena, *record).key(arena))
            .collect();
        assert!(keys.is_sorted_by(|a, b| a < b));
        for (key, head) in keys.iter().zip(&self.heads) {
            assert!(key.len() >= self.prefix());
            assert_eq!(key[..self.prefix()], keys[0][..self.prefix()]);
            assert_eq!(*head, head_at(key, self.prefix()));
        }
        assert!(self.heads[len..].iter().all(|head| *head == u64::MAX));
        assert!(
            self.records[len..]
                .iter()
                .all(|record| *record == Address::NONE)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_counts_the_heads_below() {
        for len in 0..=SLOTS {
            let mut heads = [u64::MAX; SLOTS];
            for (slot, head) in (0..).zip(&mut heads[..len]) {
                // Pairs of equal heads, and the highest number as a head in use.
                *head = if slot == 31 { u64::MAX } else { slot / 2 * 10 };
            }
            for head in (0..200).chain([u64::MAX]) {
                let expected = heads.iter().filter(|other| **other < head).count();
                assert_eq!(rank(&heads, head), expected, "{head} of {len}");
            }
        }
    }
}
