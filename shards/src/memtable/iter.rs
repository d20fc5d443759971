//! Iteration over a memtable that is borrowed for as long as it lasts.

use std::iter::FusedIterator;
use std::slice;

use super::arena::Address;
use super::node::NO_NODE;
use super::record::Record;
use super::table::Memtable;
use crate::{Direction, Entry};

/// Versions in order: keys in one direction, versions of one key newest first in both.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    table: &'a Memtable,
    direction: Direction,
    /// The version yielded last, and the next older one of its key; `NONE` where there is none.
    last: Address,
    older: Address,
    /// The keys of the leaf that follow, ascending, and the leaf after it.
    keys: slice::Iter<'a, Address>,
    next_leaf: u32,
}

impl<'a> Iter<'a> {
    /// Starts between two slots of a leaf: forward with the one at `slot`, in reverse with the one
    /// before it.
    pub(super) fn new(table: &'a Memtable, direction: Direction, leaf: u32, slot: usize) -> Self {
        let mut iter = Self {
            direction,
            ..Self::empty(table)
        };
        let (before, behind) = iter.enter(leaf).split_at(slot);
        iter.keys = match direction {
            Direction::Forward => behind.iter(),
            Direction::Reverse => before.iter(),
        };
        iter
    }

    /// Yields nothing.
    pub(super) fn empty(table: &'a Memtable) -> Self {
        Self {
            table,
            direction: Direction::Forward,
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
        if let Some(address) = self.next_in_leaf() {
            return Some(address);
        }
        if self.next_leaf == NO_NODE {
            return None;
        }
        self.keys = self.enter(self.next_leaf).iter();
        self.next_in_leaf()
    }

    #[inline]
    fn next_in_leaf(&mut self) -> Option<Address> {
        let next = match self.direction {
            Direction::Forward => self.keys.next(),
            Direction::Reverse => self.keys.next_back(),
        };
        next.copied()
    }

    /// Notes which leaf comes after one; returns the keys of that one.
    fn enter(&mut self, leaf: u32) -> &'a [Address] {
        let leaf = self.table.leaf(leaf);
        self.next_leaf = match self.direction {
            Direction::Forward => leaf.next,
            Direction::Reverse => leaf.previous,
        };
        leaf.slots.records()
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
