//! The page cache: frames found by the whole reference to a page.
//!
//! # Invariants
//! * The key is address, length and checksum, so a page that took over the address of another is
//!   never mistaken for it. Pages are immutable: a frame is right for as long as it is there.
//! * A page that somebody holds is pinned: it is not evicted. If only pinned pages are left the
//!   budget is exceeded, and comes back with the next insertion after they are let go.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::{Clock, Policy};
use crate::tree::{Page, PageRef};

/// What a cache did so far and holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CacheStats {
    /// Lookups that found their page.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Pages given up for others.
    pub evictions: u64,
    /// Insertions after which only pinned pages were left and the budget was exceeded.
    pub overruns: u64,
    /// Bytes of the pages it holds.
    pub bytes: usize,
    /// The number of pages it holds.
    pub pages: usize,
    /// The number of those that somebody holds.
    pub pinned: usize,
}

#[derive(Debug)]
struct Frame {
    key: PageRef,
    page: Rc<Page>,
}

/// Pages under a byte budget.
#[derive(Debug)]
pub(crate) struct PageCache<P: Policy = Clock> {
    /// Frames by page; a freed index is listed in `free` and its frame is `None`.
    index: FxHashMap<PageRef, usize>,
    frames: Vec<Option<Frame>>,
    free: Vec<usize>,
    policy: P,
    budget_bytes: usize,
    /// What others use of the budget.
    reserved_bytes: usize,
    stats: CacheStats,
}

impl<P: Policy> PageCache<P> {
    /// Makes an empty cache. It holds at least the page that was inserted last, whatever the
    /// budget.
    pub(crate) fn new(budget_bytes: usize) -> Self {
        Self {
            index: FxHashMap::default(),
            frames: Vec::new(),
            free: Vec::new(),
            policy: P::default(),
            budget_bytes,
            reserved_bytes: 0,
            stats: CacheStats::default(),
        }
    }

    /// Leaves so much of the budget to others; of all of it, the page that was inserted last is
    /// left.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.reserved_bytes = bytes;
        self.make_room(0);
    }

    /// Finds a page and counts the lookup.
    #[inline]
    pub(crate) fn get(&mut self, key: PageRef) -> Option<Rc<Page>> {
        let Some(&at) = self.index.get(&key) else {
            self.stats.misses += 1;
            return None;
        };
        let frame = self.frames[at].as_ref()?;
        self.stats.hits += 1;
        self.policy.hit(at);
        Some(Rc::clone(&frame.page))
    }

    /// Finds a page without a trace in the policy or the counters.
    pub(crate) fn peek(&self, key: PageRef) -> Option<Rc<Page>> {
        let frame = self.frames[*self.index.get(&key)?].as_ref()?;
        Some(Rc::clone(&frame.page))
    }

    /// Puts a page in, making room first; what is there already stays.
    pub(crate) fn insert(&mut self, key: PageRef, page: &Rc<Page>) {
        if self.index.contains_key(&key) {
            return;
        }
        self.make_room(page.size_bytes());
        let frame = Some(Frame {
            key,
            page: Rc::clone(page),
        });
        let at = if let Some(at) = self.free.pop() {
            self.frames[at] = frame;
            at
        } else {
            self.frames.push(frame);
            self.frames.len() - 1
        };
        self.index.insert(key, at);
        self.policy.inserted(at, key);
        self.stats.bytes += page.size_bytes();
        self.stats.pages += 1;
    }

    /// Forgets a page that is no longer part of any tree.
    pub(crate) fn remove(&mut self, key: PageRef) {
        if let Some(&at) = self.index.get(&key) {
            self.drop_frame(at);
        }
    }

    /// The counters. Counts the pinned pages, so it is not for every operation.
    pub(crate) fn stats(&self) -> CacheStats {
        let frames = self.frames.iter().flatten();
        let pinned = frames.filter(|frame| Rc::strong_count(&frame.page) > 1);
        CacheStats {
            pinned: pinned.count(),
            ..self.stats
        }
    }

    fn make_room(&mut self, bytes: usize) {
        let budget_bytes = self.budget_bytes.saturating_sub(self.reserved_bytes);
        while self.stats.pages > 0 && self.stats.bytes + bytes > budget_bytes {
            let frames = &self.frames;
            let may_evict = |at: usize| {
                let frame = frames[at].as_ref();
                frame.is_some_and(|frame| Rc::strong_count(&frame.page) == 1)
            };
            let Some(at) = self.policy.victim(may_evict) else {
                self.stats.overruns += 1;
                return;
            };
            self.drop_frame(at);
            self.stats.evictions += 1;
        }
    }

    fn drop_frame(&mut self, at: usize) {
        if let Some(frame) = self.frames[at].take() {
            self.index.remove(&frame.key);
            self.policy.removed(at);
            self.free.push(at);
            self.stats.bytes -= frame.page.size_bytes();
            self.stats.pages -= 1;
        }
    }
}
