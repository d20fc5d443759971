//! Reading a log back: record by record inside a segment, and segment by segment at recovery.
//!
//! # Where a log ends
//! A crash leaves a torn record at the end; rot can leave a bad record anywhere. They look alike,
//! and only a durable mark tells them apart: everything at or below one was on disk, so a bad
//! record there is rot, and opening refuses. Marks are the superblock's, those in segment headers,
//! and the `durable_lsn` of records behind the bad one. A bad record above every mark was never
//! acknowledged as durable: the log is cut before it, and what follows goes to a new segment with a
//! new epoch, whose first LSN says where the old one ends. So the old bytes can never come back.
//!
//! A read may go astray although what is stored is sound, and would then end the log too early for
//! good. So whatever speaks for the end, the bad record and the absence of marks behind it, is read
//! a second time from the device before it is believed.

use std::collections::VecDeque;

use lightning_io::{BLOCK_BYTES, Env, File, IoBuf, to_u64, to_usize};

use super::commit::{self, Commit};
use super::record::{HEADER_BYTES, RecordError, RecordHash, RecordHeader, record_bytes};
use super::segment::RECORDS;
use super::segments::{Segment, Segments};
use crate::reread::read_retrying;
use crate::{Error, Lsn, Result, ShardId};

/// How much of a segment is read at once: large enough for the device's full rate.
const WINDOW_BYTES: usize = 1 << 20;

/// What stands at the reader's place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A sound record that continues the chain.
    Record(RecordHeader),
    /// No such record: what is there instead.
    Bad(String),
}

/// Follows the chain of records through one segment.
#[derive(Debug)]
pub(crate) struct RecordReader<E: Env> {
    env: E,
    segment: Segment<E::File>,
    window: Option<(u64, IoBuf)>,
    /// Where the next record should begin.
    offset: u64,
    /// The LSN that it should have.
    expected: Lsn,
    /// The hash of the record before it.
    previous: RecordHash,
    /// The last record's payload, as a range of the window.
    payload: std::ops::Range<usize>,
}

impl<E: Env> RecordReader<E> {
    /// Starts at a segment's first record.
    pub(crate) fn new(env: &E, segment: Segment<E::File>) -> Self {
        let (expected, previous) = (segment.header.base, segment.header.previous);
        let env = env.clone();
        Self {
            env,
            segment,
            window: None,
            offset: RECORDS,
            expected,
            previous,
            payload: 0..0,
        }
    }

    /// The LSN that the next record should have.
    pub(crate) fn expected(&self) -> Lsn {
        self.expected
    }

    /// Where the next record should begin.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The payload of the record that [`Self::step`] last gave.
    pub(crate) fn payload(&self) -> &[u8] {
        self.window
            .as_ref()
            .map_or(&[], |(_, window)| &window[self.payload.clone()])
    }

    /// Reads the record at the reader's place and steps over it, if it is sound. A bad one is read
    /// twice.
    pub(crate) async fn step(&mut self) -> Result<Step> {
        if self.offset >= self.segment.header.records_end() {
            return Ok(Step::Bad("the segment is full".to_owned()));
        }
        let first = self.step_once().await?;
        let Step::Bad(what) = first else {
            return Ok(first);
        };
        self.window = None;
        let second = self.step_once().await?;
        if let Step::Record(header) = &second {
            let (file, lsn) = (self.segment.file.path().display(), header.lsn);
            tracing::warn!(%file, %lsn, what, "a record was misread; it is sound");
        }
        Ok(second)
    }

    async fn step_once(&mut self) -> Result<Step> {
        let end = self.segment.header.records_end();
        let at = self.load(BLOCK_BYTES).await?;
        let (header, payload_bytes) = match RecordHeader::decode(&self.window()[at..]) {
            Ok((header, payload_bytes, _)) => (header, to_usize(u64::from(payload_bytes))),
            Err(error) => return Ok(Step::Bad(error.to_string())),
        };
        if let Some(what) = self.misfit(&header) {
            return Ok(Step::Bad(what));
        }
        let bytes = record_bytes(payload_bytes);
        if to_u64(bytes) > end - self.offset {
            let payload_bytes = lightning_io::to_u32(payload_bytes);
            return Ok(Step::Bad(RecordError::Length { payload_bytes }.to_string()));
        }
        let at = self.load(bytes).await?;
        let hash = match RecordHeader::open(&self.window()[at..at + bytes]) {
            Ok((_, _, hash)) => hash,
            Err(error) => return Ok(Step::Bad(error.to_string())),
        };
        self.payload = at + HEADER_BYTES..at + HEADER_BYTES + payload_bytes;
        self.offset += to_u64(bytes);
        self.expected = self.expected.next();
        self.previous = hash;
        Ok(Step::Record(header))
    }

    /// The highest LSN that any later record of this use of the segment calls durable; the reader
    /// stays where it is.
    pub(crate) async fn durable_behind(&mut self) -> Result<Lsn> {
        let place = self.offset;
        let mut durable = self.segment.header.durable;
        // Twice, each time from the device.
        for _ in 0..2 {
            self.window = None;
            durable = durable.max(self.marks_behind().await?);
            self.offset = place;
        }
        Ok(durable)
    }

    async fn marks_behind(&mut self) -> Result<Lsn> {
        let header = self.segment.header;
        let (mut durable, mut offset) = (Lsn(0), self.offset);
        while offset < header.records_end() {
            self.offset = offset;
            let at = self.load(BLOCK_BYTES).await?;
            if let Ok((record, _, _)) = RecordHeader::decode(&self.window()[at..])
                && record.epoch == header.epoch
                && record.shard == header.owner.shard
            {
                durable = durable.max(record.durable);
                if planted!("torn_tail_is_rot") {
                    durable = record.lsn;
                }
            }
            offset += to_u64(BLOCK_BYTES);
            self.env.yield_if_needed().await;
        }
        Ok(durable)
    }

    /// Goes on at the next sound record of this use of the segment, from the reader's place on, whose
    /// LSN is not below the expected one: for those who read what damage has left. Whether anything
    /// was behind the place, and the highest LSN that a record there calls durable.
    pub(crate) async fn resync(&mut self) -> Result<(bool, Lsn)> {
        let segment = self.segment.header;
        let mut durable = Lsn::default();
        while self.offset < segment.records_end() {
            let at = self.load(BLOCK_BYTES).await?;
            if let Ok((header, payload_bytes, _)) = RecordHeader::decode(&self.window()[at..])
                && (header.epoch, header.shard) == (segment.epoch, segment.owner.shard)
                && (self.expected..Lsn(u64::MAX)).contains(&header.lsn)
            {
                durable = durable.max(header.durable);
                let bytes = record_bytes(to_usize(u64::from(payload_bytes)));
                if to_u64(bytes) <= segment.records_end() - self.offset {
                    let at = self.load(bytes).await?;
                    if RecordHeader::open(&self.window()[at..at + bytes]).is_ok() {
                        (self.expected, self.previous) = (header.lsn, header.previous);
                        return Ok((true, durable));
                    }
                }
            }
            self.offset += to_u64(BLOCK_BYTES);
            self.env.yield_if_needed().await;
        }
        Ok((false, durable))
    }

    fn misfit(&self, header: &RecordHeader) -> Option<String> {
        let expected = &self.segment.header;
        if planted!("replay_stale_tail") {
            return None;
        }
        if header.epoch != expected.epoch || header.shard != expected.owner.shard {
            return Some("a record of an earlier use of the segment".to_owned());
        }
        if header.lsn != self.expected {
            return Some(format!(
                "record {} stands where {} belongs",
                header.lsn, self.expected
            ));
        }
        (header.previous != self.previous)
            .then(|| format!("record {} does not continue the one before it", header.lsn))
    }

    fn window(&self) -> &[u8] {
        self.window.as_ref().map_or(&[], |(_, window)| window)
    }

    /// Makes sure that `bytes` from the reader's place on are in the window; returns where.
    async fn load(&mut self, bytes: usize) -> Result<usize> {
        if let Some((start, window)) = &self.window
            && *start <= self.offset
            && self.offset + to_u64(bytes) <= start + to_u64(window.len())
        {
            return Ok(to_usize(self.offset - start));
        }
        let rest = to_usize(self.segment.header.length - self.offset);
        let wanted = bytes.max(WINDOW_BYTES).min(rest);
        // The old window goes first, so that two are never held at once.
        self.window = None;
        let window = read_retrying(&self.segment.file, self.offset, wanted, || ()).await?;
        self.window = Some((self.offset, window));
        Ok(0)
    }
}

/// What is known to be durable before the log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Marks {
    /// Everything up to here is in the tree.
    pub(crate) checkpoint: Lsn,
    /// The hash of that record.
    pub(crate) checkpoint_hash: RecordHash,
    /// The highest LSN known to have been durable.
    pub(crate) durable: Lsn,
}

/// Where a log ended, and so where writing goes on.
#[derive(Debug)]
pub(crate) struct LogEnd<E: Env> {
    pub(crate) segments: Segments<E>,
    /// The last sound record.
    pub(crate) last: Lsn,
    pub(crate) last_hash: RecordHash,
}

/// Reads the records behind a checkpoint, in order.
#[derive(Debug)]
pub(crate) struct Replay<E: Env> {
    env: E,
    segments: Segments<E>,
    marks: Marks,
    reader: RecordReader<E>,
    rest: VecDeque<Segment<E::File>>,
}

impl<E: Env> Replay<E> {
    /// Finds the record behind the checkpoint.
    ///
    /// # Errors
    /// [`Error::Corruption`] when the log does not reach back to the checkpoint.
    pub(crate) fn start(env: &E, segments: Segments<E>, marks: Marks) -> Result<Self> {
        let mut rest: VecDeque<_> = segments.live().cloned().collect();
        while rest.len() > 1 && rest[1].header.base <= marks.checkpoint.next() {
            rest.pop_front();
        }
        let Some(first) = rest.pop_front() else {
            return Err(segments.damage(0, "no segment of the log is left".to_owned()));
        };
        if first.header.base > marks.checkpoint.next() {
            let what = format!(
                "the log begins with record {}, but everything after record {} is needed",
                first.header.base, marks.checkpoint
            );
            return Err(Error::corruption(
                first.header.owner.shard,
                first.file.path(),
                0,
                what,
            ));
        }
        let reader = RecordReader::new(env, first);
        Ok(Self {
            env: env.clone(),
            segments,
            marks,
            reader,
            rest,
        })
    }

    /// Steps to the next record behind the checkpoint; `None` at the end of the log.
    ///
    /// # Errors
    /// [`Error::Corruption`] when records are missing or damaged that were durable.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordHeader>> {
        loop {
            self.check_against_checkpoint()?;
            if self.reaches_next_segment() {
                self.enter_next_segment()?;
                continue;
            }
            match self.reader.step().await? {
                Step::Record(header)
                    if header.lsn <= self.marks.checkpoint && !planted!("replay_stale_tail") => {}
                Step::Record(header) => return Ok(Some(header)),
                Step::Bad(what) => {
                    self.judge_tail(&what).await?;
                    return Ok(None);
                }
            }
        }
    }

    /// The commits of the record that [`Self::next`] last gave.
    ///
    /// # Errors
    /// [`Error::Corruption`] when the record's content is not what this build writes.
    pub(crate) fn commits(&self) -> impl Iterator<Item = Result<Commit<'_>>> {
        let mut payload = self.reader.payload();
        std::iter::from_fn(move || {
            let mut commit = commit::decode(&mut payload);
            if planted!("cut_record_replayed") && commit.is_err() {
                commit = Ok(None);
            }
            if commit.is_err() {
                payload = &[];
            }
            commit
                .map_err(|what| self.damage(what.to_owned()))
                .transpose()
        })
    }

    /// The record that [`Self::next`] last gave, and its hash.
    pub(crate) fn position(&self) -> (Lsn, RecordHash) {
        (Lsn(self.reader.expected.0 - 1), self.reader.previous)
    }

    /// Reports damage in the record that [`Self::next`] last gave.
    pub(crate) fn damage(&self, what: String) -> Error {
        let segment = &self.reader.segment;
        Error::corruption(
            segment.header.owner.shard,
            segment.file.path(),
            self.reader.offset,
            what,
        )
    }

    /// The shard whose log it is.
    pub(crate) fn shard(&self) -> ShardId {
        self.reader.segment.header.owner.shard
    }

    /// Makes sure that what was read cannot vanish in the next crash.
    pub(crate) async fn sync(&self) -> Result<()> {
        for segment in self.segments.live() {
            segment.file.sync().await?;
        }
        Ok(())
    }

    /// Ends the replay: every segment that was trusted is synced, and those that lie wholly below
    /// `checkpoint`, which is durable, wait to be used again.
    pub(crate) async fn finish(mut self, checkpoint: Lsn) -> Result<LogEnd<E>> {
        if !planted!("skip_replay_sync") {
            self.sync().await?;
        }
        for surplus in self.segments.release(checkpoint) {
            let path = surplus.path().to_path_buf();
            drop(surplus);
            if let Err(error) = self.env.remove_file(&path).await {
                tracing::warn!(%error, "a surplus log segment could not be removed");
            }
        }
        for segment in self.segments.live() {
            segment.complete_headers(&self.env).await?;
        }
        let last = Lsn(self.reader.expected.0 - 1);
        Ok(LogEnd {
            segments: self.segments,
            last,
            last_hash: self.reader.previous,
        })
    }

    fn check_against_checkpoint(&self) -> Result<()> {
        let at_checkpoint = self.reader.expected == self.marks.checkpoint.next();
        if at_checkpoint && self.reader.previous != self.marks.checkpoint_hash {
            let what = format!(
                "record {} is not the one that the superblock's checkpoint names",
                self.marks.checkpoint
            );
            return Err(self.damage(what));
        }
        Ok(())
    }

    fn reaches_next_segment(&self) -> bool {
        self.rest
            .front()
            .is_some_and(|next| next.header.base == self.reader.expected)
    }

    fn enter_next_segment(&mut self) -> Result<()> {
        let Some(next) = self.rest.pop_front() else {
            return Ok(());
        };
        if next.header.previous != self.reader.previous {
            let what = format!(
                "the segment does not continue record {}",
                next.header.base.0 - 1
            );
            return Err(Error::corruption(
                next.header.owner.shard,
                next.file.path(),
                0,
                what,
            ));
        }
        self.reader = RecordReader::new(&self.env, next);
        Ok(())
    }

    /// Decides whether a record that is not there was ever there.
    async fn judge_tail(&mut self, what: &str) -> Result<()> {
        let missing = self.reader.expected;
        let behind = self.reader.durable_behind().await?;
        let later = self.rest.iter().map(|segment| segment.header.durable).max();
        let durable = self
            .marks
            .durable
            .max(behind)
            .max(later.unwrap_or_default());
        if missing <= durable && !planted!("rot_is_torn_tail") {
            let what = format!(
                "record {missing} is missing or damaged ({what}), but everything up to record \
                 {durable} was durable; opening would lose those commits"
            );
            return Err(self.damage(what));
        }
        match self.rest.front() {
            None => Ok(()),
            Some(next) => {
                let what = format!(
                    "records {missing} to {} are missing between two segments",
                    next.header.base.0 - 1
                );
                Err(self.damage(what))
            }
        }
    }
}
