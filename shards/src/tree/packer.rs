//! Pages in the form in which they are stored: compressed where that saves a unit.
//!
//! # Ownership
//! One packer an update: its buffers and the contexts of its codecs are made once and go with it.
//! They hold the compressed pages of one batch until it is written, so no more than what the batch
//! takes in memory.

use std::ops::Range;

use super::adaptive::Adaptive;
use super::address::UNIT_BYTES;
use super::page::{HEADER_BYTES, set_stored};
use crate::{Codec, Compression, Compressor};

/// A page that is stored compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) codec: Codec,
    /// Which of [`Packer::bytes`] it is, in whole units.
    pub(super) range: Range<usize>,
}

/// Compresses the pages of one update.
#[derive(Debug)]
pub(super) struct Packer {
    setting: Compression,
    compressor: Compressor,
    leaves: Adaptive,
    inner_pages: Adaptive,
    /// Where contents are compressed to, before it is known whether that was worth it.
    trials: [Vec<u8>; 2],
    /// The compressed pages of the batch, side by side, each in whole units.
    packed: Vec<u8>,
}

impl Packer {
    pub(super) fn new(setting: Compression) -> Self {
        Self {
            setting,
            compressor: Compressor::default(),
            leaves: Adaptive::default(),
            inner_pages: Adaptive::default(),
            trials: [Vec::new(), Vec::new()],
            packed: Vec::new(),
        }
    }

    /// Forgets the pages of the batch before.
    pub(super) fn begin(&mut self) {
        self.packed.clear();
    }

    /// Makes the stored form of a built page; `None` when that is the page as it is.
    pub(super) fn pack(&mut self, page: &[u8], level: u8) -> Option<Packed> {
        // What the content may come to at the most for the page to take a unit less.
        let content_max = page.len().checked_sub(UNIT_BYTES + HEADER_BYTES)?;
        let (header, content) = page.split_at(HEADER_BYTES);
        let (compressor, trials) = (&mut self.compressor, &mut self.trials);
        let (codec, stored) = match self.setting {
            Compression::None => None,
            Compression::Lz4 => with(Codec::Lz4, compressor.lz4(content, &mut trials[0])),
            Compression::Zstd { level } => {
                with(Codec::Zstd, compressor.zstd(level, content, &mut trials[0]))
            }
            Compression::Snappy => with(Codec::Snappy, compressor.snappy(content, &mut trials[0])),
            Compression::Adaptive if level == 0 => {
                self.leaves.compress(compressor, content, trials)
            }
            Compression::Adaptive => self.inner_pages.compress(compressor, content, trials),
        }?;
        if stored.len() > content_max {
            return None;
        }
        let start = self.packed.len();
        self.packed.extend_from_slice(header);
        set_stored(&mut self.packed[start..], codec, stored.len());
        self.packed.extend_from_slice(stored);
        let end = self.packed.len().next_multiple_of(UNIT_BYTES);
        self.packed.resize(end, 0);
        debug_assert!(end - start < page.len());
        let range = start..end;
        Some(Packed { codec, range })
    }

    /// The compressed pages of the batch.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.packed
    }

    /// As [`Self::bytes`], to be sealed.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.packed
    }
}

fn with(codec: Codec, stored: Option<&[u8]>) -> Option<(Codec, &[u8])> {
    stored.map(|stored| (codec, stored))
}
