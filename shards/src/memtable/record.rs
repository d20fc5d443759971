//! Records: one version of one key, as it lies in the arena.
//!
//! ```text
//! offset  bytes  field
//! 0       8      timestamp
//! 8       4      address of the next older version of the key, or NONE
//! 12      4      key length
//! 16      4      value length
//! 20      1      EntryFlags
//! 21      1      where the key is: 0 in this record, 1 in another
//! 22      2      zero
//! 24             the key, or the address (4 bytes) of the record that has it
//!                the value
//! ```
//!
//! A short key is copied into every version, because the bytes cost less than the cache miss of
//! fetching it from elsewhere; versions of a long key refer to the first one.

use super::arena::{Address, Arena};
use crate::{Entry, EntryFlags, Timestamp};

const TIMESTAMP: usize = 0;
const OLDER: usize = TIMESTAMP + size_of::<u64>();
const KEY_BYTES: usize = OLDER + size_of::<u32>();
const VALUE_BYTES: usize = KEY_BYTES + size_of::<u32>();
const FLAGS: usize = VALUE_BYTES + size_of::<u32>();
const KEY_PLACE: usize = FLAGS + size_of::<u8>();
const HEADER_BYTES: usize = (KEY_PLACE + size_of::<u8>()).next_multiple_of(size_of::<u64>());
const _: () = assert!(HEADER_BYTES == 24);

const KEY_HERE: u8 = 0;
const KEY_ELSEWHERE: u8 = 1;

/// The longest key that every version has a copy of: with the header it fills about a cache line
/// and a half, which one miss and the adjacent-line prefetcher bring in.
pub(super) const COPIED_KEY_BYTES_MAX: usize = 64;

/// A record in the arena.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    header: &'a [u8; HEADER_BYTES],
    body: &'a [u8],
}

impl Record<'_> {
    /// Writes the first version of a key.
    pub(super) fn write_first(arena: &mut Arena, entry: &Entry<'_>) -> Address {
        Self::write(arena, entry, Address::NONE, KEY_HERE, entry.key)
    }

    /// Writes a version of the key of the record at `newest`, in front of that at `older`.
    pub(super) fn write_next(
        arena: &mut Arena,
        entry: &Entry<'_>,
        newest: Address,
        older: Address,
    ) -> Address {
        if entry.key.len() <= COPIED_KEY_BYTES_MAX {
            return Self::write(arena, entry, older, KEY_HERE, entry.key);
        }
        let owner = Record::at(arena, newest).key_owner().unwrap_or(newest);
        let owner = owner.to_u32().to_le_bytes();
        Self::write(arena, entry, older, KEY_ELSEWHERE, &owner)
    }

    fn write(
        arena: &mut Arena,
        entry: &Entry<'_>,
        older: Address,
        key_place: u8,
        stored_key: &[u8],
    ) -> Address {
        let length = HEADER_BYTES + stored_key.len() + entry.value.len();
        let (address, bytes) = arena.allocate(length);
        let (header, body) = bytes
            .split_first_chunk_mut::<HEADER_BYTES>()
            .expect("the length includes the header");
        let key_bytes = lightning_io::to_u32(entry.key.len());
        let value_bytes = lightning_io::to_u32(entry.value.len());
        header[TIMESTAMP..OLDER].copy_from_slice(&entry.timestamp.0.to_le_bytes());
        header[OLDER..KEY_BYTES].copy_from_slice(&older.to_u32().to_le_bytes());
        header[KEY_BYTES..VALUE_BYTES].copy_from_slice(&key_bytes.to_le_bytes());
        header[VALUE_BYTES..FLAGS].copy_from_slice(&value_bytes.to_le_bytes());
        header[FLAGS] = entry.flags.to_byte();
        header[KEY_PLACE] = key_place;
        let (key, value) = body.split_at_mut(stored_key.len());
        key.copy_from_slice(stored_key);
        value.copy_from_slice(entry.value);
        address
    }
}

impl<'a> Record<'a> {
    /// Finds the record at an address.
    #[inline]
    pub(super) fn at(arena: &'a Arena, address: Address) -> Self {
        let (header, body) = arena
            .bytes_from(address)
            .split_first_chunk()
            .expect("every address is of a whole record");
        Self { header, body }
    }

    /// When the version was committed.
    #[inline]
    pub(super) fn timestamp(self) -> Timestamp {
        let (bytes, _) = self
            .header
            .split_first_chunk()
            .expect("the timestamp is in front");
        Timestamp(u64::from_le_bytes(*bytes))
    }

    /// The next older version of the same key.
    #[inline]
    pub(super) fn older(self) -> Address {
        Address::from_u32(self.u32_at(OLDER))
    }

    /// The key.
    #[inline]
    pub(super) fn key(self, arena: &'a Arena) -> &'a [u8] {
        let length = self.key_bytes();
        match self.key_owner() {
            None => &self.body[..length],
            Some(owner) => &Self::at(arena, owner).body[..length],
        }
    }

    /// All of it.
    #[inline]
    pub(super) fn entry(self, arena: &'a Arena) -> Entry<'a> {
        let (key, rest) = match self.key_owner() {
            None => self.body.split_at(self.key_bytes()),
            Some(_) => (self.key(arena), &self.body[size_of::<u32>()..]),
        };
        let flags = EntryFlags::from_byte(self.header[FLAGS]);
        Entry {
            key,
            timestamp: self.timestamp(),
            flags: flags.expect("the flags were written from valid ones"),
            value: &rest[..self.u32_at(VALUE_BYTES) as usize],
        }
    }

    #[inline]
    fn key_bytes(self) -> usize {
        self.u32_at(KEY_BYTES) as usize
    }

    /// The record that has the key, when it is not this one.
    #[inline]
    fn key_owner(self) -> Option<Address> {
        if self.header[KEY_PLACE] == KEY_HERE {
            return None;
        }
        let bytes = self.body.first_chunk().expect("the address is in front");
        Some(Address::from_u32(u32::from_le_bytes(*bytes)))
    }

    #[inline]
    fn u32_at(self, offset: usize) -> u32 {
        let bytes = self.header[offset..].first_chunk();
        u32::from_le_bytes(*bytes.expect("fields end within the header"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_and_long_keys_are_stored_once() {
        let mut arena = Arena::default();
        for key_bytes in [0, 4, COPIED_KEY_BYTES_MAX, COPIED_KEY_BYTES_MAX + 1, 65_540] {
            let key = vec![7; key_bytes];
            let entry = |timestamp, value| Entry {
                key: &key,
                timestamp: Timestamp(timestamp),
                flags: EntryFlags::RELAXED,
                value,
            };
            let one = Record::write_first(&mut arena, &entry(1, b"one"));
            let two = Record::write_next(&mut arena, &entry(2, b""), one, one);
            let before = arena.used_bytes();
            let three = Record::write_next(&mut arena, &entry(3, b"three"), two, two);
            assert!(arena.used_bytes() - before <= 24 + COPIED_KEY_BYTES_MAX + 8);
            let read = |address| Record::at(&arena, address).entry(&arena);
            assert_eq!(read(one), entry(1, b"one"));
            assert_eq!(read(two), entry(2, b""));
            assert_eq!(read(three), entry(3, b"three"));
            assert_eq!(Record::at(&arena, three).older(), two);
            assert_eq!(Record::at(&arena, one).older(), Address::NONE);
        }
    }
}
