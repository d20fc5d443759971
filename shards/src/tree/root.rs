//! The root of one tree of the file, and what is counted about that tree.
//!
//! # On-disk layout
//! 136 bytes, little-endian, inside a record that its owner identifies and checksums:
//! ```text
//! 0   page        [u8; 16]  page reference; unit 0 for an empty tree
//! 16  entries     u64
//! 24  live_bytes  u64       pages and large values, in whole units
//! 32  height      u8        levels; 0 for an empty tree; then seven zeros
//! 40  pages       [u8; 96]  pages by codec: see `census.rs`
//! ```

use super::address::PageRef;
use super::census::PagesByCodec;
use super::wire::{put, u64_at};

/// More levels than a tree can have: a page holds at least two children, and the file at most
/// 2^32 units.
pub(super) const HEIGHT_MAX: u8 = 34;

/// A tree of the file: the base, or a run. Small, and copied freely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) page: PageRef,
    pub(super) entries: u64,
    /// Its pages, and the large values that its entries own.
    pub(super) live_bytes: u64,
    pub(super) height: u8,
    /// Of the live bytes, those of pages, by codec.
    pub(super) pages: PagesByCodec,
}

const PAGE: usize = 0;
const ENTRIES: usize = PAGE + PageRef::BYTES;
const LIVE_BYTES: usize = ENTRIES + 8;
const HEIGHT: usize = LIVE_BYTES + 8;
const PAGES: usize = HEIGHT + 8;

impl Root {
    /// Bytes on disk.
    pub(super) const BYTES: usize = PAGES + PagesByCodec::BYTES;

    /// A tree without entries.
    pub(super) const EMPTY: Self = Self {
        page: PageRef::NONE,
        entries: 0,
        live_bytes: 0,
        height: 0,
        pages: PagesByCodec::NONE,
    };

    pub(super) fn is_empty(&self) -> bool {
        self.page.is_none()
    }

    pub(super) fn encode(&self, bytes: &mut [u8]) {
        put(bytes, PAGE, &self.page.encode());
        put(bytes, ENTRIES, &self.entries.to_le_bytes());
        put(bytes, LIVE_BYTES, &self.live_bytes.to_le_bytes());
        bytes[HEIGHT..PAGES].fill(0);
        bytes[HEIGHT] = self.height;
        self.pages.encode(&mut bytes[PAGES..Self::BYTES]);
    }

    /// Reads a root from a record whose checksum was verified.
    ///
    /// # Errors
    /// What contradicts itself; the caller knows the place.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let root = Self {
            page: PageRef::decode(&bytes[PAGE..]),
            entries: u64_at(bytes, ENTRIES),
            live_bytes: u64_at(bytes, LIVE_BYTES),
            height: bytes[HEIGHT],
            pages: PagesByCodec::decode(&bytes[PAGES..Self::BYTES]),
        };
        if bytes[HEIGHT + 1..PAGES].iter().any(|&byte| byte != 0) {
            return Err("a root has padding that is not zero".to_owned());
        }
        root.check(u64::MAX)?;
        Ok(root)
    }

    /// Whether the parts agree with each other, in a file of so many units.
    pub(super) fn check(&self, file_units: u64) -> Result<(), String> {
        if self.is_empty() != (self.height == 0)
            || self.is_empty() && (self.entries, self.live_bytes) != (0, 0)
            || self.height > HEIGHT_MAX
        {
            return Err(format!(
                "a root at unit {} of a tree of {} levels and {} entries",
                self.page.unit, self.height, self.entries
            ));
        }
        let pages = self.pages.total();
        if self.is_empty() != (pages.pages == 0)
            || pages.stored_bytes > self.live_bytes
            || pages.stored_bytes > pages.raw_bytes
        {
            return Err(format!(
                "{} pages of {} bytes, {} in memory, in a tree of {} levels and {} bytes",
                pages.pages, pages.stored_bytes, pages.raw_bytes, self.height, self.live_bytes
            ));
        }
        let end = self.page.extent().end();
        if end.is_none_or(|end| end > file_units) {
            return Err(format!(
                "a root at unit {} of a file of {file_units} units",
                self.page.unit
            ));
        }
        Ok(())
    }
}

const _: () = assert!(PAGES == 40 && Root::BYTES == 136);

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::Codec;

    pub(in crate::tree) fn root() -> Root {
        let mut pages = PagesByCodec::NONE;
        let reference = PageRef {
            len_bytes: 4096,
            ..PageRef::NONE
        };
        pages.add(Codec::Zstd, reference, 16384);
        Root {
            page: PageRef {
                unit: 5,
                len_bytes: 8192,
                checksum: 0x0a0b_0c0d,
            },
            entries: 258,
            live_bytes: 8192,
            height: 1,
            pages,
        }
    }

    #[test]
    fn a_root_survives_and_has_the_documented_bytes() {
        for root in [root(), Root::EMPTY] {
            let mut bytes = [0xff; Root::BYTES];
            root.encode(&mut bytes);
            assert_eq!(Root::decode(&bytes), Ok(root));
        }
        let mut bytes = [0; Root::BYTES];
        root().encode(&mut bytes);
        assert_eq!(
            bytes[..40],
            [
                5, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 13, 12, 11, 10, 2, 1, 0, 0, 0, 0, 0, 0, 0,
                0x20, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0
            ]
        );
    }

    #[test]
    fn a_root_counts_pages_by_codec() {
        let mut bytes = [0; Root::BYTES];
        root().encode(&mut bytes);
        let of = |codec: usize| &bytes[40 + 24 * codec..][..24];
        assert_eq!(of(0), [0; 24]);
        assert_eq!(of(1), [0; 24]);
        assert_eq!(
            of(2),
            [
                1, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0
            ]
        );
        assert_eq!(of(3), [0; 24]);
    }

    #[test]
    fn a_root_that_contradicts_itself_is_refused() {
        let refused = |change: fn(&mut Root)| {
            let mut root = root();
            change(&mut root);
            let mut bytes = [0; Root::BYTES];
            root.encode(&mut bytes);
            Root::decode(&bytes).is_err()
        };
        assert!(refused(|root| root.page.unit = u64::MAX));
        assert!(refused(|root| root.height = 0));
        assert!(refused(|root| root.height = HEIGHT_MAX + 1));
        assert!(refused(|root| root.page = PageRef::NONE));
        assert!(refused(|root| root.pages = PagesByCodec::NONE));
        assert!(refused(|root| root.live_bytes = 0));
        assert!(root().check(6).is_err());
        let mut bytes = [0; Root::BYTES];
        root().encode(&mut bytes);
        bytes[PAGES - 1] = 1;
        assert!(Root::decode(&bytes).is_err());
    }
}
