//! One version of one key, as the memtable, the tree and a scan hand it around.

use crate::{Timestamp, Ttl};

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

    /// The value begins with a time to live: see [`Ttl`].
    pub const EXPIRING: Self = Self(1 << 3);

    const KNOWN: u8 = Self::TOMBSTONE.0 | Self::OVERFLOW.0 | Self::RELAXED.0 | Self::EXPIRING.0;

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
    /// The value as it is stored; empty for a tombstone.
    pub value: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Whether this version says that the key is gone.
    #[inline]
    pub fn is_tombstone(&self) -> bool {
        self.flags.contains(EntryFlags::TOMBSTONE)
    }

    /// How long it lives, if not for ever.
    #[inline]
    pub fn ttl(&self) -> Option<Ttl> {
        self.flags
            .contains(EntryFlags::EXPIRING)
            .then(|| Ttl::of(self.value))
            .flatten()
    }

    /// Whether its time is over.
    #[inline]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        let committed = if planted!("ttl_from_read") {
            now
        } else {
            self.timestamp
        };
        self.ttl().is_some_and(|ttl| ttl.end(committed) <= now)
    }

    /// What it is at a time: one that has expired by then is a tombstone.
    ///
    /// Every reader and every flush asks this first. A merge that does so with a value that lies
    /// elsewhere has to free it, as it does when the entry is replaced.
    #[inline]
    #[must_use]
    pub fn at(self, now: Timestamp) -> Self {
        if !self.is_expired(now) {
            return self;
        }
        let relaxed = self.flags.contains(EntryFlags::RELAXED);
        let flags = if relaxed {
            EntryFlags::TOMBSTONE.with(EntryFlags::RELAXED)
        } else {
            EntryFlags::TOMBSTONE
        };
        Self {
            flags,
            value: &[],
            ..self
        }
    }

    /// The value without what is stored in front of it.
    #[inline]
    pub fn user_value(&self) -> &'a [u8] {
        let expiring = self.flags.contains(EntryFlags::EXPIRING);
        &self.value[if expiring { Ttl::BYTES } else { 0 }..]
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

    /// The time as of which the entries are, so that others which have expired by then can be left
    /// out as well; by default none has.
    fn now(&self) -> Timestamp {
        Timestamp::ZERO
    }
}

/// The entries of a source as they are at a time: see [`Entry::at`].
#[derive(Debug)]
pub(crate) struct AsOf<S> {
    source: S,
    now: Timestamp,
}

impl<S: EntrySource> AsOf<S> {
    pub(crate) fn new(source: S, now: Timestamp) -> Self {
        let mut new = Self { source, now };
        new.pass_over();
        new
    }

    /// What the planted bug makes of entries that have expired: nothing, where tombstones belong.
    fn pass_over(&mut self) {
        while planted!("expired_uncovers_older")
            && let Some(entry) = self.source.peek()
            && entry.is_expired(self.now)
        {
            self.source.advance();
        }
    }
}

impl<S: EntrySource> EntrySource for AsOf<S> {
    fn peek(&self) -> Option<Entry<'_>> {
        self.source.peek().map(|entry| entry.at(self.now))
    }

    fn advance(&mut self) {
        self.source.advance();
        self.pass_over();
    }

    fn now(&self) -> Timestamp {
        self.now
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_expired_entry_is_a_tombstone_of_its_commit() {
        let ttl = Ttl::new(Duration::from_micros(5)).unwrap();
        let value = [&ttl.to_bytes()[..], b"value"].concat();
        let flags = EntryFlags::EXPIRING.with(EntryFlags::RELAXED);
        let entry = Entry {
            key: b"key",
            timestamp: Timestamp::from_micros(10).next(),
            flags,
            value: &value,
        };
        let before = Timestamp::from_micros(15);
        assert_eq!(entry.at(Timestamp(before.0 - 1)), entry);
        assert_eq!(entry.user_value(), b"value");
        let gone = entry.at(before);
        assert!(gone.is_tombstone() && gone.flags.contains(EntryFlags::RELAXED));
        assert!(!gone.flags.contains(EntryFlags::EXPIRING));
        assert_eq!((gone.timestamp, gone.value), (entry.timestamp, &b""[..]));
        let lasting = Entry {
            flags: EntryFlags::VALUE,
            ..entry
        };
        assert_eq!(lasting.at(Timestamp::MAX), lasting);
        assert_eq!(lasting.user_value(), value);
    }
}
