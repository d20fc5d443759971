//! What a record's payload holds: commits, each with its operations.
//!
//! # On-disk layout
//! ```text
//! commit: offset  bytes  field
//!              0      4  length in bytes, this header included
//!              4      1  kind: 1 batch on this shard alone
//!              5      1  flags: bit 0 relaxed durability
//!              6      2  zeros
//!              8      8  commit timestamp
//!             16      8  transaction id, 0 where it has none
//!             24      .  operations, one after the other
//!
//! operation: 0      4  key length, and in the uppermost byte the entry's flags (bit 0: tombstone)
//!            4      4  value length
//!            8      4  keyspace, big-endian: with the key it is the stored key, in one piece
//!           12      .  key, then value
//! ```

use std::collections::BTreeMap;

use lightning_io::{to_u32, to_u64, to_usize};

use crate::block::{get_u32, get_u64};
use crate::{
    BATCH_BYTES_MAX, EntryFlags, Error, KEY_BYTES_MAX, KeyspaceId, Result, Router, ShardId,
    StorageKey, Timestamp, TxnId, VALUE_BYTES_MAX,
};

const LENGTH: usize = 0;
const KIND: usize = LENGTH + 4;
const FLAGS: usize = KIND + 1;
const ZEROS: usize = FLAGS + 1;
const TIMESTAMP: usize = ZEROS + 2;
const TXN: usize = TIMESTAMP + 8;
const COMMIT_HEADER_BYTES: usize = TXN + 8;

const KEY_LENGTH: usize = 0;
const VALUE_LENGTH: usize = KEY_LENGTH + 4;
const STORED_KEY: usize = VALUE_LENGTH + 4;
/// Bytes in front of each operation's key.
const OP_HEADER_BYTES: usize = STORED_KEY + StorageKey::PREFIX_BYTES;

const KEY_LENGTH_BITS: u32 = 24;
const RELAXED: u8 = 1;

const _: () = assert!(COMMIT_HEADER_BYTES == 24 && OP_HEADER_BYTES == 12);
const _: () = assert!(KEY_BYTES_MAX < 1 << KEY_LENGTH_BITS);

/// What a commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommitKind {
    /// A batch that concerns this shard alone.
    Batch,
}

/// A commit, borrowed from a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Commit<'a> {
    pub(crate) kind: CommitKind,
    pub(crate) timestamp: Timestamp,
    pub(crate) txn: TxnId,
    ops: &'a [u8],
}

/// One operation of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Op<'a> {
    pub(crate) flags: EntryFlags,
    /// The stored key, keyspace first.
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// Operations in the form in which they go to the log, built where the caller is, so that a shard
/// copies them once and checks nothing again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ops {
    bytes: Vec<u8>,
    count: usize,
}

impl Ops {
    /// Adds a put.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the key, the value or the whole exceeds its bound; nothing is added.
    pub fn put(&mut self, keyspace: KeyspaceId, key: &[u8], value: &[u8]) -> Result<()> {
        self.push(keyspace, EntryFlags::VALUE, key, value)
    }

    /// Adds a deletion.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the key or the whole exceeds its bound; nothing is added.
    pub fn delete(&mut self, keyspace: KeyspaceId, key: &[u8]) -> Result<()> {
        self.push(keyspace, EntryFlags::TOMBSTONE, key, &[])
    }

    /// The number of operations.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Their size in the log.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether all of them delete.
    pub(crate) fn only_delete(&self) -> bool {
        self.ops()
            .all(|op| op.is_ok_and(|op| op.flags.contains(EntryFlags::TOMBSTONE)))
    }

    /// Splits the operations by the shard that owns their keys, keeping their order on each.
    pub(crate) fn split(self, router: Router) -> Vec<(ShardId, Self)> {
        if router.shards() == 1 {
            return vec![(ShardId(0), self)];
        }
        let mut parts: BTreeMap<ShardId, Self> = BTreeMap::new();
        for op in self.ops() {
            let op = op.expect("operations were encoded by this build");
            let routed = &op.key[usize::from(planted!("split_by_part_of_key"))..];
            let part = parts.entry(router.shard_of(routed)).or_default();
            part.push_stored(op.flags, op.key, op.value);
        }
        parts.into_iter().collect()
    }

    pub(crate) fn ops(&self) -> OpsIter<'_> {
        OpsIter { rest: &self.bytes }
    }

    fn push(
        &mut self,
        keyspace: KeyspaceId,
        flags: EntryFlags,
        key: &[u8],
        value: &[u8],
    ) -> Result<()> {
        check_key(key)?;
        check_value(value)?;
        let total = self.bytes.len() + OP_HEADER_BYTES + key.len() + value.len();
        if total > BATCH_BYTES_MAX {
            let reason = format!("{total} bytes; the most is {BATCH_BYTES_MAX}");
            return Err(Error::Invalid {
                what: "batch",
                reason,
            });
        }
        self.push_header(flags, key.len(), value.len());
        StorageKey::write(keyspace, key, &mut self.bytes);
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    /// Adds the put of a stored key that was checked.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the value exceeds its bound; nothing is added.
    pub(crate) fn put_stored(&mut self, key: &StorageKey, value: &[u8]) -> Result<()> {
        check_value(value)?;
        self.push_stored(EntryFlags::VALUE, key.as_slice(), value);
        Ok(())
    }

    /// Adds the deletion of a stored key that was checked.
    pub(crate) fn delete_stored(&mut self, key: &StorageKey) {
        self.push_stored(EntryFlags::TOMBSTONE, key.as_slice(), &[]);
    }

    /// Adds an operation whose stored key and value are known to keep their bounds.
    pub(crate) fn push_stored(&mut self, flags: EntryFlags, stored_key: &[u8], value: &[u8]) {
        self.push_header(
            flags,
            stored_key.len() - StorageKey::PREFIX_BYTES,
            value.len(),
        );
        self.bytes.extend_from_slice(stored_key);
        self.bytes.extend_from_slice(value);
    }

    fn push_header(&mut self, flags: EntryFlags, key_bytes: usize, value_bytes: usize) {
        let key_length = to_u32(key_bytes) | u32::from(flags.to_byte()) << KEY_LENGTH_BITS;
        self.bytes.extend_from_slice(&key_length.to_le_bytes());
        self.bytes
            .extend_from_slice(&to_u32(value_bytes).to_le_bytes());
        self.count += 1;
    }
}

/// Checks a caller's key against its bounds.
///
/// # Errors
/// [`Error::Invalid`] when it is empty or too long.
pub(crate) fn check_key(key: &[u8]) -> Result<()> {
    let reason = match key.len() {
        0 => "it is empty; a key has at least 1 byte".to_owned(),
        len if len > KEY_BYTES_MAX => format!("{len} bytes; the most is {KEY_BYTES_MAX}"),
        _ => return Ok(()),
    };
    Err(Error::Invalid {
        what: "key",
        reason,
    })
}

/// Checks a caller's value against its bound.
///
/// # Errors
/// [`Error::Invalid`] when it is too long.
pub(crate) fn check_value(value: &[u8]) -> Result<()> {
    if value.len() <= VALUE_BYTES_MAX {
        return Ok(());
    }
    let reason = format!("{} bytes; the most is {VALUE_BYTES_MAX}", value.len());
    Err(Error::Invalid {
        what: "value",
        reason,
    })
}

/// Bytes that a commit with these operations takes in a record.
pub(crate) fn commit_bytes(ops: &Ops) -> usize {
    COMMIT_HEADER_BYTES + ops.bytes()
}

/// Writes a batch's commit into a record's payload.
pub(crate) fn encode(ops: &Ops, timestamp: Timestamp, relaxed: bool, into: &mut [u8]) {
    assert_eq!(into.len(), commit_bytes(ops));
    let mut header = [0; COMMIT_HEADER_BYTES];
    header[LENGTH..KIND].copy_from_slice(&to_u32(into.len()).to_le_bytes());
    header[KIND] = 1;
    header[FLAGS] = if relaxed { RELAXED } else { 0 };
    header[TIMESTAMP..TXN].copy_from_slice(&timestamp.0.to_le_bytes());
    let (head, tail) = into.split_at_mut(COMMIT_HEADER_BYTES);
    head.copy_from_slice(&header);
    tail.copy_from_slice(&ops.bytes);
}

/// Takes the next commit off a payload; `None` at its end.
///
/// # Errors
/// What is wrong, when the bytes are no commit. Their record's checksum matched, so this means
/// that another program wrote them.
pub(crate) fn decode<'a>(payload: &mut &'a [u8]) -> Result<Option<Commit<'a>>, &'static str> {
    if payload.is_empty() {
        return Ok(None);
    }
    if payload.len() < COMMIT_HEADER_BYTES {
        return Err("a commit's header is cut off");
    }
    let length = to_usize(u64::from(get_u32(payload, LENGTH)));
    if length < COMMIT_HEADER_BYTES || length > payload.len() {
        return Err("a commit's length does not fit its record");
    }
    let (bytes, rest) = payload.split_at(length);
    let kind = match bytes[KIND] {
        1 => CommitKind::Batch,
        _ => return Err("a commit is of an unknown kind"),
    };
    if bytes[FLAGS] & !RELAXED != 0 {
        return Err("a commit has unknown flags");
    }
    let commit = Commit {
        kind,
        timestamp: Timestamp(get_u64(bytes, TIMESTAMP)),
        txn: TxnId(get_u64(bytes, TXN)),
        ops: &bytes[COMMIT_HEADER_BYTES..],
    };
    *payload = rest;
    Ok(Some(commit))
}

impl<'a> Commit<'a> {
    /// Its operations, in the caller's order.
    pub(crate) fn ops(&self) -> OpsIter<'a> {
        OpsIter { rest: self.ops }
    }
}

/// Walks over encoded operations.
#[derive(Debug, Clone)]
pub(crate) struct OpsIter<'a> {
    rest: &'a [u8],
}

impl<'a> OpsIter<'a> {
    fn take(&mut self) -> Result<Op<'a>, &'static str> {
        let bytes = self.rest;
        if bytes.len() < OP_HEADER_BYTES {
            return Err("an operation's header is cut off");
        }
        let key_word = get_u32(bytes, KEY_LENGTH);
        let [.., flags] = key_word.to_le_bytes();
        let flags = EntryFlags::from_byte(flags)
            .filter(|&flags| flags == EntryFlags::VALUE || flags == EntryFlags::TOMBSTONE)
            .ok_or("an operation has unknown flags")?;
        let key_length = u64::from(key_word & ((1 << KEY_LENGTH_BITS) - 1));
        let value_length = u64::from(get_u32(bytes, VALUE_LENGTH));
        if !(1..=to_u64(KEY_BYTES_MAX)).contains(&key_length)
            || value_length > to_u64(VALUE_BYTES_MAX)
        {
            return Err("an operation's key or value has a length that is never written");
        }
        if flags == EntryFlags::TOMBSTONE && value_length > 0 {
            return Err("a deletion has a value");
        }
        let key_end = to_u64(OP_HEADER_BYTES) + key_length;
        let end = key_end + value_length;
        if end > to_u64(bytes.len()) {
            return Err("an operation does not fit its commit");
        }
        let op = Op {
            flags,
            key: &bytes[STORED_KEY..to_usize(key_end)],
            value: &bytes[to_usize(key_end)..to_usize(end)],
        };
        self.rest = &bytes[to_usize(end)..];
        Ok(op)
    }
}

impl<'a> Iterator for OpsIter<'a> {
    type Item = Result<Op<'a>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let op = self.take();
        if op.is_err() {
            self.rest = &[];
        }
        Some(op)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Ops {
        let mut ops = Ops::default();
        ops.put(KeyspaceId(1), b"alpha", b"one").expect("fits");
        ops.delete(KeyspaceId(2), b"beta").expect("fits");
        ops.put(KeyspaceId(1), b"gamma", b"").expect("fits");
        ops
    }

    fn encoded() -> Vec<u8> {
        let ops = sample();
        let mut bytes = vec![0; commit_bytes(&ops)];
        encode(&ops, Timestamp(77), true, &mut bytes);
        bytes
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let bytes = encoded();
        let mut payload = &bytes[..];
        let commit = decode(&mut payload).expect("sound").expect("one commit");
        assert_eq!(commit.kind, CommitKind::Batch);
        assert_eq!((commit.timestamp, commit.txn), (Timestamp(77), TxnId(0)));
        let ops: Vec<Op> = commit.ops().collect::<Result<_, _>>().expect("sound");
        let expected: Vec<Op> = sample_ops();
        assert_eq!(ops, expected);
        assert!(decode(&mut payload).expect("sound").is_none());
    }

    fn sample_ops() -> Vec<Op<'static>> {
        let op = |flags, key, value| Op { flags, key, value };
        vec![
            op(
                EntryFlags::VALUE,
                b"\0\0\0\x01alpha".as_slice(),
                b"one".as_slice(),
            ),
            op(EntryFlags::TOMBSTONE, b"\0\0\0\x02beta", b""),
            op(EntryFlags::VALUE, b"\0\0\0\x01gamma", b""),
        ]
    }

    #[test]
    fn a_commit_cut_anywhere_is_an_error() {
        let bytes = encoded();
        for len in 1..bytes.len() {
            assert!(decode(&mut &bytes[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn any_changed_byte_is_decoded_without_a_panic() {
        let bytes = encoded();
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                if let Ok(Some(commit)) = decode(&mut &changed[..]) {
                    assert!(commit.ops().count() <= changed.len());
                }
            }
        }
    }

    /// The memtable takes such lengths for mistakes of its caller, and panics.
    #[test]
    fn an_operation_beyond_the_bounds_of_a_batch_is_refused() {
        let decoded = |flags: u32, key: usize, value: usize| {
            let mut bytes = (to_u32(key) | flags << 24).to_le_bytes().to_vec();
            bytes.extend_from_slice(&to_u32(value).to_le_bytes());
            bytes.resize(OP_HEADER_BYTES + key + value, 7);
            OpsIter { rest: &bytes }.all(|op| op.is_ok())
        };
        assert!(decoded(0, KEY_BYTES_MAX, 1) && decoded(0, 1, VALUE_BYTES_MAX));
        assert!(!decoded(0, KEY_BYTES_MAX + 1, 1));
        assert!(!decoded(0, 1, VALUE_BYTES_MAX + 1));
        assert!(!decoded(0, 0, 1));
        assert!(decoded(1, 1, 0) && !decoded(1, 1, 1));
    }

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let bytes = encoded();
        assert_eq!(
            &bytes[..8],
            &[u8::try_from(bytes.len()).unwrap(), 0, 0, 0, 1, 1, 0, 0]
        );
        assert_eq!(&bytes[24..44], b"\x05\0\0\0\x03\0\0\0\0\0\0\x01alphaone");
        assert_eq!(&bytes[44..60], b"\x04\0\0\x01\0\0\0\0\0\0\0\x02beta");
    }

    #[test]
    fn keys_and_values_beyond_their_bounds_are_refused() {
        let mut ops = Ops::default();
        let long = vec![0; KEY_BYTES_MAX + 1];
        assert!(matches!(
            ops.put(KeyspaceId(1), b"", b""),
            Err(Error::Invalid { what: "key", .. })
        ));
        assert!(matches!(
            ops.delete(KeyspaceId(1), &long),
            Err(Error::Invalid { what: "key", .. })
        ));
        assert!(ops.put(KeyspaceId(1), &long[1..], b"").is_ok());
        let huge = vec![0; VALUE_BYTES_MAX + 1];
        let refused = ops.put(KeyspaceId(1), b"k", &huge);
        assert!(matches!(refused, Err(Error::Invalid { what: "value", .. })));
        assert_eq!(ops.len(), 1);
    }
}
