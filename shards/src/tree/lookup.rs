//! Point reads: the runs from the newest to the oldest, then the base; the first that has the key
//! has its newest version.
//!
//! A run is asked only when the key lies within its bounds and its filter does not exclude it. The
//! filter of a run is read with the first key that needs it.

use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;
use lightning_io::Env;

use super::address::PageRef;
use super::blob::{BlobKind, BlobRef};
use super::filter::hash_of;
use super::page::Page;
use super::root::Root;
use super::store::Caching;
use super::tree::Tree;
use super::versions::{TreeView, Version};
use crate::{EntryFlags, Result, Timestamp};

/// What a look into the page cache says about a key.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// It is there.
    Found(TreeValue),
    /// It is certainly not there.
    Absent,
    /// A page on its way is not in the cache: ask [`Tree::get`].
    NeedIo,
}

/// A version that was found. Holds on to the page that it lies in, or to the tree that its large
/// value belongs to, so it stays good whatever is published meanwhile.
#[derive(Debug, Clone)]
pub(crate) struct TreeValue {
    /// When it was committed.
    pub timestamp: Timestamp,
    /// What it is.
    pub(crate) flags: EntryFlags,
    /// When it expires, if it does.
    pub(crate) end: Option<Timestamp>,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    Inline {
        page: Rc<Page>,
        range: Range<usize>,
    },
    Overflow {
        reference: BlobRef,
        /// Where its entry is, to name the key if the value is damaged.
        page: Rc<Page>,
        index: usize,
        /// Keeps the extent from being reused.
        _version: Rc<Version>,
    },
}

impl TreeValue {
    pub(super) fn new(page: &Rc<Page>, index: usize, version: &Rc<Version>) -> Self {
        let entry = page.leaf().entry(index);
        let ttl = entry.with_key(&[]).ttl();
        let page = Rc::clone(page);
        let body = match entry.overflow() {
            Some(reference) => Body::Overflow {
                reference,
                page,
                index,
                _version: Rc::clone(version),
            },
            None => Body::Inline {
                range: entry.value_start + entry.ttl_bytes()..entry.value_start + entry.value.len(),
                page,
            },
        };
        Self {
            timestamp: entry.timestamp,
            flags: entry.flags.without(EntryFlags::OVERFLOW),
            end: ttl.map(|ttl| ttl.end(entry.timestamp)),
            body,
        }
    }

    /// Whether it says at a time that the key is not there.
    #[inline]
    pub(crate) fn is_gone(&self, now: Timestamp) -> bool {
        let expired = self.end.is_some_and(|end| end <= now) && !planted!("ttl_from_read");
        expired || self.flags.contains(EntryFlags::TOMBSTONE)
    }

    /// The value, if it lies in its page; `None` for a large one, which [`Tree::load`] reads.
    #[inline]
    pub(crate) fn as_slice(&self) -> Option<&[u8]> {
        match &self.body {
            Body::Inline { page, range } => Some(&page.raw().bytes[range.clone()]),
            Body::Overflow { .. } => None,
        }
    }

    /// The length of the value, large or not.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        match &self.body {
            Body::Inline { range, .. } => range.len(),
            Body::Overflow { reference, .. } => reference.content_len(),
        }
    }
}

/// How far a descent came with the pages in memory.
enum Descent {
    Leaf(Rc<Page>),
    Empty,
    Missing,
}

impl<E: Env> Tree<E> {
    /// Looks a key up in memory alone: the newest version that is not newer than `at`.
    #[inline]
    pub(crate) fn try_get(&self, view: &TreeView, key: &[u8], at: Timestamp) -> Result<Lookup> {
        let version = &view.version;
        if !version.list.runs.is_empty() {
            let hash = hash_of(key);
            for candidate in version.list.candidates(key) {
                let mut may_hold = false;
                for speaker in candidate.speakers {
                    match speaker.may_hold(hash) {
                        Some(answer) => may_hold |= answer && speaker.spans(key),
                        None => return Ok(Lookup::NeedIo),
                    }
                }
                if may_hold {
                    match self.try_get_in(version, &candidate.run.root, key, at)? {
                        Lookup::Absent => {}
                        found => return Ok(found),
                    }
                }
            }
        }
        self.try_get_in(version, &version.state.base, key, at)
    }

    fn try_get_in(
        &self,
        version: &Rc<Version>,
        root: &Root,
        key: &[u8],
        at: Timestamp,
    ) -> Result<Lookup> {
        let leaf = match self.descend_cached(root, key)? {
            Descent::Leaf(leaf) => leaf,
            Descent::Empty => return Ok(Lookup::Absent),
            Descent::Missing => return Ok(Lookup::NeedIo),
        };
        Ok(leaf.leaf().find(key, at).map_or(Lookup::Absent, |index| {
            Lookup::Found(TreeValue::new(&leaf, index, version))
        }))
    }

    /// Looks a key up: the newest version that is not newer than `at`.
    ///
    /// # Errors
    /// `Corruption` for a damaged page on its way, with the keys that it covers.
    ///
    /// # Cancel safety
    /// Dropping the future is harmless.
    pub(crate) async fn get(
        &self,
        view: &TreeView,
        key: &[u8],
        at: Timestamp,
    ) -> Result<Option<TreeValue>> {
        let version = &view.version;
        if !version.list.runs.is_empty() {
            let hash = hash_of(key);
            for candidate in version.list.candidates(key) {
                let mut may_hold = false;
                for speaker in candidate.speakers {
                    may_hold =
                        may_hold || speaker.spans(key) && self.shared.may_hold(speaker, hash).await;
                }
                if may_hold {
                    let found = self.get_in(version, &candidate.run.root, key, at).await?;
                    if found.is_some() {
                        return Ok(found);
                    }
                }
            }
        }
        self.get_in(version, &version.state.base, key, at).await
    }

    async fn get_in(
        &self,
        version: &Rc<Version>,
        root: &Root,
        key: &[u8],
        at: Timestamp,
    ) -> Result<Option<TreeValue>> {
        let (mut reference, mut level) = (root.page, root.height);
        let mut parent: Option<(Rc<Page>, usize)> = None;
        while level > 0 {
            level -= 1;
            let page = self
                .child_page(reference, level, parent.as_ref(), Caching::Keep)
                .await?;
            if level == 0 {
                let found = page.leaf().find(key, at);
                return Ok(found.map(|index| TreeValue::new(&page, index, version)));
            }
            let index = page.inner().child_index(key);
            reference = page.inner().child(index);
            parent = Some((page, index));
        }
        Ok(None)
    }

    /// Reads a page by its place in its parent, which names the keys that are lost if it is
    /// damaged.
    pub(super) async fn child_page(
        &self,
        reference: PageRef,
        level: u8,
        parent: Option<&(Rc<Page>, usize)>,
        caching: Caching,
    ) -> Result<Rc<Page>> {
        let page = self.shared.store.page(reference, level, caching);
        page.await.map_err(|error| {
            error.with_keys(
                parent.map_or((None, None), |(page, index)| page.inner().key_range(*index)),
            )
        })
    }

    /// Reads a value whole, large or not.
    ///
    /// # Errors
    /// `Corruption` for a damaged large value, with its key.
    pub(crate) async fn load(&self, value: &TreeValue) -> Result<Bytes> {
        let (reference, page, index) = match &value.body {
            Body::Inline { page, range } => {
                return Ok(Bytes::copy_from_slice(&page.raw().bytes[range.clone()]));
            }
            Body::Overflow {
                reference,
                page,
                index,
                ..
            } => (*reference, page, *index),
        };
        let content = self.shared.store.read_blob(reference, BlobKind::Value);
        let content = content.await.map_err(|error| {
            let mut key = Vec::new();
            page.leaf().key_into(index, &mut key);
            let mut after = key.clone();
            after.push(0);
            error.with_keys((Some(key), Some(after)))
        })?;
        Ok(Bytes::from(content))
    }

    fn descend_cached(&self, root: &Root, key: &[u8]) -> Result<Descent> {
        let store = &self.shared.store;
        let mut cache = store.cache.borrow_mut();
        let (mut reference, mut level) = (root.page, root.height);
        while level > 0 {
            level -= 1;
            let Some(page) = cache.get(reference) else {
                return Ok(Descent::Missing);
            };
            if page.level() != level {
                return Err(store.damage(
                    reference.unit,
                    format!(
                        "expected level {level}, found a page of level {}",
                        page.level()
                    ),
                ));
            }
            if level == 0 {
                return Ok(Descent::Leaf(page));
            }
            reference = page.inner().child(page.inner().child_index(key));
        }
        Ok(Descent::Empty)
    }
}
