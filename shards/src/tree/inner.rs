//! Inner pages, as a reader sees them and as a writer makes them.
//!
//! # On-disk layout
//! The body (see `page.rs` for what precedes it) of a page with `n` children; child `i` covers the
//! keys from separator `i - 1`, inclusive, to separator `i`, exclusive; the fences stand in at the
//! ends:
//! ```text
//! heads     [u64; n - 1]  the first eight bytes of each suffix, as a number that sorts like them
//! children  [[u8; 16]; n] page references
//! offsets   [u32; n]      where each suffix begins, from the start of the page; the last: where
//! they end suffixes: the separators without the page's prefix, one behind the other
//! ```

use std::cmp::Ordering;

use lightning_io::{IoBuf, to_u32};

use super::address::PageRef;
use super::page::{Fences, PAGE_BYTES_MAX, PageHeader, RawPage};
use super::wire::{head_of, partition, put, u64_at, usize_at};
use crate::{KeyRange, StorageKey, Timestamp};

const HEAD_BYTES: usize = 8;
const OFFSET_BYTES: usize = 4;
/// What a child takes besides its separator.
const CHILD_OVERHEAD_BYTES: usize = HEAD_BYTES + PageRef::BYTES + OFFSET_BYTES;

/// An inner page; cheap to make from a page, and to copy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InnerPage<'a> {
    raw: RawPage<'a>,
    /// Where the heads, the children and the offsets begin.
    heads: usize,
    children: usize,
    offsets: usize,
}

impl<'a> InnerPage<'a> {
    #[inline]
    pub(super) fn new(raw: RawPage<'a>) -> Self {
        let heads = raw.body_start();
        let children = heads + raw.count.saturating_sub(1) * HEAD_BYTES;
        let offsets = children + raw.count * PageRef::BYTES;
        Self {
            raw,
            heads,
            children,
            offsets,
        }
    }

    /// Proves that every separator lies inside the page, so that the readers may index.
    pub(super) fn check(raw: RawPage<'a>) -> Result<(), String> {
        let inner = Self::new(raw);
        let len = raw.bytes.len();
        let mut end = inner.offsets + raw.count * OFFSET_BYTES;
        if raw.count == 0 || end > len {
            return Err(format!(
                "an inner page of {} children in {len} bytes",
                raw.count
            ));
        }
        if inner.offset(0) != end {
            return Err(format!(
                "suffixes begin at {}, expected {end}",
                inner.offset(0)
            ));
        }
        for index in 1..raw.count {
            let next = inner.offset(index);
            let fits = next >= end
                && next <= len
                && raw.prefix_len + (next - end) <= StorageKey::BYTES_MAX;
            if !fits {
                return Err(format!(
                    "separator {index} ends at {next}, begins at {end} of {len}"
                ));
            }
            end = next;
        }
        Ok(())
    }

    /// The number of children, at least one.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.raw.count
    }

    /// The range that the page covers.
    pub(crate) fn fences(&self) -> Fences<'a> {
        self.raw.header.fences(self.raw.bytes)
    }

    fn prefix(&self) -> &'a [u8] {
        &self.fences().lower[..self.raw.prefix_len]
    }

    #[inline]
    pub(super) fn head(&self, index: usize) -> u64 {
        u64_at(self.raw.bytes, self.heads + index * HEAD_BYTES)
    }

    fn offset(&self, index: usize) -> usize {
        usize_at(self.raw.bytes, self.offsets + index * OFFSET_BYTES)
    }

    /// The suffix of separator `index`, the one between child `index` and the next.
    #[inline]
    pub(super) fn suffix(&self, index: usize) -> &'a [u8] {
        &self.raw.bytes[self.offset(index)..self.offset(index + 1)]
    }

    /// A child by its position, below [`Self::count`].
    #[inline]
    pub(crate) fn child(&self, index: usize) -> PageRef {
        PageRef::decode(&self.raw.bytes[self.children + index * PageRef::BYTES..])
    }

    /// Writes the lower bound of a child over `into`.
    pub(crate) fn lower_into(&self, index: usize, into: &mut Vec<u8>) {
        into.clear();
        if index == 0 {
            into.extend_from_slice(self.fences().lower);
        } else {
            into.extend_from_slice(self.prefix());
            into.extend_from_slice(self.suffix(index - 1));
        }
    }

    /// Writes the upper bound of a child over `into`; `false` where the tree ends.
    #[must_use]
    pub(crate) fn upper_into(&self, index: usize, into: &mut Vec<u8>) -> bool {
        if index + 1 < self.raw.count {
            self.lower_into(index + 1, into);
            return true;
        }
        into.clear();
        let upper = self.fences().upper;
        into.extend_from_slice(upper.unwrap_or_default());
        upper.is_some()
    }

    /// The keys that a child covers, for the report of a damage to it.
    pub(crate) fn key_range(&self, index: usize) -> KeyRange {
        let (mut lower, mut upper) = (Vec::new(), Vec::new());
        self.lower_into(index, &mut lower);
        let has_upper = self.upper_into(index, &mut upper);
        (
            (!lower.is_empty()).then_some(lower),
            has_upper.then_some(upper),
        )
    }

    /// The position of the child that covers `key`: the number of separators that are not above it.
    #[inline]
    pub(crate) fn child_index(&self, key: &[u8]) -> usize {
        self.rank(key, Ordering::is_le)
    }

    /// The position of the child with the greatest keys below `key`: the number of separators below
    /// it.
    pub(crate) fn child_below(&self, key: &[u8]) -> usize {
        self.rank(key, Ordering::is_lt)
    }

    /// The number of separators that stand to `key` as `counts` says, which are the first ones.
    #[inline]
    fn rank(&self, key: &[u8], counts: impl Fn(Ordering) -> bool) -> usize {
        let separators = self.raw.count - 1;
        let prefix = self.prefix();
        let shared = prefix.len().min(key.len());
        match key[..shared].cmp(&prefix[..shared]) {
            Ordering::Less => return 0,
            Ordering::Greater => return separators,
            Ordering::Equal => {}
        }
        let Some(suffix) = key.get(prefix.len()..) else {
            return 0;
        };
        let head = head_of(suffix);
        let first = partition(0, separators, |index| self.head(index) < head);
        if first == separators || self.head(first) != head {
            return first;
        }
        let last = partition(first, separators, |index| self.head(index) == head);
        partition(first, last, |index| counts(self.suffix(index).cmp(suffix)))
    }
}

impl InnerPage<'_> {
    /// Proves the order that [`Self::check`] does not: separators between the fences, ascending,
    /// and every head that of its suffix.
    ///
    /// # Errors
    /// The first contradiction.
    pub(super) fn check_order(&self) -> Result<(), String> {
        let separators = self.count() - 1;
        for index in 0..separators {
            if self.head(index) != head_of(self.suffix(index)) {
                return Err(format!(
                    "the head of separator {index} is not that of its key"
                ));
            }
            if index > 0 && self.suffix(index - 1) >= self.suffix(index) {
                return Err(format!(
                    "separator {index} does not follow the one before it"
                ));
            }
        }
        let fences = self.fences();
        let mut key = Vec::new();
        self.lower_into(usize::from(separators > 0), &mut key);
        let above = separators == 0 || key.as_slice() > fences.lower;
        self.lower_into(separators, &mut key);
        let below = fences.upper.is_none_or(|upper| key.as_slice() < upper);
        if above && below {
            Ok(())
        } else {
            Err("the page holds separators outside of its fences".to_owned())
        }
    }
}

/// What an inner page would hold, summed up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InnerSize {
    /// The number of children.
    pub count: usize,
    /// The separators, together: the lower bounds of all children but the first.
    pub separator_bytes: usize,
}

impl InnerSize {
    /// The bytes of an inner page between `fences`, before they are rounded up to units.
    pub(crate) fn page_bytes(self, fences: &Fences) -> usize {
        let separators = self.count.saturating_sub(1);
        fences.body_start() + self.count * CHILD_OVERHEAD_BYTES + self.separator_bytes
            - separators * fences.prefix_len()
            - HEAD_BYTES * (self.count - separators)
    }
}

/// Writes one inner page into a buffer of its final size.
#[derive(Debug)]
pub(crate) struct InnerBuilder<'a> {
    page: IoBuf,
    level: u8,
    fences: Fences<'a>,
    size: InnerSize,
    prefix_len: usize,
    /// Children written so far, and where the next suffix goes.
    count: usize,
    end: usize,
    max_timestamp: Timestamp,
}

impl<'a> InnerBuilder<'a> {
    /// Begins a page that will hold exactly what `size` says; `allocate` gives zeroed memory.
    ///
    /// # Panics
    /// When the page would be longer than [`PAGE_BYTES_MAX`], or `level` is 0.
    pub(crate) fn new(
        level: u8,
        fences: Fences<'a>,
        size: InnerSize,
        allocate: impl FnOnce(usize) -> IoBuf,
    ) -> Self {
        let bytes = size.page_bytes(&fences);
        assert!(
            level > 0 && bytes <= PAGE_BYTES_MAX,
            "the cutter of pages keeps them below their bound"
        );
        let arrays = size.count * CHILD_OVERHEAD_BYTES - HEAD_BYTES;
        Self {
            page: allocate(bytes),
            level,
            fences,
            size,
            prefix_len: fences.prefix_len(),
            count: 0,
            end: fences.body_start() + arrays,
            max_timestamp: Timestamp::ZERO,
        }
    }

    /// Adds the next child in order; `lower` is its lower bound, `max` bounds its timestamps.
    pub(crate) fn push(&mut self, lower: &[u8], child: PageRef, max: Timestamp) {
        let heads = self.fences.body_start();
        let children = heads + (self.size.count - 1) * HEAD_BYTES;
        let offsets = children + self.size.count * PageRef::BYTES;
        let page = &mut self.page;
        if self.count > 0 {
            let suffix = &lower[self.prefix_len..];
            let head = head_of(suffix).to_le_bytes();
            put(page, heads + (self.count - 1) * HEAD_BYTES, &head);
            put(page, self.end, suffix);
            self.end += suffix.len();
        }
        put(
            page,
            children + self.count * PageRef::BYTES,
            &child.encode(),
        );
        let end = to_u32(self.end).to_le_bytes();
        put(page, offsets + self.count * OFFSET_BYTES, &end);
        self.count += 1;
        self.max_timestamp = self.max_timestamp.max(max);
    }

    /// The page, without owner, address and checksum, and the bound of its timestamps.
    ///
    /// # Panics
    /// When it does not hold as many children as were announced.
    pub(crate) fn finish(mut self) -> (IoBuf, Timestamp) {
        assert_eq!(
            self.count, self.size.count,
            "a page holds what was announced"
        );
        let (level, max) = (self.level, self.max_timestamp);
        PageHeader::encode(level, self.count, max, self.fences, &mut self.page);
        (self.page, max)
    }
}
