//! The writes of one update: fresh units only, side by side where they can be.
//!
//! # Invariants
//! * What is written here is reachable from nowhere until the superblock says so, so a crash or an
//!   error at any point leaves the published tree whole.
//! * Every unit that was taken is either handed to the update, given back by [`Writer::give_back`],
//!   or, when the writer is dropped half-way, stays taken until the file is opened again: a write
//!   that was cancelled may still reach the device, and must not meet another page there.
//! * A page is compressed once, before it gets a place; what it then takes is what is asked of the
//!   allocator and counted. The image in memory stays as it is but for its header.
//! * A write that failed is made again in other units, [`STRIKES_MAX`] times in all. The failed
//!   units stay taken until the update is published or discarded, so that it does not meet them
//!   again.

use std::rc::Rc;

use lightning_io::{Env, File, IoBuf, IoError, IoErrorKind, to_u32, to_u64, to_usize};

use super::address::{Extent, PageRef, offset_of};
use super::blob::{self, BlobHeader, BlobKind, BlobRef, PIECE_BYTES};
use super::census::PagesByCodec;
use super::packer::{Packed, Packer};
use super::page::{HEADER_BYTES, PAGE_BYTES_MAX, Page, seal};
use super::store::Store;
use super::versions::Freed;
use crate::{Codec, Compression, Result};

/// How often a piece of data is written before its error is the caller's.
pub(super) const STRIKES_MAX: u32 = 3;
/// Adjacent pages are written together up to this: where sequential writes reach the device's
/// speed.
pub(super) const WRITE_BYTES_MAX: usize = 1 << 20;
const _: () = assert!(PAGE_BYTES_MAX <= 2 * WRITE_BYTES_MAX);

/// A page that was built and waits to be written.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) bytes: IoBuf,
    /// Whether the page takes the place of one that was in the cache.
    pub(super) warm: bool,
}

/// Takes units and writes to them, on behalf of one update.
pub(super) struct Writer<E: Env> {
    store: Rc<Store<E>>,
    packer: Packer,
    taken: Vec<Extent>,
    /// New pages that were put into the cache.
    cached: Vec<PageRef>,
    pub(super) freed: Freed,
    /// Bytes of what was written and of what was freed, the leftovers of failed writes not counted.
    written_bytes: u64,
    freed_bytes: u64,
    /// Of these, the pages.
    written_pages: PagesByCodec,
    freed_pages: PagesByCodec,
    ended: bool,
}

impl<E: Env> Drop for Writer<E> {
    fn drop(&mut self) {
        if !self.ended {
            let mut quarantine = self.store.quarantine.borrow_mut();
            quarantine.append(&mut self.taken);
            self.store.updating.set(false);
        }
    }
}

/// What an update took, for the day it is published or discarded.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) extents: Vec<Extent>,
    pub(super) cached: Vec<PageRef>,
}

impl<E: Env> Writer<E> {
    /// Begins an update; the one before must have been published or discarded.
    pub(super) fn new(store: &Rc<Store<E>>, compression: Compression) -> Self {
        let updating = store.updating.replace(true);
        assert!(!updating, "a shard applies one update at a time");
        Self {
            store: Rc::clone(store),
            packer: Packer::new(compression),
            taken: Vec::new(),
            cached: Vec::new(),
            freed: Freed::default(),
            written_bytes: 0,
            freed_bytes: 0,
            written_pages: PagesByCodec::NONE,
            freed_pages: PagesByCodec::NONE,
            ended: false,
        }
    }

    /// The bytes of a tree that had `base`.
    pub(super) fn live_bytes_after(&self, base: u64) -> u64 {
        (base + self.written_bytes).saturating_sub(self.freed_bytes)
    }

    /// The pages of a tree that had `base`.
    pub(super) fn pages_after(&self, base: &PagesByCodec) -> PagesByCodec {
        base.after(&self.written_pages, &self.freed_pages)
    }

    /// Ends the writing; the units now belong to the update.
    pub(super) fn finish(mut self) -> (Taken, Freed) {
        self.ended = true;
        let taken = Taken {
            extents: std::mem::take(&mut self.taken),
            cached: std::mem::take(&mut self.cached),
        };
        (taken, std::mem::take(&mut self.freed))
    }

    /// Ends the writing after an error: everything that was taken is free again.
    pub(super) fn give_back(self) {
        let store = Rc::clone(&self.store);
        let (taken, _) = self.finish();
        taken.release(&store);
        store.updating.set(false);
    }

    /// Notes that the new tree does without a page, which was read.
    pub(super) fn free_page(&mut self, reference: PageRef, page: &Page) -> Result<()> {
        self.check_taken(reference.extent())?;
        self.freed_bytes += reference.extent().bytes();
        self.freed_pages.add_page(reference, page);
        if planted!("free_before_publish") {
            self.store.space.borrow_mut().release(reference.extent());
        }
        self.freed.pages.push(reference);
        Ok(())
    }

    /// Notes that the new tree does without a large value.
    pub(super) fn free_value(&mut self, value: BlobRef) -> Result<()> {
        self.freed_bytes += value.extent().bytes();
        if planted!("leak_value_units") {
            return Ok(());
        }
        self.free_blob(value)
    }

    /// Notes that the new tree takes over a large value that an older one of the file had.
    pub(super) fn adopt_value(&mut self, value: BlobRef) -> Result<()> {
        self.written_bytes += value.extent().bytes();
        self.check_taken(value.extent())
    }

    /// As [`Self::free_page`] for a page of another tree, which is not read.
    pub(super) fn free_unread(&mut self, reference: PageRef) -> Result<()> {
        self.check_taken(reference.extent())?;
        self.freed.pages.push(reference);
        Ok(())
    }

    /// As [`Self::free_value`] for what is not a part of the tree that is written: the space map,
    /// the list of runs, and what belongs to the runs that are merged.
    pub(super) fn free_blob(&mut self, blob: BlobRef) -> Result<()> {
        self.check_taken(blob.extent())?;
        self.freed.extents.push(blob.extent());
        Ok(())
    }

    /// A tree that passed every checksum but reaches units that the space map calls free would give
    /// them to somebody else; that is damage, found before it spreads.
    fn check_taken(&self, extent: Extent) -> Result<()> {
        if self.store.space.borrow().is_taken(extent) {
            return Ok(());
        }
        Err(self.store.damage(
            extent.unit,
            format!(
                "{} units are in use but free in the space map",
                extent.units
            ),
        ))
    }

    async fn allocate(&mut self, units: u64) -> Result<Extent> {
        let extent = self.store.allocate(units).await?;
        self.taken.push(extent);
        Ok(extent)
    }

    /// Finds room for pages: one run for all, or a place for each.
    async fn place(&mut self, sizes: &[u64]) -> Result<Vec<u64>> {
        let run = self.store.space.borrow_mut().take(sizes.iter().sum());
        let mut next = run.map(|extent| extent.unit);
        let mut units = Vec::with_capacity(sizes.len());
        for &size in sizes {
            if let Some(unit) = next {
                self.taken.push(Extent { unit, units: size });
                units.push(unit);
                next = Some(unit + size);
            } else {
                units.push(self.allocate(size).await?.unit);
            }
        }
        Ok(units)
    }

    /// Writes pages of a level and returns where they lie, in their order.
    pub(super) async fn write_pages(
        &mut self,
        images: Vec<Image>,
        level: u8,
    ) -> Result<Vec<PageRef>> {
        let mut images = self.pack(images, level).await;
        let mut placed = vec![PageRef::NONE; images.len()];
        let mut waiting: Vec<usize> = (0..images.len()).collect();
        let mut strikes = 0;
        while !waiting.is_empty() {
            let sizes: Vec<u64> = waiting
                .iter()
                .map(|&at| Extent::units_for(images[at].stored(&self.packer).len()))
                .collect();
            let units = self.place(&sizes).await?;
            for (&at, unit) in waiting.iter().zip(units) {
                let stored = images[at].stored_mut(&mut self.packer);
                placed[at] = seal(stored, self.store.owner, unit);
            }
            let mut failed = Vec::new();
            let mut last_error = None;
            for run in adjacent_runs(&waiting, &placed) {
                if let Err(error) = self.write_run(run, &images, &placed).await {
                    failed.extend_from_slice(run);
                    last_error = Some(error);
                }
                self.store.env.yield_if_needed().await;
            }
            if let Some(error) = last_error {
                strikes += 1;
                self.strike(strikes, error, failed.iter().map(|&at| placed[at].extent()))?;
            }
            waiting = failed;
        }
        self.keep(images, &placed)?;
        Ok(placed)
    }

    /// Makes the stored form of every page.
    async fn pack(&mut self, images: Vec<Image>, level: u8) -> Vec<Stored> {
        self.packer.begin();
        let mut stored = Vec::with_capacity(images.len());
        for image in images {
            let packed = self.packer.pack(&image.bytes, level);
            stored.push(Stored { image, packed });
            self.store.env.yield_if_needed().await;
        }
        stored
    }

    /// Counts a failed write: its units are not used again by this update, and after the last
    /// strike, or for want of space, its error ends the update.
    fn strike(
        &mut self,
        strikes: u32,
        error: IoError,
        failed: impl Iterator<Item = Extent>,
    ) -> Result<()> {
        if strikes >= STRIKES_MAX || matches!(error.kind(), IoErrorKind::NoSpace) {
            return Err(error.into());
        }
        tracing::warn!(%error, strikes, "a write failed and is made again in another place");
        let retries = &self.store.write_retries;
        retries.set(retries.get() + 1);
        self.freed.extents.extend(failed);
        Ok(())
    }

    async fn write_run(
        &self,
        run: &[usize],
        images: &[Stored],
        placed: &[PageRef],
    ) -> Result<(), IoError> {
        let total = run.iter().map(|&at| placed[at].size_bytes()).sum();
        let mut buf = self.store.env.allocate(total);
        let mut end = 0;
        for &at in run {
            let bytes = images[at].stored(&self.packer);
            buf[end..end + bytes.len()].copy_from_slice(bytes);
            end += bytes.len();
        }
        self.store.file.write_at(placed[run[0]].offset(), buf).await
    }

    /// Counts what was written, and puts the successors of cached pages into the cache.
    fn keep(&mut self, images: Vec<Stored>, placed: &[PageRef]) -> Result<()> {
        for (stored, &reference) in images.into_iter().zip(placed) {
            let codec = stored.codec();
            let Image { bytes, warm } = stored.into_image(&self.packer);
            self.written_bytes += reference.extent().bytes();
            self.written_pages.add(codec, reference, bytes.len());
            if warm {
                let page = Page::parse(bytes);
                let page = page.map_err(|what| self.store.damage(reference.unit, what))?;
                let mut cache = self.store.cache.borrow_mut();
                cache.insert(reference, &Rc::new(page));
                self.cached.push(reference);
            }
        }
        Ok(())
    }

    /// Writes a large value. `fill` puts the content from a given position on into a slice.
    pub(super) async fn write_value(
        &mut self,
        content_len: usize,
        fill: impl Fn(usize, &mut [u8]),
    ) -> Result<BlobRef> {
        let blob = self.write_blob(BlobKind::Value, content_len, fill).await?;
        self.written_bytes += blob.extent().bytes();
        Ok(blob)
    }

    /// Writes a blob in bounded pieces.
    pub(super) async fn write_blob(
        &mut self,
        kind: BlobKind,
        content_len: usize,
        fill: impl Fn(usize, &mut [u8]),
    ) -> Result<BlobRef> {
        let mut strikes = 0;
        loop {
            let units = Extent::units_for(blob::HEADER_BYTES + content_len);
            let extent = self.allocate(units).await?;
            let header = BlobHeader {
                kind,
                owner: self.store.owner,
                unit: extent.unit,
                content_len,
            };
            let source = BlobSource {
                header: header.encode(),
                content_len,
                fill: &fill,
            };
            match self.write_pieces(extent, &source).await {
                Ok(checksum) => {
                    return Ok(BlobRef {
                        unit: extent.unit,
                        content_bytes: to_u32(content_len),
                        checksum,
                    });
                }
                Err(error) => {
                    strikes += 1;
                    self.strike(strikes, error, std::iter::once(extent))?;
                }
            }
        }
    }

    /// Makes every piece twice: first for the checksum, which the first piece carries, then to be
    /// written. So no more than one piece is in memory.
    async fn write_pieces(
        &self,
        extent: Extent,
        source: &BlobSource<'_, impl Fn(usize, &mut [u8])>,
    ) -> Result<u32, IoError> {
        let total = to_usize(extent.bytes());
        let env = &self.store.env;
        let mut hasher = crc32fast::Hasher::new();
        for start in (0..total).step_by(PIECE_BYTES) {
            let mut piece = env.allocate(PIECE_BYTES.min(total - start));
            source.fill(start, &mut piece);
            let skip = if start == 0 { blob::CHECKED_FROM } else { 0 };
            hasher.update(&piece[skip..]);
            env.yield_if_needed().await;
        }
        let checksum = hasher.finalize();
        for start in (0..total).step_by(PIECE_BYTES) {
            let mut piece = env.allocate(PIECE_BYTES.min(total - start));
            source.fill(start, &mut piece);
            if start == 0 {
                blob::set_checksum(&mut piece, checksum);
            }
            let offset = offset_of(extent.unit) + to_u64(start);
            self.store.file.write_at(offset, piece).await?;
            env.yield_if_needed().await;
        }
        Ok(checksum)
    }
}

/// An image and the form in which it is stored.
struct Stored {
    image: Image,
    /// `None` when that form is the image itself.
    packed: Option<Packed>,
}

impl Stored {
    fn codec(&self) -> Codec {
        self.packed
            .as_ref()
            .map_or(Codec::Raw, |packed| packed.codec)
    }

    fn stored<'a>(&'a self, packer: &'a Packer) -> &'a [u8] {
        match &self.packed {
            Some(packed) => &packer.bytes()[packed.range.clone()],
            None => &self.image.bytes,
        }
    }

    fn stored_mut<'a>(&'a mut self, packer: &'a mut Packer) -> &'a mut [u8] {
        match &self.packed {
            Some(packed) => &mut packer.bytes_mut()[packed.range.clone()],
            None => &mut self.image.bytes,
        }
    }

    /// The image as a reader would have it: with the header that was written.
    fn into_image(mut self, packer: &Packer) -> Image {
        if let Some(packed) = &self.packed {
            let header = &packer.bytes()[packed.range.start..][..HEADER_BYTES];
            self.image.bytes[..HEADER_BYTES].copy_from_slice(header);
        }
        self.image
    }
}

impl Taken {
    /// Frees everything that was taken.
    pub(super) fn release<E: Env>(self, store: &Store<E>) {
        for page in self.cached {
            store.cache.borrow_mut().remove(page);
        }
        let mut space = store.space.borrow_mut();
        for extent in self.extents {
            space.release(extent);
        }
    }
}

/// The bytes of a blob's extent, piece by piece.
struct BlobSource<'a, F> {
    header: [u8; blob::HEADER_BYTES],
    content_len: usize,
    fill: &'a F,
}

impl<F: Fn(usize, &mut [u8])> BlobSource<'_, F> {
    /// Writes the extent's bytes from `start` on into a zeroed piece.
    fn fill(&self, start: usize, piece: &mut [u8]) {
        let skip = if start == 0 {
            piece[..blob::HEADER_BYTES].copy_from_slice(&self.header);
            blob::HEADER_BYTES
        } else {
            0
        };
        let content_start = start + skip - blob::HEADER_BYTES;
        let len = (piece.len() - skip).min(self.content_len.saturating_sub(content_start));
        if len > 0 {
            (self.fill)(content_start, &mut piece[skip..skip + len]);
        }
    }
}

/// Cuts a list of pages into runs that lie side by side and are written at once.
fn adjacent_runs<'a>(
    waiting: &'a [usize],
    placed: &'a [PageRef],
) -> impl Iterator<Item = &'a [usize]> {
    let mut rest = waiting;
    std::iter::from_fn(move || {
        let first = placed[*rest.first()?];
        let (mut len, mut bytes) = (1, first.size_bytes());
        while let Some(&next) = rest.get(len) {
            let adjacent = placed[rest[len - 1]].extent().end() == Some(placed[next].unit);
            if !adjacent || bytes + placed[next].size_bytes() > WRITE_BYTES_MAX {
                break;
            }
            bytes += placed[next].size_bytes();
            len += 1;
        }
        let (run, after) = rest.split_at(len);
        rest = after;
        Some(run)
    })
}
