//! What a flush reads: a memtable in order, copied piece by piece.
//!
//! The source borrows the table only while it copies, within [`EntrySource::advance`], so it can
//! be kept across an await. It remembers the version that it copied last; versions stay where they
//! are, so insertions between two pieces disturb nothing, and those behind that version are seen.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use super::arena::Address;
use super::table::Memtable;
use crate::{Entry, EntryFlags, EntrySource, Timestamp};

/// Keys and values copied at a time, and whatever the last entry adds: copying this much takes ten
/// to twenty microseconds, which is as long as a task may run between two yields.
const PIECE_BYTES: usize = 64 << 10;

/// Entries copied at a time, which bounds a piece of empty values and short keys.
const PIECE_ENTRIES: usize = 1024;

/// An entry whose key and value lie in the buffer of the piece.
#[derive(Debug)]
struct Copied {
    key: Range<usize>,
    timestamp: Timestamp,
    flags: EntryFlags,
    value: Range<usize>,
}

/// The entries of a memtable in order, without a borrow of it between calls.
#[derive(Debug)]
pub(crate) struct MemtableSource {
    table: Rc<RefCell<Memtable>>,
    /// The version copied last; `NONE` before the first.
    last: Address,

    // The current piece, and the entry in it that comes next. There is one, unless all were
    // yielded.
    bytes: Vec<u8>,
    entries: Vec<Copied>,
    position: usize,
}

impl MemtableSource {
    /// Starts at the first entry.
    ///
    /// # Panics
    /// When the table is borrowed mutably, as [`EntrySource::advance`] does.
    pub(crate) fn new(table: Rc<RefCell<Memtable>>) -> Self {
        let mut source = Self {
            table,
            last: Address::NONE,
            bytes: Vec::new(),
            entries: Vec::new(),
            position: 0,
        };
        source.copy_piece();
        source
    }

    fn copy_piece(&mut self) {
        self.entries.clear();
        self.position = 0;
        self.bytes.clear();
        // A long value must not hold its length in memory for the rest of the flush.
        self.bytes.shrink_to(2 * PIECE_BYTES);
        let table = self.table.borrow();
        let mut iter = match self.last {
            Address::NONE => table.iter(),
            last => table.iter_after(last),
        };
        let mut previous_key: &[u8] = &[];
        while self.bytes.len() < PIECE_BYTES && self.entries.len() < PIECE_ENTRIES {
            let Some(entry) = iter.next() else { break };
            self.last = iter.address();
            // The versions of a long key have it at one place in the table: copy it once, too.
            let key = match self.entries.last() {
                Some(previous) if std::ptr::eq(previous_key, entry.key) => previous.key.clone(),
                _ => append(&mut self.bytes, entry.key),
            };
            previous_key = entry.key;
            self.entries.push(Copied {
                key,
                timestamp: entry.timestamp,
                flags: entry.flags,
                value: append(&mut self.bytes, entry.value),
            });
        }
    }
}

fn append(buffer: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = buffer.len();
    buffer.extend_from_slice(bytes);
    start..buffer.len()
}

impl EntrySource for MemtableSource {
    fn peek(&self) -> Option<Entry<'_>> {
        let copied = self.entries.get(self.position)?;
        Some(Entry {
            key: &self.bytes[copied.key.clone()],
            timestamp: copied.timestamp,
            flags: copied.flags,
            value: &self.bytes[copied.value.clone()],
        })
    }

    fn advance(&mut self) {
        if self.position < self.entries.len() {
            self.position += 1;
            if self.position == self.entries.len() {
                self.copy_piece();
            }
        }
    }
}
