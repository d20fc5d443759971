//! Reading a tree's file without opening the tree: for a file whose header, space map or superblock
//! may be gone.
//!
//! Pages and large values are checked as always against the reference that led to them. Leaves that
//! nothing leads to are found by their own first bytes: each states its owner, its address and its
//! length under its checksum, so that a leaf of another file, or one that lies elsewhere than it was
//! written for, does not pass. Whether it is still a part of any tree, it cannot say.

use std::path::Path;
use std::rc::Rc;

use lightning_io::{Access, Creation, Env, File, IoBuf, to_u64, to_usize};

use super::address::{UNIT_BYTES, offset_of};
use super::blob::{BlobKind, BlobRef};
use super::file_header;
use super::leaf::reference_in;
use super::page::{PAGE_BYTES_MAX, Page};
use super::root::Root;
use super::space::{Bitmap, FILE_UNITS_MAX, Space};
use super::state::TreeState;
use super::store::Store;
use super::tree::{TreeConfig, new_store, read_run_list};
use super::walk::Walk;
use crate::{Entry, EntryFlags, FileOwner, Result};

/// How much is read at once while leaves are looked for; a page is never longer than two of it.
const WINDOW_BYTES: usize = 1 << 20;

const _: () = assert!(PAGE_BYTES_MAX <= 2 * WINDOW_BYTES);

/// A tree's file, for reading alone.
pub(crate) struct TreeReader<E: Env> {
    store: Rc<Store<E>>,
}

/// A tree of a state: the base, or a run.
#[derive(Debug, Clone)]
pub(crate) struct TreePart {
    root: Root,
    /// What is below was merged into another part.
    from: Vec<u8>,
}

impl TreePart {
    /// The base of a state.
    pub(crate) fn base(state: &TreeState) -> Self {
        Self {
            root: state.base,
            from: Vec::new(),
        }
    }

    /// Whether an entry is still this part's.
    pub(crate) fn has(&self, key: &[u8]) -> bool {
        key >= self.from.as_slice()
    }
}

impl<E: Env> std::fmt::Debug for TreeReader<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeReader")
            .field("path", &self.store.file.path())
            .finish_non_exhaustive()
    }
}

impl<E: Env> TreeReader<E> {
    /// Opens the file, and reads nothing yet.
    ///
    /// # Errors
    /// What the device says: damage is found by those who read.
    pub(crate) async fn open(env: &E, path: &Path, owner: FileOwner) -> Result<Self> {
        let file = env.open(path, Access::Read, Creation::MustExist).await?;
        let units = file.length().await? / to_u64(UNIT_BYTES);
        let config = TreeConfig {
            cache_bytes: 0,
            ..TreeConfig::default()
        };
        let store = new_store(env, file, owner, config);
        *store.space.borrow_mut() = Space::new(Bitmap::default(), units.clamp(1, FILE_UNITS_MAX));
        Ok(Self {
            store: Rc::new(store),
        })
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        self.store.file.path()
    }

    /// Checks the file's header, which reading does without.
    ///
    /// # Errors
    /// `Corruption` or `Version`, as for a tree that is opened.
    pub(crate) async fn check_header(&self) -> Result<()> {
        let unit = self.store.read_retrying(0, UNIT_BYTES).await?;
        file_header::decode(&unit, self.store.owner, self.path()).map(drop)
    }

    /// Lets other tasks run.
    pub(crate) async fn yield_if_needed(&self) {
        self.store.env.yield_if_needed().await;
    }

    /// Whose the file says that it is, if its header is sound.
    ///
    /// # Errors
    /// What the device says.
    pub(crate) async fn owner(&self) -> Result<Option<FileOwner>> {
        let unit = self.store.read_retrying(0, UNIT_BYTES).await?;
        Ok(file_header::owner(&unit))
    }

    /// Checks that the space map of a state can be read, which reading does without.
    ///
    /// # Errors
    /// `Corruption` for a damaged one.
    pub(crate) async fn check_space_map(&self, state: &TreeState) -> Result<()> {
        if state.space_map.is_none() {
            return Ok(());
        }
        let map = state.space_map;
        // A map is as large as the file that it is of, whatever a state claims.
        if state.file_units > self.store.space.borrow().file_units() {
            return Err(self
                .store
                .damage(map.unit, "the space map is of a longer file"));
        }
        let content = self.store.read_blob(map, BlobKind::SpaceMap).await?;
        Bitmap::from_bytes(&content, state.file_units)
            .map(drop)
            .map_err(|what| self.store.damage(map.unit, what))
    }

    /// The runs of a state, oldest first.
    ///
    /// # Errors
    /// `Corruption` for a damaged list.
    pub(crate) async fn runs(&self, state: &TreeState) -> Result<Vec<TreePart>> {
        let list = read_run_list(&self.store, state).await?;
        let parts = list.runs.iter().map(|run| TreePart {
            root: run.root,
            from: run.merged_to.clone(),
        });
        Ok(parts.collect())
    }

    /// Walks a tree, from the page on that has `from`.
    pub(crate) fn walk(&self, part: &TreePart, from: &[u8]) -> Walk<E> {
        Walk::new(&self.store, &part.root, from.max(&part.from))
    }

    /// Looks for leaves from the file's beginning on, of whatever tree.
    pub(crate) fn leaves(&self) -> Leaves<E> {
        Leaves {
            store: Rc::clone(&self.store),
            unit: 1,
            window: None,
        }
    }

    /// The value of an entry as [`Page::entry_at`] gives it: its own, or what it refers to behind
    /// what is stored in front of that.
    ///
    /// # Errors
    /// `Corruption` for a damaged large value.
    pub(crate) async fn value(&self, flags: EntryFlags, value: &[u8]) -> Result<Vec<u8>> {
        if !flags.contains(EntryFlags::OVERFLOW) {
            return Ok(value.to_vec());
        }
        let (before, _) = value.split_at(value.len() - BlobRef::BYTES);
        let content = self.store.read_blob(reference_in(value), BlobKind::Value);
        Ok([before, &content.await?].concat())
    }
}

/// Where a large value lies that an entry refers to, and its length.
pub(crate) fn large_value_extent(value: &[u8]) -> (u64, u64) {
    let extent = reference_in(value).extent();
    (offset_of(extent.unit), extent.bytes())
}

impl Page {
    /// The number of entries of a leaf.
    pub(crate) fn entry_count(&self) -> usize {
        self.leaf().count()
    }

    /// An entry of a leaf by its position; its key is put into `key`. The value of an entry with
    /// [`EntryFlags::OVERFLOW`] is a reference.
    pub(crate) fn entry_at<'a>(&'a self, index: usize, key: &'a mut Vec<u8>) -> Entry<'a> {
        let leaf = self.leaf();
        leaf.key_into(index, key);
        let entry = leaf.entry(index);
        Entry {
            key,
            timestamp: entry.timestamp,
            flags: entry.flags,
            value: entry.value,
        }
    }
}

/// Finds the sound leaves of a file, in the order in which they lie there.
pub(crate) struct Leaves<E: Env> {
    store: Rc<Store<E>>,
    /// The next unit to look at.
    unit: u64,
    /// What was read at once, and the unit where it begins.
    window: Option<(u64, IoBuf)>,
}

impl<E: Env> std::fmt::Debug for Leaves<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Leaves(unit {})", self.unit)
    }
}

impl<E: Env> Leaves<E> {
    /// The next sound leaf; `None` at the end of the file.
    ///
    /// # Errors
    /// What the device says.
    pub(crate) async fn next(&mut self) -> Result<Option<Page>> {
        let end = self.store.space.borrow().file_units();
        while self.unit < end {
            let (unit, found) = (self.unit, self.look(end).await?);
            // The units of a sound page are its own: what looks like a page inside is content.
            let units = found
                .as_ref()
                .map_or(1, |page| page.size_bytes() / UNIT_BYTES);
            self.unit = unit + to_u64(units);
            self.store.env.yield_if_needed().await;
            if let Some(page) = found
                && page.level() == 0
                && page.check_order().is_ok()
            {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    /// The page that begins at the current unit, if one does.
    async fn look(&mut self, end: u64) -> Result<Option<Page>> {
        let at = self.load(end).await?;
        let Some((reference, level)) = self
            .window
            .as_ref()
            .and_then(|(_, window)| Page::claim(&window[at..]))
        else {
            return Ok(None);
        };
        if reference.unit != self.unit {
            return Ok(None);
        }
        // A claim that does not hold is no damage: the units may hold anything by now.
        Ok(self.store.read_page(reference, level).await.ok())
    }

    /// Makes sure that the current unit is in the window; returns where.
    async fn load(&mut self, end: u64) -> Result<usize> {
        if let Some((start, window)) = &self.window
            && (*start..start + to_u64(window.len() / UNIT_BYTES)).contains(&self.unit)
        {
            return Ok(to_usize(self.unit - start) * UNIT_BYTES);
        }
        let units = (end - self.unit).min(to_u64(WINDOW_BYTES / UNIT_BYTES));
        let bytes = to_usize(units) * UNIT_BYTES;
        self.window = None;
        let window = self
            .store
            .read_retrying(offset_of(self.unit), bytes)
            .await?;
        self.window = Some((self.unit, window));
        Ok(0)
    }
}
