//! Which codec a page gets when the choice is left to the tree: by what it saves, and by what it
//! costs.
//!
//! # Algorithm
//! For leaves and for inner pages apart, as their contents have little in common:
//! 1. LZ4 is tried on every page.
//! 2. What Zstandard makes of a page, relative to what LZ4 does, is much the same from page to page
//!    of one kind. Its average is kept, and Zstandard is tried on those pages where that average
//!    says that it saves another unit; and on every [`SAMPLE_PAGES`]th, for the average to follow
//!    the data.
//! 3. The fewest units win; among equals raw before LZ4 before Zstandard, as that is the order of
//!    what a reader pays.
//! 4. After [`MISSES_MAX`] pages in a row that did not shrink, the next few are stored raw without
//!    a trial: twice as many each time, up to [`PAUSE_PAGES_MAX`].
//!
//! Nothing but the pages decides, so one seed replays one file.

use super::address::Extent;
use super::page::HEADER_BYTES;
use crate::{Codec, Compressor};

/// The level of the trials. On pages of 16 KiB of the shipped table it takes a seventh more time
/// than level 1, and level 9 takes nineteen times as much for a twelfth less space.
const ZSTD_LEVEL: u8 = 3;
/// Zstandard is tried on one page in so many at the least: on data where it gains no unit its
/// trials cost a sixteenth of what it would cost on every page, and a change of the data is seen
/// within a quarter of a MiB of pages of 16 KiB.
const SAMPLE_PAGES: u32 = 16;
/// Pages in a row that do not shrink before the trials pause: a few among others are no reason.
const MISSES_MAX: u32 = 4;
/// The longest pause: trials then cost a seventeenth, so a longer one would gain little; and where
/// the data begins to shrink, no more pages than this are stored raw.
const PAUSE_PAGES_MAX: u32 = 16;

/// The ratio of sizes in 256ths.
const ONE: usize = 256;

/// What is known about pages of one kind.
#[derive(Debug, Default)]
pub(super) struct Adaptive {
    /// What Zstandard makes of a page relative to LZ4: the average of its trials, each counting a
    /// quarter; `None` before the first.
    ratio: Option<usize>,
    /// Pages until the next trial of Zstandard, whatever the ratio.
    until_sample: u32,
    /// Pages in a row that did not shrink.
    misses: u32,
    /// Pages left of this pause, and the length of the last.
    paused: u32,
    pause: u32,
}

impl Adaptive {
    /// Compresses the content of a page; `None` for a page that is to stay raw.
    pub(super) fn compress<'a>(
        &mut self,
        compressor: &mut Compressor,
        content: &[u8],
        [first, second]: &'a mut [Vec<u8>; 2],
    ) -> Option<(Codec, &'a [u8])> {
        if self.paused > 0 {
            self.paused -= 1;
            return None;
        }
        let lz4 = compressor
            .lz4(content, first)
            .filter(|lz4| units(lz4.len()) < units(content.len()));
        let base = lz4.map_or(content.len(), <[u8]>::len);
        let mut best = lz4.map(|lz4| (Codec::Lz4, lz4));
        if self.should_sample(base) {
            let zstd = compressor.zstd(ZSTD_LEVEL, content, second);
            self.sampled(base, zstd.map_or(content.len(), <[u8]>::len));
            let shorter = zstd.filter(|zstd| units(zstd.len()) < units(base));
            best = shorter.map(|zstd| (Codec::Zstd, zstd)).or(best);
        }
        self.note(best.is_some());
        best
    }

    /// Whether Zstandard is to be tried where LZ4 came to `base` bytes.
    fn should_sample(&mut self, base: usize) -> bool {
        let due = self.until_sample == 0;
        self.until_sample = self.until_sample.saturating_sub(1);
        due || self
            .ratio
            .is_none_or(|ratio| units(base * ratio / ONE) < units(base))
    }

    fn sampled(&mut self, base: usize, zstd: usize) {
        let ratio = zstd * ONE / base.max(1);
        self.ratio = Some(self.ratio.map_or(ratio, |known| (3 * known + ratio) / 4));
        self.until_sample = SAMPLE_PAGES - 1;
    }

    fn note(&mut self, has_shrunk: bool) {
        if has_shrunk {
            (self.misses, self.pause) = (0, 0);
            return;
        }
        self.misses += 1;
        if self.misses >= MISSES_MAX {
            self.pause = (2 * self.pause).clamp(1, PAUSE_PAGES_MAX);
            self.paused = self.pause;
        }
    }
}

/// The units of a page with so many bytes of content.
fn units(content_len: usize) -> u64 {
    Extent::units_for(HEADER_BYTES + content_len)
}
