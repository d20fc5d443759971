//! A walk over the pages of one tree, from disk, in key order, that damage does not end.
//!
//! Of every page are checked: checksum, identity, structure, order within, level, and fences equal
//! to the bounds that the parent states, which together give the order across pages. What lies below
//! a damaged page is left out, and the walk goes on behind it.
//!
//! # Invariants
//! * `path` holds the inner pages from the root down, each with the position of the child that comes
//!   next. Levels fall by one from page to page and the ranges of siblings do not overlap, so a walk
//!   ends whatever the bytes are.

use std::rc::Rc;

use lightning_io::Env;

use super::address::PageRef;
use super::page::{Fences, Page};
use super::root::Root;
use super::store::Store;
use crate::{Error, KeyRange, Result};

/// What a walk met.
#[derive(Debug)]
pub(crate) enum WalkStep {
    /// A sound page; the children of an inner one come next.
    Page(PageRef, Rc<Page>),
    /// A page that cannot be read, and the keys that it covers.
    Damage {
        reference: PageRef,
        error: Error,
        keys: KeyRange,
    },
}

/// Reads pages past the cache, parents before children.
pub(crate) struct Walk<E: Env> {
    store: Rc<Store<E>>,
    /// The root and its level, until it was read.
    root: Option<(PageRef, u8)>,
    /// Pages that lie wholly below this key are passed over.
    from: Vec<u8>,
    path: Vec<(Rc<Page>, usize)>,
}

impl<E: Env> std::fmt::Debug for Walk<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk")
            .field("levels", &self.path.len())
            .finish_non_exhaustive()
    }
}

impl<E: Env> Walk<E> {
    /// Begins before the first page that has keys at or above `from`.
    pub(super) fn new(store: &Rc<Store<E>>, root: &Root, from: &[u8]) -> Self {
        let top = root.height.checked_sub(1);
        Self {
            store: Rc::clone(store),
            root: top.map(|level| (root.page, level)),
            from: from.to_vec(),
            path: Vec::new(),
        }
    }

    /// Leaves out what lies below the inner page that was met last.
    pub(super) fn skip_below(&mut self) {
        self.path.pop();
    }

    /// The next page, good or bad; `None` behind the last.
    pub(crate) async fn next(&mut self) -> Option<WalkStep> {
        let (reference, level, keys) = self.next_reference()?;
        match self.read(reference, level, &keys).await {
            Ok(page) => {
                let page = Rc::new(page);
                if level > 0 {
                    let first = page.inner().child_index(&self.from);
                    self.path.push((Rc::clone(&page), first));
                }
                Some(WalkStep::Page(reference, page))
            }
            Err(error) => Some(WalkStep::Damage {
                reference,
                error,
                keys,
            }),
        }
    }

    fn next_reference(&mut self) -> Option<(PageRef, u8, KeyRange)> {
        if let Some((root, level)) = self.root.take() {
            return Some((root, level, (None, None)));
        }
        loop {
            let (page, index) = self.path.last_mut()?;
            let at = *index;
            *index += 1;
            let inner = page.inner();
            if at < inner.count() {
                return Some((inner.child(at), page.level() - 1, inner.key_range(at)));
            }
            self.path.pop();
        }
    }

    async fn read(&self, reference: PageRef, level: u8, keys: &KeyRange) -> Result<Page> {
        let page = self.store.read_page(reference, level).await?;
        let expected = Fences {
            lower: keys.0.as_deref().unwrap_or_default(),
            upper: keys.1.as_deref(),
        };
        if page.fences() != expected {
            return Err(self.store.damage(
                reference.unit,
                "the fences of the page are not the bounds that its parent gives it",
            ));
        }
        page.check_order()
            .map_err(|what| self.store.damage(reference.unit, what))?;
        Ok(page)
    }
}
