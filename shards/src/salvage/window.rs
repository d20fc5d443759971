//! The newest versions of a part of the key space, in bounded memory.
//!
//! # Algorithm
//! 1. Whoever reads a source offers every version that it finds; the newest of each key stays.
//! 2. When the window is over its budget, its greatest keys go, and it ends before them from then on.
//! 3. When all sources were read, what is there is the newest of every key of the window, and the
//!    next window begins where it ended: the sources are read again for it.

use std::collections::BTreeMap;

use crate::{Entry, EntryFlags, Timestamp};

/// What an entry takes beside its key and value: the map's node, two vectors, and what is around.
const OVERHEAD_BYTES: usize = 128;

/// Where a version was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Log,
    /// A run of the newest generation.
    Run,
    /// An older generation of the tree.
    Older,
    /// A leaf that nothing leads to.
    Found,
}

/// The newest version of a key so far; of a large value in the tree, the reference.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) timestamp: Timestamp,
    pub(super) flags: EntryFlags,
    pub(super) value: Vec<u8>,
    pub(super) origin: Origin,
}

impl Version {
    /// The version of a key.
    pub(super) fn entry<'a>(&'a self, key: &'a [u8]) -> Entry<'a> {
        Entry {
            key,
            timestamp: self.timestamp,
            flags: self.flags,
            value: &self.value,
        }
    }
}

#[derive(Debug)]
pub(super) struct Window {
    versions: BTreeMap<Vec<u8>, Version>,
    bytes: usize,
    budget_bytes: usize,
    from: Vec<u8>,
    to: Option<Vec<u8>>,
}

impl Window {
    /// A window that begins at `from` and takes about `budget_bytes`, but holds at least one key.
    pub(super) fn new(from: Vec<u8>, budget_bytes: usize) -> Self {
        Self {
            versions: BTreeMap::new(),
            bytes: 0,
            budget_bytes,
            from,
            to: None,
        }
    }

    pub(super) fn from(&self) -> &[u8] {
        &self.from
    }

    /// Where it ends, exclusive; `None` where the key space does.
    pub(super) fn to(&self) -> Option<&[u8]> {
        self.to.as_deref()
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        key >= self.from.as_slice() && self.to().is_none_or(|to| key < to)
    }

    /// Whether a version would stay if it were offered.
    pub(super) fn wants(&self, key: &[u8], timestamp: Timestamp, origin: Origin) -> bool {
        let newer = |known: &Version| match origin {
            // Of a batch that names a key twice, the last operation counts.
            Origin::Log => timestamp >= known.timestamp,
            Origin::Run | Origin::Older | Origin::Found => timestamp > known.timestamp,
        };
        self.contains(key) && self.versions.get(key).is_none_or(newer)
    }

    /// Takes a version, if it is the newest of its key.
    pub(super) fn offer(&mut self, entry: Entry<'_>, origin: Origin) {
        if !self.wants(entry.key, entry.timestamp, origin) {
            return;
        }
        self.remove(entry.key);
        self.bytes += OVERHEAD_BYTES + entry.key.len() + entry.value.len();
        let version = Version {
            timestamp: entry.timestamp,
            flags: entry.flags,
            value: entry.value.to_vec(),
            origin,
        };
        self.versions.insert(entry.key.to_vec(), version);
        while self.bytes > self.budget_bytes
            && self.versions.len() > 1
            && let Some((key, version)) = self.versions.pop_last()
        {
            self.bytes -= OVERHEAD_BYTES + key.len() + version.value.len();
            self.to = Some(key);
        }
    }

    /// Takes a key out.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Version> {
        let version = self.versions.remove(key)?;
        self.bytes -= OVERHEAD_BYTES + key.len() + version.value.len();
        Some(version)
    }

    /// Takes out the first key that is left.
    pub(super) fn pop_first(&mut self) -> Option<(Vec<u8>, Version)> {
        let (key, version) = self.versions.pop_first()?;
        self.bytes -= OVERHEAD_BYTES + key.len() + version.value.len();
        Some((key, version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &[u8], timestamp: u64) -> Entry<'_> {
        Entry {
            key,
            timestamp: Timestamp(timestamp),
            flags: EntryFlags::VALUE,
            value: b"0123456789",
        }
    }

    #[test]
    fn the_newest_version_stays_and_the_last_of_a_batch_counts() {
        let mut window = Window::new(Vec::new(), 1 << 20);
        window.offer(entry(b"a", 5), Origin::Log);
        window.offer(entry(b"a", 4), Origin::Found);
        window.offer(entry(b"a", 5), Origin::Older);
        assert_eq!(window.versions[&b"a"[..]].origin, Origin::Log);
        window.offer(
            Entry {
                value: b"x",
                ..entry(b"a", 5)
            },
            Origin::Log,
        );
        assert_eq!(window.pop_first().unwrap().1.value, b"x");
        assert_eq!(window.bytes, 0);
    }

    #[test]
    fn windows_follow_each_other_and_stay_in_their_budget() {
        let keys: Vec<Vec<u8>> = (0..100_u8).rev().map(|key| vec![key]).collect();
        let (mut from, mut seen) = (Vec::new(), Vec::new());
        loop {
            let mut window = Window::new(from, 10 * (OVERHEAD_BYTES + 11));
            for key in &keys {
                window.offer(entry(key, 1), Origin::Log);
                assert!(window.bytes <= window.budget_bytes);
            }
            let to = window.to().map(<[u8]>::to_vec);
            while let Some((key, _)) = window.pop_first() {
                seen.push(key);
            }
            match to {
                Some(to) => from = to,
                None => break,
            }
        }
        seen.reverse();
        assert_eq!(seen, keys);
    }
}
