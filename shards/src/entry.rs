//! One version of one key, as the memtable, the tree and a scan hand it around.

use crate::Timestamp;

/// What a version is, one byte on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EntryFlags(u8);

impl EntryFlags {
    /// A plain value.
    pub const VALUE: Self = Self(0);
    /// The key was deleted at this version; there is no value.
    pub const TOMBSTONE: Self = Self(1);
    /// The value lies outside the page; what the page holds says where (tree pages only).
    pub const OVERFLOW: Self = Self(1 << 1);
    /// Written with relaxed durability, so it may be shown before it is durable (memtable only).
    pub const RELAXED: Self = Self(1 << 2);

    const KNOWN: u8 = Self::TOMBSTONE.0 | Self::OVERFLOW.0 | Self::RELAXED.0;

    /// Whether every bit of `other` is set.
    #[inline]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These bits and those of `other`.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These bits without those of `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The byte on disk.
    pub fn to_byte(self) -> u8 {
        self.0
    }

    /// Reads the byte on disk; `None` when a bit is set that this version does not know.
    pub fn from_byte(byte: u8) -> Option<Self> {
        (byte & !Self::KNOWN == 0).then_some(Self(byte))
    }
}

/// One version of one key, borrowed from wherever it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The stored key, keyspace first (see [`crate::StorageKey`]).
    pub key: &'a [u8],
    /// When it was committed.
    pub timestamp: Timestamp,
    /// What it is.
    pub flags: EntryFlags,
    /// The value; empty for a tombstone.
    pub value: &'a [u8],
}

impl Entry<'_> {
    /// Whether this version says that the key is gone.
    #[inline]
    pub fn is_tombstone(&self) -> bool {
        self.flags.contains(EntryFlags::TOMBSTONE)
    }
}

/// Entries in order: keys ascending, versions of one key newest first.
///
/// The source owns what it yields, so it can be kept across an await while what `peek` returned
/// cannot.
pub trait EntrySource {
    /// The entry that comes next, if any.
    fn peek(&self) -> Option<Entry<'_>>;

    /// Steps over it.
    fn advance(&mut self);
}
