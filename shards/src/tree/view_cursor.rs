//! Walking all that a view has in key order: its runs and its base side by side, of each key the
//! newest version.
//!
//! # Invariants
//! * While `current` names a source, its entry is the next one: no other source has a key before it,
//!   and none has the same key.
//! * An entry below the `merged_to` of its run is passed over: the target of the merge has it.
//!
//! # Algorithm
//! The source with the first key is chosen, and stays the current one as long as its keys come
//! before `bound`, the first key of all the others: one comparison an entry. Where its whole leaf
//! comes before the bound, there is none. A run is not read before the walk comes to its bounds.

use std::cmp::Ordering;
use std::rc::Rc;

use lightning_io::Env;

use super::cursor::TreeCursor as Cursor;
use super::lookup::TreeValue;
use super::run::Run;
use super::store::Caching;
use super::tree::Tree;
use super::versions::TreeView;
use crate::{Entry, Result};

/// One tree of the view.
struct Source<E: Env> {
    cursor: Cursor<E>,
    /// `None` for the base.
    run: Option<Rc<Run>>,
}

/// What is known of the next key of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head<'a> {
    /// It is this one.
    Key(&'a [u8]),
    /// It was not read yet, and does not come before this one.
    From(&'a [u8]),
    /// It was not read yet.
    Unknown,
    /// There is none.
    End,
}

impl<E: Env> Source<E> {
    fn rewind(&mut self, key: &[u8]) {
        let Some(run) = &self.run else {
            return self.cursor.rewind(key);
        };
        if run.largest.as_slice() < key {
            return self.cursor.end();
        }
        self.cursor.rewind(key.max(&run.merged_to));
    }

    fn head(&self) -> Head<'_> {
        if let Some(entry) = self.cursor.peek() {
            return Head::Key(entry.key);
        }
        match &self.run {
            _ if self.cursor.is_end() => Head::End,
            Some(run) if self.cursor.is_unread() => Head::From(&run.smallest),
            _ => Head::Unknown,
        }
    }
}

/// A cursor over a view; begins before the first entry.
///
/// `peek` and `advance` stay inside the leaves at hand and never wait. When one of them is used up,
/// [`Self::fill`] goes on:
/// ```text
/// cursor.seek(key).await?;
/// while !cursor.is_end() {
///     while let Some(entry) = cursor.peek() { ..; cursor.advance(); }
///     cursor.fill().await?;
/// }
/// ```
/// The newest version of a key may say that it was deleted.
pub(crate) struct TreeCursor<E: Env> {
    /// The base, then the runs, oldest first.
    sources: Vec<Source<E>>,
    current: Option<usize>,
    /// While there is a current source: the first key of the others, if they have one.
    bound: Option<Vec<u8>>,
    /// Whether the whole leaf of the current source comes before the bound.
    is_leaf_free: bool,
}

impl<E: Env> std::fmt::Debug for TreeCursor<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeCursor")
            .field("sources", &self.sources.len())
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

impl<E: Env> Tree<E> {
    /// Makes a cursor over a view, before its first entry: `seek` or `fill` reads the first leaf.
    pub(crate) fn cursor(&self, view: &TreeView) -> TreeCursor<E> {
        let source = |root, run: Option<&Rc<Run>>| Source {
            cursor: self.cursor_over(view, root, Caching::Keep),
            run: run.cloned(),
        };
        let mut sources = vec![source(view.version.state.base, None)];
        let runs = view.version.list.runs.iter();
        sources.extend(runs.map(|run| source(run.root, Some(run))));
        let mut cursor = TreeCursor {
            sources,
            current: None,
            bound: None,
            is_leaf_free: false,
        };
        cursor.rewind(b"");
        cursor
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
    pub(crate) async fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.rewind(key);
        self.fill().await
    }

    fn rewind(&mut self, key: &[u8]) {
        self.current = None;
        self.sources
            .iter_mut()
            .for_each(|source| source.rewind(key));
    }

    /// The entry at the cursor; `None` when something has to be read first. The value of an entry
    /// with [`crate::EntryFlags::OVERFLOW`] is a reference: see [`Self::value_of`].
    #[inline]
    pub(crate) fn peek(&self) -> Option<Entry<'_>> {
        self.sources[self.current?].cursor.peek()
    }

    /// The value of the entry at the cursor, for [`Tree::load`] or to be kept.
    pub(crate) fn value_of(&self) -> Option<TreeValue> {
        self.sources[self.current?].cursor.value_of()
    }

    /// Steps over the entry at the cursor.
    #[inline]
    pub(crate) fn advance(&mut self) {
        let Some(current) = self.current else {
            return;
        };
        let cursor = &mut self.sources[current].cursor;
        cursor.advance();
        let Some(entry) = cursor.peek() else {
            self.current = None;
            return;
        };
        if !self.is_leaf_free
            && self
                .bound
                .as_deref()
                .is_some_and(|bound| entry.key >= bound)
        {
            self.choose();
        }
    }

    /// Whether the cursor is behind the last entry of the view.
    pub(crate) fn is_end(&self) -> bool {
        self.sources.iter().all(|source| source.cursor.is_end())
    }

    /// Reads what has to be read before the next entry is known.
    ///
    /// # Errors
    /// As [`Self::seek`]; the cursor stays where it was.
    pub(crate) async fn fill(&mut self) -> Result<()> {
        while self.current.is_none() {
            let Some(wanted) = self.wanted() else {
                return Ok(());
            };
            if let Some(unread) = wanted {
                self.sources[unread].cursor.fill().await?;
            }
            self.choose();
        }
        Ok(())
    }

    /// The source that has to be read before the next entry is known: `None` at the end of all,
    /// `Some(None)` when nothing has to be read.
    fn wanted(&self) -> Option<Option<usize>> {
        let mut first: Option<(&[u8], Option<usize>)> = None;
        for (at, source) in self.sources.iter().enumerate() {
            let (key, unread) = match source.head() {
                Head::Unknown => return Some(Some(at)),
                Head::End => continue,
                Head::Key(key) => (key, None),
                Head::From(key) => (key, Some(at)),
            };
            // Of equal keys one that was not read goes first: it may have that very key.
            let is_before = first.is_none_or(|(first, known)| match key.cmp(first) {
                Ordering::Less => true,
                Ordering::Equal => known.is_none(),
                Ordering::Greater => false,
            });
            if is_before {
                first = Some((key, unread));
            }
        }
        first.map(|(_, unread)| unread)
    }

    /// Makes the source with the first key the current one; there is none while something has to be
    /// read. The older versions of its key are stepped over.
    fn choose(&mut self) {
        self.current = None;
        if self.wanted() != Some(None) {
            return;
        }
        let keys = self.sources.iter().enumerate().filter_map(|(at, source)| {
            let entry = source.cursor.peek()?;
            Some((entry.key, std::cmp::Reverse((entry.timestamp, at))))
        });
        let Some((key, std::cmp::Reverse((_, current)))) = keys.min() else {
            return;
        };
        let key = key.to_vec();
        for (at, source) in self.sources.iter_mut().enumerate() {
            let same = source.cursor.peek().is_some_and(|entry| entry.key == key);
            if same && at != current {
                source.cursor.advance();
            }
        }
        let others = self.sources.iter().enumerate();
        let mut bound: Option<&[u8]> = None;
        for (_, other) in others.filter(|(at, _)| *at != current) {
            match other.head() {
                // Chosen again when that leaf is there.
                Head::Unknown => return,
                Head::End => {}
                Head::Key(key) | Head::From(key) => {
                    bound = Some(bound.map_or(key, |bound| bound.min(key)));
                }
            }
        }
        let fences = self.sources[current].cursor.fences();
        let upper = fences.and_then(|fences| fences.upper);
        self.is_leaf_free = bound.is_none_or(|bound| upper.is_some_and(|upper| upper <= bound));
        self.bound = bound.map(<[u8]>::to_vec);
        self.current = Some(current);
    }
}
