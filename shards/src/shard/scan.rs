//! Scans: a pinned view, and pages of rows read from it as the caller asks for them.
//!
//! # Algorithm
//! 1. Opening pins the memtables and the tree and tells the shard's time. The caller takes the
//!    latest time of all shards as its snapshot.
//! 2. The first page binds the scan to that snapshot: the clock moves past it, so that no later
//!    commit falls below. Until then the scan also pins each memtable that comes into use.
//! 3. A page merges the memtables and one leaf of the tree at a time. Between leaves nothing is
//!    borrowed; the next leaf is read and the memtables are sought again.
//!
//! # Bounds
//! A page holds at most [`PAGE_BYTES`] or one row; a shard keeps at most [`SCANS_MAX`] scans; a
//! scan that is not bound within [`UNBOUND_MEMTABLES_MAX`] memtables is given up.

use std::iter::Peekable;
use std::rc::Rc;

use bytes::Bytes;
use lightning_io::Env;

use super::read::ReadView;
use super::{Shard, SharedMemtable, count};
use crate::entry::{Entry, EntryFlags};
use crate::memtable::Iter;
use crate::message::{Lease, OpenScan, Reply, ScanId, ScanPage, ScanSpec};
use crate::tree::{TreeCursor, TreeValue};
use crate::{Error, Result, StorageKey, Timestamp};

/// A page ends when its rows take this much: large enough that a message a page costs little, and
/// small enough that the rows of some hundred slow readers fit in memory.
const PAGE_BYTES: usize = 64 << 10;

/// Scans that a shard keeps open; one more is refused as busy.
const SCANS_MAX: usize = 1024;

/// Memtables that a scan may pin before it is bound to a snapshot, which takes one message.
const UNBOUND_MEMTABLES_MAX: usize = 8;

/// Steps of a merge before other tasks get a turn: some 20 us.
const STEPS_MAX: usize = 256;

/// An open scan.
pub(super) struct Scan<E: Env> {
    /// What is still to come.
    spec: ScanSpec,
    view: ReadView,
    cursor: TreeCursor<E>,
    /// The snapshot, once it is bound.
    at: Option<Timestamp>,
    lease: Lease,
}

impl<E: Env> Scan<E> {
    /// Pins a memtable that came into use before the scan was bound.
    pub(super) fn note_new_memtable(&mut self, table: &SharedMemtable) {
        if self.at.is_none() && self.view.memtables.len() < UNBOUND_MEMTABLES_MAX {
            self.view.memtables.insert(0, Rc::clone(table));
        }
    }
}

/// Why a run of merging stopped.
enum Pause {
    /// The tree's next leaf has to be fetched, or others should have a turn.
    Fetch,
    /// A large value has to be loaded: its key, and where it is.
    Load(Vec<u8>, TreeValue),
    /// The rows are enough.
    Full,
    /// There is nothing more in the range.
    End,
}

/// Where a merge puts the rows that it finds.
trait Rows {
    /// Takes a row.
    fn push(&mut self, key: &[u8], value: &[u8]);

    /// Takes note of a commit that the rows show and that may not be durable yet.
    fn hold(&mut self, timestamp: Timestamp);

    /// Whether they are enough for now.
    fn is_full(&self) -> bool;

    fn push_unless_deleted(&mut self, entry: &Entry<'_>, keys_only: bool) {
        if !entry.flags.contains(EntryFlags::RELAXED) {
            // That a key is gone shows the deletion as much as a value shows a put.
            self.hold(entry.timestamp);
        }
        if !entry.is_tombstone() {
            let value = if keys_only { &[] } else { entry.value };
            self.push(user_key(entry.key), value);
        }
    }
}

/// The number of rows.
#[derive(Default)]
struct RowCount {
    rows: u64,
    hold: Option<Timestamp>,
}

impl Rows for RowCount {
    fn push(&mut self, _: &[u8], _: &[u8]) {
        self.rows += 1;
    }

    fn hold(&mut self, timestamp: Timestamp) {
        self.hold = self.hold.max(Some(timestamp));
    }

    fn is_full(&self) -> bool {
        false
    }
}

/// A page that is being put together; rows are ranges of one buffer.
#[derive(Default)]
struct PageBuilder {
    bytes: Vec<u8>,
    /// Where each row's key and value end.
    rows: Vec<(usize, usize)>,
    rows_max: usize,
    /// The newest commit that a row shows and that may not be durable yet.
    hold: Option<Timestamp>,
}

impl Rows for PageBuilder {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.rows.push((key_end, self.bytes.len()));
    }

    fn hold(&mut self, timestamp: Timestamp) {
        self.hold = self.hold.max(Some(timestamp));
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= PAGE_BYTES || self.rows.len() >= self.rows_max
    }
}

impl PageBuilder {
    fn finish(self, done: bool) -> (ScanPage, Option<Timestamp>) {
        let bytes = Bytes::from(self.bytes);
        let mut start = 0;
        let rows = self
            .rows
            .into_iter()
            .map(|(key_end, end)| {
                let row = (bytes.slice(start..key_end), bytes.slice(key_end..end));
                start = end;
                row
            })
            .collect();
        (ScanPage { rows, done }, self.hold)
    }
}

impl<E: Env> Shard<E> {
    /// Opens a scan.
    pub(super) fn open_scan(&self, spec: ScanSpec, lease: Lease, reply: Reply<OpenScan>) {
        self.drop_abandoned_scans();
        if self.0.scans.borrow().len() >= SCANS_MAX {
            let what = "too many scans are open";
            drop(reply.send(Err(Error::Busy {
                shard: self.id(),
                what,
            })));
            return;
        }
        count(&self.0.counters.scans, 1);
        let id = ScanId(self.0.next_scan.get());
        self.0.next_scan.set(id.0 + 1);
        let view = self.read_view();
        let cursor = self.0.tree.cursor(&view.tree, spec.direction);
        let scan = Scan {
            spec,
            view,
            cursor,
            at: None,
            lease,
        };
        self.0.scans.borrow_mut().insert(id, scan);
        drop(reply.send(Ok(OpenScan {
            id,
            now: self.0.clock.now(),
        })));
    }

    /// Answers with the next rows of a scan.
    pub(super) fn next_page(
        &self,
        id: ScanId,
        at: Timestamp,
        rows_max: usize,
        reply: Reply<ScanPage>,
    ) {
        let mut scan = match self.take_scan(id, at) {
            Ok(scan) => scan,
            Err(error) => return drop(reply.send(Err(error))),
        };
        if planted!("scan_refreshes_view") {
            scan.view = self.read_view();
            scan.cursor = self.0.tree.cursor(&scan.view.tree, scan.spec.direction);
        }
        let shard = self.clone();
        self.spawn_counted(async move {
            let mut page = PageBuilder {
                rows_max,
                ..PageBuilder::default()
            };
            let (page, hold) = match shard.read_rows(&mut scan, at, &mut page).await {
                Ok(done) => page.finish(done),
                Err(error) => return drop(reply.send(Err(error))),
            };
            if !page.done && !scan.lease.is_abandoned() {
                shard.0.scans.borrow_mut().insert(id, scan);
            }
            shard.show(hold, move |shown| drop(reply.send(shown.map(|()| page))));
        });
    }

    /// Answers with the number of rows of a scan.
    pub(super) fn count_rows(&self, id: ScanId, at: Timestamp, reply: Reply<u64>) {
        let mut scan = match self.take_scan(id, at) {
            Ok(scan) => scan,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let shard = self.clone();
        self.spawn_counted(async move {
            let mut count = RowCount::default();
            match shard.read_rows(&mut scan, at, &mut count).await {
                Ok(_) => {
                    let hold = count.hold.filter(|_| !planted!("count_holds_nothing"));
                    shard.show(hold, move |shown| {
                        drop(reply.send(shown.map(|()| count.rows)));
                    });
                }
                Err(error) => drop(reply.send(Err(error))),
            }
        });
    }

    /// Takes an open scan to read from it, and binds it to its snapshot.
    fn take_scan(&self, id: ScanId, at: Timestamp) -> Result<Scan<E>> {
        self.0.clock.observe(at);
        let Some(mut scan) = self.0.scans.borrow_mut().remove(&id) else {
            let reason = "it was given up, or another page of it is under way".to_owned();
            return Err(Error::Invalid {
                what: "scan",
                reason,
            });
        };
        if scan.at.is_none() && scan.view.memtables.len() >= UNBOUND_MEMTABLES_MAX {
            return Err(Error::Busy {
                shard: self.id(),
                what: "the scan waited too long for its first page",
            });
        }
        scan.at = Some(at);
        Ok(scan)
    }

    /// Lets go of scans whose caller is gone.
    pub(super) fn drop_abandoned_scans(&self) {
        self.0
            .scans
            .borrow_mut()
            .retain(|_, scan| !scan.lease.is_abandoned());
    }

    /// Reads rows until they are enough; returns whether there are no more.
    async fn read_rows(
        &self,
        scan: &mut Scan<E>,
        at: Timestamp,
        rows: &mut impl Rows,
    ) -> Result<bool> {
        let start = scan.spec.range.start(scan.spec.direction);
        scan.cursor.seek(start).await?;
        loop {
            scan.cursor.fill().await?;
            match merge(scan, at, rows) {
                // Nobody waits for more, or nobody may.
                Pause::Fetch if scan.lease.is_abandoned() || self.0.closing.get() => {
                    return Err(Error::Closed);
                }
                Pause::Fetch => self.0.env.yield_if_needed().await,
                Pause::Load(key, value) => {
                    let bytes = self.load(&value).await?;
                    rows.push(user_key(&key), &bytes);
                    if rows.is_full() {
                        return Ok(false);
                    }
                }
                Pause::Full => return Ok(false),
                Pause::End => return Ok(true),
            }
        }
    }
}

/// Merges memtables and the cursor's leaf into the rows until something has to be waited for.
fn merge<E: Env>(scan: &mut Scan<E>, at: Timestamp, rows: &mut impl Rows) -> Pause {
    let Scan {
        spec, view, cursor, ..
    } = scan;
    let (direction, keys_only) = (spec.direction, spec.keys_only);
    let tables: Vec<_> = view.memtables.iter().map(|table| table.borrow()).collect();
    let start = spec.range.start(direction);
    let mut memory: Vec<_> = tables
        .iter()
        .map(|table| table.iter_from(start, direction).peekable())
        .collect();
    let mut current = Vec::new();
    for _ in 0..STEPS_MAX {
        let in_leaf = cursor.peek().map(|entry| entry.key);
        if in_leaf.is_none() && !cursor.is_end() {
            return Pause::Fetch;
        }
        let in_memory = memory
            .iter_mut()
            .filter_map(|table| table.peek())
            .map(|entry| entry.key);
        let keys = in_memory.chain(in_leaf);
        let Some(key) = keys.min_by(|a, b| direction.compare(*a, *b)) else {
            return Pause::End;
        };
        if spec.range.is_behind(key, direction) {
            return Pause::End;
        }
        current.clear();
        current.extend_from_slice(key);
        let won = match newest_in_memory(&mut memory, &current, at) {
            Some(entry) => {
                rows.push_unless_deleted(&entry, keys_only);
                None
            }
            None => take_from_leaf(cursor, &current, at, keys_only, rows),
        };
        skip_in_leaf(cursor, &current);
        let large = won.map(|value| (current.clone(), value));
        spec.range.pass(&mut current, direction);
        if let Some((key, value)) = large {
            return Pause::Load(key, value);
        }
        if rows.is_full() {
            return Pause::Full;
        }
    }
    Pause::Fetch
}

/// The newest version at or below `at` that memory has of a key; steps over all of its versions.
fn newest_in_memory<'a>(
    memory: &mut [Peekable<Iter<'a>>],
    key: &[u8],
    at: Timestamp,
) -> Option<Entry<'a>> {
    let mut newest: Option<Entry<'a>> = None;
    for table in memory {
        while let Some(entry) = table.next_if(|entry| entry.key == key) {
            let better = newest.is_none_or(|newest| newest.timestamp < entry.timestamp);
            if (entry.timestamp <= at || planted!("scan_ignores_snapshot")) && better {
                newest = Some(entry);
            }
        }
    }
    newest
}

/// Puts the leaf's version of a key among the rows, or returns where its large value is.
fn take_from_leaf<E: Env>(
    cursor: &mut TreeCursor<E>,
    key: &[u8],
    at: Timestamp,
    keys_only: bool,
    rows: &mut impl Rows,
) -> Option<TreeValue> {
    while let Some(entry) = cursor.peek()
        && entry.key == key
    {
        if entry.timestamp > at {
            cursor.advance();
            continue;
        }
        if entry.flags.contains(EntryFlags::OVERFLOW) && !keys_only {
            return cursor.value_of();
        }
        let durable = Entry {
            flags: entry.flags.with(EntryFlags::RELAXED),
            ..entry
        };
        rows.push_unless_deleted(&durable, keys_only);
        return None;
    }
    None
}

fn skip_in_leaf<E: Env>(cursor: &mut TreeCursor<E>, key: &[u8]) {
    while cursor.peek().is_some_and(|entry| entry.key == key) {
        cursor.advance();
    }
}

fn user_key(stored: &[u8]) -> &[u8] {
    StorageKey::user_key(stored).unwrap_or(stored)
}
