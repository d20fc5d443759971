//! Leaves, as a writer makes them (layout: `leaf.rs`).

use lightning_io::{IoBuf, to_u32};

use super::leaf::{ENTRY_HEAD_BYTES, ENTRY_OVERHEAD_BYTES, HEAD_BYTES, OFFSET_BYTES, pack};
use super::page::{Fences, PAGE_BYTES_MAX, PageHeader};
use super::wire::{head_of, put};
use crate::{Entry, Timestamp};

/// What a leaf would hold, summed up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeafSize {
    /// The number of entries.
    pub count: usize,
    /// Their whole keys, together.
    pub key_bytes: usize,
    /// Their values, or the references to them, together.
    pub value_bytes: usize,
}

impl LeafSize {
    /// The bytes of a leaf between `fences`, before they are rounded up to units.
    pub(crate) fn page_bytes(self, fences: &Fences) -> usize {
        let prefix_bytes = self.count * fences.prefix_len();
        fences.body_start() + self.count * ENTRY_OVERHEAD_BYTES + self.key_bytes - prefix_bytes
            + self.value_bytes
    }
}

/// Writes one leaf into a buffer of its final size.
#[derive(Debug)]
pub(crate) struct LeafBuilder<'a> {
    page: IoBuf,
    fences: Fences<'a>,
    size: LeafSize,
    prefix_len: usize,
    /// Entries written so far, and where the next one goes.
    count: usize,
    end: usize,
    max_timestamp: Timestamp,
}

impl<'a> LeafBuilder<'a> {
    /// Begins a leaf that will hold exactly what `size` says; `allocate` gives zeroed memory.
    ///
    /// # Panics
    /// When the page would be longer than [`PAGE_BYTES_MAX`].
    pub(crate) fn new(
        fences: Fences<'a>,
        size: LeafSize,
        allocate: impl FnOnce(usize) -> IoBuf,
    ) -> Self {
        let bytes = size.page_bytes(&fences);
        assert!(
            bytes <= PAGE_BYTES_MAX,
            "the cutter of pages keeps them below their bound"
        );
        Self {
            page: allocate(bytes),
            fences,
            size,
            prefix_len: fences.prefix_len(),
            count: 0,
            end: fences.body_start() + size.count * (HEAD_BYTES + OFFSET_BYTES),
            max_timestamp: Timestamp::ZERO,
        }
    }

    /// Adds the next entry in order.
    pub(crate) fn push(&mut self, entry: &Entry<'_>) {
        debug_assert!(entry.key >= self.fences.lower);
        debug_assert!(self.fences.upper.is_none_or(|upper| entry.key < upper));
        let suffix = &entry.key[self.prefix_len..];
        let heads = self.fences.body_start();
        let offsets = heads + self.size.count * HEAD_BYTES;
        let page = &mut self.page;
        put(
            page,
            heads + self.count * HEAD_BYTES,
            &head_of(suffix).to_le_bytes(),
        );
        let start = to_u32(self.end).to_le_bytes();
        put(page, offsets + self.count * OFFSET_BYTES, &start);
        let word = pack(entry.flags, suffix.len(), entry.value.len());
        put(page, self.end, &entry.timestamp.0.to_le_bytes());
        put(page, self.end + 8, &word.to_le_bytes());
        put(page, self.end + ENTRY_HEAD_BYTES, suffix);
        self.end += ENTRY_HEAD_BYTES + suffix.len();
        put(page, self.end, entry.value);
        self.end += entry.value.len();
        self.count += 1;
        self.max_timestamp = self.max_timestamp.max(entry.timestamp);
    }

    /// The page, without owner, address and checksum, and its newest timestamp.
    ///
    /// # Panics
    /// When it does not hold as many entries as were announced.
    pub(crate) fn finish(mut self) -> (IoBuf, Timestamp) {
        assert_eq!(
            self.count, self.size.count,
            "a leaf holds what was announced"
        );
        PageHeader::encode(
            0,
            self.count,
            self.max_timestamp,
            self.fences,
            &mut self.page,
        );
        (self.page, self.max_timestamp)
    }
}

/// The shortest key that is greater than `left` and not greater than `right`.
///
/// Source: Bayer and Unterauer, "Prefix B-trees", 1977.
pub(crate) fn separator<'a>(left: &[u8], right: &'a [u8]) -> &'a [u8] {
    debug_assert!(left < right);
    let len = super::wire::common_prefix(left, right) + 1;
    &right[..len.min(right.len())]
}
