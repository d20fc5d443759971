//! The log's decoders, for [`crate::fuzz`].

use lightning_io::{BLOCK_BYTES, to_u64, to_usize};

use super::commit::{self, Ops};
use super::record::{HEADER_BYTES, RecordHash, RecordHeader, RecordKind, record_bytes};
use super::segment::{self, SegmentHeader};
use crate::block::{get_u32, put};
use crate::fuzz::{
    Decoder, Draw, OWNER, Verdict, check_block, noise, number, refused, repair_block,
};
use crate::message::Target;
use crate::{EntryFlags, KeyspaceId, Lsn, SegmentId, StorageKey, Timestamp, Ttl};

pub(crate) const SEGMENT_HEADER: Decoder = Decoder {
    name: "segment_header",
    make: make_segment_header,
    inflated_bytes_max: 0,
    repair: |bytes| repair_block(bytes, segment::MAGIC),
    check: check_segment_header,
};

pub(crate) const RECORD_HEADER: Decoder = Decoder {
    name: "record_header",
    make: |draw| make_record(draw)[..HEADER_BYTES].to_vec(),
    inflated_bytes_max: 0,
    repair: repair_record_header,
    check: check_record_header,
};

pub(crate) const RECORD: Decoder = Decoder {
    name: "record",
    make: make_record,
    inflated_bytes_max: 0,
    repair: repair_record,
    check: check_record,
};

pub(crate) const COMMIT: Decoder = Decoder {
    name: "commit",
    make: make_payload,
    inflated_bytes_max: 0,
    repair: |_| (),
    check: |bytes| match check_payload(bytes) {
        Ok(()) => Verdict::Accepted { covered_bytes: 0 },
        Err(what) => refused(what),
    },
};

fn make_segment_header(draw: Draw<'_>) -> Vec<u8> {
    let header = SegmentHeader {
        owner: OWNER,
        segment: SegmentId(number(draw) / 2),
        epoch: number(draw),
        base: Lsn((number(draw) / 2).max(1)),
        previous: RecordHash(number(draw)),
        durable: Lsn(number(draw)),
        length: to_u64(BLOCK_BYTES) * (3 + draw(1 << 20)),
    };
    let mut block = vec![0; BLOCK_BYTES];
    header.encode(0, &mut block);
    block
}

fn check_segment_header(bytes: &[u8]) -> Verdict {
    check_block(bytes, |block| {
        let header = SegmentHeader::decode(block, 0)?;
        let mut again = vec![0; BLOCK_BYTES];
        header.encode(0, &mut again);
        assert_eq!(SegmentHeader::decode(&again, 0), Ok(header));
        Ok(())
    })
}

fn make_ops(draw: Draw<'_>) -> Ops {
    let mut ops = Ops::default();
    for _ in 0..draw(6) {
        let keyspace = KeyspaceId(u32::try_from(draw(1 << 32)).expect("drawn below 2^32"));
        let key = [&noise(draw, 20)[..], b"k"].concat();
        let added = if draw(4) == 0 {
            ops.delete(keyspace, &key)
        } else {
            ops.put(keyspace, &key, &noise(draw, 60))
        };
        added.expect("within every bound");
    }
    ops
}

fn make_payload(draw: Draw<'_>) -> Vec<u8> {
    let mut payload = Vec::new();
    for _ in 0..draw(5) {
        let (ops, timestamp) = (make_ops(draw), Timestamp(number(draw)));
        let start = payload.len();
        payload.resize(start + commit::commit_bytes(&ops), 0);
        commit::encode(&ops, timestamp, draw(2) == 0, &mut payload[start..]);
    }
    payload
}

/// Walks over all commits to the last byte, or to what is wrong with them.
fn check_payload(mut payload: &[u8]) -> Result<(), &'static str> {
    loop {
        let before = payload.len();
        let Some(commit) = commit::decode(&mut payload)? else {
            return Ok(());
        };
        assert!(payload.len() < before, "a commit takes bytes");
        let ops = commit.ops().collect::<Result<Vec<_>, _>>()?;
        let mut again = Ops::default();
        for op in &ops {
            let Some(key) = StorageKey::user_key(op.key) else {
                unreachable!("an operation has a whole stored key");
            };
            let keyspace = KeyspaceId(get_u32(op.key, 0).swap_bytes());
            let expiring = op.flags.contains(EntryFlags::EXPIRING);
            let ttl = expiring.then(|| Ttl::of(op.value).expect("it was decoded with one"));
            let (_, value) = op.value.split_at(ttl.map_or(0, |_| Ttl::BYTES));
            let added = if op.flags == EntryFlags::TOMBSTONE {
                again.delete(keyspace, key)
            } else {
                again.put_to(Target { keyspace, ttl }, key, value)
            };
            added.expect("what is decoded is within the bounds of what is written");
        }
        let mut bytes = vec![0; commit::commit_bytes(&again)];
        commit::encode(&again, commit.timestamp, false, &mut bytes);
        let mut rest = &bytes[..];
        let second = commit::decode(&mut rest).expect("sound").expect("a commit");
        assert!(second.ops().eq(ops.into_iter().map(Ok)) && rest.is_empty());
        assert_eq!(second.timestamp, commit.timestamp);
    }
}

fn make_record(draw: Draw<'_>) -> Vec<u8> {
    let payload = make_payload(draw);
    let kind = if draw(4) == 0 {
        RecordKind::Mark
    } else {
        RecordKind::Group
    };
    let lsn = (number(draw) / 2).max(1);
    let header = RecordHeader {
        shard: OWNER.shard,
        kind,
        epoch: number(draw),
        lsn: Lsn(lsn),
        previous: RecordHash(number(draw)),
        durable: Lsn(draw(lsn)),
        timestamp: Timestamp(number(draw)),
    };
    let mut record = vec![0; record_bytes(payload.len())];
    put(&mut record, HEADER_BYTES, &payload);
    header.seal(&mut record, payload.len());
    record
}

const HEADER_CHECKSUM: usize = 4;
const PAYLOAD_CHECKSUM: usize = 8;
const PAYLOAD_BYTES: usize = 12;

fn repair_record_header(bytes: &mut [u8]) {
    if bytes.len() >= HEADER_BYTES {
        let checksum = crc32fast::hash(&bytes[PAYLOAD_CHECKSUM..HEADER_BYTES]);
        put(bytes, HEADER_CHECKSUM, &checksum.to_le_bytes());
    }
}

fn repair_record(bytes: &mut [u8]) {
    if bytes.len() >= HEADER_BYTES {
        let payload_bytes = to_usize(u64::from(get_u32(bytes, PAYLOAD_BYTES)));
        if let Some(rest) = bytes.get(HEADER_BYTES..record_bytes(payload_bytes)) {
            let checksum = crc32fast::hash(rest);
            put(bytes, PAYLOAD_CHECKSUM, &checksum.to_le_bytes());
        }
        repair_record_header(bytes);
    }
}

fn check_record_header(bytes: &[u8]) -> Verdict {
    match RecordHeader::decode(bytes) {
        Ok((header, _, _)) => {
            assert!(header.durable < header.lsn);
            Verdict::Accepted {
                covered_bytes: HEADER_BYTES,
            }
        }
        Err(error) => refused(error),
    }
}

fn check_record(bytes: &[u8]) -> Verdict {
    let (header, payload, _) = match RecordHeader::open(bytes) {
        Ok(opened) => opened,
        Err(error) => return refused(error),
    };
    let mut again = vec![0; record_bytes(payload.len())];
    put(&mut again, HEADER_BYTES, payload);
    let hash = header.seal(&mut again, payload.len());
    let (header_again, payload_again, hash_again) =
        RecordHeader::open(&again).expect("a sealed record is sound");
    assert_eq!((header_again, payload_again), (header, payload));
    assert_eq!(hash_again, hash);
    if let Err(what) = check_payload(payload) {
        assert!(!what.is_empty(), "a refusal says why");
    }
    Verdict::Accepted {
        covered_bytes: again.len(),
    }
}
