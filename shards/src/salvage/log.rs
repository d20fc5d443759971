//! The log of one shard, with what damage has left of it.
//!
//! # Algorithm
//! 1. Every segment file is looked at. One sound header copy is enough. Without any, the first record
//!    that is sound by itself says which use of the file its records are of.
//! 2. Segments are read in the order of their records. Behind a bad place the reader goes on at the
//!    next record that is sound by itself, of the same use of the segment and not behind its LSN.
//! 3. LSNs that were passed over are lost. So are those that no segment holds although a durable mark
//!    says that they were there. What stands behind every mark is the torn end of a log, and none.

use std::path::{Path, PathBuf};

use lightning_io::{BLOCK_BYTES, Env, File, FileKind, to_u64};

use super::report::{Findings, Lost, ShardSalvage};
use super::source::{Source, SourceFile};
use crate::block::BlockError;
use crate::wal::{
    Commit, HeaderCopy, RecordHash, RecordHeader, RecordReader, SEGMENT_BYTES_MIN, Segment,
    SegmentFile, SegmentHeader, Step, decode_commit, file_number,
};
use crate::{Entry, FileOwner, Lsn, Result, SegmentId, TxnId};

/// How much is read at once in search of a first record.
const WINDOW_BYTES: u64 = 1 << 20;

/// From where on the log is needed, and how far it is known to have gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needed {
    /// Everything up to here is in the tree; `None` when no superblock says so.
    pub(super) checkpoint: Option<Lsn>,
    /// The highest LSN that the superblock calls durable.
    pub(super) durable: Lsn,
}

impl Needed {
    fn first(self) -> Lsn {
        self.checkpoint.unwrap_or_default().next()
    }
}

type SourceSegment<E> = Segment<SourceFile<<E as Env>::File>>;

/// A segment that can be read.
#[derive(Debug)]
struct LogSegment<E: Env> {
    segment: SourceSegment<E>,
    /// Where the file ends that should go on.
    cut_at: Option<u64>,
}

/// The segments of a log that can be read.
#[derive(Debug)]
pub(super) struct Log<E: Env> {
    env: Source<E>,
    directory: PathBuf,
    /// In the order of their records.
    segments: Vec<LogSegment<E>>,
}

/// A place where a record should have been.
struct BadPlace {
    file: PathBuf,
    offset: u64,
    what: String,
}

impl<E: Env> Log<E> {
    /// Finds the segments of a shard.
    pub(super) async fn find(
        env: &Source<E>,
        directory: &Path,
        owner: FileOwner,
        needed: Needed,
        findings: &mut Findings,
    ) -> Result<Self> {
        let mut segments: Vec<LogSegment<E>> = Vec::new();
        for entry in env.read_dir(directory).await? {
            if entry.kind != FileKind::File || file_number(&entry.name).is_none() {
                continue;
            }
            let path = directory.join(&entry.name);
            match find_segment(env, &path, owner, findings).await {
                Ok(segment) => segments.extend(segment),
                Err(what) => {
                    // It may have held anything that the tree does not.
                    let (from, to) = (needed.first(), None);
                    findings.lose(&path, 0, what, Lost::Records { from, to });
                }
            }
        }
        segments.sort_by_key(|found| {
            let header = &found.segment.header;
            (header.base, header.segment)
        });
        Ok(Self {
            env: env.clone(),
            directory: directory.to_path_buf(),
            segments,
        })
    }

    /// Reads every record that is needed and hands its versions to `visit`, in order. What is missing
    /// goes to `findings`.
    pub(super) async fn read(
        &self,
        needed: Needed,
        findings: &mut Findings,
        visit: &mut impl FnMut(Entry<'_>),
    ) -> Result<ShardSalvage> {
        let first = self.segments.first().map(|first| first.segment.header.base);
        // Without a superblock nobody knows what was in the tree: what is there is what is needed.
        let from = needed
            .checkpoint
            .map_or(first.unwrap_or_default(), Lsn::next);
        let mut reading = Reading {
            findings,
            visit,
            expected: from,
            durable: needed.durable,
            bad: None,
            is_torn: false,
            read: ShardSalvage::default(),
        };
        for (at, found) in self.segments.iter().enumerate() {
            let segment = &found.segment;
            let next = self.segments.get(at + 1);
            let next = next.map(|next| next.segment.header.base);
            let end = next.unwrap_or(Lsn(u64::MAX));
            reading.durable = reading.durable.max(segment.header.durable);
            if end > reading.expected {
                self.read_segment(segment, end, &mut reading).await?;
            }
        }
        let Some(last) = self.segments.last() else {
            let (from, to) = (needed.first(), None);
            let what = "no segment of the log can be read";
            findings.lose(&self.directory, 0, what, Lost::Records { from, to });
            return Ok(ShardSalvage::default());
        };
        reading.end(last);
        Ok(reading.read)
    }

    async fn read_segment(
        &self,
        segment: &SourceSegment<E>,
        end: Lsn,
        reading: &mut Reading<'_, impl FnMut(Entry<'_>)>,
    ) -> Result<()> {
        let mut reader = RecordReader::new(&self.env, segment.clone());
        while reader.expected() < end {
            let offset = reader.offset();
            match reader.step().await? {
                Step::Record(header) => {
                    reading.durable = reading.durable.max(header.durable);
                    let path = segment.file.path();
                    reading.record(path, offset, &header, reader.payload());
                }
                Step::Bad(what) => {
                    let file = segment.file.path().to_path_buf();
                    reading.bad.get_or_insert(BadPlace { file, offset, what });
                    let (found, durable) = reader.resync().await?;
                    reading.durable = reading.durable.max(durable);
                    if !found {
                        reading.is_torn = is_torn(segment, offset).await?;
                        break;
                    }
                }
            }
            self.env.yield_if_needed().await;
        }
        Ok(())
    }
}

/// Where the reading of a log has come to.
struct Reading<'a, V> {
    findings: &'a mut Findings,
    visit: &'a mut V,
    /// The LSN that comes next if none is missing.
    expected: Lsn,
    /// The highest LSN that any mark so far calls durable.
    durable: Lsn,
    /// The first bad place since the last record.
    bad: Option<BadPlace>,
    /// Whether the last bad place was that of a record of its segment, and not of what lay there
    /// before.
    is_torn: bool,
    read: ShardSalvage,
}

impl<V: FnMut(Entry<'_>)> Reading<'_, V> {
    fn record(&mut self, path: &Path, offset: u64, header: &RecordHeader, payload: &[u8]) {
        if header.lsn < self.expected {
            self.bad = None;
            return;
        }
        if header.lsn > self.expected {
            let to = Some(Lsn(header.lsn.0 - 1));
            self.lose(to, (path, offset), "the log does not reach back");
        }
        self.bad = None;
        self.expected = header.lsn.next();
        self.read.records += 1;
        self.read.last_record = header.lsn;
        if let Err(what) = self.commits(payload) {
            let (from, to) = (header.lsn, Some(header.lsn));
            let lost = Lost::Records { from, to };
            self.findings.lose(path, offset, what, lost);
        }
    }

    fn commits(&mut self, mut payload: &[u8]) -> std::result::Result<(), String> {
        while let Some(commit) = decode_commit(&mut payload)? {
            if commit.txn != TxnId::default() {
                return Err(format!("a commit belongs to transaction {}", commit.txn));
            }
            self.commit(&commit)?;
            self.read.commits += 1;
        }
        Ok(())
    }

    fn commit(&mut self, commit: &Commit<'_>) -> std::result::Result<(), &'static str> {
        for op in commit.ops() {
            let op = op?;
            (self.visit)(Entry {
                key: op.key,
                timestamp: commit.timestamp,
                flags: op.flags,
                value: op.value,
            });
        }
        Ok(())
    }

    /// Records up to `last` are missing; `at` is where the one behind them stands.
    fn lose(&mut self, to: Option<Lsn>, at: (&Path, u64), what: &str) {
        let from = self.expected;
        let lost = Lost::Records { from, to };
        match self.bad.take() {
            Some(bad) => self.findings.lose(&bad.file, bad.offset, bad.what, lost),
            None => self.findings.lose(at.0, at.1, what, lost),
        }
    }

    /// At the end of the last segment.
    fn end<E: Env>(&mut self, last: &LogSegment<E>) {
        let path = last.segment.file.path();
        if let Some(cut_at) = last.cut_at {
            self.bad = None;
            self.lose(None, (path, cut_at), "the file ends too early");
        } else if self.expected <= self.durable {
            let to = Some(self.durable);
            self.lose(to, (path, 0), "a durable mark says that there was more");
        } else if self.is_torn
            && let Some(bad) = &self.bad
        {
            let what = format!(
                "the log ends with a record that is not whole ({}): a write that was under way, or \
                 damage to what was acknowledged last",
                bad.what
            );
            self.findings.note(&bad.file, bad.offset, what);
        }
    }
}

/// Whether a place without a sound record has a part of one of this use of the segment.
async fn is_torn<F: File>(segment: &Segment<F>, offset: u64) -> Result<bool> {
    let block = segment.file.read_at(offset, BLOCK_BYTES).await?;
    Ok(match RecordHeader::decode(&block) {
        Ok((header, ..)) => header.epoch == segment.header.epoch,
        Err(_) => RecordHeader::has_magic(&block),
    })
}

/// Looks at one file: a segment that holds records, or a file that was certainly never in use.
///
/// # Errors
/// Why it cannot be read, although it may hold records.
async fn find_segment<E: Env>(
    env: &Source<E>,
    path: &Path,
    owner: FileOwner,
    findings: &mut Findings,
) -> std::result::Result<Option<LogSegment<E>>, String> {
    let found = SegmentFile::open(env, path).await;
    let found = found.map_err(|error| error.to_string())?;
    let copies = found.read_copies(Some(owner)).await;
    let copies = copies.map_err(|error| error.to_string())?;
    let mut best: Option<SegmentHeader> = None;
    for (_, copy) in &copies {
        match copy {
            Ok(header) if !is_usable(header) => {}
            Ok(header) if header.owner != owner => {
                return Err(format!(
                    "the segment belongs to shard {} of database {}",
                    header.owner.shard, header.owner.database
                ));
            }
            Ok(header) if best.is_none_or(|best| best.segment < header.segment) => {
                best = Some(*header);
            }
            _ => {}
        }
    }
    for (offset, copy) in &copies {
        match copy {
            Err(BlockError::Version(version)) if best.is_none() => {
                return Err(format!("the segment has format version {version}"));
            }
            Err(error) if best.is_some() => {
                findings.note(path, *offset, format!("a copy of the header: {error}"));
            }
            _ => {}
        }
    }
    let never_used = copies.len() == 2
        && found.length >= SEGMENT_BYTES_MIN
        && found.length.is_multiple_of(to_u64(BLOCK_BYTES))
        // Of a file in use both were written, and one damage does not blank both ends.
        && copies.iter().any(|(_, copy)| *copy == Err(BlockError::Blank));
    let mut cut_at = None;
    let mut header = match best {
        Some(header) => header,
        None => match first_record(env, &found, owner).await {
            Some(header) => {
                let what = "no copy of the header is sound; the records say what it was";
                findings.note(path, 0, what);
                header
            }
            None if never_used => {
                note_unused(path, &copies, findings);
                return Ok(None);
            }
            None => return Err("no copy of the header and no record is sound".to_owned()),
        },
    };
    if header.length > found.length {
        let (expected, length) = (header.length, found.length);
        let what = format!("expected {expected} bytes, found {length}");
        findings.note(path, length, what);
        cut_at = Some(length);
        // Records go up to where the file ends now.
        let block = to_u64(BLOCK_BYTES);
        header.length = (length / block * block + block).max(SEGMENT_BYTES_MIN);
    }
    let file = found.file;
    Ok(Some(LogSegment {
        segment: Segment { header, file },
        cut_at,
    }))
}

/// Notes what is wrong with a segment that waits for its first use.
fn note_unused(path: &Path, copies: &[HeaderCopy], findings: &mut Findings) {
    for (offset, copy) in copies {
        if let Err(error) = copy
            && *error != BlockError::Blank
        {
            let what = format!("a segment that was not used yet: {error}");
            findings.note(path, *offset, what);
        }
    }
}

/// Whether the numbers of a header whose checksum holds can be worked with.
fn is_usable(header: &SegmentHeader) -> bool {
    header.length >= SEGMENT_BYTES_MIN
        && header.length.is_multiple_of(to_u64(BLOCK_BYTES))
        && header.base < Lsn(u64::MAX)
}

/// The header that a segment must have had, by the first record in it that is sound by itself.
async fn first_record<E: Env>(
    env: &Source<E>,
    found: &SegmentFile<SourceFile<E::File>>,
    owner: FileOwner,
) -> Option<SegmentHeader> {
    let block = to_u64(BLOCK_BYTES);
    let end = found.length / block * block;
    let mut offset = block;
    while offset < end {
        let len = (end - offset).min(WINDOW_BYTES);
        let window = found
            .file
            .read_at(offset, lightning_io::to_usize(len))
            .await;
        let window = window.ok()?;
        for record in window.chunks(BLOCK_BYTES) {
            if let Ok((header, _, _)) = RecordHeader::decode(record)
                && header.shard == owner.shard
                && header.lsn < Lsn(u64::MAX)
            {
                return Some(SegmentHeader {
                    owner,
                    segment: SegmentId(0),
                    epoch: header.epoch,
                    base: header.lsn,
                    previous: RecordHash::default(),
                    durable: header.durable,
                    // The second header's place is no place of records.
                    length: end.max(SEGMENT_BYTES_MIN),
                });
            }
        }
        offset += len;
        env.yield_if_needed().await;
    }
    None
}
