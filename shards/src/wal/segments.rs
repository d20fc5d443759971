//! The segments of one log: which are live, which wait to be used again, and where they lie.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use lightning_io::{BLOCK_BYTES, Env, File, FileKind, to_u64};

use super::reader::{RecordReader, Step};
use super::record::RecordHash;
use super::segment::{Headers, SegmentFile, SegmentHeader};
use crate::block::FORMAT_VERSION;
use crate::reread::read_judged;
use crate::{Corruption, Error, FileOwner, Lsn, Place, Result, SegmentId};

/// Files are named `wal-000001` and up, in the order of their creation.
const NAME_PREFIX: &str = "wal-";

/// How many files wait to be used again; more are removed.
const FREE_MAX: usize = 2;

/// A segment that holds records.
#[derive(Debug, Clone)]
pub(crate) struct Segment<F> {
    pub(crate) header: SegmentHeader,
    pub(crate) file: F,
}

impl<F: File> Segment<F> {
    /// The header copies that are not what they should be, and where they lie.
    async fn damaged_headers(&self) -> Result<Vec<(u8, u64)>> {
        let mut damaged = Vec::new();
        for (copy, offset) in self.header.copies() {
            let place = (offset, BLOCK_BYTES);
            let judge = |block: &[u8]| SegmentHeader::decode(block, copy) == Ok(self.header);
            if !read_judged(&self.file, place, judge, |sound| *sound).await? {
                damaged.push((copy, offset));
            }
        }
        Ok(damaged)
    }

    /// Writes the header copy that a crash or rot has taken; the one that was read has proven its
    /// content, and is durable.
    pub(crate) async fn complete_headers<E: Env<File = F>>(&self, env: &E) -> Result<()> {
        let file = SegmentFile {
            file: self.file.clone(),
            length: self.header.length,
        };
        for copy in self.damaged_headers().await? {
            file.write_header(env, &self.header, copy).await?;
        }
        Ok(())
    }
}

/// The segments of one shard's log.
///
/// `live` is ordered by segment id, and so by LSN: the records of one end where the next begins.
/// The last one is being written. `free` files hold nothing that is needed.
#[derive(Debug)]
pub(crate) struct Segments<E: Env> {
    env: E,
    directory: PathBuf,
    owner: FileOwner,
    live: VecDeque<Segment<E::File>>,
    free: Vec<SegmentFile<E::File>>,
    next_file: u64,
    next_segment: SegmentId,
}

impl<E: Env> Segments<E> {
    /// A log without segments, as at creation.
    pub(crate) fn empty(env: &E, directory: &Path, owner: FileOwner) -> Self {
        Self {
            env: env.clone(),
            directory: directory.to_path_buf(),
            owner,
            live: VecDeque::new(),
            free: Vec::new(),
            next_file: 1,
            next_segment: SegmentId(1),
        }
    }

    /// Finds the files that an earlier run left; `live` holds every file with a sound header.
    ///
    /// # Errors
    /// [`Error::Corruption`] for a file of another shard or one that is no longer as long as it was
    /// made, [`Error::Version`] for another version's.
    pub(crate) async fn find(env: &E, directory: &Path, owner: FileOwner) -> Result<Self> {
        let mut segments = Self::empty(env, directory, owner);
        // A file whose name is not durable yet must not take records that are.
        env.sync_dir(directory).await?;
        let mut live = Vec::new();
        for entry in env.read_dir(directory).await? {
            let Some(number) = file_number(&entry.name) else {
                continue;
            };
            if entry.kind != FileKind::File {
                continue;
            }
            segments.next_file = segments.next_file.max(number.saturating_add(1));
            let path = directory.join(&entry.name);
            let found = SegmentFile::open(env, &path).await?;
            match found.read_headers(owner).await? {
                Headers::Sound(header) => live.push(Segment {
                    header,
                    file: found.file,
                }),
                Headers::Unused => segments.free.push(found),
                Headers::Foreign(other) => {
                    let what = format!(
                        "the segment belongs to shard {} of database {}",
                        other.shard, other.database
                    );
                    return Err(Error::corruption(owner.shard, &path, 0, what));
                }
                Headers::Resized(expected) => {
                    let what = format!(
                        "the segment has {} bytes, expected {expected}",
                        found.length
                    );
                    return Err(Error::corruption(owner.shard, &path, 0, what));
                }
                Headers::Version(found) => {
                    return Err(Error::Version {
                        path,
                        found,
                        supported: FORMAT_VERSION,
                    });
                }
            }
        }
        live.sort_by_key(|segment| segment.header.segment);
        if let Some(pair) = live
            .windows(2)
            .find(|w| w[0].header.segment == w[1].header.segment)
        {
            // Either may hold a header that went astray: both are named.
            let (id, other) = (pair[1].header.segment, pair[0].file.path().display());
            let what = format!("segment {id} exists twice, also as {other}");
            return Err(Error::corruption(owner.shard, pair[1].file.path(), 0, what));
        }
        if let Some(newest) = live.last() {
            segments.next_segment = SegmentId(newest.header.segment.0.saturating_add(1));
        }
        segments.live = live.into();
        Ok(segments)
    }

    /// Reports damage that concerns the log as a whole.
    pub(crate) fn damage(&self, offset: u64, what: String) -> Error {
        Error::corruption(self.owner.shard, &self.directory, offset, what)
    }

    pub(crate) fn live(&self) -> impl DoubleEndedIterator<Item = &Segment<E::File>> {
        self.live.iter()
    }

    /// Whether this use of a file still holds records that are needed.
    pub(crate) fn is_live(&self, segment: &Segment<E::File>) -> bool {
        let id = segment.header.segment;
        self.live.iter().any(|live| live.header.segment == id)
    }

    pub(crate) fn live_count(&self) -> usize {
        self.live.len()
    }

    /// Bytes that live and waiting segments take on disk.
    pub(crate) fn bytes(&self) -> u64 {
        let live: u64 = self.live.iter().map(|segment| segment.header.length).sum();
        live + self.free.iter().map(|free| free.length).sum::<u64>()
    }

    /// Takes a waiting file of at least `length` bytes, if there is one.
    ///
    /// A file that somebody else changed may end within a block; its last header could not be written.
    pub(crate) fn take_free(&mut self, length: u64) -> Option<SegmentFile<E::File>> {
        let fits = |free: &SegmentFile<E::File>| {
            free.length >= length && free.length.is_multiple_of(to_u64(BLOCK_BYTES))
        };
        let at = self.free.iter().position(fits)?;
        Some(self.free.swap_remove(at))
    }

    /// Puts back a file that was prepared and not used.
    pub(crate) fn give_back(&mut self, file: SegmentFile<E::File>) {
        self.free.push(file);
    }

    /// The path of the next new file.
    pub(crate) fn next_path(&mut self) -> PathBuf {
        let path = self
            .directory
            .join(format!("{NAME_PREFIX}{:06}", self.next_file));
        // At the end of all numbers the name is taken, and creating the file says so.
        self.next_file = self.next_file.saturating_add(1);
        path
    }

    /// The header with which a file goes into use as the next segment.
    pub(crate) fn next_header(
        &mut self,
        length: u64,
        base: Lsn,
        previous: RecordHash,
        durable: Lsn,
    ) -> SegmentHeader {
        let segment = self.next_segment;
        self.next_segment = SegmentId(segment.0 + u64::from(!planted!("reuse_segment_number")));
        let epoch = self.env.random_u64();
        SegmentHeader {
            owner: self.owner,
            segment,
            epoch,
            base,
            previous,
            durable,
            length,
        }
    }

    /// Adds a segment whose headers are durable.
    pub(crate) fn push(&mut self, segment: Segment<E::File>) {
        if let Some(last) = self.live.back() {
            assert!(
                last.header.segment < segment.header.segment,
                "segments are used in order"
            );
            assert!(
                last.header.base <= segment.header.base,
                "the log does not go back"
            );
        }
        self.live.push_back(segment);
    }

    /// Takes out of use every segment but the last that ends at or below `checkpoint`.
    ///
    /// Files that are not kept for another use are returned, to be removed.
    pub(crate) fn release(&mut self, checkpoint: Lsn) -> Vec<E::File> {
        let checkpoint = Lsn(checkpoint.0 + u64::from(planted!("release_segment_early")));
        while self.live.len() > 1 && self.live[1].header.base <= checkpoint.next() {
            if let Some(old) = self.live.pop_front() {
                self.free.push(SegmentFile {
                    length: old.header.length,
                    file: old.file,
                });
            }
        }
        // The longest files are the ones that a busy log wants again.
        self.free.sort_by_key(|free| std::cmp::Reverse(free.length));
        let surplus = self.free.split_off(self.free.len().min(FREE_MAX));
        surplus.into_iter().map(|free| free.file).collect()
    }
}

/// The number in the name of a segment's file; `None` for other files.
pub(crate) fn file_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(NAME_PREFIX)?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

/// Reads a segment again, up to the record before `end`, and checks its headers and records.
///
/// # Errors
/// An I/O error, which is no damage to stored bytes.
pub(crate) async fn verify_segment<E: Env>(
    env: &E,
    segment: &Segment<E::File>,
    end: Lsn,
) -> Result<Vec<Corruption>> {
    let report = |offset, what| {
        let place = Place {
            shard: Some(segment.header.owner.shard),
            file: segment.file.path().to_path_buf(),
            offset,
        };
        Corruption {
            place,
            what,
            keys: None,
        }
    };
    let mut damages = Vec::new();
    for (_, offset) in segment.damaged_headers().await? {
        let what = "a copy of the segment's header is damaged".to_owned();
        damages.push(report(offset, what));
    }
    let mut reader = RecordReader::new(env, segment.clone());
    while reader.expected() < end {
        let offset = reader.offset();
        if let Step::Bad(what) = reader.step().await? {
            damages.push(report(offset, what));
            break;
        }
        env.yield_if_needed().await;
    }
    Ok(damages)
}
