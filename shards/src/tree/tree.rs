//! The tree of one shard: opening it, publishing its updates, and what it says about itself.
//!
//! # Ownership
//! Handles are cheap clones of one shared tree, on one thread. Views, cursors and reads go on while
//! an update is applied; there is one update at a time.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use lightning_io::{Access, Creation, Env, File, to_u64};

use super::address::{Extent, UNIT_BYTES, offset_of};
use super::blob::BlobKind;
use super::census::PagesByCodec;
use super::edit::TreeUpdate;
use super::file_header;
use super::filters::GrowingFilter;
use super::page::{PAGE_BYTES_MIN, PAGE_BYTES_TARGET_MAX};
use super::run::{RunInfo, RunList};
use super::space::{Bitmap, Space};
use super::state::TreeState;
use super::store::Store;
use super::versions::{TreeView, Versions};
use crate::cache::{CacheStats, PageCache};
use crate::{Compression, Error, FileOwner, Result};

/// How a tree is laid out and how much memory it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TreeConfig {
    /// The length that pages are filled to, a multiple of 4 KiB up to 1 MiB. Fixed when the file
    /// is created; an existing file keeps its own.
    pub page_bytes: usize,
    /// The budget of the page cache.
    pub cache_bytes: usize,
    /// How new pages are compressed.
    pub compression: Compression,
}

impl Default for TreeConfig {
    fn default() -> Self {
        Self {
            page_bytes: 16 << 10,
            cache_bytes: 64 << 20,
            compression: Compression::default(),
        }
    }
}

/// What a tree counts about itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TreeStats {
    /// The page cache.
    pub cache: CacheStats,
    /// Entries of base and runs.
    pub entries: u64,
    /// The runs.
    pub runs: u64,
    /// Their pages and large values, in whole units.
    pub runs_bytes: u64,
    /// What of that is to be merged.
    pub debt_bytes: u64,
    /// The levels of the base.
    pub height: u8,
    /// Pages and large values of base and runs, in whole units.
    pub live_bytes: u64,
    /// The pages of base and runs by codec.
    pub pages: PagesByCodec,
    /// What the allocator holds as taken: live, waiting for views, and the update under way.
    pub used_bytes: u64,
    /// The length of the file.
    pub file_bytes: u64,
    /// Older trees that a view still holds, or that nothing has cleared away yet.
    pub retired_versions: usize,
    /// Reads that were tried a second time.
    pub read_retries: u64,
    /// Writes that were made again elsewhere.
    pub write_retries: u64,
}

/// What all handles of a tree share.
pub(super) struct Shared<E: Env> {
    pub(super) store: Rc<Store<E>>,
    pub(super) versions: RefCell<Versions>,
    pub(super) page_bytes: usize,
    pub(super) compression: Compression,
    /// The filter of the run that a merge of runs makes, as far as it has come.
    pub(super) growing_filter: RefCell<Option<GrowingFilter>>,
}

/// A copy-on-write B+tree in one file.
pub(crate) struct Tree<E: Env> {
    pub(super) shared: Rc<Shared<E>>,
}

impl<E: Env> Clone for Tree<E> {
    fn clone(&self) -> Self {
        Self {
            shared: Rc::clone(&self.shared),
        }
    }
}

impl<E: Env> std::fmt::Debug for Tree<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree")
            .field("path", &self.shared.store.file.path())
            .field("state", &self.shared.versions.borrow().current().state)
            .finish_non_exhaustive()
    }
}

impl<E: Env> Tree<E> {
    /// Creates the file of an empty tree.
    ///
    /// # Durability
    /// The file's header is synced; its directory entry is the caller's to sync.
    ///
    /// # Errors
    /// `Invalid` for a page length out of bounds, otherwise what the device says.
    pub(crate) async fn create(
        env: &E,
        path: &Path,
        owner: FileOwner,
        config: TreeConfig,
    ) -> Result<(Self, TreeState)> {
        if !file_header::is_page_target(config.page_bytes) {
            return Err(Error::Invalid {
                what: "page_bytes",
                reason: format!(
                    "{} is not a multiple of {UNIT_BYTES} from {PAGE_BYTES_MIN} to \
                     {PAGE_BYTES_TARGET_MAX}",
                    config.page_bytes
                ),
            });
        }
        let file = env
            .open(path, Access::ReadWrite, Creation::MustCreate)
            .await?;
        let mut unit = env.allocate(UNIT_BYTES);
        file_header::encode(owner, config.page_bytes, &mut unit);
        file.write_at(0, unit).await?;
        file.sync().await?;
        let state = TreeState::EMPTY;
        let store = new_store(env, file, owner, config);
        let tree = Self::assemble(store, state, RunList::default(), config);
        Ok((tree, state))
    }

    /// Opens the tree that a superblock remembers. Reads the header, the space map and the list of
    /// runs, nothing else.
    ///
    /// # Errors
    /// `Corruption` for a file that is damaged, shorter than the state says, or not this owner's;
    /// `Version` for another format; otherwise what the device says.
    pub(crate) async fn open(
        env: &E,
        path: &Path,
        owner: FileOwner,
        config: TreeConfig,
        state: &TreeState,
    ) -> Result<Self> {
        let file = env
            .open(path, Access::ReadWrite, Creation::MustExist)
            .await?;
        let file_bytes = file.length().await?;
        let store = new_store(env, file, owner, config);
        state.check().map_err(|what| store.damage(0, what))?;
        if file_bytes < offset_of(state.file_units) {
            return Err(store.damage(
                0,
                format!(
                    "expected {} bytes, found {file_bytes}",
                    offset_of(state.file_units)
                ),
            ));
        }
        // Only now is the size of the bitmap known to be in proportion to the file.
        *store.space.borrow_mut() = Space::new(Bitmap::default(), state.file_units);
        let header = store.read_retrying(0, UNIT_BYTES).await?;
        let page_bytes = file_header::decode(&header, owner, store.file.path())?;
        if !state.space_map.is_none() {
            let used = read_space_map(&store, state).await?;
            *store.space.borrow_mut() = Space::new(used, state.file_units);
        }
        let list = read_run_list(&store, state).await?;
        let config = TreeConfig {
            page_bytes,
            ..config
        };
        Ok(Self::assemble(store, *state, list, config))
    }

    fn assemble(store: Store<E>, state: TreeState, list: RunList, config: TreeConfig) -> Self {
        Self {
            shared: Rc::new(Shared {
                store: Rc::new(store),
                versions: RefCell::new(Versions::new(state, list)),
                growing_filter: RefCell::new(None),
                page_bytes: config.page_bytes,
                compression: config.compression,
            }),
        }
    }

    /// Pins the current tree: it stays readable and unchanged until the view is dropped.
    pub(crate) fn view(&self) -> TreeView {
        let versions = self.shared.versions.borrow();
        TreeView {
            version: Rc::clone(versions.current()),
        }
    }

    /// The runs of the current version, oldest first.
    pub(crate) fn runs(&self) -> Vec<RunInfo> {
        let versions = self.shared.versions.borrow();
        let runs = &versions.current().list.runs;
        runs.iter().map(|run| run.info()).collect()
    }

    /// What the next run will be called; every one that there is has a smaller number.
    pub(crate) fn next_run_id(&self) -> u64 {
        self.shared.versions.borrow().current().list.next_id
    }

    /// The bytes of the base's pages and large values.
    pub(crate) fn base_bytes(&self) -> u64 {
        self.shared
            .versions
            .borrow()
            .current()
            .state
            .base
            .live_bytes
    }

    /// Makes what an edit wrote the current version. Call it once the superblock that holds
    /// [`TreeUpdate::state`] is durable, not before: what the edit freed is written over.
    ///
    /// # Panics
    /// When the edit is not one of this tree.
    pub(crate) fn publish(&self, update: TreeUpdate) {
        let updating = self.shared.store.updating.replace(false);
        assert!(updating, "an update of this tree is under way");
        let TreeUpdate { next, freed, .. } = update;
        self.shared.versions.borrow_mut().publish(next, freed);
        self.shared.reserve_filters();
        self.reclaim();
    }

    /// Forgets an update whose superblock was certainly not written; its units are free again.
    ///
    /// # Panics
    /// When the update is not one of this tree.
    pub(crate) fn discard(&self, update: TreeUpdate) {
        let updating = self.shared.store.updating.replace(false);
        assert!(updating, "an update of this tree is under way");
        update.taken.release(&self.shared.store);
    }

    /// Frees what no view can reach any more.
    pub(super) fn reclaim(&self) {
        let store = &self.shared.store;
        let next = || self.shared.versions.borrow_mut().pop_unreachable();
        while let Some(freed) = next() {
            for extent in freed.extents() {
                store.space.borrow_mut().release(extent);
            }
            for &page in &freed.pages {
                store.cache.borrow_mut().remove(page);
            }
        }
    }

    /// The counters.
    pub(crate) fn stats(&self) -> TreeStats {
        let store = &self.shared.store;
        let versions = self.shared.versions.borrow();
        let space = store.space.borrow();
        let state = &versions.current().state;
        let runs = &versions.current().list.runs;
        let mut total = state.base;
        for run in runs {
            total.entries += run.left;
            total.live_bytes += run.root.live_bytes;
            total.pages = total.pages.after(&run.root.pages, &PagesByCodec::NONE);
        }
        TreeStats {
            cache: store.cache.borrow().stats(),
            entries: total.entries,
            runs: to_u64(runs.len()),
            runs_bytes: total.live_bytes - state.base.live_bytes,
            debt_bytes: runs.iter().map(|run| run.info().debt_bytes).sum(),
            height: state.base.height,
            live_bytes: total.live_bytes,
            pages: total.pages,
            used_bytes: space.used_units() * to_u64(UNIT_BYTES),
            file_bytes: space.file_units() * to_u64(UNIT_BYTES),
            retired_versions: versions.retired_count(),
            read_retries: store.read_retries.get(),
            write_retries: store.write_retries.get(),
        }
    }
}

pub(super) fn new_store<E: Env>(
    env: &E,
    file: E::File,
    owner: FileOwner,
    config: TreeConfig,
) -> Store<E> {
    let space = Space::new(Bitmap::default(), TreeState::EMPTY.file_units);
    Store {
        env: env.clone(),
        file,
        owner,
        cache: RefCell::new(PageCache::new(config.cache_bytes)),
        decompressor: RefCell::default(),
        space: RefCell::new(space),
        quarantine: RefCell::new(Vec::new()),
        updating: Cell::new(false),
        read_retries: Cell::new(0),
        write_retries: Cell::new(0),
    }
}

/// Reads the map of a state and adds the extent of the map itself, which the map leaves out.
pub(super) async fn read_space_map<E: Env>(store: &Store<E>, state: &TreeState) -> Result<Bitmap> {
    let reference = state.space_map;
    let content = store.read_blob(reference, BlobKind::SpaceMap).await?;
    let mut map = Bitmap::from_bytes(&content, state.file_units)
        .map_err(|what| store.damage(reference.unit, what))?;
    if planted!("space_map_unreserved") {
        return Ok(map);
    }
    let is_taken = |extent: Extent| extent.unit == 0 || map.contains(extent);
    let needed = is_taken(state.base.page.extent()) && is_taken(state.runs.extent());
    if map.insert(reference.extent()) > 0 || !needed {
        return Err(store.damage(
            reference.unit,
            "the space map calls itself taken, or the root or the list of runs free",
        ));
    }
    Ok(map)
}

/// Reads the list of runs of a state.
pub(super) async fn read_run_list<E: Env>(store: &Store<E>, state: &TreeState) -> Result<RunList> {
    let reference = state.runs;
    if reference.is_none() {
        return Ok(RunList::default());
    }
    let content = store.read_blob(reference, BlobKind::RunList).await?;
    RunList::decode(&content, state.file_units).map_err(|what| store.damage(reference.unit, what))
}
