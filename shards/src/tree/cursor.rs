//! Walking the entries of one tree in key order.
//!
//! # Invariants
//! * `path` holds the inner pages from the root to the parent of `leaf`, each with the position of
//!   the child that was taken; so the next leaf, or the previous one, is found without a search.
//! * `key` is the whole key of the entry at `index`, whenever there is one.

use std::rc::Rc;

use lightning_io::Env;

use super::address::PageRef;
use super::lookup::TreeValue;
use super::page::{Fences, Page};
use super::root::Root;
use super::store::Caching;
use super::tree::Tree;
use super::versions::{TreeView, Version};
use crate::{Entry, Result, Timestamp};

/// Where a cursor is between two leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Position {
    /// In `leaf`, or at its end.
    InLeaf,
    /// Before the first entry that is not below this key; the path is not known.
    Before(Vec<u8>),
    /// After the last entry of the tree.
    End,
}

/// A forward cursor over one tree of a view; begins before the first entry.
///
/// `peek` and `advance` stay inside a leaf and never wait. When they have used it up,
/// [`Self::fill`] goes to the next:
/// ```text
/// cursor.seek(key).await?;
/// while !cursor.is_end() {
///     while let Some(entry) = cursor.peek() { ..; cursor.advance(); }
///     cursor.fill().await?;
/// }
/// ```
pub(super) struct TreeCursor<E: Env> {
    tree: Tree<E>,
    version: Rc<Version>,
    root: Root,
    /// Whether the leaves that it reads are put into the cache; inner pages always are.
    leaves: Caching,
    position: Position,
    path: Vec<(Rc<Page>, usize)>,
    leaf: Option<Rc<Page>>,
    index: usize,
    key: Vec<u8>,
}

impl<E: Env> std::fmt::Debug for TreeCursor<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeCursor")
            .field("position", &self.position)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl<E: Env> Tree<E> {
    /// Makes a cursor over one tree of a view, before its first entry: `seek` or `fill` reads the
    /// first leaf.
    pub(super) fn cursor_over(
        &self,
        view: &TreeView,
        root: Root,
        leaves: Caching,
    ) -> TreeCursor<E> {
        TreeCursor {
            tree: self.clone(),
            version: Rc::clone(&view.version),
            root,
            leaves,
            position: Position::Before(Vec::new()),
            path: Vec::new(),
            leaf: None,
            index: 0,
            key: Vec::new(),
        }
    }
}

impl<E: Env> TreeCursor<E> {
    /// Goes to the first entry whose key is not below `key`.
    ///
    /// # Errors
    /// `Corruption` for a damaged page on the way, with the keys that it covers: seek to their end
    /// to go on behind it.
    ///
    /// # Cancel safety
    /// If the future is dropped, or fails, the next [`Self::fill`] does it again.
    pub(super) async fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.rewind(key);
        self.fill().await
    }

    /// As [`Self::seek`], but reads nothing yet: [`Self::fill`] does.
    pub(super) fn rewind(&mut self, key: &[u8]) {
        self.leaf = None;
        self.position = Position::Before(key.to_vec());
    }

    /// Goes behind every entry.
    pub(super) fn end(&mut self) {
        self.leaf = None;
        self.position = Position::End;
    }

    /// Whether it was not read where it begins.
    pub(super) fn is_unread(&self) -> bool {
        matches!(self.position, Position::Before(_))
    }

    /// The range of the leaf at hand.
    pub(super) fn fences(&self) -> Option<Fences<'_>> {
        Some(self.leaf.as_ref()?.fences())
    }

    /// The entry at the cursor; `None` at the end of its leaf. The value of an entry with
    /// [`crate::EntryFlags::OVERFLOW`] is a reference: see [`Self::value_of`].
    #[inline]
    pub(super) fn peek(&self) -> Option<Entry<'_>> {
        let leaf = self.leaf.as_ref()?.leaf();
        if self.index >= leaf.count() {
            return None;
        }
        let entry = leaf.entry(self.index);
        Some(Entry {
            key: &self.key,
            timestamp: entry.timestamp,
            flags: entry.flags,
            value: entry.value,
        })
    }

    /// The value of the entry at the cursor, for [`Tree::load`] or to be kept.
    pub(super) fn value_of(&self) -> Option<TreeValue> {
        let page = self.leaf.as_ref()?;
        (self.index < page.leaf().count()).then(|| TreeValue::new(page, self.index, &self.version))
    }

    /// Steps over the entry at the cursor.
    #[inline]
    pub(super) fn advance(&mut self) {
        self.index += 1;
        self.load_key();
    }

    /// Whether the cursor is behind the last entry of the tree.
    pub(super) fn is_end(&self) -> bool {
        self.position == Position::End
    }

    /// Goes on to the next leaf if this one is used up.
    ///
    /// # Errors
    /// As [`Self::seek`]; the cursor stays where it was.
    pub(super) async fn fill(&mut self) -> Result<()> {
        while self.peek().is_none() && self.position != Position::End {
            if let Position::Before(key) = &self.position {
                let key = key.clone();
                self.descend_to(&key).await?;
            } else {
                self.next_leaf().await?;
            }
        }
        Ok(())
    }

    /// Finds the leaf of a key from the root. Nothing changes before every page is there.
    async fn descend_to(&mut self, key: &[u8]) -> Result<()> {
        let root = self.root;
        let mut path: Vec<(Rc<Page>, usize)> = Vec::with_capacity(usize::from(root.height));
        let (mut reference, mut level) = (root.page, root.height);
        while level > 0 {
            level -= 1;
            let page = self.read(reference, level, path.last()).await?;
            if level == 0 {
                self.index = page.leaf().lower_bound(key, Timestamp::MAX);
                self.leaf = Some(page);
                break;
            }
            let index = page.inner().child_index(key);
            reference = page.inner().child(index);
            path.push((page, index));
        }
        self.path = path;
        self.arrive();
        Ok(())
    }

    /// Goes up to the first page with another child, and down to the first leaf below that.
    async fn next_leaf(&mut self) -> Result<()> {
        let more = |(page, index): &(Rc<Page>, usize)| index + 1 < page.inner().count();
        let Some(turn) = self.path.iter().rposition(more) else {
            self.position = Position::End;
            return Ok(());
        };
        let mut path = self.path[..=turn].to_vec();
        path[turn].1 += 1;
        loop {
            let (parent, index) = &path[path.len() - 1];
            let (reference, level) = (parent.inner().child(*index), parent.level() - 1);
            let page = self.read(reference, level, path.last()).await?;
            if level == 0 {
                self.index = 0;
                self.leaf = Some(page);
                break;
            }
            path.push((page, 0));
        }
        self.path = path;
        self.arrive();
        Ok(())
    }

    async fn read(
        &self,
        reference: PageRef,
        level: u8,
        parent: Option<&(Rc<Page>, usize)>,
    ) -> Result<Rc<Page>> {
        let caching = if level > 0 {
            Caching::Keep
        } else {
            self.leaves
        };
        self.tree
            .child_page(reference, level, parent, caching)
            .await
    }

    fn arrive(&mut self) {
        self.position = if self.leaf.is_some() {
            Position::InLeaf
        } else {
            Position::End
        };
        self.load_key();
    }

    #[inline]
    fn load_key(&mut self) {
        if let Some(page) = &self.leaf
            && self.index < page.leaf().count()
        {
            page.leaf().key_into(self.index, &mut self.key);
        }
    }
}
