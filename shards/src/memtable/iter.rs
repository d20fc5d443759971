//! Iteration over a memtable that is borrowed for as long as it lasts.

use std::iter::FusedIterator;
use std::slice;

use super::arena::Address;
use super::node::NO_NODE;
use super::record::Record;
use super::table::Memtable;
use crate::Entry;

/// Versions in order: keys ascending, versions of one key newest first.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    table: &'a Memtable,
    /// The version yielded last, and the next older one of its key; `NONE` where there is none.
    last: Address,
    older: Address,
    /// The keys of the leaf that follow, and the leaf after it.
    keys: slice::Iter<'a, Address>,
    next_leaf: u32,
}

impl<'a> Iter<'a> {
    /// Starts at a slot of a leaf, or behind its last.
    pub(super) fn new(table: &'a Memtable, leaf: u32, slot: usize) -> Self {
        let leaf = table.leaf(leaf);
        Self {
            keys: leaf.slots.records()[slot..].iter(),
            next_leaf: leaf.next,
            ..Self::empty(table)
        }
    }

    /// Yields nothing.
    pub(super) fn empty(table: &'a Memtable) -> Self {
        Self {
            table,
            last: Address::NONE,
            older: Address::NONE,
            keys: [].iter(),
            next_leaf: NO_NODE,
        }
    }

    /// Yields the older versions of the key of `version` before everything else.
    pub(super) fn after(self, version: Address) -> Self {
        let older = Record::at(self.table.arena(), version).older();
        Self {
            last: version,
            older,
            ..self
        }
    }

    /// Where the version lies that was yielded last.
    pub(super) fn address(&self) -> Address {
        self.last
    }

    #[inline]
    fn next_key(&mut self) -> Option<Address> {
        if let Some(address) = self.keys.next() {
            return Some(*address);
        }
        if self.next_leaf == NO_NODE {
            return None;
        }
        let leaf = self.table.leaf(self.next_leaf);
        self.next_leaf = leaf.next;
        self.keys = leaf.slots.records().iter();
        self.keys.next().copied()
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        let address = match self.older {
            Address::NONE => self.next_key()?,
            older => older,
        };
        let arena = self.table.arena();
        let record = Record::at(arena, address);
        self.last = address;
        self.older = record.older();
        Some(record.entry(arena))
    }
}

impl FusedIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a Memtable {
    type Item = Entry<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}
