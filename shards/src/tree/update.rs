//! Applying a sorted batch to a tree: copy on write, one pass, bounded memory.
//!
//! # Algorithm
//! 1. Walk the old tree in key order. A page whose range holds no key of the batch is kept as it
//!    is, by reference; any other is opened: an inner page to look at its children, a leaf to merge
//!    its entries with the batch into level 0 of the new tree.
//! 2. Before a page is kept, the levels at and below its own are closed at its lower bound, from
//!    the bottom up: their rest becomes pages, and these are written and told to the level above.
//!    If the rest is too little for a page, the page is opened after all and joins it.
//! 3. At the end of the tree there is no right neighbour: a rest that is too little takes back the
//!    page on its left, wherever in the new tree that is, and joins it.
//! 4. The first level with a single page and nothing above is the root. So the tree grows when the
//!    old root splits and shrinks when one child is left.
//!
//! What becomes of the new root, and what a crash leaves, is the business of the edit that the
//! update is a part of: see `edit.rs`.

use std::cmp::Ordering;
use std::rc::Rc;

use lightning_io::Env;

use super::address::PageRef;
use super::blob::BlobRef;
use super::filter::{Filter, hash_of};
use super::leaf::reference_in;
use super::level::{Body, Level, Outgoing};
use super::open_leaf::OpenLeaf;
use super::page::{Fences, INLINE_VALUE_DIVISOR, Page};
use super::root::{HEIGHT_MAX, Root};
use super::store::Caching;
use super::tree::Shared;
use super::writer::{WRITE_BYTES_MAX, Writer};
use crate::{
    Entry, EntryFlags, EntrySource, Error, Result, StorageKey, Timestamp, VALUE_BYTES_MAX,
};

/// Entries merged between two chances for other tasks: about 20 us.
const MERGE_STRIDE: usize = 64;

/// What becomes of deletions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tombstones {
    /// The tree is the oldest: nothing behind it has the key.
    End,
    /// Something older may have the key.
    Keep,
}

/// Where the large values of a batch are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LargeValues {
    /// In the batch; they are written.
    Written,
    /// In the file already, where they stay: the batch refers to them, and the tree takes them
    /// over.
    Adopted,
}

/// An inner page of the old tree on the way down, and the next of its children to look at.
struct Frame {
    page: Rc<Page>,
    next: usize,
}

/// Why the merge of a leaf paused.
enum Pause {
    /// Neither the leaf nor the batch has more for its range.
    Done,
    /// It has done its share for now.
    Stride,
    /// The next entry of the batch has a value that does not fit a leaf.
    LargeValue,
}

/// The lower and the upper bound of an old page, as its parent states them.
#[derive(Default)]
struct Bounds {
    lower: Vec<u8>,
    upper: Option<Vec<u8>>,
}

pub(super) struct Update<'a, E: Env> {
    shared: &'a Shared<E>,
    writer: &'a mut Writer<E>,
    base: Root,
    tombstones: Tombstones,
    large_values: LargeValues,
    /// Gets every key that is put into the tree.
    filter: Option<&'a mut Filter>,
    levels: Vec<Level>,
    path: Vec<Frame>,
    entries: u64,
    /// No entry that was put into the tree is newer.
    newest: Timestamp,
    /// The last key taken from the batch.
    last_key: Option<Vec<u8>>,
}

/// What an update came to.
#[derive(Debug)]
pub(super) struct Updated {
    pub(super) root: Root,
    pub(super) newest: Timestamp,
    /// The last key of the batch; `None` for an empty one.
    pub(super) last_key: Option<Vec<u8>>,
}

impl<'a, E: Env> Update<'a, E> {
    /// An update of the tree of `base` by a batch from memory, which ends deletions.
    pub(super) fn new(shared: &'a Shared<E>, writer: &'a mut Writer<E>, base: Root) -> Self {
        Self {
            shared,
            writer,
            base,
            tombstones: Tombstones::End,
            large_values: LargeValues::Written,
            filter: None,
            levels: Vec::new(),
            path: Vec::new(),
            entries: base.entries,
            newest: Timestamp::ZERO,
            last_key: None,
        }
    }

    /// Makes the tree one that is not the oldest, with a filter of its keys.
    pub(super) fn of_run(mut self, filter: &'a mut Filter) -> Self {
        self.tombstones = Tombstones::Keep;
        self.filter = Some(filter);
        self
    }

    /// Takes a batch whose large values are in the file already.
    pub(super) fn adopting(mut self) -> Self {
        self.large_values = LargeValues::Adopted;
        self
    }

    fn env(&self) -> &'a E {
        &self.shared.store.env
    }

    /// Writes the pages of the new tree; the writer must not have written another one.
    pub(super) async fn run(mut self, source: &mut impl EntrySource) -> Result<Updated> {
        let mut root = self.base;
        if source.peek().is_some() {
            self.walk(source).await?;
            (root.page, root.height) = self.finish().await?;
            if source.peek().is_some() {
                return Err(invalid("its entries are not in order".to_owned()));
            }
            root.entries = self.entries;
            root.live_bytes = self.writer.live_bytes_after(self.base.live_bytes);
            root.pages = self.writer.pages_after(&self.base.pages);
        }
        Ok(Updated {
            root,
            newest: self.newest,
            last_key: self.last_key,
        })
    }

    /// Step 1: the old tree from left to right.
    async fn walk(&mut self, source: &mut impl EntrySource) -> Result<()> {
        let mut bounds = Bounds::default();
        if self.base.is_empty() {
            self.level(0)?.begin(&[], false);
            return self.merge_leaf(OpenLeaf::new(None, None), source).await;
        }
        let root_level = self.base.height - 1;
        self.open(self.base.page, root_level, &bounds, source)
            .await
            .map_err(|error| error.with_keys((None, None)))?;
        while let Some(frame) = self.path.last_mut() {
            let (page, index) = (Rc::clone(&frame.page), frame.next);
            frame.next += 1;
            let inner = page.inner();
            if index == inner.count() {
                self.path.pop();
                continue;
            }
            let (child, level) = (inner.child(index), page.level() - 1);
            inner.lower_into(index, &mut bounds.lower);
            let mut upper = bounds.upper.take().unwrap_or_default();
            bounds.upper = inner.upper_into(index, &mut upper).then_some(upper);
            let upper = bounds.upper.as_deref();
            let touched = source
                .peek()
                .is_some_and(|entry| upper.is_none_or(|upper| entry.key < upper));
            if !touched && self.close_below(level, &bounds.lower).await? {
                let max_timestamp = page.max_timestamp();
                let level = self.level(level)?;
                level.keep(&bounds.lower, child, max_timestamp);
            } else {
                self.open(child, level, &bounds, source)
                    .await
                    .map_err(|error| error.with_keys(page.inner().key_range(index)))?;
            }
            self.settle().await?;
        }
        Ok(())
    }

    /// Opens a page of the old tree: the new one will do without it.
    async fn open(
        &mut self,
        reference: PageRef,
        level: u8,
        bounds: &Bounds,
        source: &mut impl EntrySource,
    ) -> Result<()> {
        let (page, warm) = self.read(reference, level).await?;
        let expected = Fences {
            lower: &bounds.lower,
            upper: bounds.upper.as_deref(),
        };
        if page.fences() != expected {
            return Err(self.shared.store.damage(
                reference.unit,
                "the fences of the page are not the bounds that its parent gives it",
            ));
        }
        self.level(level)?.begin(&bounds.lower, warm);
        if level > 0 {
            self.path.push(Frame { page, next: 0 });
            return Ok(());
        }
        let leaf = OpenLeaf::new(Some(page), bounds.upper.clone());
        self.merge_leaf(leaf, source).await
    }

    /// Reads a page that is about to be replaced. What goes into new pages must be in order, or a
    /// damage would spread.
    async fn read(&mut self, reference: PageRef, level: u8) -> Result<(Rc<Page>, bool)> {
        let store = &self.shared.store;
        let warm = store.cache.borrow().peek(reference).is_some();
        let page = store.page(reference, level, Caching::Pass).await?;
        page.check_order()
            .map_err(|what| store.damage(reference.unit, what))?;
        self.writer.free_page(reference, &page)?;
        store.env.yield_if_needed().await;
        Ok((page, warm))
    }

    /// Merges a leaf with the part of the batch that belongs to its range, into level 0.
    async fn merge_leaf(
        &mut self,
        mut leaf: OpenLeaf,
        source: &mut impl EntrySource,
    ) -> Result<()> {
        loop {
            match self.merge_some(&mut leaf, source)? {
                Pause::Done => return Ok(()),
                Pause::Stride => self.env().yield_if_needed().await,
                Pause::LargeValue => self.put_large(source).await?,
            }
            self.settle().await?;
        }
    }

    fn merge_some(&mut self, leaf: &mut OpenLeaf, source: &mut impl EntrySource) -> Result<Pause> {
        for _ in 0..MERGE_STRIDE {
            let upper = leaf.upper.as_deref();
            let new = source
                .peek()
                .filter(|entry| upper.is_none_or(|upper| entry.key < upper));
            let order = match (leaf.entry(), &new) {
                (None, None) => return Ok(Pause::Done),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(_), Some(new)) => leaf.key.as_slice().cmp(new.key),
            };
            let Some(new) = new.filter(|_| order != Ordering::Less) else {
                self.keep_entry(leaf, source.now())?;
                continue;
            };
            if !self.is_next_key(&new)? {
                source.advance();
                continue;
            }
            if order == Ordering::Equal && !(new.is_tombstone() && planted!("drop_tombstone")) {
                let old = leaf.entry().expect("an entry was compared");
                if old.timestamp > new.timestamp {
                    // The tree is ahead of this version: a batch that is applied a second time.
                    self.note_key(new.key);
                    if let Some(value) = adopted(&new) {
                        self.writer.free_blob(value)?;
                    }
                    source.advance();
                    continue;
                }
                self.remove_entry(leaf)?;
            }
            self.note_key(new.key);
            if !new.is_tombstone() && new.value.len() > self.inline_max() {
                return Ok(Pause::LargeValue);
            }
            if let Some(value) = adopted(&new) {
                self.writer.adopt_value(value)?;
            }
            if !new.is_tombstone() || self.keeps_tombstones() {
                let flags = new.flags.without(EntryFlags::RELAXED);
                self.push_new(&Entry { flags, ..new });
            }
            source.advance();
        }
        Ok(Pause::Stride)
    }

    fn keeps_tombstones(&self) -> bool {
        let merges = self.large_values == LargeValues::Adopted;
        self.tombstones == Tombstones::Keep && !(merges && planted!("merge_drops_tombstone"))
    }

    /// Puts an entry of the batch into the tree.
    fn push_new(&mut self, entry: &Entry<'_>) {
        if let Some(filter) = &mut self.filter {
            let hash = hash_of(entry.key);
            if !(hash.is_multiple_of(8) && planted!("filter_forgets_key")) {
                filter.insert(hash);
            }
        }
        self.newest = self.newest.max(entry.timestamp);
        self.entries += 1;
        let env = self.env();
        self.levels[0].push(entry, env);
    }

    fn inline_max(&self) -> usize {
        self.shared.page_bytes / INLINE_VALUE_DIVISOR
    }

    /// Whether an entry of the batch is the newest of its key, after it was checked against the
    /// contract of a batch.
    fn is_next_key(&self, entry: &Entry<'_>) -> Result<bool> {
        if entry.key.len() > StorageKey::BYTES_MAX {
            return Err(invalid(format!("a key of {} bytes", entry.key.len())));
        }
        if entry.value.len() > VALUE_BYTES_MAX {
            return Err(invalid(format!("a value of {} bytes", entry.value.len())));
        }
        if adopted(entry).is_some() && self.large_values != LargeValues::Adopted {
            return Err(invalid("a value that lies elsewhere".to_owned()));
        }
        match self.last_key.as_deref().map(|last| last.cmp(entry.key)) {
            None | Some(Ordering::Less) => Ok(true),
            Some(Ordering::Equal) => Ok(false),
            Some(Ordering::Greater) => Err(invalid("its entries are not in order".to_owned())),
        }
    }

    fn note_key(&mut self, key: &[u8]) {
        let last = self.last_key.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
    }

    /// Copies the old entry over, unless its time is over.
    fn keep_entry(&mut self, leaf: &mut OpenLeaf, now: Timestamp) -> Result<()> {
        let old = leaf.entry().map(|old| old.with_key(&leaf.key));
        if old.is_some_and(|old| old.is_expired(now)) {
            return self.remove_entry(leaf);
        }
        let last = self.levels[0].items.len().checked_sub(1);
        let repeated = last.is_some_and(|at| self.levels[0].items.get(at).key == leaf.key);
        if repeated {
            // An older version of the key before it, which a reader of this tree never finds.
            return self.remove_entry(leaf);
        }
        let env = self.env();
        if let Some(old) = leaf.entry() {
            self.levels[0].push(&old.with_key(&leaf.key), env);
        }
        leaf.advance();
        Ok(())
    }

    /// Leaves the old entry out.
    fn remove_entry(&mut self, leaf: &mut OpenLeaf) -> Result<()> {
        if let Some(value) = leaf.entry().and_then(|old| old.overflow()) {
            self.writer.free_value(value)?;
        }
        self.entries = self.entries.saturating_sub(1);
        leaf.advance();
        Ok(())
    }

    /// Writes the value of the batch's next entry outside, and puts the reference in its place.
    async fn put_large(&mut self, source: &mut impl EntrySource) -> Result<()> {
        let value_len = source.peek().map_or(0, |entry| entry.user_value().len());
        let batch = &*source;
        let value = self
            .writer
            .write_value(value_len, |start, piece| {
                if let Some(entry) = batch.peek() {
                    piece.copy_from_slice(&entry.user_value()[start..start + piece.len()]);
                }
            })
            .await?;
        if let Some(entry) = source.peek() {
            let flags = entry.flags.without(EntryFlags::RELAXED);
            // What is in front of the value stays in the page, so that nobody has to read it there.
            let (before, _) = entry.value.split_at(entry.value.len() - value_len);
            let value = [before, &value.encode()].concat();
            self.push_new(&Entry {
                flags: flags.with(EntryFlags::OVERFLOW),
                value: &value,
                ..entry
            });
        }
        source.advance();
        Ok(())
    }

    fn level(&mut self, number: u8) -> Result<&mut Level> {
        while self.levels.len() <= usize::from(number) {
            let next = u8::try_from(self.levels.len()).ok();
            let Some(next) = next.filter(|&next| next <= HEIGHT_MAX) else {
                return Err(invalid("the tree would have too many levels".to_owned()));
            };
            self.levels.push(Level::new(next, self.shared.page_bytes));
        }
        Ok(&mut self.levels[usize::from(number)])
    }

    /// Step 2: closes the levels up to `level` at `bound`; `false` when one of them needs what
    /// comes next.
    async fn close_below(&mut self, level: u8, bound: &[u8]) -> Result<bool> {
        for number in 0..=level {
            let env = self.env();
            let current = self.level(number)?;
            if current.is_underfull() {
                return Ok(false);
            }
            current.close(Some(bound), env);
            if number < level {
                self.write_outgoing(number).await?;
            }
        }
        Ok(true)
    }

    /// Writes what has piled up, level by level.
    async fn settle(&mut self) -> Result<()> {
        let mut number = 0;
        while usize::from(number) < self.levels.len() {
            if self.levels[usize::from(number)].outgoing_bytes() >= WRITE_BYTES_MAX {
                self.write_outgoing(number).await?;
            }
            number += 1;
        }
        Ok(())
    }

    /// Writes the finished pages of a level and tells the level above about them.
    async fn write_outgoing(&mut self, number: u8) -> Result<()> {
        let outgoing = self.level(number)?.take_outgoing();
        let mut images = Vec::new();
        let mut children = Vec::with_capacity(outgoing.len());
        for Outgoing {
            lower,
            max_timestamp,
            body,
        } in outgoing
        {
            let kept = match body {
                Body::Kept(page) => Some(page),
                Body::New(image) => {
                    images.push(image);
                    None
                }
            };
            children.push((lower, max_timestamp, kept));
        }
        let written = self.writer.write_pages(images, number).await?;
        let mut written = written.into_iter();
        if children.is_empty() {
            return Ok(());
        }
        let env = self.env();
        let above = self.level(number + 1)?;
        for (lower, max_timestamp, kept) in children {
            let page = kept.or_else(|| written.next());
            let page = page.expect("every image was written");
            above.push_child(&lower, page, max_timestamp, env);
        }
        Ok(())
    }

    /// Steps 3 and 4: closes every level at the end of the tree, up to the root.
    async fn finish(&mut self) -> Result<(PageRef, u8)> {
        let mut number = 0;
        loop {
            self.level(number + 1)?;
            let at = usize::from(number);
            while self.levels[at].is_underfull() {
                let Some((left, warm)) = self.take_left(number).await? else {
                    break;
                };
                self.levels[at].join_left(&left, warm);
            }
            let env = self.env();
            self.levels[at].close(None, env);
            let nothing_above = self.levels[at + 1].outgoing_count() == 0
                && self.levels[at + 2..].iter().all(Level::is_empty);
            let pages = self.levels[at].outgoing_count() + self.levels[at + 1].items.len();
            if nothing_above && pages == 0 {
                return Ok((PageRef::NONE, 0));
            }
            self.write_outgoing(number).await?;
            if nothing_above && pages == 1 {
                let root = self.levels[at + 1].pop_child();
                if let Some(Body::Kept(page)) = root.map(|root| root.body) {
                    return Ok((page, number + 1));
                }
            }
            number += 1;
        }
    }

    /// Takes the page on the left of a level's open range out of the new tree again.
    ///
    /// It is the last page not yet told to the level above, or the last child there; if that level
    /// has none either, it is on the right edge of the page on the left there, and so on.
    async fn take_left(&mut self, number: u8) -> Result<Option<(Rc<Page>, bool)>> {
        let mut at = usize::from(number);
        let mut found = loop {
            if let Some(outgoing) = self.levels[at].pop_outgoing() {
                break outgoing;
            }
            let Some(above) = self.levels.get_mut(at + 1) else {
                return Ok(None);
            };
            if let Some(child) = above.pop_child() {
                break child;
            }
            at += 1;
        };
        loop {
            let level = u8::try_from(at).expect("the height is bounded");
            let (page, warm) = match found.body {
                Body::Kept(page) => {
                    let upper = self.levels[usize::from(number)].lower();
                    let keys = (Some(found.lower), upper.map(<[u8]>::to_vec));
                    let read = self.read(page, level).await;
                    read.map_err(|error| error.with_keys(keys))?
                }
                Body::New(image) => {
                    let page = Page::parse(image.bytes);
                    let page = page.map_err(|what| self.shared.store.damage(0, what))?;
                    (Rc::new(page), image.warm)
                }
            };
            if level == number {
                return Ok(Some((page, warm)));
            }
            self.levels[at].join_left(&page, warm);
            let Some(child) = self.levels[at].pop_child() else {
                return Ok(None);
            };
            found = child;
            at -= 1;
        }
    }
}

/// Where the large value of a batch's entry lies already.
fn adopted(entry: &Entry<'_>) -> Option<BlobRef> {
    entry
        .flags
        .contains(EntryFlags::OVERFLOW)
        .then(|| reference_in(entry.value))
}

fn invalid(reason: String) -> Error {
    Error::Invalid {
        what: "batch",
        reason,
    }
}
