//! Leaves, as a reader sees them.
//!
//! # On-disk layout
//! The body (see `page.rs` for what precedes it), `n` entries, keys ascending and versions of one
//! key newest first:
//! ```text
//! heads    [u64; n]  the first eight bytes of each suffix, as a number that sorts like them
//! offsets  [u32; n]  where each entry begins, from the start of the page
//! entries, one behind the other, from the end of the offsets on:
//!     0   timestamp  u64
//!     8   word       u64  flags (8 bits), suffix length (24), value length (32), lowest first
//!     16  suffix: the key without the page's prefix
//!         value; of an overflow entry a reference of 16 bytes
//! ```
//! The search touches the heads alone, eight to a cache line, and an entry only to confirm a hit
//! or to tell apart suffixes whose first eight bytes are equal.

use std::cmp::Ordering;

use lightning_io::to_usize;

use super::blob::BlobRef;
use super::page::{Fences, RawPage};
use super::wire::{head_of, partition, u64_at, usize_at};
use crate::{Entry, EntryFlags, Timestamp, Ttl};

pub(super) const HEAD_BYTES: usize = 8;
pub(super) const OFFSET_BYTES: usize = 4;
const TIMESTAMP: usize = 0;
const WORD: usize = TIMESTAMP + 8;
pub(super) const ENTRY_HEAD_BYTES: usize = WORD + 8;
/// What an entry takes besides its suffix and its value.
pub(super) const ENTRY_OVERHEAD_BYTES: usize = HEAD_BYTES + OFFSET_BYTES + ENTRY_HEAD_BYTES;

const FLAGS_BITS: u32 = 8;
const SUFFIX_BITS: u32 = 24;
const VALUE_BITS: u32 = 32;
const _: () = assert!(FLAGS_BITS + SUFFIX_BITS + VALUE_BITS == u64::BITS);
const _: () = assert!(crate::StorageKey::BYTES_MAX < 1 << SUFFIX_BITS);

/// Packs the second word of an entry.
pub(super) fn pack(flags: EntryFlags, suffix_len: usize, value_len: usize) -> u64 {
    debug_assert!(suffix_len < 1 << SUFFIX_BITS);
    u64::from(flags.to_byte())
        | lightning_io::to_u64(suffix_len) << FLAGS_BITS
        | u64::from(lightning_io::to_u32(value_len)) << (FLAGS_BITS + SUFFIX_BITS)
}

fn unpack(word: u64) -> (u8, usize, usize) {
    let [flags, ..] = word.to_le_bytes();
    let suffix_len = (word >> FLAGS_BITS) & ((1 << SUFFIX_BITS) - 1);
    let value_len = word >> (FLAGS_BITS + SUFFIX_BITS);
    (flags, to_usize(suffix_len), to_usize(value_len))
}

/// One entry, its key without the page's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeafEntry<'a> {
    /// The key's bytes after the prefix.
    pub suffix: &'a [u8],
    /// When it was committed.
    pub timestamp: Timestamp,
    /// What it is.
    pub flags: EntryFlags,
    /// The value, or the reference to one that lies outside.
    pub value: &'a [u8],
    /// Where the value begins in the page.
    pub(super) value_start: usize,
}

impl<'a> LeafEntry<'a> {
    /// The reference of an overflow entry.
    pub(super) fn overflow(&self) -> Option<BlobRef> {
        self.flags
            .contains(EntryFlags::OVERFLOW)
            .then(|| reference_in(self.value))
    }

    /// The entry with a key, which may be one that it does not know itself.
    pub(super) fn with_key(&self, key: &'a [u8]) -> Entry<'a> {
        Entry {
            key,
            timestamp: self.timestamp,
            flags: self.flags,
            value: self.value,
        }
    }

    /// How many bytes of the value are a time to live.
    pub(super) fn ttl_bytes(&self) -> usize {
        if self.flags.contains(EntryFlags::EXPIRING) {
            Ttl::BYTES
        } else {
            0
        }
    }
}

/// The reference that the value of an overflow entry ends with.
pub(super) fn reference_in(value: &[u8]) -> BlobRef {
    BlobRef::decode(&value[value.len() - BlobRef::BYTES..])
}

/// A leaf; cheap to make from a page, and to copy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeafPage<'a> {
    raw: RawPage<'a>,
    /// Where the heads begin.
    heads: usize,
    /// Where the offsets begin.
    offsets: usize,
}

impl<'a> LeafPage<'a> {
    #[inline]
    pub(super) fn new(raw: RawPage<'a>) -> Self {
        let heads = raw.body_start();
        let offsets = heads + raw.count * HEAD_BYTES;
        Self {
            raw,
            heads,
            offsets,
        }
    }

    /// Proves that every entry lies inside the page, so that [`Self::entry`] may index.
    pub(super) fn check(raw: RawPage<'a>) -> Result<(), String> {
        let leaf = Self::new(raw);
        let len = raw.bytes.len();
        let mut end = leaf.offsets + raw.count * OFFSET_BYTES;
        if raw.count == 0 || end > len {
            return Err(format!("a leaf of {} entries in {len} bytes", raw.count));
        }
        for index in 0..raw.count {
            let start = leaf.entry_start(index);
            if start != end || len - end < ENTRY_HEAD_BYTES {
                return Err(format!(
                    "entry {index} begins at {start}, expected {end} of {len}"
                ));
            }
            let (flags, suffix_len, value_len) = unpack(u64_at(raw.bytes, start + WORD));
            end = start + ENTRY_HEAD_BYTES + suffix_len + value_len;
            if end > len || raw.prefix_len + suffix_len > crate::StorageKey::BYTES_MAX {
                return Err(format!(
                    "entry {index} at {start} claims {suffix_len} + {value_len} of {len} bytes"
                ));
            }
            let Some(flags) = EntryFlags::from_byte(flags) else {
                return Err(format!("entry {index} has unknown flags {flags:#04x}"));
            };
            check_value(flags, &raw.bytes[end - value_len..end])
                .map_err(|what| format!("entry {index} {what}"))?;
        }
        Ok(())
    }

    /// The number of entries, at least one.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.raw.count
    }

    /// The range that the leaf covers.
    pub(crate) fn fences(&self) -> Fences<'a> {
        self.raw.header.fences(self.raw.bytes)
    }

    /// What every key of the leaf begins with.
    #[inline]
    pub(crate) fn prefix(&self) -> &'a [u8] {
        &self.fences().lower[..self.raw.prefix_len]
    }

    #[inline]
    pub(super) fn head(&self, index: usize) -> u64 {
        u64_at(self.raw.bytes, self.heads + index * HEAD_BYTES)
    }

    fn entry_start(&self, index: usize) -> usize {
        usize_at(self.raw.bytes, self.offsets + index * OFFSET_BYTES)
    }

    /// An entry by its position.
    ///
    /// # Panics
    /// When the position is not below [`Self::count`].
    #[inline]
    pub(crate) fn entry(&self, index: usize) -> LeafEntry<'a> {
        let bytes = self.raw.bytes;
        let start = self.entry_start(index);
        let (flags, suffix_len, value_len) = unpack(u64_at(bytes, start + WORD));
        let suffix_start = start + ENTRY_HEAD_BYTES;
        let value_start = suffix_start + suffix_len;
        LeafEntry {
            suffix: &bytes[suffix_start..value_start],
            timestamp: Timestamp(u64_at(bytes, start + TIMESTAMP)),
            flags: EntryFlags::from_byte(flags).expect("the structure check knew every flag"),
            value: &bytes[value_start..value_start + value_len],
            value_start,
        }
    }

    /// Writes the whole key of an entry over `into`.
    pub(crate) fn key_into(&self, index: usize, into: &mut Vec<u8>) {
        into.clear();
        into.extend_from_slice(self.prefix());
        into.extend_from_slice(self.entry(index).suffix);
    }

    /// The first entry that is not before version `at` of `key`: that version or the newest older
    /// one if the key is there, else the first entry of the next key.
    pub(crate) fn lower_bound(&self, key: &[u8], at: Timestamp) -> usize {
        let count = self.raw.count;
        let prefix = self.prefix();
        let shared = prefix.len().min(key.len());
        match key[..shared].cmp(&prefix[..shared]) {
            Ordering::Less => return 0,
            Ordering::Greater => return count,
            Ordering::Equal => {}
        }
        let Some(suffix) = key.get(prefix.len()..) else {
            return 0;
        };
        let head = head_of(suffix);
        let first = partition(0, count, |index| self.head(index) < head);
        if first == count || self.head(first) != head {
            return first;
        }
        let last = if first + 1 < count && self.head(first + 1) == head {
            partition(first + 1, count, |index| self.head(index) == head)
        } else {
            first + 1
        };
        partition(first, last, |index| {
            let entry = self.entry(index);
            match entry.suffix.cmp(suffix) {
                Ordering::Less => true,
                Ordering::Equal => entry.timestamp > at,
                Ordering::Greater => false,
            }
        })
    }

    /// The newest version of `key` that is not newer than `at`.
    pub(crate) fn find(&self, key: &[u8], at: Timestamp) -> Option<usize> {
        let index = self.lower_bound(key, at);
        if index == self.raw.count {
            return None;
        }
        let suffix = key.strip_prefix(self.prefix())?;
        (self.entry(index).suffix == suffix).then_some(index)
    }
}

impl LeafPage<'_> {
    /// Proves the order that [`Self::check`] does not: keys inside the fences, ascending, versions
    /// newest first, and every head that of its suffix.
    ///
    /// # Errors
    /// The first contradiction.
    pub(super) fn check_order(&self) -> Result<(), String> {
        let fences = self.fences();
        let mut key = Vec::new();
        let mut previous: Option<LeafEntry> = None;
        for index in 0..self.count() {
            let entry = self.entry(index);
            if self.head(index) != head_of(entry.suffix) {
                return Err(format!("the head of entry {index} is not that of its key"));
            }
            let ascends = previous.is_none_or(|before| {
                before.suffix < entry.suffix
                    || before.suffix == entry.suffix && before.timestamp > entry.timestamp
            });
            if !ascends {
                return Err(format!("entry {index} does not follow the one before it"));
            }
            if entry.timestamp > self.raw.max_timestamp {
                return Err(format!("entry {index} is newer than the page says"));
            }
            previous = Some(entry);
        }
        self.key_into(0, &mut key);
        let above = key.as_slice() >= fences.lower;
        self.key_into(self.count() - 1, &mut key);
        let below = fences.upper.is_none_or(|upper| key.as_slice() < upper);
        if above && below {
            Ok(())
        } else {
            Err("the leaf holds keys outside of its fences".to_owned())
        }
    }
}

/// Proves that a value holds what the entry's flags say of it.
fn check_value(flags: EntryFlags, value: &[u8]) -> Result<(), String> {
    let expiring = flags.contains(EntryFlags::EXPIRING);
    if expiring && Ttl::of(value).is_none() {
        return Err("expires, but does not say when".to_owned());
    }
    let reference_len = value.len() - if expiring { Ttl::BYTES } else { 0 };
    if flags.contains(EntryFlags::OVERFLOW) && reference_len != BlobRef::BYTES {
        return Err(format!(
            "has an overflow reference of {reference_len} bytes"
        ));
    }
    Ok(())
}
