//! The memtable: the newest versions of one shard's keys, in order, in memory.
//!
//! An in-memory B+tree over a bump arena. A leaf keeps a `u64` head and the address of the newest
//! record for each of up to 32 keys; the records themselves, with the bytes of keys and values, lie
//! in the arena, and the versions of one key are chained there from newest to oldest. Nothing is
//! ever removed: a memtable is filled, sealed, flushed and dropped whole.
//!
//! # Invariants
//! 1. Every key in the table lies between the table's smallest and largest key, which are thereby
//!    the outermost fences of the tree; every other fence is a separator in an inner node.
//! 2. The prefix of a node is shared by both its fences, so by every key that can be routed to it.
//!    Heads are the 8 bytes that follow the prefix, and order the keys of a node up to ties.
//! 3. A record that was written stays where it is, so an address outlives every change of the tree.

mod arena;
mod edge;
mod estimate;
mod head;
mod iter;
mod node;
mod record;
mod source;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use iter::Iter;
pub(crate) use source::MemtableSource;
pub(crate) use table::{BUDGET_BYTES_MAX, Memtable};
