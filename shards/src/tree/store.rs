//! The tree's file, its cache and its space: every read goes through the checks here.
//!
//! # Invariants
//! * Nothing that was read is handed on before its checksum, its identity and its structure have
//!   been verified against the reference that led to it.
//! * A failed read is tried once more, as a device may recover a sector; a failed check is not, as
//!   the bytes are what they are.
//! * No borrow of the cache or of the space is held across an await.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use lightning_io::{Env, File, IoBuf, IoError, IoErrorKind, IoOp, to_u64, to_usize};

use super::address::{Extent, PageRef, UNIT_BYTES, offset_of};
use super::blob::{self, BlobHeader, BlobKind, BlobRef, PIECE_BYTES};
use super::page::{PAGE_BYTES_MAX, Page};
use super::run::LIST_BYTES_MAX;
use super::space::Space;
use crate::cache::PageCache;
use crate::reread::read_retrying;
use crate::{Decompressor, Error, FileOwner, Result, VALUE_BYTES_MAX};

/// Whether a page that was read is put into the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caching {
    /// It is likely to be asked for again.
    Keep,
    /// A merge passes through: what it reads is about to be replaced.
    Pass,
}

/// The file of a tree with what is kept of it in memory.
pub(super) struct Store<E: Env> {
    pub(super) env: E,
    pub(super) file: E::File,
    pub(super) owner: FileOwner,
    pub(super) cache: RefCell<PageCache>,
    /// The working memory of reading compressed pages.
    pub(super) decompressor: RefCell<Decompressor>,
    pub(super) space: RefCell<Space>,
    /// Units whose last write may still be under way, as its update was dropped; no tree needs
    /// them, and nobody gets them until the file is opened again.
    pub(super) quarantine: RefCell<Vec<Extent>>,
    /// Whether an update was begun and is neither published nor discarded.
    pub(super) updating: Cell<bool>,
    /// Reads that failed once, and writes that were made again elsewhere.
    pub(super) read_retries: Cell<u64>,
    pub(super) write_retries: Cell<u64>,
}

impl<E: Env> Store<E> {
    /// Reports damage at a unit of the file.
    pub(super) fn damage(&self, unit: u64, what: impl Into<String>) -> Error {
        Error::corruption(self.owner.shard, self.file.path(), offset_of(unit), what)
    }

    /// The page from the cache, or from disk.
    pub(super) async fn page(
        &self,
        reference: PageRef,
        level: u8,
        caching: Caching,
    ) -> Result<Rc<Page>> {
        let cached = match caching {
            Caching::Keep => self.cache.borrow_mut().get(reference),
            Caching::Pass => self.cache.borrow().peek(reference),
        };
        if let Some(page) = cached {
            // The frame passed every check when it was read, this one is about its parent.
            if page.level() != level {
                return Err(self.damage(
                    reference.unit,
                    format!(
                        "expected level {level}, found a page of level {}",
                        page.level()
                    ),
                ));
            }
            return Ok(page);
        }
        let page = Rc::new(self.read_page(reference, level).await?);
        if caching == Caching::Keep {
            self.cache.borrow_mut().insert(reference, &page);
        }
        Ok(page)
    }

    /// Reads a page from disk, whatever the cache holds.
    pub(super) async fn read_page(&self, reference: PageRef, level: u8) -> Result<Page> {
        let len = reference.size_bytes();
        if len == 0 || len > PAGE_BYTES_MAX || !len.is_multiple_of(UNIT_BYTES) {
            return Err(self.damage(
                reference.unit,
                format!("a reference to a page of {len} bytes"),
            ));
        }
        self.check_inside(reference.extent())?;
        let bytes = self.read_retrying(reference.offset(), len).await?;
        let decompressor = &mut self.decompressor.borrow_mut();
        let allocate = |len| self.env.allocate(len);
        Page::open(bytes, self.owner, reference, level, decompressor, allocate)
            .map_err(|what| self.damage(reference.unit, what))
    }

    /// Reads a blob whole, piece by piece.
    pub(super) async fn read_blob(&self, reference: BlobRef, kind: BlobKind) -> Result<Vec<u8>> {
        let content_len = reference.content_len();
        let len_max = match kind {
            BlobKind::Value => VALUE_BYTES_MAX,
            BlobKind::RunList => LIST_BYTES_MAX,
            BlobKind::SpaceMap | BlobKind::Filter => usize::MAX,
        };
        if content_len > len_max {
            return Err(self.damage(
                reference.unit,
                format!("a reference to a {kind} of {content_len} bytes"),
            ));
        }
        let extent = reference.extent();
        self.check_inside(extent)?;
        let total = to_usize(extent.bytes());
        let mut content = Vec::with_capacity(content_len);
        let mut header = [0; blob::HEADER_BYTES];
        let mut hasher = crc32fast::Hasher::new();
        for start in (0..total).step_by(PIECE_BYTES) {
            let len = PIECE_BYTES.min(total - start);
            let offset = offset_of(extent.unit) + to_u64(start);
            let piece = self.read_retrying(offset, len).await?;
            let skip = if start == 0 {
                header.copy_from_slice(&piece[..blob::HEADER_BYTES]);
                hasher.update(&piece[blob::CHECKED_FROM..]);
                blob::HEADER_BYTES
            } else {
                hasher.update(&piece);
                0
            };
            let wanted = (content_len - content.len()).min(len - skip);
            content.extend_from_slice(&piece[skip..skip + wanted]);
            self.env.yield_if_needed().await;
        }
        let expected = BlobHeader {
            kind,
            owner: self.owner,
            unit: reference.unit,
            content_len,
        };
        expected
            .check(&header, hasher.finalize(), reference.checksum)
            .map_err(|what| self.damage(reference.unit, what))?;
        Ok(content)
    }

    fn check_inside(&self, extent: Extent) -> Result<()> {
        let file_units = self.space.borrow().file_units();
        if extent.unit == 0 || extent.end().is_none_or(|end| end > file_units) {
            return Err(self.damage(
                extent.unit,
                format!(
                    "a reference to {} units at unit {} of a file of {file_units}",
                    extent.units, extent.unit
                ),
            ));
        }
        Ok(())
    }

    /// Reads `len` bytes, a multiple of the unit; a failed read is tried once more.
    pub(super) async fn read_retrying(&self, offset: u64, len: usize) -> Result<IoBuf> {
        let retries = &self.read_retries;
        let again = || retries.set(retries.get() + 1);
        Ok(read_retrying(&self.file, offset, len, again).await?)
    }

    /// Makes everything that was written durable.
    pub(super) async fn sync(&self) -> Result<()> {
        if planted!("skip_tree_sync") {
            return Ok(());
        }
        let mut synced = self.file.sync().await;
        if planted!("retry_failed_sync") && synced.is_err() {
            synced = self.file.sync().await;
        }
        Ok(synced?)
    }

    /// Takes a run of units, making the file longer if it has none.
    pub(super) async fn allocate(&self, units: u64) -> Result<Extent> {
        loop {
            let found = self.space.borrow_mut().take(units);
            if let Some(extent) = found {
                return Ok(extent);
            }
            self.grow(units).await?;
        }
    }

    /// Makes the file longer by a step, or by `units` alone if the device has no room for a step.
    async fn grow(&self, units: u64) -> Result<()> {
        let (old, wanted) = {
            let space = self.space.borrow();
            (space.file_units(), space.grown(units))
        };
        let Some(wanted) = wanted else {
            let path = self.file.path();
            return Err(IoError::new(IoOp::Resize, path, IoErrorKind::NoSpace).into());
        };
        let mut units_now = wanted;
        let mut outcome = self.file.preallocate(offset_of(units_now)).await;
        let full = |outcome: &Result<(), IoError>| {
            let error = outcome.as_ref().err();
            error.is_some_and(|error| *error.kind() == IoErrorKind::NoSpace)
        };
        if full(&outcome) && wanted > old + units {
            units_now = old + units;
            outcome = self.file.preallocate(offset_of(units_now)).await;
        }
        outcome?;
        self.space.borrow_mut().extend(units_now);
        Ok(())
    }
}
