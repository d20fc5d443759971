//! Room for records: the current segment, the spare one, and how a spare is got ready.
//!
//! A spare of the length that is due may be more than a full disk has room for: then one of the
//! first segment's length is made. When there is no room for that either the shard is told, which
//! has space of its own to give.

use std::path::{Path, PathBuf};

use lightning_io::{
    BLOCK_BYTES, Env, IoError, IoErrorKind, IoOp, TaskClass, catch_panic, round_up, to_u64,
};

use super::log::{Settle, Wal};
use super::segment::{RECORDS, SEGMENT_BYTES_MIN, SegmentFile};
use super::segments::Segment;
use super::state::State;
use crate::{Error, Result};

impl<E: Env, W: Settle + 'static> Wal<E, W> {
    /// Makes sure that the next record fits the current segment, going to the spare one if needed.
    pub(super) async fn make_place(&self, bytes: u64) -> Result<()> {
        let spare = {
            let mut state = self.0.state.borrow_mut();
            if bytes <= state.end - state.position {
                return Ok(());
            }
            state.spare.take()
        };
        let spare = spare.ok_or_else(|| Error::NoSpace {
            shard: self.0.shard,
            cause: IoError::new(IoOp::Write, Path::new("wal"), IoErrorKind::NoSpace),
        })?;
        self.activate(spare, bytes).await
    }

    /// Takes a file into use as the current segment, whose first `reserved` bytes are spoken for.
    pub(super) async fn activate(&self, spare: SegmentFile<E::File>, reserved: u64) -> Result<()> {
        let header = {
            let mut state = self.0.state.borrow_mut();
            let (base, previous, durable) = (state.base(), state.previous, state.durable);
            let header = state
                .segments
                .next_header(spare.length, base, previous, durable);
            state.position = RECORDS;
            state.end = header.records_end();
            // Commits are offered while the headers are on their way to the disk.
            state.reserved = reserved;
            header
        };
        spare.write_headers(&self.0.env, &header).await?;
        self.0.state.borrow_mut().segments.push(Segment {
            header,
            file: spare.file,
        });
        Ok(())
    }

    /// Gets a file of at least `length` bytes ready: one that waits, or a new one.
    pub(super) async fn prepare(&self, length: u64) -> Result<SegmentFile<E::File>> {
        let (waiting, path) = {
            let mut state = self.0.state.borrow_mut();
            match state.segments.take_free(length) {
                Some(waiting) => (Some(waiting), PathBuf::new()),
                None => (None, state.segments.next_path()),
            }
        };
        if let Some(waiting) = waiting {
            return Ok(waiting);
        }
        let created = SegmentFile::create(&self.0.env, &path, length).await;
        if created.is_err() {
            // What was created of it is of no use; if it cannot be removed either, the next run
            // finds it unused.
            drop(self.0.env.remove_file(&path).await);
        }
        created
    }

    /// As [`Self::prepare`]; where there is no space for `length`, a file of `least` bytes.
    async fn prepare_some(&self, length: u64, least: u64) -> Result<SegmentFile<E::File>> {
        match self.prepare(length).await {
            Err(error) if error.is_no_space() && least < length => self.prepare(least).await,
            outcome => outcome,
        }
    }

    /// Starts preparing a spare when the current segment is half full.
    pub(super) fn prepare_ahead(&self) {
        let mut state = self.0.state.borrow_mut();
        if state.lacks_room() && !state.preparing {
            let doubled = (2 * (state.end + to_u64(BLOCK_BYTES)))
                .min(self.0.config.segment_bytes_max)
                .max(SEGMENT_BYTES_MIN);
            let least = doubled.min(self.0.config.segment_bytes_first);
            self.start_preparing(&mut state, doubled, least);
        }
    }

    /// Prepares a spare if it is time for one, and waits for it.
    pub(crate) async fn ensure_spare(&self) {
        self.prepare_ahead();
        while self.0.state.borrow().preparing {
            self.0.prepared.next().await;
        }
    }

    /// Whether there is no spare although it is time for one.
    pub(crate) fn lacks_room(&self) -> bool {
        self.0.state.borrow().lacks_room()
    }

    /// Why no segment could be made for lack of space, if the shard was not told yet.
    pub(crate) fn take_shortage(&self) -> Option<Error> {
        self.0.state.borrow_mut().shortage.take()
    }

    pub(super) fn note_shortage(&self, error: Error) {
        self.0.state.borrow_mut().shortage = Some(self.no_room(error));
    }

    pub(super) fn ask_for_room(&self, state: &mut State<E, W>, record_bytes: u64) -> Result<()> {
        let needed = record_bytes + 2 * to_u64(BLOCK_BYTES);
        // A shortage that the shard has not heard of may be mended before anybody is refused.
        let told = state.shortage.is_none();
        let error = state.prepare_error.take().filter(|_| told);
        if let Some(error) = error {
            // The next one to ask sees whether another attempt does better.
            state.demanded_bytes = 0;
            return Err(self.no_room(error));
        }
        state.demanded_bytes = needed;
        if state.preparing {
            return Ok(());
        }
        if let Some(short) = state.spare.take() {
            state.segments.give_back(short);
        }
        let length = needed.max(self.0.config.segment_bytes_first);
        let length = round_up(length, to_u64(BLOCK_BYTES));
        self.start_preparing(state, length, length);
        Ok(())
    }

    fn no_room(&self, error: Error) -> Error {
        match error {
            Error::Io(cause) if matches!(cause.kind(), IoErrorKind::NoSpace) => Error::NoSpace {
                shard: self.0.shard,
                cause,
            },
            other => other,
        }
    }

    fn start_preparing(&self, state: &mut State<E, W>, length: u64, least: u64) {
        let wal = self.clone();
        let task = async move {
            let prepared = catch_panic(wal.prepare_some(length, least)).await;
            match &prepared {
                Err(panic) => wal.fail(&format!("preparing a segment: {panic}")),
                // The file is of no use, and neither is a device that the log cannot rely on.
                Ok(Err(error)) if error.is_failed_sync() || error.is_failed_write() => {
                    wal.fail(&error.to_string());
                }
                Ok(_) => {}
            }
            {
                let mut state = wal.0.state.borrow_mut();
                state.preparing = false;
                match prepared {
                    Ok(Ok(file)) => {
                        if file.length >= state.demanded_bytes {
                            state.prepare_error = None;
                            state.demanded_bytes = 0;
                        }
                        state.spare = Some(file);
                    }
                    Ok(Err(error)) => {
                        tracing::warn!(shard = %wal.0.shard, %error, "no spare log segment");
                        if error.is_no_space() {
                            state.shortage = Some(wal.no_room(error.clone()));
                        }
                        state.prepare_error = (state.demanded_bytes > 0).then_some(error);
                    }
                    // The log has failed, and says why.
                    Err(_) => {}
                }
            }
            wal.0.prepared.occur();
            wal.0.room.raise();
        };
        // The task reports through the state; nobody joins it.
        drop(self.0.env.spawn(TaskClass::Flush, task));
        // Last, as whoever closes the log waits for the task.
        state.preparing = true;
    }
}
