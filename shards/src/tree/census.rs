//! How many pages of a tree are stored with which codec, and what that saves.
//!
//! # On-disk layout
//! 24 bytes for each codec, in the order of their numbers, little-endian:
//! ```text
//! 0   pages         u64
//! 8   stored_bytes  u64  what they take in the file, in whole units
//! 16  raw_bytes     u64  what they take in memory, in whole units
//! ```

use lightning_io::to_u64;

use super::address::PageRef;
use super::page::Page;
use super::wire::{put, u64_at};
use crate::Codec;

const PAGES: usize = 0;
const STORED_BYTES: usize = PAGES + 8;
const RAW_BYTES: usize = STORED_BYTES + 8;
const COUNT_BYTES: usize = RAW_BYTES + 8;

/// A number of pages and their lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PageCount {
    /// The pages.
    pub pages: u64,
    /// What they take in the file.
    pub stored_bytes: u64,
    /// What they take in memory, and would take in the file if they were not compressed.
    pub raw_bytes: u64,
}

/// The pages of a tree by the codec that they are stored with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PagesByCodec([PageCount; Codec::ALL.len()]);

impl PagesByCodec {
    /// Bytes on disk.
    pub(super) const BYTES: usize = COUNT_BYTES * Codec::ALL.len();
    pub(super) const NONE: Self = Self(
        [PageCount {
            pages: 0,
            stored_bytes: 0,
            raw_bytes: 0,
        }; Codec::ALL.len()],
    );

    /// The pages of one codec.
    pub fn of(&self, codec: Codec) -> PageCount {
        self.0[codec.index()]
    }

    /// All pages together.
    pub fn total(&self) -> PageCount {
        self.0
            .iter()
            .fold(PageCount::default(), |sum, count| PageCount {
                pages: sum.pages.saturating_add(count.pages),
                stored_bytes: sum.stored_bytes.saturating_add(count.stored_bytes),
                raw_bytes: sum.raw_bytes.saturating_add(count.raw_bytes),
            })
    }

    /// Counts a page that was written.
    pub(super) fn add(&mut self, codec: Codec, reference: PageRef, raw_len: usize) {
        let count = &mut self.0[codec.index()];
        count.pages += 1;
        count.stored_bytes += reference.extent().bytes();
        count.raw_bytes += to_u64(raw_len);
    }

    /// Counts a page that was read.
    pub(super) fn add_page(&mut self, reference: PageRef, page: &Page) {
        self.add(page.codec(), reference, page.size_bytes());
    }

    /// What there is after `written` was written and `freed` was freed. Saturates, as damaged
    /// counts are the verifier's to report and no reason to stop.
    pub(super) fn after(&self, written: &Self, freed: &Self) -> Self {
        let mut after = *self;
        let changes = written.0.iter().zip(&freed.0);
        for (count, (more, less)) in after.0.iter_mut().zip(changes) {
            let change =
                |now: u64, more: u64, less: u64| now.saturating_add(more).saturating_sub(less);
            count.pages = change(count.pages, more.pages, less.pages);
            count.stored_bytes = change(count.stored_bytes, more.stored_bytes, less.stored_bytes);
            count.raw_bytes = change(count.raw_bytes, more.raw_bytes, less.raw_bytes);
        }
        after
    }

    pub(super) fn encode(&self, bytes: &mut [u8]) {
        for (count, bytes) in self.0.iter().zip(bytes.chunks_exact_mut(COUNT_BYTES)) {
            put(bytes, PAGES, &count.pages.to_le_bytes());
            put(bytes, STORED_BYTES, &count.stored_bytes.to_le_bytes());
            put(bytes, RAW_BYTES, &count.raw_bytes.to_le_bytes());
        }
    }

    /// Reads [`Self::BYTES`] bytes; whether the counts are right is the verifier's to prove.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        let mut census = Self::NONE;
        for (count, bytes) in census.0.iter_mut().zip(bytes.chunks_exact(COUNT_BYTES)) {
            *count = PageCount {
                pages: u64_at(bytes, PAGES),
                stored_bytes: u64_at(bytes, STORED_BYTES),
                raw_bytes: u64_at(bytes, RAW_BYTES),
            };
        }
        census
    }
}
