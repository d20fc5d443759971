//! Reading everything that a view reaches, from disk, and proving that it is the base and its runs.
//!
//! Checked are: the file header; the list of runs; of every page of every tree what a `walk`
//! checks; every large value; every filter, which has to know the keys of its run; that no unit is
//! owned twice; that the space map of the view says exactly what was reached; that the allocator in
//! memory says so too, but for what waits for older views; and the counts of the state and of the
//! list.
//!
//! The trees are walked side by side in key order, so that the newest version of a key is known
//! when the key is met. Damage does not end a walk: it is noted, and what lies below a damaged page
//! is left out.

use std::rc::Rc;

use lightning_io::{Env, File};

use super::address::{Extent, PageRef, UNIT_BYTES, offset_of};
use super::blob::{BlobKind, BlobRef};
use super::census::PagesByCodec;
use super::file_header;
use super::filter::Filter;
use super::leaf::LeafEntry;
use super::page::Page;
use super::run::Run;
use super::space::Bitmap;
use super::stream::Stream;
use super::tree::{Tree, read_run_list, read_space_map};
use super::versions::TreeView;
use super::walk::WalkStep;
use crate::{Corruption, Entry, EntryFlags, Error, KeyRange, Place, Result};

/// Damages that a report lists one by one; more are counted.
const DAMAGES_LISTED_MAX: usize = 10_000;

/// What a walk over a whole tree found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TreeReport {
    /// Inner pages read.
    pub inner_pages: u64,
    /// Leaves read.
    pub leaves: u64,
    /// Live keys visited.
    pub entries: u64,
    /// Large values read.
    pub large_values: u64,
    /// Bytes of all of them, in whole units.
    pub bytes: u64,
    /// The pages by codec.
    pub pages: PagesByCodec,
    /// The fewest children of an inner page; 0 if there is none.
    pub children_min: usize,
    /// Whether the allocator could be compared: not for a view of an older tree, and not while an
    /// update was under way.
    pub is_space_checked: bool,
    /// What is wrong, in the order in which it was found.
    pub damages: Vec<Corruption>,
    /// How many more there were than are listed.
    pub damages_unlisted: u64,
}

impl TreeReport {
    /// Whether nothing is wrong.
    pub(crate) fn is_sound(&self) -> bool {
        self.damages.is_empty() && self.damages_unlisted == 0
    }
}

struct Check<'a, E: Env> {
    tree: &'a Tree<E>,
    view: &'a TreeView,
    visit: &'a mut dyn FnMut(Entry<'_>),
    report: TreeReport,
    reached: Bitmap,
    /// The units that `reached` has room for.
    file_units: u64,
}

impl<E: Env> Tree<E> {
    /// Walks everything that the view reaches, and calls `visit` with every entry, large values
    /// read.
    ///
    /// # Errors
    /// None that come from the file: damaged and unreadable places are in the report.
    pub(crate) async fn verify(
        &self,
        view: &TreeView,
        visit: &mut dyn FnMut(Entry<'_>),
    ) -> Result<TreeReport> {
        self.reclaim();
        let file_units = self.shared.store.space.borrow().file_units();
        let check = Check {
            tree: self,
            view,
            visit,
            report: TreeReport::default(),
            reached: Bitmap::new(file_units),
            file_units,
        };
        // In a box: a walk is long, its future large.
        Ok(Box::pin(check.run()).await)
    }

    /// The units that the current tree needs, as the allocator has them; `None` when the view is
    /// not the current tree or an update holds units of its own.
    fn allocated(&self, view: &TreeView) -> Option<Bitmap> {
        let versions = self.shared.versions.borrow();
        let store = &self.shared.store;
        if store.updating.get() || !Rc::ptr_eq(versions.current(), &view.version) {
            return None;
        }
        let mut allocated = store.space.borrow().used().clone();
        for extent in versions.waiting() {
            allocated.remove(extent);
        }
        for &extent in store.quarantine.borrow().iter() {
            allocated.remove(extent);
        }
        Some(allocated)
    }
}

impl<E: Env> Check<'_, E> {
    async fn run(mut self) -> TreeReport {
        let allocated = self.tree.allocated(self.view);
        self.check_header().await;
        self.own(Extent { unit: 0, units: 1 }, None);
        let store = Rc::clone(&self.tree.shared.store);
        let version = Rc::clone(&self.view.version);
        let mut streams = vec![Stream::new(&store, version.state.base, None)];
        for run in &version.list.runs {
            let mut stream = Stream::new(&store, run.root, Some(Rc::clone(run)));
            stream.filter = self.filter(run).await;
            streams.push(stream);
        }
        self.walk(&mut streams).await;
        self.check_list().await;
        self.check_space(allocated).await;
        for stream in &streams {
            self.check_counts(stream);
        }
        self.report
    }

    /// Walks the trees side by side: the base first, then the runs, oldest first.
    async fn walk(&mut self, streams: &mut [Stream<E>]) {
        let mut key = Vec::new();
        loop {
            for stream in &mut *streams {
                self.fill(stream).await;
            }
            let at_hand = streams.iter().filter(|stream| stream.leaf.is_some());
            let Some(first) = at_hand.map(|stream| &stream.key).min() else {
                return;
            };
            key.clone_from(first);
            let mut newest = None;
            for (at, stream) in streams.iter().enumerate() {
                if let Some(entry) = stream.entry()
                    && stream.key == key
                    && !stream.is_taken()
                {
                    newest = newest.max(Some((entry.timestamp, at)));
                }
            }
            for (at, stream) in streams.iter_mut().enumerate() {
                if stream.leaf.is_some() && stream.key == key {
                    let is_newest = newest.is_some_and(|(_, newest)| newest == at);
                    self.entry(stream, is_newest).await;
                    stream.advance();
                }
            }
        }
    }

    /// Goes on to the stream's next leaf, if the one at hand is used up.
    async fn fill(&mut self, stream: &mut Stream<E>) {
        while stream.leaf.is_none() && !stream.ended {
            match stream.walk.next().await {
                None => stream.ended = true,
                Some(WalkStep::Page(reference, page)) => {
                    if !self.page(stream, reference, &page) {
                        if page.level() > 0 {
                            stream.walk.skip_below();
                        }
                    } else if page.level() == 0 {
                        stream.open_leaf(reference, page);
                    }
                }
                Some(WalkStep::Damage {
                    reference,
                    error,
                    keys,
                }) => self.note(reference.unit, error, Some(keys)),
            }
            self.tree.shared.store.env.yield_if_needed().await;
        }
    }

    /// Reads the filter of a run, if it has one.
    async fn filter(&mut self, run: &Run) -> Option<Filter> {
        if run.filter.is_none() {
            return None;
        }
        self.own(run.filter.extent(), None);
        let store = Rc::clone(&self.tree.shared.store);
        let content = store.read_blob(run.filter, BlobKind::Filter).await;
        let filter = content.and_then(|content| {
            Filter::from_bytes(&content).map_err(|what| store.damage(run.filter.unit, what))
        });
        filter
            .map_err(|error| self.note(run.filter.unit, error, None))
            .ok()
    }

    /// Reads the list of runs again.
    async fn check_list(&mut self) {
        let version = Rc::clone(&self.view.version);
        let store = Rc::clone(&self.tree.shared.store);
        let reference = version.state.runs;
        if reference.is_none() {
            return;
        }
        self.own(reference.extent(), None);
        match read_run_list(&store, &version.state).await {
            Ok(list) if list.encode() == version.list.encode() => {}
            Ok(_) => {
                let error = store.damage(reference.unit, "the list of runs is another one");
                self.note(reference.unit, error, None);
            }
            Err(error) => self.note(reference.unit, error, None),
        }
    }

    async fn check_header(&mut self) {
        let store = &self.tree.shared.store;
        let header = store.read_retrying(0, UNIT_BYTES).await;
        let path = store.file.path();
        let checked = header.and_then(|unit| file_header::decode(&unit, store.owner, path));
        if let Err(error) = checked {
            self.note(0, error, None);
        }
    }

    /// Counts a page; `false` when its units are somebody else's.
    fn page(&mut self, stream: &mut Stream<E>, reference: PageRef, page: &Page) -> bool {
        let fences = page.fences();
        let lower = (!fences.lower.is_empty()).then(|| fences.lower.to_vec());
        let keys = (lower, fences.upper.map(<[u8]>::to_vec));
        if !self.own(reference.extent(), Some(&keys)) {
            return false;
        }
        stream.bytes += reference.extent().bytes();
        stream.pages.add_page(reference, page);
        self.report.bytes += reference.extent().bytes();
        self.report.pages.add_page(reference, page);
        if page.level() == 0 {
            self.report.leaves += 1;
            return true;
        }
        self.report.inner_pages += 1;
        let children = page.inner().count();
        let fewest = self.report.children_min;
        if fewest == 0 || children < fewest {
            self.report.children_min = children;
        }
        true
    }

    /// Checks the entry at hand, and visits it if it is the newest version of its key and there is
    /// one.
    async fn entry(&mut self, stream: &mut Stream<E>, is_newest: bool) {
        let (Some(entry), Some((reference, ..))) = (stream.entry(), &stream.leaf) else {
            return;
        };
        if let Err(what) = stream.check_entry(&entry) {
            let error = self.tree.shared.store.damage(reference.unit, what);
            self.note(reference.unit, error, Some(only(&stream.key)));
        }
        let is_live = is_newest && !entry.flags.contains(EntryFlags::TOMBSTONE);
        let is_taken = stream.is_taken();
        let mut value_bytes = 0;
        if let Some(value) = entry.overflow().filter(|_| !is_taken) {
            value_bytes = self.large_value(value, &stream.key, &entry, is_live).await;
        } else if is_live {
            (self.visit)(whole(&entry, &stream.key, entry.value));
        }
        self.report.entries += u64::from(is_live);
        stream.bytes += value_bytes;
        stream.entries += 1;
        stream.left += u64::from(!is_taken);
    }

    /// Reads a large value and returns what it takes; visits it if it is live.
    async fn large_value(
        &mut self,
        reference: BlobRef,
        key: &[u8],
        entry: &LeafEntry<'_>,
        is_live: bool,
    ) -> u64 {
        let store = &self.tree.shared.store;
        let keys = only(key);
        match store.read_blob(reference, BlobKind::Value).await {
            Ok(content) => {
                self.report.large_values += 1;
                self.report.bytes += reference.extent().bytes();
                if self.own(reference.extent(), Some(&keys)) && is_live {
                    let before = &entry.value[..entry.ttl_bytes()];
                    let value = [before, &content].concat();
                    (self.visit)(whole(entry, key, &value));
                }
                reference.extent().bytes()
            }
            Err(error) => {
                self.note(reference.unit, error, Some(keys));
                0
            }
        }
    }

    /// Counts an extent as reached; `false` when somebody else reached it before.
    fn own(&mut self, extent: Extent, keys: Option<&KeyRange>) -> bool {
        let store = &self.tree.shared.store;
        if extent.end().is_none_or(|end| end > self.file_units) {
            let what = format!("{} units beyond the file as it was", extent.units);
            let error = store.damage(extent.unit, what);
            self.note(extent.unit, error, keys.cloned());
            return false;
        }
        if !store.space.borrow().is_taken(extent) {
            let what = format!(
                "{} units are in use but free in the allocator",
                extent.units
            );
            let error = store.damage(extent.unit, what);
            self.note(extent.unit, error, keys.cloned());
        }
        if self.reached.insert(extent) == 0 {
            return true;
        }
        let what = format!("{} units have two owners", extent.units);
        let error = self.tree.shared.store.damage(extent.unit, what);
        self.note(extent.unit, error, keys.cloned());
        false
    }

    /// Compares what was reached with the space map on disk, then with the allocator.
    async fn check_space(&mut self, allocated: Option<Bitmap>) {
        let state = self.view.state();
        let store = &self.tree.shared.store;
        if !state.space_map.is_none() {
            match read_space_map(store, state).await {
                Ok(map) => {
                    self.own(state.space_map.extent(), None);
                    self.compare(&map, "the space map");
                }
                Err(error) => self.note(state.space_map.unit, error, None),
            }
        }
        if let Some(allocated) = allocated {
            self.report.is_space_checked = true;
            self.compare(&allocated, "the allocator");
        }
    }

    /// With a damage, what is below it was not reached: then only the other direction says
    /// something.
    fn compare(&mut self, taken: &Bitmap, whose: &str) {
        let unknown = self.reached.difference_count(taken);
        let lost = taken.difference_count(&self.reached);
        if unknown > 0 || lost > 0 && self.report.is_sound() {
            let what =
                format!("{whose} misses {unknown} units in use and has {lost} that nobody reaches");
            let error = self.tree.shared.store.damage(0, what);
            self.note(0, error, None);
        }
    }

    fn check_counts(&mut self, stream: &Stream<E>) {
        if !self.report.is_sound() {
            return;
        }
        let root = &stream.root;
        let left = stream.run.as_ref().map_or(stream.left, |run| run.left);
        if stream.pages != root.pages {
            let (expected, found) = (root.pages.total(), stream.pages.total());
            let what = format!(
                "expected {} pages of {} bytes, {} in memory, by codec; found {} of {}, {}",
                expected.pages,
                expected.stored_bytes,
                expected.raw_bytes,
                found.pages,
                found.stored_bytes,
                found.raw_bytes
            );
            let error = self.tree.shared.store.damage(root.page.unit, what);
            self.note(root.page.unit, error, None);
        }
        let expected = (root.entries, root.live_bytes, left);
        if expected != (stream.entries, stream.bytes, stream.left) {
            let what = format!(
                "expected {} entries in {} bytes and {left} to be merged, found {} in {} and {}",
                root.entries, root.live_bytes, stream.entries, stream.bytes, stream.left
            );
            let error = self.tree.shared.store.damage(root.page.unit, what);
            self.note(root.page.unit, error, None);
        }
    }

    fn note(&mut self, unit: u64, error: Error, keys: Option<KeyRange>) {
        if self.report.damages.len() == DAMAGES_LISTED_MAX {
            self.report.damages_unlisted += 1;
            return;
        }
        let store = &self.tree.shared.store;
        let mut damage = match error {
            Error::Corruption(damage) => *damage,
            other => Corruption {
                place: Place {
                    shard: Some(store.owner.shard),
                    file: store.file.path().to_path_buf(),
                    offset: offset_of(unit),
                },
                what: other.to_string(),
                keys: None,
            },
        };
        damage.keys = damage.keys.or(keys);
        self.report.damages.push(damage);
    }
}

fn only(key: &[u8]) -> KeyRange {
    let mut after = key.to_vec();
    after.push(0);
    (Some(key.to_vec()), Some(after))
}

fn whole<'a>(entry: &LeafEntry<'_>, key: &'a [u8], value: &'a [u8]) -> Entry<'a> {
    Entry {
        key,
        timestamp: entry.timestamp,
        flags: entry.flags.without(EntryFlags::OVERFLOW),
        value,
    }
}
