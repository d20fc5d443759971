//! Every decoder of stored bytes, as a fuzzer needs it: sound bytes to begin with, checksums put
//! right after a change, and a check that finds contradictions.
//!
//! A check panics when a decoder contradicts itself; that a decoder panics is a finding as well.

use std::fmt::Display;

use lightning_io::BLOCK_BYTES;

use crate::block::{self, BlockError, get_u16};
use crate::identity::{self, Identity};
use crate::superblock::{self, Checkpoint};
use crate::tree::TreeState;
use crate::wal::{Marks, Ops, RecordHash};
use crate::{DatabaseId, FileOwner, Lsn, ShardId, Timestamp, tree, wal};

/// Draws a number below a bound; 0 for a bound of 0.
pub type Draw<'a> = &'a mut dyn FnMut(u64) -> u64;

/// What a decoder makes of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// They are not what it decodes, for the reason that is told; never an empty one.
    Refused(String),
    /// They are, and a checksum covers so many of them from the front: none where there is no
    /// checksum.
    Accepted {
        /// The bytes that no change may go unnoticed in.
        covered_bytes: usize,
    },
}

/// One decoder.
#[derive(Debug, Clone, Copy)]
pub struct Decoder {
    /// What it decodes.
    pub name: &'static str,
    /// Makes sound bytes.
    pub make: fn(Draw<'_>) -> Vec<u8>,
    /// Puts the checksums of changed bytes right, as far as the bytes still say where they are.
    pub repair: fn(&mut [u8]),
    /// What any bytes may decompress to at the most.
    pub inflated_bytes_max: usize,
    /// Decodes, and checks what comes of it.
    pub check: fn(&[u8]) -> Verdict,
}

/// All of them.
pub const DECODERS: &[Decoder] = &[
    Decoder {
        name: "block_frame",
        make: make_frame,
        inflated_bytes_max: 0,
        repair: |bytes| repair_block(bytes, FRAME_MAGIC),
        check: check_frame,
    },
    Decoder {
        name: "identity",
        make: make_identity,
        inflated_bytes_max: 0,
        repair: |bytes| repair_block(bytes, identity::MAGIC),
        check: check_identity,
    },
    Decoder {
        name: "superblock",
        make: make_superblock,
        inflated_bytes_max: 0,
        repair: |bytes| repair_block(bytes, superblock::MAGIC),
        check: check_superblock,
    },
    wal::fuzz::SEGMENT_HEADER,
    wal::fuzz::RECORD_HEADER,
    wal::fuzz::RECORD,
    wal::fuzz::COMMIT,
    tree::fuzz::STATE,
    tree::fuzz::FILE_HEADER,
    tree::fuzz::LEAF,
    tree::fuzz::INNER,
    tree::fuzz::BLOB,
    tree::fuzz::SPACE_MAP,
    tree::fuzz::RUN_LIST,
    tree::fuzz::FILTER,
];

const FRAME_MAGIC: [u8; 8] = *b"LDBFUZZ\0";

/// Whose everything is that is made here.
pub(crate) const OWNER: FileOwner = FileOwner {
    database: DatabaseId(*b"0123456789abcdef"),
    shard: ShardId(5),
};

/// The stored keys and the values of what a salvage hands on.
pub fn salvaged(puts: &Ops) -> impl Iterator<Item = (&[u8], &[u8])> {
    puts.ops().map(|op| {
        let op = op.expect("a salvage hands on whole operations");
        (op.key, op.value)
    })
}

/// Bytes of any values.
pub(crate) fn noise(draw: Draw<'_>, len_max: u64) -> Vec<u8> {
    let len = draw(len_max + 1);
    (0..len).map(|_| byte(draw)).collect()
}

/// Any byte.
pub(crate) fn byte(draw: Draw<'_>) -> u8 {
    draw(256).to_le_bytes()[0]
}

/// Any number, small ones more often.
pub(crate) fn number(draw: Draw<'_>) -> u64 {
    let bits = draw(65);
    let any = draw(1 << 32) << 32 | draw(1 << 32);
    if bits == 0 { 0 } else { any >> (64 - bits) }
}

/// Seals a block again.
pub(crate) fn repair_block(bytes: &mut [u8], magic: [u8; 8]) {
    if bytes.len() == BLOCK_BYTES {
        block::seal(bytes, magic);
    }
}

/// What every decoder of a whole block says: blocks are read whole or not at all.
pub(crate) fn check_block(
    bytes: &[u8],
    check: impl FnOnce(&[u8]) -> Result<(), BlockError>,
) -> Verdict {
    if bytes.len() != BLOCK_BYTES {
        return refused("not a block");
    }
    match check(bytes) {
        Ok(()) => Verdict::Accepted {
            covered_bytes: BLOCK_BYTES,
        },
        Err(error) => refused(error),
    }
}

/// A refusal that says why.
pub(crate) fn refused(why: impl Display) -> Verdict {
    let why = why.to_string();
    assert!(!why.is_empty(), "a refusal says why");
    Verdict::Refused(why)
}

fn make_frame(draw: Draw<'_>) -> Vec<u8> {
    let mut block = noise(draw, 64);
    block.resize(BLOCK_BYTES, 0);
    block::seal(&mut block, FRAME_MAGIC);
    block
}

fn check_frame(bytes: &[u8]) -> Verdict {
    check_block(bytes, |block| block::check(block, FRAME_MAGIC))
}

fn make_identity(draw: Draw<'_>) -> Vec<u8> {
    let shards = u16::try_from(1 + draw(u64::from(crate::SHARDS_MAX))).expect("at most 1024");
    let state = if draw(2) == 0 {
        identity::State::Creating
    } else {
        identity::State::Ready
    };
    let mut block = vec![0; BLOCK_BYTES];
    Identity::new(OWNER.database, shards).encode(state, 0, &mut block);
    block
}

fn check_identity(bytes: &[u8]) -> Verdict {
    check_block(bytes, |block| {
        let (identity, state) = Identity::decode(block, 0)?;
        let mut again = vec![0; BLOCK_BYTES];
        identity.encode(state, 0, &mut again);
        assert_eq!(Identity::decode(&again, 0), Ok((identity, state)));
        let shards = identity.router().shards();
        assert!((1..=crate::SHARDS_MAX).contains(&shards));
        assert!(identity.router().shard_of(block).0 < shards);
        Ok(())
    })
}

fn make_superblock(draw: Draw<'_>) -> Vec<u8> {
    let mut tree = [0; TreeState::BYTES];
    tree.copy_from_slice(&tree::fuzz::make_state(draw));
    let tree = TreeState::decode(&tree).expect("a sound state is made");
    let durable = number(draw) / 2;
    let marks = Marks {
        checkpoint: Lsn(draw(durable + 1)),
        checkpoint_hash: RecordHash(number(draw)),
        durable: Lsn(durable),
    };
    let content = Checkpoint {
        marks,
        newest: Timestamp(number(draw)),
        tree,
    };
    let mut block = vec![0; BLOCK_BYTES];
    superblock::encode(OWNER, 0, number(draw) / 2, &content, &mut block);
    block
}

fn check_superblock(bytes: &[u8]) -> Verdict {
    check_block(bytes, |block| {
        let (owner, generation, content) = superblock::decode(block, 0)?;
        let mut again = vec![0; BLOCK_BYTES];
        superblock::encode(owner, 0, generation, &content, &mut again);
        let decoded = superblock::decode(&again, 0);
        assert_eq!(decoded, Ok((owner, generation, content)));
        assert_eq!(get_u16(&again, 32), owner.shard.0);
        Ok(())
    })
}
