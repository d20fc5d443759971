//! The ends of a memtable's keys, and a quick way to tell that a key lies between them.

use super::arena::Address;
use super::head::head_at;

/// An end of the key range of a table.
#[derive(Clone, Copy)]
pub(super) struct Edge {
    /// A record of the key; `NONE` while there is none.
    pub(super) record: Address,
    /// The first bytes of the key, which tell most keys on this side of the edge from it.
    pub(super) start: u128,
}

impl Edge {
    pub(super) const NONE: Self = Self {
        record: Address::NONE,
        start: 0,
    };

    pub(super) fn new(key: &[u8], record: Address) -> Self {
        let start = start_of(key);
        Self { record, start }
    }
}

/// Which end.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Smallest,
    Largest,
}

/// The first 16 bytes of a key as a number, as heads are made.
#[inline]
pub(super) fn start_of(key: &[u8]) -> u128 {
    u128::from(head_at(key, 0)) << u64::BITS | u128::from(head_at(key, size_of::<u64>()))
}
