//! Rows gathered into batches, on the thread that reads the input.

use std::hash::{BuildHasher, BuildHasherDefault};
use std::io;

use futures_channel::mpsc::Sender;
use futures_executor::block_on;
use futures_util::SinkExt;
use lightning_db::{Batch, Keyspace};
use rustc_hash::FxHasher;

use super::row::{BadRow, Row, Step};
use super::source::Source;

/// Rows a batch: enough that the cost of a message to each shard is spread over many rows, and few
/// enough that a failure leaves few rows in doubt.
const CHUNK_ROWS_MAX: u64 = 256;

/// Bytes at which a batch is sent early. One more row of up to 64 MiB may pass it.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Rows of the input that follow each other, as one batch.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) batch: Batch,
    /// A hash of each key, to tell whether two chunks may hold the same key.
    pub(super) key_hashes: Vec<u64>,
    /// Bytes of keys and values.
    pub(super) bytes: usize,
    /// Rows of the input that it stands for, the bad ones included.
    pub(super) rows: u64,
    /// The bad ones, which are not in the batch.
    pub(super) bad: Vec<BadRow>,
    /// How far into the input it reaches, in bytes.
    pub(super) position: u64,
}

/// What the reading thread says.
#[derive(Debug)]
pub(super) enum Reading {
    Chunk(Chunk),
    /// The row behind all chunks cannot be used, and the reading ends there.
    Bad(BadRow),
    /// The input cannot be read any further.
    Failed(io::Error),
    /// That was all. Without it, the reading thread was lost.
    End,
}

/// Reads the whole input into `sender`, in order, as puts to `target`.
///
/// A chunk is sent when it is full, and whenever the input has to be waited for, so that rows that
/// trickle in do not wait for others.
pub(super) fn read_chunks(
    mut source: Source,
    target: &Keyspace,
    skip_bad: bool,
    mut sender: Sender<Reading>,
) {
    let mut send = |reading| block_on(sender.send(reading)).is_ok();
    let mut chunk = Chunk::default();
    loop {
        let step = source.step();
        if let Step::Row(row) = step {
            chunk.push(target, &row);
        } else if let Step::Bad(bad) = step {
            if !skip_bad {
                // Both fail only when nobody listens any more.
                let _sent = send(Reading::Chunk(chunk)) && send(Reading::Bad(bad));
                return;
            }
            chunk.rows += 1;
            chunk.bad.push(bad);
        } else {
            let full = std::mem::take(&mut chunk);
            if full.rows > 0 && !send(Reading::Chunk(full)) {
                return;
            }
            let failed = match step {
                Step::End => Some(Reading::End),
                _ => source.refill().err().map(Reading::Failed),
            };
            if let Some(last) = failed {
                let _sent = send(last);
                return;
            }
        }
        chunk.position = source.position();
        if chunk.is_full() && !send(Reading::Chunk(std::mem::take(&mut chunk))) {
            return;
        }
    }
}

impl Chunk {
    fn push(&mut self, target: &Keyspace, row: &Row) {
        self.batch.put_in(target, &row.key, &row.value);
        let hasher = BuildHasherDefault::<FxHasher>::default();
        self.key_hashes.push(hasher.hash_one(&row.key));
        self.bytes += row.key.len() + row.value.len();
        self.rows += 1;
    }

    fn is_full(&self) -> bool {
        self.rows >= CHUNK_ROWS_MAX || self.bytes >= CHUNK_BYTES_MAX
    }
}
