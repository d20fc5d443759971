//! A segment: one file of the log, and the two headers that say what it holds.
//!
//! # On-disk layout
//! ```text
//! offset            size      content
//! 0                 4 KiB     header, copy 0
//! 4096              ..        records, one after the other; what follows them is of an earlier use
//! length - 4096     4 KiB     header, copy 1
//! ```
//! Header (see `block` for the frame):
//! ```text
//! offset  bytes  field
//!     16     16  database id
//!     32      2  shard
//!     34      1  copy: 0 or 1
//!     35      5  zeros
//!     40      8  segment id: grows with each use of any file
//!     48      8  epoch: random, drawn for each use
//!     56      8  LSN of the first record
//!     64      8  hash of the record before it
//!     72      8  durable LSN when the header was written
//!     80      8  length of the file in bytes
//! ```
//!
//! # Crash argument
//! A file is taken into use by writing both headers, each durably, before its first record. The two
//! copies lie at opposite ends, so one torn, rotten or misdirected write cannot hide a segment that
//! holds records. A crash between the two leaves headers of two uses: the higher segment id counts,
//! and it has no records yet.

use std::path::{Path, PathBuf};

use lightning_io::{Access, BLOCK_BYTES, Creation, Env, File, to_u64, to_usize};

use super::record::RecordHash;
use crate::block::{self, BODY, BlockError, get_u16, get_u64, put};
use crate::reread::read_judged;
use crate::{DatabaseId, FileOwner, Lsn, Result, SegmentId, ShardId};

pub(super) const MAGIC: [u8; 8] = *b"LDBWALSG";
const DATABASE: usize = BODY;
const SHARD: usize = DATABASE + 16;
const COPY: usize = SHARD + 2;
const ZEROS: usize = COPY + 1;
const SEGMENT: usize = ZEROS + 5;
const EPOCH: usize = SEGMENT + 8;
const BASE: usize = EPOCH + 8;
const PREVIOUS: usize = BASE + 8;
const DURABLE: usize = PREVIOUS + 8;
const LENGTH: usize = DURABLE + 8;
const END: usize = LENGTH + 8;

const _: () = assert!(SEGMENT == 40 && END == 88 && END <= BLOCK_BYTES);

/// Where the records begin.
pub(crate) const RECORDS: u64 = to_u64(BLOCK_BYTES);
/// The shortest segment: two headers and one record of one block.
pub(crate) const SEGMENT_BYTES_MIN: u64 = 3 * to_u64(BLOCK_BYTES);
/// How much is written at once when a new file is filled with zeros.
const FILL_BYTES: usize = 1 << 20;

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) owner: FileOwner,
    pub(crate) segment: SegmentId,
    pub(crate) epoch: u64,
    pub(crate) base: Lsn,
    pub(crate) previous: RecordHash,
    pub(crate) durable: Lsn,
    pub(crate) length: u64,
}

impl SegmentHeader {
    pub(super) fn encode(&self, copy: u8, block: &mut [u8]) {
        put(block, DATABASE, &self.owner.database.0);
        put(block, SHARD, &self.owner.shard.0.to_le_bytes());
        block[COPY] = copy;
        put(block, SEGMENT, &self.segment.0.to_le_bytes());
        put(block, EPOCH, &self.epoch.to_le_bytes());
        put(block, BASE, &self.base.0.to_le_bytes());
        put(block, PREVIOUS, &self.previous.0.to_le_bytes());
        put(block, DURABLE, &self.durable.0.to_le_bytes());
        put(block, LENGTH, &self.length.to_le_bytes());
        block::seal(block, MAGIC);
    }

    pub(crate) fn decode(block: &[u8], copy: u8) -> std::result::Result<Self, BlockError> {
        block::check(block, MAGIC)?;
        if block[COPY] != copy {
            return Err(BlockError::Magic);
        }
        let mut database = DatabaseId([0; 16]);
        database.0.copy_from_slice(&block[DATABASE..SHARD]);
        let (segment, base) = (get_u64(block, SEGMENT), Lsn(get_u64(block, BASE)));
        if segment > u64::MAX >> 1 || !(Lsn(1)..=Lsn::MAX).contains(&base) {
            return Err(BlockError::Fields("the segment's numbers are out of range"));
        }
        let length = get_u64(block, LENGTH);
        if length < SEGMENT_BYTES_MIN || !length.is_multiple_of(to_u64(BLOCK_BYTES)) {
            return Err(BlockError::Fields("no segment is made of this length"));
        }
        Ok(Self {
            owner: FileOwner {
                database,
                shard: ShardId(get_u16(block, SHARD)),
            },
            segment: SegmentId(segment),
            epoch: get_u64(block, EPOCH),
            base,
            previous: RecordHash(get_u64(block, PREVIOUS)),
            durable: Lsn(get_u64(block, DURABLE)),
            length,
        })
    }

    /// The numbers of the header's copies, and where they lie.
    pub(crate) fn copies(&self) -> [(u8, u64); 2] {
        [(0, 0), (1, self.records_end())]
    }

    /// The offset at which the records end and the second header begins.
    pub(crate) fn records_end(&self) -> u64 {
        self.length - to_u64(BLOCK_BYTES)
    }
}

/// A segment's file, in use or waiting for it.
#[derive(Debug, Clone)]
pub(crate) struct SegmentFile<F> {
    pub(crate) file: F,
    pub(crate) length: u64,
}

/// A place where a header lies, and what is there.
pub(crate) type HeaderCopy = (u64, std::result::Result<SegmentHeader, BlockError>);

/// What reading a file's two headers gave.
#[derive(Debug)]
pub(crate) enum Headers {
    /// The header that counts.
    Sound(SegmentHeader),
    /// Neither copy was ever completed: the file is not in use.
    Unused,
    /// A sound header of another database or shard.
    Foreign(FileOwner),
    /// Sound, but of another format version.
    Version(u32),
    /// Sound, but the file was of this length then: what it held may be cut off.
    Resized(u64),
}

impl<F: File> SegmentFile<F> {
    /// Creates a file of `length` bytes, zeros throughout, and makes it and its name durable.
    pub(crate) async fn create<E: Env<File = F>>(
        env: &E,
        path: &Path,
        length: u64,
    ) -> Result<Self> {
        assert!(length >= SEGMENT_BYTES_MIN && length.is_multiple_of(to_u64(BLOCK_BYTES)));
        let file = env
            .open(path, Access::ReadWriteDurable, Creation::MustCreate)
            .await?;
        file.preallocate(length).await?;
        let mut offset = 0;
        while offset < length {
            let bytes = to_usize((length - offset).min(to_u64(FILL_BYTES)));
            file.write_at(offset, env.allocate(bytes)).await?;
            offset += to_u64(bytes);
            env.yield_if_needed().await;
        }
        file.sync().await?;
        let directory: PathBuf = path.parent().map(Path::to_path_buf).unwrap_or_default();
        if !planted!("lose_segment_dir_sync") {
            env.sync_dir(&directory).await?;
        }
        Ok(Self { file, length })
    }

    /// Opens a file that an earlier run left.
    pub(crate) async fn open<E: Env<File = F>>(env: &E, path: &Path) -> Result<Self> {
        let file = env
            .open(path, Access::ReadWriteDurable, Creation::MustExist)
            .await?;
        let length = file.length().await?;
        Ok(Self { file, length })
    }

    /// Takes the file into use: writes both headers, each durable before the next.
    pub(crate) async fn write_headers<E: Env<File = F>>(
        &self,
        env: &E,
        header: &SegmentHeader,
    ) -> Result<()> {
        assert_eq!(header.length, self.length);
        for &copy in &header.copies()[usize::from(planted!("one_segment_header"))..] {
            self.write_header(env, header, copy).await?;
        }
        Ok(())
    }

    /// Writes one copy of the header, durably.
    pub(crate) async fn write_header<E: Env<File = F>>(
        &self,
        env: &E,
        header: &SegmentHeader,
        (copy, offset): (u8, u64),
    ) -> Result<()> {
        let mut block = env.allocate(BLOCK_BYTES);
        header.encode(copy, &mut block);
        self.file.write_at(offset, block).await?;
        Ok(())
    }

    /// Reads the places where the headers lie, as far as the file has them; each with its offset.
    ///
    /// A copy that is not sound, or not `owner`'s where that is known, is read twice.
    pub(crate) async fn read_copies(&self, owner: Option<FileOwner>) -> Result<Vec<HeaderCopy>> {
        let block = to_u64(BLOCK_BYTES);
        let last = self.length / block * block;
        let is_good = |found: &std::result::Result<SegmentHeader, BlockError>| {
            let found = found.as_ref().ok();
            found.is_some_and(|found| owner.is_none_or(|owner| found.owner == owner))
        };
        let mut copies = Vec::new();
        for (copy, offset) in [(0, Some(0)), (1, last.checked_sub(block))] {
            if let Some(offset) = offset.filter(|offset| offset + block <= last) {
                let judge = |block: &[u8]| SegmentHeader::decode(block, copy);
                let place = (offset, BLOCK_BYTES);
                let found = read_judged(&self.file, place, judge, is_good).await?;
                copies.push((offset, found));
            }
        }
        Ok(copies)
    }

    /// Reads the headers and picks the one that counts.
    ///
    /// What would free the file or hide its newest use is read twice: a copy that is not sound, and
    /// both copies when they differ.
    pub(crate) async fn read_headers(&self, owner: FileOwner) -> Result<Headers> {
        if self.length < to_u64(BLOCK_BYTES) {
            // Creation was cut short: a file in use has had its whole length synced first.
            return Ok(Headers::Unused);
        }
        let mut copies = self.read_copies(Some(owner)).await?;
        if copies.windows(2).any(|pair| pair[0].1 != pair[1].1) {
            copies = self.read_copies(Some(owner)).await?;
        }
        let mut best: Option<SegmentHeader> = None;
        let mut reason = Headers::Unused;
        for (_, copy) in copies {
            match copy {
                Ok(header) if header.owner != owner => reason = Headers::Foreign(header.owner),
                Ok(header) if header.length != self.length => {
                    reason = Headers::Resized(header.length);
                }
                Ok(header) if best.is_none_or(|best| best.segment < header.segment) => {
                    best = Some(header);
                }
                Ok(_)
                | Err(
                    BlockError::Blank
                    | BlockError::Magic
                    | BlockError::Fields(_)
                    | BlockError::Checksum { .. },
                ) => {}
                Err(BlockError::Version(version)) => reason = Headers::Version(version),
            }
        }
        Ok(best.map_or(reason, Headers::Sound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            owner: FileOwner {
                database: DatabaseId([9; 16]),
                shard: ShardId(2),
            },
            segment: SegmentId(5),
            epoch: 6,
            base: Lsn(7),
            previous: RecordHash(8),
            durable: Lsn(6),
            length: 1 << 20,
        }
    }

    #[test]
    fn what_was_encoded_is_decoded_in_its_own_place_only() {
        let mut block = vec![0; BLOCK_BYTES];
        header().encode(1, &mut block);
        assert_eq!(SegmentHeader::decode(&block, 1), Ok(header()));
        assert_eq!(SegmentHeader::decode(&block, 0), Err(BlockError::Magic));
    }

    #[test]
    fn numbers_that_cannot_be_counted_on_from_are_refused() {
        let refused = |change: fn(&mut SegmentHeader)| {
            let (mut header, mut block) = (header(), vec![0; BLOCK_BYTES]);
            change(&mut header);
            header.encode(0, &mut block);
            matches!(SegmentHeader::decode(&block, 0), Err(BlockError::Fields(_)))
        };
        assert!(!refused(|header| header.base = Lsn::MAX));
        assert!(refused(|header| header.base = Lsn::MAX.next()));
        assert!(refused(|header| header.base = Lsn(0)));
        assert!(refused(|header| header.segment = SegmentId(u64::MAX)));
        assert!(!refused(|header| header.length = SEGMENT_BYTES_MIN));
        assert!(refused(|header| header.length = 2 * to_u64(BLOCK_BYTES)));
        assert!(refused(|header| header.length += 1));
    }

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let mut block = vec![0; BLOCK_BYTES];
        header().encode(0, &mut block);
        assert_eq!(&block[..8], b"LDBWALSG");
        assert_eq!(
            &block[16..48],
            &[&[9; 16][..], &[2, 0, 0, 0, 0, 0, 0, 0, 5], &[0; 7]].concat()
        );
        assert_eq!(block[80..88], (1_u64 << 20).to_le_bytes());
    }
}
