//! The numbers of the engine, each with a type of its own.

use std::fmt;

/// The longest key: 64 KiB.
pub const KEY_BYTES_MAX: usize = 64 << 10;

/// The longest value: 64 MiB.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

/// The most that the keys and values of one batch may add up to: room for a few of the longest
/// values, and far below the 4 GiB that a log record's length field can say.
pub const BATCH_BYTES_MAX: usize = 256 << 20;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// Which shard of a database: 0 up to its shard count.
    ShardId(u16)
}

number! {
    /// A position in one shard's log: the n-th record ever written there, from 1 on. 0 is before
    /// all.
    Lsn(u64)
}

number! {
    /// Which segment of one shard's log, in the order of their use, from 1 on.
    SegmentId(u64)
}

number! {
    /// A transaction that spans shards; 0 where there is none.
    TxnId(u64)
}

number! {
    /// A named ordered map inside a database, as the number that prefixes its keys.
    KeyspaceId(u32)
}

impl ShardId {
    /// The shard's position in lists of all shards.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl Lsn {
    /// The last that a log may reach: 290,000 years at a million records a second. Stored numbers
    /// beyond it are not believed, so that counting on from one that is cannot overflow.
    pub(crate) const MAX: Self = Self(u64::MAX >> 1);

    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl KeyspaceId {
    /// Metadata of the database itself.
    pub const SYSTEM: Self = Self(0);
    /// The keyspace that a database starts with.
    pub const DEFAULT: Self = Self(1);

    /// The number after this one: where this keyspace's keys end.
    #[must_use]
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The order of versions: a hybrid logical clock.
///
/// The upper 52 bits are microseconds since the Unix epoch, enough until the year 2112; the lower
/// 12 count events within a microsecond. Source: Kulkarni et al., "Logical Physical Clocks", 2014.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    const LOGICAL_BITS: u32 = 12;

    /// Before every version.
    pub const ZERO: Self = Self(0);
    /// After every version: a read at this timestamp sees the newest.
    pub const MAX: Self = Self(u64::MAX);

    /// The first timestamp of a microsecond.
    pub fn from_micros(micros: u64) -> Self {
        Self(micros << Self::LOGICAL_BITS)
    }

    /// The microseconds since the epoch that it stands for.
    pub fn micros(self) -> u64 {
        self.0 >> Self::LOGICAL_BITS
    }

    /// The next one; [`Timestamp::MAX`] has none and stays.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}us",
            self.micros(),
            self.0 & ((1 << Self::LOGICAL_BITS) - 1)
        )
    }
}

/// Sixteen random bytes that tell one database from every other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DatabaseId(pub [u8; 16]);

impl fmt::Display for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whose a file is: every file says it, so that one from elsewhere is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileOwner {
    /// The database.
    pub database: DatabaseId,
    /// The shard.
    pub shard: ShardId,
}

/// A key as the engine stores it: the keyspace, big-endian so that keyspaces sort apart, then the
/// caller's bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorageKey(Vec<u8>);

impl StorageKey {
    /// Bytes in front of the caller's key.
    pub const PREFIX_BYTES: usize = 4;
    /// The longest stored key.
    pub const BYTES_MAX: usize = Self::PREFIX_BYTES + KEY_BYTES_MAX;

    /// Prefixes a caller's key.
    pub fn new(keyspace: KeyspaceId, key: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(Self::PREFIX_BYTES + key.len());
        Self::write(keyspace, key, &mut bytes);
        Self(bytes)
    }

    /// Appends the stored form of a key to a buffer.
    #[expect(
        clippy::big_endian_bytes,
        reason = "byte order has to be the order of numbers"
    )]
    pub fn write(keyspace: KeyspaceId, key: &[u8], into: &mut Vec<u8>) {
        into.extend_from_slice(&keyspace.0.to_be_bytes());
        into.extend_from_slice(key);
    }

    /// The stored bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// The caller's part of a stored key; `None` when it is too short to be one.
    pub fn user_key(stored: &[u8]) -> Option<&[u8]> {
        stored.get(Self::PREFIX_BYTES..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_keys_sort_by_keyspace_then_key() {
        let low = StorageKey::new(KeyspaceId(1), b"\xff\xff");
        let high = StorageKey::new(KeyspaceId(256), b"");
        assert!(low < high);
        assert_eq!(StorageKey::user_key(low.as_slice()), Some(&b"\xff\xff"[..]));
    }

    #[test]
    fn a_timestamp_keeps_its_microsecond() {
        let year_2100_us = 4_102_444_800_000_000;
        let timestamp = Timestamp::from_micros(year_2100_us).next();
        assert_eq!(timestamp.micros(), year_2100_us);
        assert_eq!(Timestamp::MAX.next(), Timestamp::MAX);
    }
}
