//! Walking the entries of one tree in key order, forward or in reverse.
//!
//! # Invariants
//! * `path` holds the inner pages from the root to the parent of `leaf`, each with the position of
//!   the child that was taken; so the next leaf, or the previous one, is found without a search.
//! * `key` is the whole key of the entry at `index`, whenever there is one.
//! * A tree has one version of each key, so a walk in reverse meets what one forward does.

use std::rc::Rc;

use lightning_io::Env;

use super::address::PageRef;
use super::lookup::TreeValue;
use super::page::{Fences, Page};
use super::root::Root;
use super::store::Caching;
use super::tree::Tree;
use super::versions::{TreeView, Version};
use crate::{Direction, Entry, Result, Timestamp};

/// Where a cursor is between two leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Position {
    /// In `leaf`, or at its end.
    InLeaf,
    /// Before the first entry that is not below this key, or in reverse before the last one that is
    /// below it; the path is not known.
    Before(Vec<u8>),
    /// Behind every entry of the tree.
    End,
}

/// A cursor over one tree of a view that goes in one direction.
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
    direction: Direction,
    position: Position,
    path: Vec<(Rc<Page>, usize)>,
    leaf: Option<Rc<Page>>,
    /// The entry in the leaf; none when the leaf is used up.
    index: Option<usize>,
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
    /// Makes a cursor over one tree of a view, before the smallest key: `seek`, or forward `fill`,
    /// reads its first leaf.
    pub(super) fn cursor_over(
        &self,
        view: &TreeView,
        root: Root,
        direction: Direction,
        leaves: Caching,
    ) -> TreeCursor<E> {
        TreeCursor {
            tree: self.clone(),
            version: Rc::clone(&view.version),
            root,
            leaves,
            direction,
            position: Position::Before(Vec::new()),
            path: Vec::new(),
            leaf: None,
            index: None,
            key: Vec::new(),
        }
    }
}

impl<E: Env> TreeCursor<E> {
    /// Goes to the first entry whose key is not below `key`, or in reverse to the last one whose key
    /// is below it.
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
        (self.leaf, self.index) = (None, None);
        self.position = Position::Before(key.to_vec());
    }

    /// Goes behind every entry.
    pub(super) fn end(&mut self) {
        (self.leaf, self.index) = (None, None);
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
        let entry = self.leaf.as_ref()?.leaf().entry(self.index?);
        Some(Entry {
            key: &self.key,
            timestamp: entry.timestamp,
            flags: entry.flags,
            value: entry.value,
        })
    }

    /// The value of the entry at the cursor, for [`Tree::load`] or to be kept.
    pub(super) fn value_of(&self) -> Option<TreeValue> {
        let (page, index) = (self.leaf.as_ref()?, self.index?);
        Some(TreeValue::new(page, index, &self.version))
    }

    /// Steps over the entry at the cursor.
    #[inline]
    pub(super) fn advance(&mut self) {
        if let (Some(page), Some(index)) = (&self.leaf, self.index) {
            self.index = self.direction.after(index, page.leaf().count());
            self.load_key();
        }
    }

    /// Whether the cursor is behind every entry of the tree.
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
                let (bound, count) = (
                    page.leaf().lower_bound(key, Timestamp::MAX),
                    page.leaf().count(),
                );
                self.index = match self.direction {
                    Direction::Forward => Some(bound).filter(|&index| index < count),
                    Direction::Reverse if planted!("reverse_starts_low") => bound.checked_sub(2),
                    Direction::Reverse => bound.checked_sub(1),
                };
                self.leaf = Some(page);
                break;
            }
            let index = match self.direction {
                Direction::Forward => page.inner().child_index(key),
                Direction::Reverse => page.inner().child_below(key),
            };
            reference = page.inner().child(index);
            path.push((page, index));
        }
        self.path = path;
        self.arrive();
        Ok(())
    }

    /// Goes up to the first page with another child on the way, and down to the nearest leaf below
    /// that.
    async fn next_leaf(&mut self) -> Result<()> {
        let direction = self.direction;
        let other =
            |(page, index): &(Rc<Page>, usize)| direction.after(*index, page.inner().count());
        let mut up = self.path.iter().enumerate().rev();
        let Some((turn, next)) = up.find_map(|(at, step)| Some((at, other(step)?))) else {
            self.position = Position::End;
            return Ok(());
        };
        let mut path = self.path[..=turn].to_vec();
        path[turn].1 = next;
        loop {
            let (parent, index) = &path[path.len() - 1];
            let (reference, level) = (parent.inner().child(*index), parent.level() - 1);
            let page = self.read(reference, level, path.last()).await?;
            if level == 0 {
                self.index = Some(direction.first(page.leaf().count()));
                self.leaf = Some(page);
                break;
            }
            let index = direction.first(page.inner().count());
            path.push((page, index));
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
        if let (Some(page), Some(index)) = (&self.leaf, self.index) {
            page.leaf().key_into(index, &mut self.key);
        }
    }
}
