//! The tree of one shard: opening it, publishing its updates, and what it says about itself.
//!
//! # Ownership
//! Handles are cheap clones of one shared tree, on one thread. Views, cursors and reads go on while
//! an update is applied; there is one update at a time.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use lightning_io::{Access, Creation, Env, File, to_u64};

use super::address::{UNIT_BYTES, offset_of};
use super::blob::BlobKind;
use super::file_header;
use super::page::{PAGE_BYTES_MIN, PAGE_BYTES_TARGET_MAX};
use super::space::{Bitmap, Space};
use super::state::TreeState;
use super::store::Store;
use super::update::{TreeUpdate, Update};
use super::versions::{TreeView, Versions};
use crate::cache::{CacheStats, PageCache};
use crate::{EntrySource, Error, FileOwner, Result};

/// How a tree is laid out and how much memory it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TreeConfig {
    /// The length that pages are filled to, a multiple of 4 KiB up to 1 MiB. Fixed when the file
    /// is created; an existing file keeps its own.
    pub page_bytes: usize,
    /// The budget of the page cache.
    pub cache_bytes: usize,
}

impl Default for TreeConfig {
    fn default() -> Self {
        Self {
            page_bytes: 16 << 10,
            cache_bytes: 64 << 20,
        }
    }
}

/// What a tree counts about itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TreeStats {
    /// The page cache.
    pub cache: CacheStats,
    /// Entries in the current tree.
    pub entries: u64,
    /// Its levels.
    pub height: u8,
    /// Its pages and large values, in whole units.
    pub live_bytes: u64,
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
        let tree = Self::assemble(store, state, config.page_bytes);
        Ok((tree, state))
    }

    /// Opens the tree that a superblock remembers. Reads the header and the space map, nothing
    /// else.
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
        Ok(Self::assemble(store, *state, page_bytes))
    }

    fn assemble(store: Store<E>, state: TreeState, page_bytes: usize) -> Self {
        Self {
            shared: Rc::new(Shared {
                store: Rc::new(store),
                versions: RefCell::new(Versions::new(state)),
                page_bytes,
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

    /// Writes a new tree that has the batch in it: of each key the newest version, and no key whose
    /// newest version is a tombstone. A version that is older than what the tree has is passed
    /// over.
    ///
    /// # Panics
    /// When the update before was neither published nor discarded: two trees cannot both follow
    /// one.
    ///
    /// # Errors
    /// `Invalid` for a batch out of order or out of bounds, `Corruption` for a damaged page in its
    /// way, otherwise what the device says. Everything is as it was before; the batch was consumed
    /// in part. After an error of the final sync nothing that this file wrote may be trusted to be
    /// durable: the owner stops taking writes.
    ///
    /// # Cancel safety
    /// Run it in a task of its own. If the future is dropped, the tree is as it was, but the units
    /// that were taken stay so until the file is opened again.
    pub(crate) async fn apply(&self, source: &mut impl EntrySource) -> Result<TreeUpdate> {
        self.reclaim();
        let base = self.shared.versions.borrow().current().state;
        let mut update = Update::new(&self.shared, base);
        // In a box: the machinery of a merge is large, and one allocation an update is nothing.
        match Box::pin(update.run(source)).await {
            Ok(state) => {
                let (taken, freed) = update.writer.finish();
                Ok(TreeUpdate {
                    state,
                    taken,
                    freed,
                })
            }
            Err(error) => {
                update.writer.give_back();
                Err(error)
            }
        }
    }

    /// Makes an update's tree the current one. Call it once the superblock that holds
    /// [`TreeUpdate::state`] is durable, not before: what the update freed is written over.
    ///
    /// # Panics
    /// When the update is not one of this tree.
    pub(crate) fn publish(&self, update: TreeUpdate) {
        let updating = self.shared.store.updating.replace(false);
        assert!(updating, "an update of this tree is under way");
        let TreeUpdate { state, freed, .. } = update;
        self.shared.versions.borrow_mut().publish(state, freed);
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
        TreeStats {
            cache: store.cache.borrow().stats(),
            entries: state.entries,
            height: state.height,
            live_bytes: state.live_bytes,
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
    let root = state.root.extent();
    if planted!("space_map_unreserved") {
        return Ok(map);
    }
    if map.insert(reference.extent()) > 0 || !map.contains(root) {
        return Err(store.damage(
            reference.unit,
            "the space map calls itself taken, or the root free",
        ));
    }
    Ok(map)
}
