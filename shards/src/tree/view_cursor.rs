//! Walking all that a view has in key order, forward or in reverse: its runs and its base side by
//! side, of each key the newest version.
//!
//! # Invariants
//! * While `current` names a source, its entry is the next one: no other source has a key before
//!   it, and none has the same key.
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
use crate::{Direction, Entry, Result};

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

/// Where the next entry of all sources is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// At hand.
    Known,
    /// Perhaps in a source that has to be read.
    Behind(usize),
    /// There is none.
    End,
}

impl<E: Env> Source<E> {
    fn rewind(&mut self, key: &[u8], direction: Direction) {
        let Some(run) = &self.run else {
            return self.cursor.rewind(key);
        };
        match direction {
            Direction::Forward if run.largest.as_slice() < key => self.cursor.end(),
            Direction::Forward
                if run.smallest.as_slice() > key && planted!("scan_skips_unread_run") =>
            {
                self.cursor.end();
            }
            Direction::Forward => self.cursor.rewind(key.max(&run.merged_to)),
            Direction::Reverse if run.smallest.as_slice() >= key => self.cursor.end(),
            Direction::Reverse => self.cursor.rewind(key),
        }
    }

    /// Steps over the entry at the cursor.
    #[inline]
    fn advance(&mut self) {
        self.cursor.advance();
        self.pass_merged();
    }

    async fn fill(&mut self) -> Result<()> {
        self.cursor.fill().await?;
        self.pass_merged();
        Ok(())
    }

    /// Ends a walk in reverse where the target of a merge goes on.
    #[inline]
    fn pass_merged(&mut self) {
        if let Some(run) = &self.run
            && let Some(entry) = self.cursor.peek()
            && entry.key < run.merged_to.as_slice()
        {
            self.cursor.end();
        }
    }

    fn head(&self, direction: Direction) -> Head<'_> {
        if let Some(entry) = self.cursor.peek() {
            return Head::Key(entry.key);
        }
        match &self.run {
            _ if self.cursor.is_end() => Head::End,
            Some(run) if self.cursor.is_unread() => Head::From(match direction {
                Direction::Forward => &run.smallest,
                Direction::Reverse => &run.largest,
            }),
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
    direction: Direction,
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
    /// Makes a cursor over a view, before the smallest key: `seek`, or forward `fill`, reads the
    /// first leaves.
    pub(crate) fn cursor(&self, view: &TreeView, direction: Direction) -> TreeCursor<E> {
        let source = |root, run: Option<&Rc<Run>>| Source {
            cursor: self.cursor_over(view, root, direction, Caching::Keep),
            run: run.cloned(),
        };
        let mut sources = vec![source(view.version.state.base, None)];
        let runs = view.version.list.runs.iter();
        sources.extend(runs.map(|run| source(run.root, Some(run))));
        let mut cursor = TreeCursor {
            sources,
            direction,
            current: None,
            bound: None,
            is_leaf_free: false,
        };
        cursor.rewind(b"");
        cursor
    }
}

impl<E: Env> TreeCursor<E> {
    /// Goes to the first entry whose key is not below `key`, or in reverse to the last one whose
    /// key is below it.
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
        let direction = self.direction;
        let sources = self.sources.iter_mut();
        sources.for_each(|source| source.rewind(key, direction));
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
        let source = &mut self.sources[current];
        source.advance();
        let Some(entry) = source.cursor.peek() else {
            self.current = None;
            return;
        };
        if self.is_leaf_free {
            return;
        }
        let bound = self.bound.as_deref();
        if bound.is_some_and(|bound| self.direction.compare(entry.key, bound).is_ge()) {
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
            match self.next() {
                Next::End => return Ok(()),
                Next::Known => {}
                Next::Behind(source) => self.sources[source].fill().await?,
            }
            self.choose();
        }
        Ok(())
    }

    /// What has to be read before the next entry is known.
    fn next(&self) -> Next {
        let mut first: Option<(&[u8], Option<usize>)> = None;
        for (at, source) in self.sources.iter().enumerate() {
            let (key, unread) = match source.head(self.direction) {
                Head::Unknown => return Next::Behind(at),
                Head::End => continue,
                Head::Key(key) => (key, None),
                Head::From(key) => (key, Some(at)),
            };
            // Of equal keys one that was not read goes first: it may have that very key.
            let is_before =
                first.is_none_or(|(first, known)| match self.direction.compare(key, first) {
                    Ordering::Less => true,
                    Ordering::Equal => known.is_none(),
                    Ordering::Greater => false,
                });
            if is_before {
                first = Some((key, unread));
            }
        }
        match first {
            Some((_, Some(unread))) => Next::Behind(unread),
            Some((_, None)) => Next::Known,
            None => Next::End,
        }
    }

    /// Makes the source with the first key the current one; there is none while something has to be
    /// read. The older versions of its key are stepped over.
    fn choose(&mut self) {
        self.current = None;
        if self.next() != Next::Known {
            return;
        }
        let mut first: Option<(Entry<'_>, usize)> = None;
        for (at, source) in self.sources.iter().enumerate() {
            let Some(entry) = source.cursor.peek() else {
                continue;
            };
            let is_before = first.is_none_or(|(first, _)| {
                let order = self.direction.compare(entry.key, first.key);
                order.is_lt() || order.is_eq() && entry.timestamp >= first.timestamp
            });
            if is_before {
                first = Some((entry, at));
            }
        }
        let Some((entry, current)) = first else {
            return;
        };
        let key = entry.key.to_vec();
        for (at, source) in self.sources.iter_mut().enumerate() {
            let same = source.cursor.peek().is_some_and(|entry| entry.key == key);
            if same && at != current {
                source.advance();
            }
        }
        let others = self.sources.iter().enumerate();
        let mut bound: Option<&[u8]> = None;
        for (_, other) in others.filter(|(at, _)| *at != current) {
            match other.head(self.direction) {
                // Chosen again when that leaf is there.
                Head::Unknown => return,
                Head::End => {}
                Head::Key(key) | Head::From(key) => {
                    let is_first =
                        bound.is_none_or(|bound| self.direction.compare(key, bound).is_lt());
                    bound = if is_first { Some(key) } else { bound };
                }
            }
        }
        self.is_leaf_free = bound.is_none_or(|bound| {
            let fences = self.sources[current].cursor.fences();
            fences.is_some_and(|fences| match self.direction {
                Direction::Forward => fences.upper.is_some_and(|upper| upper <= bound),
                Direction::Reverse => fences.lower > bound,
            })
        });
        self.bound = bound.map(<[u8]>::to_vec);
        self.current = Some(current);
    }
}
