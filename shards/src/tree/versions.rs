//! Published trees, and the units that wait for the last reader of an older one.
//!
//! # Algorithm
//! 1. A [`TreeView`] holds the version that was current when it was made.
//! 2. Publishing an update makes a new version current and queues, behind the old one, what the
//!    update freed: those units belong to the old version and to those before it.
//! 3. The queue is emptied from its front while nobody holds the version there. A version that is
//!    held keeps everything behind it, as its tree may reach what later updates freed.

use std::collections::VecDeque;
use std::rc::Rc;

use super::address::{Extent, PageRef};
use super::run::RunList;
use super::state::TreeState;

/// One published state of the file.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) state: TreeState,
    /// The runs that the state's list names.
    pub(super) list: RunList,
    /// Flushes since the file was opened.
    pub(super) flushes: u64,
}

/// A published tree that stays readable, unchanged, until the view and its clones are dropped.
#[derive(Debug, Clone)]
pub(crate) struct TreeView {
    pub(super) version: Rc<Version>,
}

impl TreeView {
    /// What the tree of this view is.
    pub(crate) fn state(&self) -> &TreeState {
        &self.version.state
    }

    /// Whether both show the same entries of one file, wherever they lie in it: merges move
    /// entries, and only a flush adds some.
    pub(crate) fn shows_what(&self, other: &Self) -> bool {
        self.version.flushes == other.version.flushes
    }
}

/// What an update no longer needs of the version before it.
#[derive(Debug, Default)]
pub(super) struct Freed {
    pub(super) pages: Vec<PageRef>,
    /// Large values, space maps, and extents that a failed write left behind.
    pub(super) extents: Vec<Extent>,
}

impl Freed {
    pub(super) fn extents(&self) -> impl Iterator<Item = Extent> + '_ {
        let pages = self.pages.iter().map(|page| page.extent());
        pages.chain(self.extents.iter().copied())
    }
}

#[derive(Debug)]
struct Retired {
    version: Rc<Version>,
    freed: Freed,
}

/// The current version and the queue of those that are retired.
#[derive(Debug)]
pub(super) struct Versions {
    current: Rc<Version>,
    retired: VecDeque<Retired>,
}

impl Versions {
    pub(super) fn new(state: TreeState, list: RunList) -> Self {
        Self {
            current: Rc::new(Version {
                state,
                list,
                flushes: 0,
            }),
            retired: VecDeque::new(),
        }
    }

    pub(super) fn current(&self) -> &Rc<Version> {
        &self.current
    }

    /// Makes what an edit came to the current version.
    pub(super) fn publish(&mut self, next: Version, freed: Freed) {
        let version = std::mem::replace(&mut self.current, Rc::new(next));
        self.retired.push_back(Retired { version, freed });
    }

    /// Takes the oldest retired version out, if nobody can reach it.
    pub(super) fn pop_unreachable(&mut self) -> Option<Freed> {
        let oldest = self.retired.front()?;
        if Rc::strong_count(&oldest.version) > 1 && !planted!("free_pinned_units") {
            return None;
        }
        self.retired.pop_front().map(|retired| retired.freed)
    }

    /// Extents that wait in the queue.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Extent> + '_ {
        self.retired
            .iter()
            .flat_map(|retired| retired.freed.extents())
    }

    pub(super) fn retired_count(&self) -> usize {
        self.retired.len()
    }
}
