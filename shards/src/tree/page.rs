//! What every page begins with, and the checks that stand between the disk and everything else.
//!
//! # On-disk layout
//! All numbers are little-endian.
//! ```text
//! 0   checksum       u32  CRC-32 of everything after it, the padding included
//! 4   magic          u32  "LDBP"
//! 8   kind           u8   1 leaf, 2 inner
//! 9   level          u8   0 for leaves
//! 10  shard          u16
//! 12  database       [u8; 16]
//! 28  count          u32  entries of a leaf, children of an inner page
//! 32  unit           u64  the page's own address
//! 40  max_timestamp  u64  no version below this page is newer; exact in a leaf
//! 48  len_bytes      u32  the page's length, whole units
//! 52  prefix_len     u32  bytes that every key of the page shares with both fences
//! 56  lower_len      u32  the lower fence, inclusive; empty at the left edge of the tree
//! 60  upper_len      u32  the upper fence, exclusive; u32::MAX where the tree ends
//! 64  lower fence, upper fence, zeros up to a multiple of 8, then the body
//! ```
//!
//! # Invariants
//! * [`Page::open`] is the only way from bytes on disk to a [`Page`]: who holds one may index.
//! * The order of keys is not checked there: it is the verifier's to prove, and wrong order cannot
//!   make a reader leave the page.

use std::ops::Deref;

use lightning_io::{IoBuf, to_u32};

use super::address::{PageRef, UNIT_BYTES};
use super::inner::InnerPage;
use super::leaf::LeafPage;
use super::wire::{common_prefix, put, u16_at, u32_at, u64_at, usize_at};
use crate::{FileOwner, StorageKey, Timestamp};

const CHECKSUM: usize = 0;
const MAGIC: usize = CHECKSUM + 4;
const KIND: usize = MAGIC + 4;
const LEVEL: usize = KIND + 1;
const SHARD: usize = LEVEL + 1;
const DATABASE: usize = SHARD + 2;
const COUNT: usize = DATABASE + 16;
const UNIT: usize = COUNT + 4;
const MAX_TIMESTAMP: usize = UNIT + 8;
const LEN_BYTES: usize = MAX_TIMESTAMP + 8;
const PREFIX_LEN: usize = LEN_BYTES + 4;
const LOWER_LEN: usize = PREFIX_LEN + 4;
const UPPER_LEN: usize = LOWER_LEN + 4;
pub(super) const HEADER_BYTES: usize = UPPER_LEN + 4;

const MAGIC_VALUE: u32 = u32::from_le_bytes(*b"LDBP");
const KIND_LEAF: u8 = 1;
const KIND_INNER: u8 = 2;
const NO_UPPER: u32 = u32::MAX;
const BODY_ALIGN: usize = 8;

const _: () = assert!(HEADER_BYTES == 64 && HEADER_BYTES.is_multiple_of(BODY_ALIGN));
const _: () = assert!(UNIT.is_multiple_of(8) && MAX_TIMESTAMP.is_multiple_of(8));

/// The smallest page target: one unit.
pub(crate) const PAGE_BYTES_MIN: usize = UNIT_BYTES;
/// The largest page target.
pub(crate) const PAGE_BYTES_TARGET_MAX: usize = 1 << 20;
/// A page is filled beyond its target until it holds this many entries or children, so that long
/// keys never turn the tree into a list.
pub(crate) const PAGE_ITEMS_MIN: usize = 4;
/// The longest value in a leaf is the target divided by this; longer ones lie outside.
pub(crate) const INLINE_VALUE_DIVISOR: usize = 4;
/// The longest page: four of the longest entries (a key of 64 KiB, a value of a quarter of the
/// largest target, 28 bytes of slot and head), two fences and the header come to 1.4 MiB.
pub(crate) const PAGE_BYTES_MAX: usize = 2 << 20;

const _: () = assert!(
    HEADER_BYTES
        + BODY_ALIGN
        + 2 * StorageKey::BYTES_MAX
        + PAGE_ITEMS_MIN
            * (64 + StorageKey::BYTES_MAX + PAGE_BYTES_TARGET_MAX / INLINE_VALUE_DIVISOR)
        <= PAGE_BYTES_MAX
);

/// Where the body begins behind the two fences.
pub(super) const fn body_start(lower_len: usize, upper_len: usize) -> usize {
    (HEADER_BYTES + lower_len + upper_len).next_multiple_of(BODY_ALIGN)
}

/// The range of keys that a page covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fences<'a> {
    /// Inclusive; empty at the left edge of the tree.
    pub lower: &'a [u8],
    /// Exclusive; `None` where the tree ends.
    pub upper: Option<&'a [u8]>,
}

impl Fences<'_> {
    /// How many bytes every key between the fences begins with.
    pub(crate) fn prefix_len(&self) -> usize {
        self.upper
            .map_or(0, |upper| common_prefix(self.lower, upper))
    }

    pub(super) fn body_start(&self) -> usize {
        body_start(self.lower.len(), self.upper.map_or(0, <[u8]>::len))
    }
}

/// The decoded header, without what [`Page::open`] has compared already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageHeader {
    pub(super) level: u8,
    pub(super) count: usize,
    pub(super) max_timestamp: Timestamp,
    pub(super) prefix_len: usize,
    pub(super) lower_len: usize,
    pub(super) upper_len: Option<usize>,
}

impl PageHeader {
    /// Writes everything but what [`seal`] adds.
    pub(super) fn encode(level: u8, count: usize, max: Timestamp, fences: Fences, page: &mut [u8]) {
        let len_bytes = to_u32(page.len());
        let upper_len = fences.upper.map_or(NO_UPPER, |upper| to_u32(upper.len()));
        put(page, MAGIC, &MAGIC_VALUE.to_le_bytes());
        page[KIND] = if level == 0 { KIND_LEAF } else { KIND_INNER };
        page[LEVEL] = level;
        put(page, COUNT, &to_u32(count).to_le_bytes());
        put(page, MAX_TIMESTAMP, &max.0.to_le_bytes());
        put(page, LEN_BYTES, &len_bytes.to_le_bytes());
        let prefix_len = to_u32(fences.prefix_len());
        put(page, PREFIX_LEN, &prefix_len.to_le_bytes());
        let lower_len = to_u32(fences.lower.len());
        put(page, LOWER_LEN, &lower_len.to_le_bytes());
        put(page, UPPER_LEN, &upper_len.to_le_bytes());
        put(page, HEADER_BYTES, fences.lower);
        if let Some(upper) = fences.upper {
            put(page, HEADER_BYTES + fences.lower.len(), upper);
        }
    }

    fn decode(page: &[u8]) -> Result<Self, String> {
        let upper_len = u32_at(page, UPPER_LEN);
        let header = Self {
            level: page[LEVEL],
            count: usize_at(page, COUNT),
            max_timestamp: Timestamp(u64_at(page, MAX_TIMESTAMP)),
            prefix_len: usize_at(page, PREFIX_LEN),
            lower_len: usize_at(page, LOWER_LEN),
            upper_len: (upper_len != NO_UPPER).then(|| usize_at(page, UPPER_LEN)),
        };
        header.check_fences(page)?;
        Ok(header)
    }

    fn check_fences(&self, page: &[u8]) -> Result<(), String> {
        let upper_len = self.upper_len.unwrap_or(0);
        if self.lower_len.max(upper_len) > StorageKey::BYTES_MAX
            || body_start(self.lower_len, upper_len) > page.len()
        {
            return Err(format!(
                "fences of {} and {upper_len} bytes do not fit the page",
                self.lower_len
            ));
        }
        let prefix_len = self.fences(page).prefix_len();
        if self.prefix_len != prefix_len {
            return Err(format!(
                "prefix of {} bytes where the fences share {prefix_len}",
                self.prefix_len
            ));
        }
        Ok(())
    }

    pub(super) fn fences<'a>(&self, page: &'a [u8]) -> Fences<'a> {
        let (lower, rest) = page[HEADER_BYTES..].split_at(self.lower_len);
        Fences {
            lower,
            upper: self.upper_len.map(|len| &rest[..len]),
        }
    }

    pub(super) fn body_start(&self) -> usize {
        body_start(self.lower_len, self.upper_len.unwrap_or(0))
    }
}

/// Gives a built page its owner, its address and its checksum. May be done again for another unit.
pub(super) fn seal(page: &mut [u8], owner: FileOwner, unit: u64) -> PageRef {
    debug_assert!(page.len().is_multiple_of(UNIT_BYTES) && page.len() <= PAGE_BYTES_MAX);
    put(page, SHARD, &owner.shard.0.to_le_bytes());
    put(page, DATABASE, &owner.database.0);
    put(page, UNIT, &unit.to_le_bytes());
    let checksum = crc32fast::hash(&page[MAGIC..]);
    put(page, CHECKSUM, &checksum.to_le_bytes());
    PageRef {
        unit,
        len_bytes: to_u32(page.len()),
        checksum,
    }
}

/// A page in memory: checked, immutable.
#[derive(Debug)]
pub(crate) struct Page {
    bytes: IoBuf,
    header: PageHeader,
}

impl Page {
    /// Checks what was read for `reference`, which must be a page of `level`.
    ///
    /// # Errors
    /// What is wrong with it, for the reader to put a place to.
    pub(super) fn open(
        bytes: IoBuf,
        owner: FileOwner,
        reference: PageRef,
        level: u8,
    ) -> Result<Self, String> {
        check_identity(&bytes, owner, reference)?;
        let kind = if level == 0 { KIND_LEAF } else { KIND_INNER };
        if (bytes[KIND], bytes[LEVEL]) != (kind, level) {
            return Err(format!(
                "expected a page of kind {kind} at level {level}, found kind {} at level {}",
                bytes[KIND], bytes[LEVEL]
            ));
        }
        Self::parse(bytes)
    }

    /// What the first bytes of a unit say of the page that begins there: a reference to it, and its
    /// level. Nothing of it is proven before the page was opened by that reference.
    pub(super) fn claim(unit: &[u8]) -> Option<(PageRef, u8)> {
        if unit.len() < HEADER_BYTES || u32_at(unit, MAGIC) != MAGIC_VALUE {
            return None;
        }
        let reference = PageRef {
            unit: u64_at(unit, UNIT),
            len_bytes: u32_at(unit, LEN_BYTES),
            checksum: u32_at(unit, CHECKSUM),
        };
        Some((reference, unit[LEVEL]))
    }

    /// Takes a page that was built here and may not be sealed yet.
    ///
    /// # Errors
    /// As [`Page::open`], but nothing about its place is looked at.
    pub(super) fn parse(bytes: IoBuf) -> Result<Self, String> {
        if bytes.len() < HEADER_BYTES {
            return Err(format!("a page of {} bytes", bytes.len()));
        }
        let header = PageHeader::decode(&bytes)?;
        let page = Self { bytes, header };
        if header.level == 0 {
            LeafPage::check(page.raw())?;
        } else {
            InnerPage::check(page.raw())?;
        }
        Ok(page)
    }

    pub(super) fn raw(&self) -> RawPage<'_> {
        RawPage {
            bytes: &self.bytes,
            header: &self.header,
        }
    }

    /// The page as a leaf; only for pages of level 0.
    #[inline]
    pub(super) fn leaf(&self) -> LeafPage<'_> {
        debug_assert_eq!(self.header.level, 0);
        LeafPage::new(self.raw())
    }

    /// The page as an inner page; only for pages above level 0.
    #[inline]
    pub(super) fn inner(&self) -> InnerPage<'_> {
        debug_assert!(self.header.level > 0);
        InnerPage::new(self.raw())
    }

    /// Proves the order of keys in the page, which a reader does without.
    ///
    /// # Errors
    /// The first contradiction.
    pub(super) fn check_order(&self) -> Result<(), String> {
        if self.header.level == 0 {
            self.leaf().check_order()
        } else {
            self.inner().check_order()
        }
    }

    /// The range that the page covers.
    pub(crate) fn fences(&self) -> Fences<'_> {
        self.header.fences(&self.bytes)
    }

    /// 0 for leaves.
    pub(crate) fn level(&self) -> u8 {
        self.header.level
    }

    /// No version in or below this page is newer.
    pub(crate) fn max_timestamp(&self) -> Timestamp {
        self.header.max_timestamp
    }

    /// The memory it takes.
    pub(crate) fn size_bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// A page's bytes with its decoded header, for the readers of the two kinds.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawPage<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) header: &'a PageHeader,
}

impl Deref for RawPage<'_> {
    type Target = PageHeader;

    fn deref(&self) -> &PageHeader {
        self.header
    }
}

/// Checksum first: nothing that a damaged field says is worth a message. Then whether the bytes
/// belong here, and last whether they are the version that the parent means.
fn check_identity(page: &[u8], owner: FileOwner, reference: PageRef) -> Result<(), String> {
    if page.len() < HEADER_BYTES {
        return Err(format!("a page of {} bytes", page.len()));
    }
    let (found, stored) = (crc32fast::hash(&page[MAGIC..]), u32_at(page, CHECKSUM));
    if found != stored && !planted!("ignore_page_checksum") {
        return Err(format!(
            "page checksum is {found:08x}, the page says {stored:08x} and its parent {:08x}",
            reference.checksum
        ));
    }
    if planted!("ignore_page_identity") {
        return Ok(());
    }
    let magic = u32_at(page, MAGIC);
    if magic != MAGIC_VALUE {
        return Err(format!("expected a tree page, found magic {magic:08x}"));
    }
    let shard = u16_at(page, SHARD);
    if page[DATABASE..][..16] != owner.database.0 || shard != owner.shard.0 {
        return Err(format!(
            "misdirected: the page belongs to shard {shard} of another owner"
        ));
    }
    let unit = u64_at(page, UNIT);
    if unit != reference.unit {
        return Err(format!(
            "misdirected: the page was written for unit {unit}, not {}",
            reference.unit
        ));
    }
    let len_bytes = u32_at(page, LEN_BYTES);
    if len_bytes != reference.len_bytes || usize_at(page, LEN_BYTES) != page.len() {
        return Err(format!(
            "the page says {len_bytes} bytes, its parent {}",
            reference.len_bytes
        ));
    }
    if stored != reference.checksum && !planted!("ignore_page_version") {
        return Err(format!(
            "stale: an older page is there; checksum {stored:08x}, its parent expects {:08x}",
            reference.checksum
        ));
    }
    Ok(())
}
