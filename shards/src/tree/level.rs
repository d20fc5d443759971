//! One level of the new tree while an update builds it: what goes into the next page, and the
//! pages that wait to be written and told to the level above.
//!
//! # Invariants
//! * The pages of a level tile the key space: each begins where the one before it ends. While
//!   `lower` is set the level owes a page, or an extension of a neighbour, for the keys from there
//!   on.
//! * A level holds less than two pages' worth of items, plus at most one batch of built pages.
//!
//! # Algorithm
//! 1. Items are pushed in order. When they come to a full page and a quarter, a full page is cut
//!    off; so what is left is never too little for a page of its own.
//! 2. At a boundary, where pages that did not change begin or the tree ends, what is left becomes
//!    one page, or two of about equal size.
//! 3. A page closes at the exact size that its fences give it. While items arrive the fences are
//!    not known, so the prefix that all keys share stands in for theirs.

use lightning_io::{Env, IoBuf};

use super::address::PageRef;
use super::inner::{InnerBuilder, InnerSize};
use super::leaf::ENTRY_OVERHEAD_BYTES;
use super::leaf_builder::{LeafBuilder, LeafSize, separator};
use super::page::{Fences, HEADER_BYTES, PAGE_BYTES_MAX, PAGE_ITEMS_MIN, Page};
use super::wire::{common_prefix, partition};
use super::writer::Image;
use crate::{Entry, EntryFlags, Timestamp};

/// A page below the target divided by this is joined with a neighbour when it is rewritten.
const UNDERFULL_DIVISOR: usize = 4;
/// No page but the root has fewer items, unless damage leaves no neighbour to join.
const ITEMS_MIN: usize = 2;
/// Items are cut at this many bytes of whole keys and values, however well their keys compress:
/// long keys that differ in their last bytes would otherwise fill the memory before they fill a
/// page.
const ITEM_BYTES_MAX: usize = 8 * PAGE_BYTES_MAX;

#[derive(Debug, Clone, Copy)]
struct Item {
    /// Where the key begins, and how many key bytes were pushed up to its end, both counted from
    /// the first item ever pushed.
    start: usize,
    keys_end: usize,
    key_len: usize,
    value_len: usize,
    timestamp: Timestamp,
    flags: EntryFlags,
}

impl Item {
    fn end(&self) -> usize {
        self.start + self.key_len + self.value_len
    }
}

/// A queue of entries, keys and values in one buffer. The children of inner pages are entries too:
/// the lower bound is the key, the reference is the value.
#[derive(Debug, Default)]
pub(super) struct Items {
    bytes: Vec<u8>,
    index: Vec<Item>,
    /// Bytes, and bytes of keys, that have left the queue at its front.
    bytes_gone: usize,
    keys_gone: usize,
}

impl Items {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    fn push(&mut self, entry: &Entry<'_>) {
        let keys_before = self
            .index
            .last()
            .map_or(self.keys_gone, |last| last.keys_end);
        self.index.push(Item {
            start: self.bytes_gone + self.bytes.len(),
            keys_end: keys_before + entry.key.len(),
            key_len: entry.key.len(),
            value_len: entry.value.len(),
            timestamp: entry.timestamp,
            flags: entry.flags,
        });
        self.bytes.extend_from_slice(entry.key);
        self.bytes.extend_from_slice(entry.value);
    }

    pub(super) fn get(&self, index: usize) -> Entry<'_> {
        let item = &self.index[index];
        let start = item.start - self.bytes_gone;
        let (key, rest) = self.bytes[start..].split_at(item.key_len);
        Entry {
            key,
            timestamp: item.timestamp,
            flags: item.flags,
            value: &rest[..item.value_len],
        }
    }

    fn key(&self, index: usize) -> &[u8] {
        self.get(index).key
    }

    /// Key bytes and value bytes of the first `count` items.
    fn sums(&self, count: usize) -> (usize, usize) {
        let Some(last) = count.checked_sub(1).map(|at| &self.index[at]) else {
            return (0, 0);
        };
        let keys = last.keys_end - self.keys_gone;
        (keys, last.end() - self.bytes_gone - keys)
    }

    fn drop_front(&mut self, count: usize) {
        let Some(last) = count.checked_sub(1).map(|at| self.index[at]) else {
            return;
        };
        self.bytes.drain(..last.end() - self.bytes_gone);
        self.index.drain(..count);
        self.bytes_gone = last.end();
        self.keys_gone = last.keys_end;
    }

    fn drop_back(&mut self) {
        if let Some(item) = self.index.pop() {
            self.bytes.truncate(item.start - self.bytes_gone);
        }
    }
}

/// A page of a level, on its way to the level above.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) lower: Vec<u8>,
    pub(super) max_timestamp: Timestamp,
    pub(super) body: Body,
}

/// Whether a page of the new tree is one of the old.
#[derive(Debug)]
pub(super) enum Body {
    Kept(PageRef),
    New(Image),
}

/// One level under construction.
#[derive(Debug)]
pub(super) struct Level {
    number: u8,
    target_bytes: usize,
    /// Where the items' range begins; `None` when the pages so far reach up to the next one.
    lower: Option<Vec<u8>>,
    pub(super) items: Items,
    /// Bytes that all keys of `items` begin with.
    shared_len: usize,
    /// Whether a page that went into `items` was in the cache.
    warm: bool,
    outgoing: Vec<Outgoing>,
    outgoing_bytes: usize,
}

impl Level {
    pub(super) fn new(number: u8, target_bytes: usize) -> Self {
        Self {
            number,
            target_bytes,
            lower: None,
            items: Items::default(),
            shared_len: 0,
            warm: number > 0,
            outgoing: Vec::new(),
            outgoing_bytes: 0,
        }
    }

    /// Opens the range of a page whose items are about to be pushed.
    pub(super) fn begin(&mut self, lower: &[u8], warm: bool) {
        if self.lower.is_none() {
            self.lower = Some(lower.to_vec());
        }
        self.warm |= warm;
    }

    /// Puts a left neighbour's items in front of what the level has. Nothing is cut off, or the
    /// rest could be as small as before: closing the level then splits it evenly.
    pub(super) fn join_left(&mut self, left: &Page, warm: bool) {
        self.lower = Some(left.fences().lower.to_vec());
        self.warm |= warm;
        let rest = std::mem::take(&mut self.items);
        self.append_page(left);
        for index in 0..rest.len() {
            self.append(&rest.get(index));
        }
    }

    fn append_page(&mut self, page: &Page) {
        let mut key = Vec::new();
        if page.level() == 0 {
            let leaf = page.leaf();
            for index in 0..leaf.count() {
                leaf.key_into(index, &mut key);
                let entry = leaf.entry(index);
                self.append(&Entry {
                    key: &key,
                    timestamp: entry.timestamp,
                    flags: entry.flags,
                    value: entry.value,
                });
            }
        } else {
            let inner = page.inner();
            for index in 0..inner.count() {
                inner.lower_into(index, &mut key);
                let child = inner.child(index).encode();
                self.append(&child_entry(&key, &child, page.max_timestamp()));
            }
        }
    }

    /// Adds an item and cuts off what is full; the range must be open.
    pub(super) fn push<E: Env>(&mut self, entry: &Entry<'_>, env: &E) {
        self.append(entry);
        while self.is_full() {
            let count = self.full_page_count();
            self.cut(count, env);
        }
    }

    /// Adds an item and leaves the cutting to whoever comes next.
    fn append(&mut self, entry: &Entry<'_>) {
        debug_assert!(
            self.lower
                .as_deref()
                .is_some_and(|lower| lower <= entry.key)
        );
        self.shared_len = if self.items.len() == 0 {
            entry.key.len()
        } else {
            let first = self.items.key(0);
            let shared = &first[..self.shared_len];
            common_prefix(shared, entry.key)
        };
        self.items.push(entry);
    }

    /// Adds a child of this level; opens the range if it is not.
    pub(super) fn push_child<E: Env>(
        &mut self,
        lower: &[u8],
        child: PageRef,
        max_timestamp: Timestamp,
        env: &E,
    ) {
        self.begin(lower, true);
        self.push(&child_entry(lower, &child.encode(), max_timestamp), env);
    }

    /// Takes the last child back.
    pub(super) fn pop_child(&mut self) -> Option<Outgoing> {
        let last = self.items.len().checked_sub(1)?;
        let entry = self.items.get(last);
        let outgoing = Outgoing {
            lower: entry.key.to_vec(),
            max_timestamp: entry.timestamp,
            body: Body::Kept(PageRef::decode(entry.value)),
        };
        self.items.drop_back();
        Some(outgoing)
    }

    /// Adds a page of the old tree as it is; the level must have been closed up to it.
    pub(super) fn keep(&mut self, lower: &[u8], page: PageRef, max_timestamp: Timestamp) {
        debug_assert!(self.lower.is_none());
        self.send(Outgoing {
            lower: lower.to_vec(),
            max_timestamp,
            body: Body::Kept(page),
        });
    }

    /// Where the open range begins, while there is one.
    pub(super) fn lower(&self) -> Option<&[u8]> {
        self.lower.as_deref()
    }

    /// Whether the open range holds too little for a page of its own.
    pub(super) fn is_underfull(&self) -> bool {
        self.lower.is_some()
            && self.items.bytes.len() < ITEM_BYTES_MAX
            && (self.items.len() < ITEMS_MIN
                || self.estimate(self.items.len()) < self.target_bytes / UNDERFULL_DIVISOR)
    }

    /// Whether nothing of the level is left to be told to the one above.
    pub(super) fn is_empty(&self) -> bool {
        self.items.len() == 0 && self.outgoing.is_empty()
    }

    pub(super) fn outgoing_bytes(&self) -> usize {
        self.outgoing_bytes
    }

    pub(super) fn outgoing_count(&self) -> usize {
        self.outgoing.len()
    }

    pub(super) fn take_outgoing(&mut self) -> Vec<Outgoing> {
        self.outgoing_bytes = 0;
        std::mem::take(&mut self.outgoing)
    }

    pub(super) fn pop_outgoing(&mut self) -> Option<Outgoing> {
        let outgoing = self.outgoing.pop()?;
        self.outgoing_bytes -= weight(&outgoing);
        Some(outgoing)
    }

    /// Turns what is left into pages and closes the range at `upper`.
    pub(super) fn close<E: Env>(&mut self, upper: Option<&[u8]>, env: &E) {
        while self.items.len() > 0 {
            let count = self.items.len();
            if count <= PAGE_ITEMS_MIN || self.page_bytes(count, upper) <= self.target_bytes {
                self.build(count, upper, env);
            } else {
                let count = self.split_count();
                self.cut(count, env);
            }
        }
        self.lower = None;
        self.warm = self.number > 0;
    }

    /// Cuts the first `count` items off as a page, up to where the next item begins.
    fn cut<E: Env>(&mut self, count: usize, env: &E) {
        let upper = self.boundary(count).to_vec();
        self.build(count, Some(&upper), env);
        self.lower = Some(upper);
    }

    /// The key at which a page of the first `count` items ends and the next begins.
    fn boundary(&self, count: usize) -> &[u8] {
        let (last, next) = (self.items.key(count - 1), self.items.key(count));
        match self.number {
            0 if planted!("separator_off_by_one") => last,
            0 => separator(last, next),
            _ => next,
        }
    }

    fn build<E: Env>(&mut self, count: usize, upper: Option<&[u8]>, env: &E) {
        let lower = self
            .lower
            .take()
            .expect("a level with items has an open range");
        let fences = Fences {
            lower: &lower,
            upper,
        };
        let (bytes, max_timestamp) = self.build_page(count, fences, |len| env.allocate(len));
        self.items.drop_front(count);
        if self.items.len() > 0 {
            let last = self.items.key(self.items.len() - 1);
            self.shared_len = common_prefix(self.items.key(0), last);
        }
        let body = Body::New(Image {
            bytes,
            warm: self.warm,
        });
        self.send(Outgoing {
            lower,
            max_timestamp,
            body,
        });
    }

    fn build_page(
        &self,
        count: usize,
        fences: Fences,
        allocate: impl FnOnce(usize) -> IoBuf,
    ) -> (IoBuf, Timestamp) {
        let entries = (0..count).map(|index| self.items.get(index));
        if self.number == 0 {
            let mut builder = LeafBuilder::new(fences, self.leaf_size(count), allocate);
            entries.for_each(|entry| builder.push(&entry));
            return builder.finish();
        }
        let mut builder = InnerBuilder::new(self.number, fences, self.inner_size(count), allocate);
        for entry in entries {
            builder.push(entry.key, PageRef::decode(entry.value), entry.timestamp);
        }
        builder.finish()
    }

    fn send(&mut self, outgoing: Outgoing) {
        self.outgoing_bytes += weight(&outgoing);
        self.outgoing.push(outgoing);
    }

    fn leaf_size(&self, count: usize) -> LeafSize {
        let (key_bytes, value_bytes) = self.items.sums(count);
        LeafSize {
            count,
            key_bytes,
            value_bytes,
        }
    }

    fn inner_size(&self, count: usize) -> InnerSize {
        let (key_bytes, _) = self.items.sums(count);
        InnerSize {
            count,
            separator_bytes: key_bytes - self.items.key(0).len(),
        }
    }

    /// The exact size of a page of the first `count` items that ends at `upper`.
    fn page_bytes(&self, count: usize, upper: Option<&[u8]>) -> usize {
        let lower = self.lower.as_deref().unwrap_or_default();
        let fences = Fences { lower, upper };
        if self.number == 0 {
            self.leaf_size(count).page_bytes(&fences)
        } else {
            self.inner_size(count).page_bytes(&fences)
        }
    }

    /// About the size of a page of the first `count` items, if its fences share what its keys do.
    /// A child takes as much besides its separator as an entry does besides key and value.
    fn estimate(&self, count: usize) -> usize {
        let (keys, values) = self.items.sums(count);
        let value_bytes = if self.number == 0 { values } else { 0 };
        let fences = self.lower.as_ref().map_or(0, Vec::len) + self.shared_len;
        HEADER_BYTES + fences + count * ENTRY_OVERHEAD_BYTES + keys - count * self.shared_len
            + value_bytes
    }

    fn is_full(&self) -> bool {
        let count = self.items.len();
        count >= PAGE_ITEMS_MIN + ITEMS_MIN
            && (self.estimate(count) >= self.target_bytes + self.target_bytes / UNDERFULL_DIVISOR
                || self.items.bytes.len() >= ITEM_BYTES_MAX)
    }

    /// How many items to cut off for a full page.
    fn full_page_count(&self) -> usize {
        let count = self.items.len();
        let fitting = partition(1, count, |n| self.estimate(n) <= self.target_bytes) - 1;
        self.fit(fitting.max(PAGE_ITEMS_MIN))
    }

    /// How many items to cut off so that two pages of about equal size remain.
    fn split_count(&self) -> usize {
        let count = self.items.len();
        let total = self.estimate(count);
        if total > 2 * self.target_bytes {
            return self.full_page_count();
        }
        self.fit(partition(1, count, |n| self.estimate(n) < total / 2))
    }

    /// The count nearest below `count` whose page has its exact size within the target and leaves
    /// enough for another page; pages of [`PAGE_ITEMS_MIN`] items may be longer than the target.
    fn fit(&self, count: usize) -> usize {
        /// Single steps for the few bytes by which an estimate is wrong; larger ones for keys whose
        /// fences share far less than they do.
        const SINGLE_STEPS: usize = 8;
        let mut count = count.clamp(ITEMS_MIN, self.items.len() - ITEMS_MIN);
        let mut steps = 0;
        while count > PAGE_ITEMS_MIN
            && self.page_bytes(count, Some(self.boundary(count))) > self.target_bytes
        {
            steps += 1;
            let step = if steps > SINGLE_STEPS { count / 8 } else { 1 };
            count = (count - step.max(1)).max(PAGE_ITEMS_MIN);
        }
        count
    }
}

/// What an outgoing page takes in memory.
fn weight(outgoing: &Outgoing) -> usize {
    let image_bytes = match &outgoing.body {
        Body::Kept(_) => 0,
        Body::New(image) => image.bytes.len(),
    };
    size_of::<Outgoing>() + outgoing.lower.len() + image_bytes
}

/// A child as an entry.
fn child_entry<'a>(lower: &'a [u8], child: &'a [u8], max_timestamp: Timestamp) -> Entry<'a> {
    Entry {
        key: lower,
        timestamp: max_timestamp,
        flags: EntryFlags::VALUE,
        value: child,
    }
}
