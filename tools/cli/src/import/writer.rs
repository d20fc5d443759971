//! Several batches under way at once, with the effect of one after the other.
//!
//! *Algorithm*
//! 1. A chunk is sent when it shares no key with any chunk under way (compared by hash, so it may
//!    wait without need, but never fails to), and when there is room. Otherwise it waits for the
//!    oldest to finish. So the later of two rows with one key is also written later.
//! 2. Outcomes are taken in the order of the input. When a chunk's outcome is taken, all rows up to
//!    its end are durable.
//! 3. After a failure nothing more is sent, and everything under way is waited for.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use futures_channel::mpsc::Receiver;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use lightning_db::{Batch, Error};
use rustc_hash::FxHashSet;

use super::chunk::{Chunk, Reading};
use super::progress::Progress;

/// Chunks under way at once: enough that each shard has the next group waiting while one syncs.
const IN_FLIGHT_MAX: usize = 16;

/// Bytes under way at once, so that long values do not add up. One chunk is always let through.
const IN_FLIGHT_BYTES_MAX: usize = 32 << 20;

type Write = Pin<Box<dyn Future<Output = Written> + Send>>;

/// The end of one write.
struct Written {
    key_hashes: Vec<u64>,
    bytes: usize,
    rows: u64,
    position: u64,
    outcome: Result<(), Error>,
}

/// How the writing ended, and what is there.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) cause: Cause,
    /// The first so many rows of the input are durable or skipped.
    pub(super) durable_rows: u64,
    /// Of so many rows after them, any may be durable.
    pub(super) unsure_rows: u64,
}

/// Why the writing ended.
#[derive(Debug)]
pub(super) enum Cause {
    /// The reading ended, and this was the last that it said; `None` when it said nothing.
    Reading(Option<Reading>),
    /// A write failed.
    Write(Error),
}

/// Writes what a reading thread sends.
///
/// `write` makes one batch durable.
pub(super) struct Writer<'a, W> {
    write: W,
    progress: &'a mut Progress,
    in_flight: FuturesOrdered<Write>,
    /// The key hashes of all chunks under way; no two chunks share one.
    keys_in_flight: FxHashSet<u64>,
    bytes_in_flight: usize,
    /// The chunk that cannot be sent yet.
    waiting: Option<Chunk>,
    durable_rows: u64,
    /// Rows of chunks that failed or finished after one that did.
    unsure_rows: u64,
    failure: Option<Error>,
}

enum Event {
    Read(Option<Reading>),
    Written(Written),
}

impl<'a, W, F> Writer<'a, W>
where
    W: Fn(Batch) -> F,
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    pub(super) fn new(write: W, progress: &'a mut Progress) -> Self {
        Self {
            write,
            progress,
            in_flight: FuturesOrdered::new(),
            keys_in_flight: FxHashSet::default(),
            bytes_in_flight: 0,
            waiting: None,
            durable_rows: 0,
            unsure_rows: 0,
            failure: None,
        }
    }

    /// Writes chunks until the reading ends or a write fails, and waits for all that were sent.
    pub(super) async fn run(mut self, mut readings: Receiver<Reading>) -> Ended {
        let last = loop {
            match self.next_event(&mut readings).await {
                Event::Written(written) => {
                    self.take_outcome(written);
                    if self.failure.is_some() {
                        break None;
                    }
                }
                Event::Read(Some(Reading::Chunk(chunk))) => {
                    for bad in &chunk.bad {
                        self.progress.skipped(bad);
                    }
                    self.waiting = Some(chunk);
                }
                Event::Read(last) => break last,
            }
            self.send_waiting();
        };
        while let Some(written) = self.in_flight.next().await {
            self.take_outcome(written);
        }
        Ended {
            cause: self.failure.map_or(Cause::Reading(last), Cause::Write),
            durable_rows: self.durable_rows,
            unsure_rows: self.unsure_rows,
        }
    }

    /// The next outcome, or what is read next once no chunk waits.
    async fn next_event(&mut self, readings: &mut Receiver<Reading>) -> Event {
        poll_fn(|context| {
            if let Poll::Ready(Some(written)) = self.in_flight.poll_next_unpin(context) {
                return Poll::Ready(Event::Written(written));
            }
            if self.waiting.is_some() {
                return Poll::Pending;
            }
            readings.poll_next_unpin(context).map(Event::Read)
        })
        .await
    }

    fn send_waiting(&mut self) {
        let room = |chunk: &mut Chunk| {
            self.in_flight.is_empty()
                || (self.in_flight.len() < IN_FLIGHT_MAX
                    && self.bytes_in_flight + chunk.bytes <= IN_FLIGHT_BYTES_MAX
                    && !chunk
                        .key_hashes
                        .iter()
                        .any(|hash| self.keys_in_flight.contains(hash)))
        };
        let Some(mut chunk) = self.waiting.take_if(room) else {
            return;
        };
        self.keys_in_flight.extend(&chunk.key_hashes);
        self.bytes_in_flight += chunk.bytes;
        let batch = std::mem::take(&mut chunk.batch);
        // A chunk of bad rows only has nothing to write, but its turn in the order.
        let write = (!batch.is_empty()).then(|| (self.write)(batch));
        self.in_flight.push_back(Box::pin(finish(write, chunk)));
    }

    fn take_outcome(&mut self, written: Written) {
        for hash in &written.key_hashes {
            self.keys_in_flight.remove(hash);
        }
        self.bytes_in_flight -= written.bytes;
        match written.outcome {
            Ok(()) if self.failure.is_none() => {
                self.durable_rows += written.rows;
                self.progress.durable(self.durable_rows, written.position);
            }
            Ok(()) => self.unsure_rows += written.rows,
            Err(error) => {
                self.unsure_rows += written.rows;
                self.failure.get_or_insert(error);
            }
        }
    }
}

async fn finish(write: Option<impl Future<Output = Result<(), Error>>>, chunk: Chunk) -> Written {
    let outcome = match write {
        Some(write) => write.await,
        None => Ok(()),
    };
    Written {
        key_hashes: chunk.key_hashes,
        bytes: chunk.bytes,
        rows: chunk.rows,
        position: chunk.position,
        outcome,
    }
}

#[cfg(test)]
mod tests;
