//! The keys and values of a run: short to name, and unmistakable when they come back.
//!
//! A key is a number and a value is a tag with a length; the bytes of both are computed from that.
//! So the model stays small, and a value that comes back tells which write it was part of.

use std::collections::BTreeMap;
use std::fmt;

use lightning_io::sim::Rng;
use lightning_io::to_usize;
use lightning_shards::{KEY_BYTES_MAX, KeyspaceId, Router, StorageKey};

/// The keyspace that everything is written to.
pub(crate) const KEYSPACE: KeyspaceId = KeyspaceId::DEFAULT;

/// Which key of a run.
pub(crate) type KeyId = usize;

/// A value, without its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value {
    /// The write and the operation in it: no two values of a run share one.
    pub tag: u64,
    /// Its length in bytes.
    pub len: usize,
}

/// A value of at least this length cannot be taken for another.
pub(crate) const TAG_BYTES: usize = 8;

/// Operations of a write up to this number have tags of their own.
const OPS_PER_WRITE: u64 = 1 << 16;

impl Value {
    /// The value that an operation of a write puts.
    pub(crate) fn new(write: u64, op: u64, len: usize) -> Self {
        debug_assert!(op < OPS_PER_WRITE);
        Self {
            tag: write * OPS_PER_WRITE + op,
            len,
        }
    }

    fn chunk(self, index: usize) -> [u8; 8] {
        let index = lightning_io::to_u64(index);
        if index == 0 {
            return self.tag.to_le_bytes();
        }
        // Half of each value repeats itself, as real ones do.
        let noise = self.tag.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (index / 2);
        noise.rotate_left(17).to_le_bytes()
    }

    /// The bytes.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len + 8);
        for index in 0..self.len.div_ceil(8) {
            bytes.extend_from_slice(&self.chunk(index));
        }
        bytes.truncate(self.len);
        bytes
    }

    /// Whether `bytes` are this value's.
    pub(crate) fn is(self, bytes: &[u8]) -> bool {
        bytes.len() == self.len
            && bytes
                .chunks(8)
                .enumerate()
                .all(|(index, chunk)| *chunk == self.chunk(index)[..chunk.len()])
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (write, op) = (self.tag / OPS_PER_WRITE, self.tag % OPS_PER_WRITE);
        write!(f, "write {write}.{op} ({} bytes)", self.len)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Says what bytes that came back seem to be.
pub(crate) fn describe(bytes: &[u8]) -> String {
    let Some(tag) = bytes.first_chunk::<8>() else {
        return format!("{} bytes ({})", bytes.len(), bytes.escape_ascii());
    };
    let value = Value {
        tag: u64::from_le_bytes(*tag),
        len: bytes.len(),
    };
    if value.is(bytes) {
        value.to_string()
    } else {
        format!("{} bytes that nobody wrote", bytes.len())
    }
}

/// How long the keys of a run are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyShape {
    /// How many there are.
    pub count: usize,
    /// Whether there may be keys of some hundred bytes to a few KiB.
    pub long: bool,
    /// Whether there is one of the longest that are allowed.
    pub giant: bool,
}

/// All keys of a run.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    bytes: Vec<Vec<u8>>,
    ids: BTreeMap<Vec<u8>, KeyId>,
}

impl Keys {
    /// Draws the keys of a run.
    pub(crate) fn draw(shape: KeyShape, rng: &mut Rng) -> Self {
        let mut keys = Self {
            bytes: Vec::with_capacity(shape.count),
            ids: BTreeMap::new(),
        };
        for id in 0..shape.count {
            let key = if shape.giant && id == shape.count / 2 {
                numbered(b"giant", KEY_BYTES_MAX, id)
            } else {
                draw_key(shape, id, rng)
            };
            if keys.ids.insert(key.clone(), id).is_none() {
                keys.bytes.push(key);
            } else {
                // Two short keys met: this one is written out.
                let key = numbered(b"again", 16, id);
                keys.ids.insert(key.clone(), id);
                keys.bytes.push(key);
            }
        }
        // A short key that met another was entered under the later number; set that right.
        for (id, key) in keys.bytes.iter().enumerate() {
            keys.ids.insert(key.clone(), id);
        }
        keys
    }

    /// The number of keys.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes of a key.
    pub(crate) fn bytes(&self, id: KeyId) -> &[u8] {
        &self.bytes[id]
    }

    /// Which key these bytes are.
    pub(crate) fn id(&self, bytes: &[u8]) -> Option<KeyId> {
        self.ids.get(bytes).copied()
    }

    /// The shard of a key.
    pub(crate) fn shard(&self, router: Router, id: KeyId) -> usize {
        let stored = StorageKey::new(KEYSPACE, &self.bytes[id]);
        router.shard_of(stored.as_slice()).index()
    }

    /// How a report names a key.
    pub(crate) fn name(&self, id: KeyId) -> String {
        let bytes = &self.bytes[id];
        let shown = &bytes[..bytes.len().min(24)];
        let more = if bytes.len() > shown.len() { ".." } else { "" };
        format!(
            "key {id} ({}{more}, {} bytes)",
            shown.escape_ascii(),
            bytes.len()
        )
    }
}

fn draw_key(shape: KeyShape, id: KeyId, rng: &mut Rng) -> Vec<u8> {
    match rng.below(100) {
        0..6 => vec![u8::try_from(rng.below(256)).unwrap_or(0)],
        6..12 => {
            let pair = u16::try_from(rng.below(1 << 16)).unwrap_or(0);
            pair.to_le_bytes().to_vec()
        }
        12..60 => format!("user:{id:06}").into_bytes(),
        60..85 => numbered(b"account/of/somebody/", 24 + rng.index(40), id),
        85..97 if shape.long => numbered(b"p", 200 + rng.index(1_800), id),
        97..100 if shape.long => numbered(b"qq", 2_000 + rng.index(3_000), id),
        _ => numbered(b"z", 12, id),
    }
}

/// A key of a length that begins with a text and ends with its number.
fn numbered(text: &[u8], len: usize, id: KeyId) -> Vec<u8> {
    let number = lightning_io::to_u32(id).to_le_bytes();
    let len = len.max(text.len() + number.len());
    let mut key = text.to_vec();
    key.resize(len - number.len(), b'-');
    key.extend(number.iter().rev());
    key
}

/// Draws a value's length.
pub(crate) fn draw_value_bytes(big: bool, rng: &mut Rng) -> usize {
    let (from, below): (usize, u64) = match rng.below(100) {
        0..8 => (0, 1),
        8..50 => (1, 33),
        50..78 => (33, 300),
        78..93 => (300, 4_200),
        93..98 if big => (4_000, 20_000),
        98..100 if big => (20_000, 300_000),
        _ => (100, 1_500),
    };
    from + to_usize(rng.below(below - lightning_io::to_u64(from)))
}
