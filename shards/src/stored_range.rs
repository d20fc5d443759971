//! A range of stored keys, half open, of which a walk takes off what it has passed.

use std::mem;
use std::ops::Bound;

use crate::{Direction, Error, KeyspaceId, Result, StorageKey};

/// Bytes of a key that a message shows.
const SHOWN_BYTES_MAX: usize = 64;

/// Stored keys from one on, up to below another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRange {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl StoredRange {
    /// The range between two bounds on the keys of a keyspace.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the end lies before the start; a range between equal bounds is
    /// sound, and empty unless both are included.
    pub fn new(keyspace: KeyspaceId, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Self> {
        if let (Some(start), Some(end)) = (key_of(from), key_of(to))
            && end < start
        {
            let (start, end) = (shown(start), shown(end));
            return Err(Error::Invalid {
                what: "range",
                reason: format!("its end \"{end}\" lies before its start \"{start}\""),
            });
        }
        let stored = |key: &[u8]| StorageKey::new(keyspace, key).as_slice().to_vec();
        let from = match from {
            Bound::Included(key) => stored(key),
            Bound::Excluded(key) => after(stored(key)),
            Bound::Unbounded => stored(&[]),
        };
        let to = match to {
            Bound::Included(key) => after(stored(key)),
            Bound::Excluded(key) => stored(key),
            Bound::Unbounded => StorageKey::new(keyspace.next(), &[]).as_slice().to_vec(),
        };
        Ok(Self { from, to })
    }

    /// The keyspace that its keys are in.
    pub(crate) fn keyspace(&self) -> KeyspaceId {
        KeyspaceId::of(&self.from).expect("a range begins with its keyspace")
    }

    /// Whether no key can lie in it.
    pub fn is_empty(&self) -> bool {
        self.from >= self.to
    }

    /// Whether all keys from `first` to `last` lie in it.
    pub(crate) fn contains_all(&self, first: &[u8], last: &[u8]) -> bool {
        self.from.as_slice() <= first && last < self.to.as_slice()
    }

    /// Leaves out what lies below a key.
    pub(crate) fn clip_from(&mut self, key: &[u8]) {
        if self.from.as_slice() < key {
            self.from = key.to_vec();
        }
    }

    /// The end at which a walk begins.
    pub(crate) fn start(&self, direction: Direction) -> &[u8] {
        match direction {
            Direction::Forward => &self.from,
            Direction::Reverse => &self.to,
        }
    }

    /// Whether a key lies behind the end of a walk.
    #[inline]
    pub(crate) fn is_behind(&self, key: &[u8], direction: Direction) -> bool {
        match direction {
            Direction::Forward => key >= self.to.as_slice(),
            Direction::Reverse => key < self.from.as_slice(),
        }
    }

    /// Takes off everything up to a key that a walk has reached, that key included. What is left in
    /// `key` is of no meaning.
    #[inline]
    pub(crate) fn pass(&mut self, key: &mut Vec<u8>, direction: Direction) {
        match direction {
            Direction::Forward => {
                key.push(0);
                mem::swap(&mut self.from, key);
            }
            Direction::Reverse => mem::swap(&mut self.to, key),
        }
    }
}

fn key_of(bound: Bound<&[u8]>) -> Option<&[u8]> {
    match bound {
        Bound::Included(key) | Bound::Excluded(key) => Some(key),
        Bound::Unbounded => None,
    }
}

/// The smallest key above another.
fn after(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

fn shown(key: &[u8]) -> String {
    let start = &key[..key.len().min(SHOWN_BYTES_MAX)];
    let more = if start.len() < key.len() { ".." } else { "" };
    format!("{}{more}", start.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<StoredRange> {
        StoredRange::new(KeyspaceId::DEFAULT, from, to)
    }

    fn stored(key: &[u8]) -> Vec<u8> {
        StorageKey::new(KeyspaceId::DEFAULT, key)
            .as_slice()
            .to_vec()
    }

    #[test]
    fn a_range_has_the_keys_between_its_bounds() {
        use Bound::{Excluded, Included, Unbounded};
        let keys: [&[u8]; 6] = [b"", b"a", b"a\0", b"b", b"b\0", b"\xff\xff"];
        let bounds = keys.iter().flat_map(|&key| [Included(key), Excluded(key)]);
        let bounds: Vec<_> = bounds.chain([Unbounded]).collect();
        for &from in &bounds {
            for &to in &bounds {
                let Ok(range) = range(from, to) else {
                    assert!(key_of(from) > key_of(to));
                    continue;
                };
                for key in keys {
                    let above = std::ops::RangeBounds::<[u8]>::contains(&(from, Unbounded), key);
                    let below = std::ops::RangeBounds::<[u8]>::contains(&(Unbounded, to), key);
                    let key = stored(key);
                    assert_eq!(!range.is_behind(&key, Direction::Reverse), above);
                    assert_eq!(!range.is_behind(&key, Direction::Forward), below);
                    assert!(!(above && below && range.is_empty()));
                }
            }
        }
    }

    #[test]
    fn a_range_that_ends_before_it_starts_names_both_ends() {
        let error = range(Bound::Included(b"pear"), Bound::Included(b"apple\n")).unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, Error::Invalid { what: "range", .. }),
            "{text}"
        );
        assert!(
            text.contains("\"apple\\n\"") && text.contains("\"pear\""),
            "{text}"
        );
        let long = [b'k'; 1_000];
        let text = range(Bound::Excluded(&long), Bound::Excluded(b"a")).unwrap_err();
        assert!(text.to_string().len() < 200, "{text}");
        assert!(
            range(Bound::Excluded(b"a"), Bound::Excluded(b"a"))
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_walk_takes_off_what_it_has_passed() {
        let whole = range(Bound::Included(b"a"), Bound::Included(b"c")).unwrap();
        for (direction, left) in [
            (
                Direction::Forward,
                (Bound::Excluded(&b"b"[..]), Bound::Included(&b"c"[..])),
            ),
            (
                Direction::Reverse,
                (Bound::Included(&b"a"[..]), Bound::Excluded(&b"b"[..])),
            ),
        ] {
            let mut rest = whole.clone();
            rest.pass(&mut stored(b"b"), direction);
            assert_eq!(rest, range(left.0, left.1).unwrap());
        }
    }
}
