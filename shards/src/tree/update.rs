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
//! 5. The space map is written, then the file is synced.
//!
//! # Crash argument
//! Only units that the published tree does not reach are written. The new root is known to
//! nobody but the caller, who may publish it once the superblock that names it is durable; until
//! then a restart finds the old root, the old space map and every page they reach.

use std::cmp::Ordering;
use std::rc::Rc;

use lightning_io::Env;

use super::address::PageRef;
use super::blob::{BlobKind, BlobRef};
use super::level::{Body, Level, Outgoing};
use super::open_leaf::OpenLeaf;
use super::page::{Fences, INLINE_VALUE_DIVISOR, Page};
use super::space::Bitmap;
use super::state::{HEIGHT_MAX, TreeState};
use super::store::Caching;
use super::tree::Shared;
use super::versions::Freed;
use super::writer::{Taken, WRITE_BYTES_MAX, Writer};
use crate::{Entry, EntryFlags, EntrySource, Error, Result, StorageKey, VALUE_BYTES_MAX};

/// Entries merged between two chances for other tasks: about 20 us.
const MERGE_STRIDE: usize = 64;

/// A new tree on disk that nobody sees yet: publish it or discard it.
///
/// Dropping it does neither. Its units and those that it frees then stay taken, and no other update
/// can begin; so does an owner that cannot know whether its superblock was written.
#[derive(Debug)]
#[must_use = "an update is to be published or discarded"]
pub(crate) struct TreeUpdate {
    pub(super) state: TreeState,
    pub(super) taken: Taken,
    pub(super) freed: Freed,
}

impl TreeUpdate {
    /// What the superblock has to say for the update to be there after a restart.
    pub(crate) fn state(&self) -> &TreeState {
        &self.state
    }
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
    base: TreeState,
    pub(super) writer: Writer<E>,
    levels: Vec<Level>,
    path: Vec<Frame>,
    entries: u64,
    /// The last key taken from the batch.
    last_key: Option<Vec<u8>>,
}

impl<'a, E: Env> Update<'a, E> {
    pub(super) fn new(shared: &'a Shared<E>, base: TreeState) -> Self {
        Self {
            shared,
            base,
            writer: Writer::new(&shared.store),
            levels: Vec::new(),
            path: Vec::new(),
            entries: base.entries,
            last_key: None,
        }
    }

    fn env(&self) -> &'a E {
        &self.shared.store.env
    }

    /// Writes the whole update and syncs the file.
    pub(super) async fn run(&mut self, source: &mut impl EntrySource) -> Result<TreeState> {
        if source.peek().is_none() {
            return Ok(self.base);
        }
        self.walk(source).await?;
        let (root, height) = self.finish().await?;
        if source.peek().is_some() {
            return Err(invalid("its entries are not in order".to_owned()));
        }
        if !self.base.space_map.is_none() {
            self.writer.free_blob(self.base.space_map)?;
        }
        let space_map = self.write_space_map().await?;
        let state = TreeState {
            root,
            space_map,
            entries: self.entries,
            live_bytes: (self.base.live_bytes + self.writer.written_bytes)
                .saturating_sub(self.writer.freed_bytes),
            file_units: self.shared.store.space.borrow().file_units(),
            height,
        };
        self.shared.store.sync().await?;
        Ok(state)
    }

    /// Step 1: the old tree from left to right.
    async fn walk(&mut self, source: &mut impl EntrySource) -> Result<()> {
        let mut bounds = Bounds::default();
        if self.base.root.is_none() {
            self.level(0)?.begin(&[], false);
            return self.merge_leaf(OpenLeaf::new(None, None), source).await;
        }
        let root_level = self.base.height - 1;
        self.open(self.base.root, root_level, &bounds, source)
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
        self.writer.free_page(reference)?;
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
                self.keep_entry(leaf)?;
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
                    source.advance();
                    continue;
                }
                self.remove_entry(leaf)?;
            }
            self.note_key(new.key);
            if !new.is_tombstone() && new.value.len() > self.inline_max() {
                return Ok(Pause::LargeValue);
            }
            if !new.is_tombstone() {
                self.entries += 1;
                let flags = new.flags.without(EntryFlags::RELAXED);
                let env = self.env();
                self.levels[0].push(&Entry { flags, ..new }, env);
            }
            source.advance();
        }
        Ok(Pause::Stride)
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
        if entry.flags.contains(EntryFlags::OVERFLOW) {
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

    /// Copies the old entry over.
    fn keep_entry(&mut self, leaf: &mut OpenLeaf) -> Result<()> {
        let last = self.levels[0].items.len().checked_sub(1);
        let repeated = last.is_some_and(|at| self.levels[0].items.get(at).key == leaf.key);
        if repeated {
            // An older version of the key before it, which a reader of this tree never finds.
            return self.remove_entry(leaf);
        }
        let env = self.env();
        if let Some(old) = leaf.entry() {
            self.levels[0].push(
                &Entry {
                    key: &leaf.key,
                    timestamp: old.timestamp,
                    flags: old.flags,
                    value: old.value,
                },
                env,
            );
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
        let value_len = source.peek().map_or(0, |entry| entry.value.len());
        let batch = &*source;
        let value = self
            .writer
            .write_value(value_len, |start, piece| {
                if let Some(entry) = batch.peek() {
                    piece.copy_from_slice(&entry.value[start..start + piece.len()]);
                }
            })
            .await?;
        let env = self.env();
        if let Some(entry) = source.peek() {
            let flags = entry.flags.without(EntryFlags::RELAXED);
            let value = value.encode();
            let flags = flags.with(EntryFlags::OVERFLOW);
            self.levels[0].push(
                &Entry {
                    flags,
                    value: &value,
                    ..entry
                },
                env,
            );
        }
        self.entries += 1;
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
        let written = self.writer.write_pages(images).await?;
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

    /// Step 5: the units that the new tree reaches, without those of the map itself.
    async fn write_space_map(&mut self) -> Result<BlobRef> {
        let map = self.live_units();
        let words = map.to_words();
        self.writer
            .write_blob(BlobKind::SpaceMap, words.len() * 8, |start, piece| {
                let first = start / 8;
                for (word, bytes) in words[first..].iter().zip(piece.chunks_exact_mut(8)) {
                    bytes.copy_from_slice(&word.to_le_bytes());
                }
            })
            .await
    }

    fn live_units(&self) -> Bitmap {
        let mut map = self.shared.store.space.borrow().used().clone();
        for extent in self.shared.versions.borrow().waiting() {
            map.remove(extent);
        }
        for &extent in self.shared.store.quarantine.borrow().iter() {
            map.remove(extent);
        }
        for extent in self.writer.freed.extents() {
            map.remove(extent);
        }
        map
    }
}

fn invalid(reason: String) -> Error {
    Error::Invalid {
        what: "batch",
        reason,
    }
}
