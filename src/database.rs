//! The handle that callers hold.

mod default;
mod keyspaces;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::FutureExt;
use futures_util::future::Shared;
use lightning_io::mesh::Submitter;
use lightning_io::{SendError, Submit};
use lightning_shards::client::Client;
use lightning_shards::{DatabaseId, Durability, MergeOperators, Request};

use crate::{Batch, Builder, Keyspace, Result, Stats, VerifyReport};

/// How long a dropped handle waits for room in a full queue before it asks again.
const CLOSE_RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// An open database.
///
/// Clones share it; the last one that is dropped closes it in the background. [`Database::close`]
/// closes it for all and waits. Every future is `Send` and needs no particular runtime.
///
/// What it reads and writes is in the [`Keyspace`] with the name `default`, which every database
/// has; others are made with [`Database::create_keyspace`].
#[derive(Debug, Clone)]
pub struct Database {
    default: Keyspace,
}

#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) path: PathBuf,
    pub(crate) id: DatabaseId,
    pub(crate) durability: Durability,
    pub(crate) operators: MergeOperators,
    pub(crate) client: Client<Submitter<Request>>,
    pub(crate) submitters: Vec<Submitter<Request>>,
    /// Ends when every shard has stopped and the lock is released.
    pub(crate) stopped: Shared<oneshot::Receiver<()>>,
}

impl Database {
    pub(crate) fn new(handle: Handle) -> Self {
        Self {
            default: Keyspace::default_of(&Arc::new(handle)),
        }
    }

    fn handle(&self) -> &Arc<Handle> {
        &self.default.handle
    }

    /// The way to its shards.
    pub(crate) fn client(&self) -> &Client<Submitter<Request>> {
        &self.handle().client
    }

    /// Opens an existing database with default settings.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is none, [`crate::ErrorKind::Locked`] when it is
    /// in use, [`crate::ErrorKind::Corruption`] when durable bytes are damaged, or
    /// [`crate::ErrorKind::Unsupported`] with the remedy when the machine cannot run it.
    ///
    /// # Cancel safety
    /// Dropping the future leaves an opening under way, which then closes again.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).open().await
    }

    /// Creates a database with default settings; its parent directory must exist.
    ///
    /// # Errors
    /// [`crate::ErrorKind::AlreadyExists`] when there is one.
    ///
    /// # Cancel safety
    /// As for [`Database::open`].
    pub async fn create(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).create().await
    }

    /// Opens or creates a database with settings of one's own.
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Builder::new(path.as_ref())
    }

    /// Writes a batch: all or nothing on each shard, and not yet across shards.
    ///
    /// # Errors
    /// As for [`Keyspace::put`], for every keyspace that it writes to, and
    /// [`crate::ErrorKind::Invalid`] when one of them is in another database. When one shard fails,
    /// the parts of others may be in force; writing the same batch again is harmless.
    ///
    /// # Durability
    /// As for [`Keyspace::put`].
    ///
    /// # Cancel safety
    /// As for [`Keyspace::put`].
    pub async fn write(&self, batch: Batch) -> Result<()> {
        self.write_with(batch, self.handle().durability).await
    }

    /// Writes a batch with a durability of its own.
    ///
    /// # Errors
    /// As for [`Database::write`].
    ///
    /// # Durability
    /// As asked: see [`Durability`].
    ///
    /// # Cancel safety
    /// As for [`Keyspace::put`].
    pub async fn write_with(&self, batch: Batch, durability: Durability) -> Result<()> {
        let ops = batch.into_ops(self.handle().id)?;
        Ok(self.client().write(ops, durability).await?)
    }

    /// Moves what is in memory to disk, as runs, and merges all runs into the base of each shard:
    /// reads then look in one place, and what was overwritten or deleted takes no more space. It is
    /// never needed, and writes most of what was changed since the last time once more.
    ///
    /// # Errors
    /// What a flush or a merge met; everything stays readable, and the merges go on later.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the merges under way.
    pub async fn compact(&self) -> Result<()> {
        Ok(self.client().compact().await?)
    }

    /// Moves what is in memory into the tree files, so that the next open has nothing to replay.
    ///
    /// # Errors
    /// What the flush met; everything acknowledged stays in the log.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the flush under way.
    pub async fn flush(&self) -> Result<()> {
        Ok(self.client().flush().await?)
    }

    /// Reads everything on disk that is live, and checks every checksum and the structure.
    ///
    /// # Errors
    /// What kept the check from being made; damages that it found are in the report.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the check under way.
    pub async fn verify(&self) -> Result<VerifyReport> {
        let mut total = VerifyReport::default();
        for report in self.client().verify().await? {
            total.entries += report.entries;
            total.damages.extend(report.damages);
        }
        Ok(total)
    }

    /// Counters and sizes.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Closed`] or [`crate::ErrorKind::Busy`].
    ///
    /// # Cancel safety
    /// Dropping the future drops the answer.
    pub async fn stats(&self) -> Result<Stats> {
        Ok(Stats {
            shards: self.client().stats().await?,
        })
    }

    /// Closes the database for every clone of the handle, and waits until its files are closed and
    /// another process can open it. Closing again does nothing.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Poisoned`] when a shard had failed; it is closed all the same.
    ///
    /// # Durability
    /// Every write that was acknowledged is on disk when this returns, relaxed ones too.
    ///
    /// # Cancel safety
    /// Once polled, dropping the future leaves the closing under way.
    pub async fn close(&self) -> Result<()> {
        let closed = self.client().close().await;
        if closed.is_err() {
            // A shard whose queue was full has not heard of it; asking twice is harmless.
            close_in_background(self.handle().submitters.clone());
        }
        // The sender is dropped with the last shard, whether or not it has sent.
        self.handle().stopped.clone().await.ok();
        match closed {
            Err(lightning_shards::Error::Closed | lightning_shards::Error::Busy { .. }) => Ok(()),
            other => Ok(other?),
        }
    }

    /// The number of shards, fixed at creation.
    pub fn shard_count(&self) -> usize {
        usize::from(self.client().router().shards())
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        &self.handle().path
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.stopped.clone().now_or_never().is_some() {
            return;
        }
        close_in_background(std::mem::take(&mut self.submitters));
    }
}

/// Has every shard close, however full its queue is.
fn close_in_background(submitters: Vec<Submitter<Request>>) {
    let mut refused = request_close(submitters);
    if refused.is_empty() {
        return;
    }
    // Their queues are full: they empty, as every shard goes on serving until it is closed.
    let retry = move || {
        while !refused.is_empty() {
            std::thread::park_timeout(CLOSE_RETRY_INTERVAL);
            refused = request_close(refused);
        }
    };
    let thread = std::thread::Builder::new().name("lightning-close".to_owned());
    if let Err(error) = thread.spawn(retry) {
        tracing::error!(%error, "a database with full queues could not be closed");
    }
}

/// Asks shards to close; returns those whose queue is full.
pub(crate) fn request_close(shards: Vec<Submitter<Request>>) -> Vec<Submitter<Request>> {
    let full = |shard: &Submitter<Request>| {
        let (reply, _) = oneshot::channel();
        matches!(
            shard.try_submit(Request::Close { reply }),
            Err(SendError::Full(_))
        )
    };
    shards.into_iter().filter(full).collect()
}
