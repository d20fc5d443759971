//! What was read, in batches, on its way to wherever it is kept.

use std::future::Future;

use crate::wal::Ops;
use crate::{EntryFlags, Result};

/// Takes what a salvage reads.
pub trait Sink {
    /// Takes some puts. No key comes twice, in this batch or in any other.
    ///
    /// # Errors
    /// Whatever keeps it from taking them; the salvage ends with it.
    fn write(&mut self, puts: Ops) -> impl Future<Output = Result<()>>;
}

/// Gathers entries for a sink.
#[derive(Debug)]
pub(super) struct Writer<'a, S> {
    sink: &'a mut S,
    puts: Ops,
    /// A batch is handed on when it is this long; one large value may make it longer.
    batch_bytes: usize,
}

impl<'a, S: Sink> Writer<'a, S> {
    pub(super) fn new(sink: &'a mut S, batch_bytes: usize) -> Self {
        Self {
            sink,
            puts: Ops::default(),
            batch_bytes,
        }
    }

    /// Adds an entry that keeps the bounds of keys and values.
    pub(super) async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.puts.push_stored(EntryFlags::VALUE, key, value);
        if self.puts.bytes() >= self.batch_bytes {
            self.flush().await?;
        }
        Ok(())
    }

    /// Hands on what is gathered.
    pub(super) async fn flush(&mut self) -> Result<()> {
        if self.puts.is_empty() {
            return Ok(());
        }
        self.sink.write(std::mem::take(&mut self.puts)).await
    }
}
