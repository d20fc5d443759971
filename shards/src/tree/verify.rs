//! Reading everything that a view reaches, from disk, and proving that it is a tree.
//!
//! Checked are: the file header; of every page what a `walk` checks; every large value; that no
//! unit is owned twice; that the space map of the view says exactly what was reached; that the
//! allocator in memory says so too, but for what waits for older views; and the counts of the state.
//!
//! Damage does not end the walk: it is noted, and what lies below a damaged page is left out.

use std::rc::Rc;

use lightning_io::{Env, File};

use super::address::{Extent, PageRef, UNIT_BYTES, offset_of};
use super::blob::{BlobKind, BlobRef};
use super::file_header;
use super::leaf::LeafEntry;
use super::page::Page;
use super::space::Bitmap;
use super::tree::{Tree, read_space_map};
use super::versions::TreeView;
use super::walk::{Walk, WalkStep};
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
    /// Entries visited.
    pub entries: u64,
    /// Large values read.
    pub large_values: u64,
    /// Bytes of all of them, in whole units.
    pub bytes: u64,
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
        let mut walk = Walk::new(&store, self.view.state(), b"");
        while let Some(step) = walk.next().await {
            match step {
                WalkStep::Page(reference, page) => {
                    if !self.page(reference, &page).await && page.level() > 0 {
                        walk.skip_below();
                    }
                }
                WalkStep::Damage {
                    reference,
                    error,
                    keys,
                } => self.note(reference.unit, error, Some(keys)),
            }
            store.env.yield_if_needed().await;
        }
        self.check_space(allocated).await;
        self.check_counts();
        self.report
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

    /// Counts a page and visits its entries; `false` when its units are somebody else's.
    async fn page(&mut self, reference: PageRef, page: &Page) -> bool {
        let fences = page.fences();
        let lower = (!fences.lower.is_empty()).then(|| fences.lower.to_vec());
        let keys = (lower, fences.upper.map(<[u8]>::to_vec));
        if !self.own(reference.extent(), Some(&keys)) {
            return false;
        }
        self.report.bytes += reference.extent().bytes();
        if page.level() == 0 {
            self.report.leaves += 1;
            self.leaf(reference, page).await;
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

    async fn leaf(&mut self, reference: PageRef, page: &Page) {
        let mut key = Vec::new();
        let mut previous: Option<Vec<u8>> = None;
        for index in 0..page.leaf().count() {
            page.leaf().key_into(index, &mut key);
            let entry = page.leaf().entry(index);
            if let Err(what) = check_entry(&entry, &key, previous.as_deref()) {
                let error = self.tree.shared.store.damage(reference.unit, what);
                self.note(reference.unit, error, Some(only(&key)));
            }
            self.report.entries += 1;
            if let Some(value) = entry.overflow() {
                self.large_value(value, &key, &entry).await;
            } else {
                (self.visit)(whole(&entry, &key, entry.value));
            }
            let seen = previous.get_or_insert_default();
            seen.clear();
            seen.extend_from_slice(&key);
        }
    }

    async fn large_value(&mut self, reference: BlobRef, key: &[u8], entry: &LeafEntry<'_>) {
        let store = &self.tree.shared.store;
        let keys = only(key);
        match store.read_blob(reference, BlobKind::Value).await {
            Ok(content) => {
                self.report.large_values += 1;
                self.report.bytes += reference.extent().bytes();
                if self.own(reference.extent(), Some(&keys)) {
                    (self.visit)(whole(entry, key, &content));
                }
            }
            Err(error) => self.note(reference.unit, error, Some(keys)),
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

    fn check_counts(&mut self) {
        let state = self.view.state();
        let counted = (self.report.entries, self.report.bytes);
        if self.report.is_sound() && counted != (state.entries, state.live_bytes) {
            let what = format!(
                "expected {} entries in {} bytes, found {} in {}",
                state.entries, state.live_bytes, counted.0, counted.1
            );
            let error = self.tree.shared.store.damage(state.root.unit, what);
            self.note(state.root.unit, error, None);
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

/// What holds for every entry of a tree, beyond what holds for any leaf.
fn check_entry(entry: &LeafEntry<'_>, key: &[u8], previous: Option<&[u8]>) -> Result<(), String> {
    if !matches!(entry.flags, EntryFlags::VALUE | EntryFlags::OVERFLOW) {
        return Err(format!(
            "an entry with flags {:#04x} in a tree",
            entry.flags.to_byte()
        ));
    }
    if previous == Some(key) {
        return Err("two versions of one key in a tree".to_owned());
    }
    Ok(())
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
