//! The handle that callers hold.

mod ranges;
mod updates;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::FutureExt;
use futures_util::future::Shared;
use lightning_io::mesh::Submitter;
use lightning_io::{SendError, Submit};
use lightning_shards::client::Client;
use lightning_shards::{Durability, KeyspaceId, Ops, Request};

use crate::{Batch, Builder, Result, Stats, VerifyReport};

/// How long a dropped handle waits for room in a full queue before it asks again.
const CLOSE_RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// An open database.
///
/// Clones share it; the last one that is dropped closes it in the background. [`Database::close`]
/// closes it for all and waits. Every future is `Send` and needs no particular runtime.
#[derive(Debug, Clone)]
pub struct Database(Arc<Handle>);

#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) path: PathBuf,
    pub(crate) durability: Durability,
    pub(crate) client: Client<Submitter<Request>>,
    pub(crate) submitters: Vec<Submitter<Request>>,
    /// Ends when every shard has stopped and the lock is released.
    pub(crate) stopped: Shared<oneshot::Receiver<()>>,
}

impl Database {
    pub(crate) fn new(handle: Handle) -> Self {
        Self(Arc::new(handle))
    }

    /// The way to its shards.
    pub(crate) fn client(&self) -> &Client<Submitter<Request>> {
        &self.0.client
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

    /// Writes one value. A key has 1 byte to 64 KiB, a value up to 64 MiB.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`], [`crate::ErrorKind::Busy`], [`crate::ErrorKind::NoSpace`] or
    /// [`crate::ErrorKind::Poisoned`]: nothing happened. [`crate::ErrorKind::MaybeCommitted`]: open
    /// again and look.
    ///
    /// # Durability
    /// The database's own, [`Durability::Sync`] unless set otherwise: on disk when this returns.
    ///
    /// # Cancel safety
    /// Once polled, dropping the future drops the answer and not the write.
    pub async fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let mut ops = Ops::default();
        ops.put(KeyspaceId::DEFAULT, key.as_ref(), value.as_ref())?;
        Ok(self.0.client.write(ops, self.0.durability).await?)
    }

    /// Reads the newest value of a key.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for a key out of its bounds, [`crate::ErrorKind::Corruption`]
    /// when it lies under damaged bytes, [`crate::ErrorKind::Busy`] when the shard's queue is full.
    ///
    /// # Cancel safety
    /// Dropping the future drops the answer.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        Ok(self.0.client.get(KeyspaceId::DEFAULT, key.as_ref()).await?)
    }

    /// Whether a key is there: its value is neither read from disk nor sent.
    ///
    /// ```
    /// # fn main() -> Result<(), lightning_db::Error> {
    /// # futures_executor::block_on(async {
    /// # let directory = tempfile::tempdir().expect("a temporary directory");
    /// # let db = lightning_db::Database::create(directory.path().join("db")).await?;
    /// db.put("user:1", "Ada").await?;
    /// assert!(db.exists("user:1").await?);
    /// assert!(!db.exists("user:2").await?);
    /// # db.close().await
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Database::get`].
    ///
    /// # Cancel safety
    /// Dropping the future drops the answer.
    pub async fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = key.as_ref();
        Ok(self.0.client.exists(KeyspaceId::DEFAULT, key).await?)
    }

    /// Deletes a key; it need not be there.
    ///
    /// # Errors
    /// As for [`Database::put`].
    ///
    /// # Durability
    /// As for [`Database::put`].
    ///
    /// # Cancel safety
    /// As for [`Database::put`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        let mut ops = Ops::default();
        ops.delete(KeyspaceId::DEFAULT, key.as_ref())?;
        Ok(self.0.client.write(ops, self.0.durability).await?)
    }

    /// Deletes several keys with one message a shard, as a [`Batch`] of deletions does; they need
    /// not be there.
    ///
    /// ```
    /// # fn main() -> Result<(), lightning_db::Error> {
    /// # futures_executor::block_on(async {
    /// # let directory = tempfile::tempdir().expect("a temporary directory");
    /// # let db = lightning_db::Database::create(directory.path().join("db")).await?;
    /// db.put("user:1", "Ada").await?;
    /// db.delete_many(["user:1", "user:2"]).await?;
    /// assert!(!db.exists("user:1").await?);
    /// # db.close().await
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Database::write`].
    ///
    /// # Durability
    /// As for [`Database::put`].
    ///
    /// # Cancel safety
    /// As for [`Database::put`].
    pub async fn delete_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<()> {
        let mut ops = Ops::default();
        for key in keys {
            ops.delete(KeyspaceId::DEFAULT, key.as_ref())?;
        }
        Ok(self.0.client.write(ops, self.0.durability).await?)
    }

    /// Writes a batch: all or nothing on each shard, and not yet across shards.
    ///
    /// # Errors
    /// As for [`Database::put`]. When one shard fails, the parts of others may be in force; writing
    /// the same batch again is harmless.
    ///
    /// # Durability
    /// As for [`Database::put`].
    ///
    /// # Cancel safety
    /// As for [`Database::put`].
    pub async fn write(&self, batch: Batch) -> Result<()> {
        self.write_with(batch, self.0.durability).await
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
    /// As for [`Database::put`].
    pub async fn write_with(&self, batch: Batch, durability: Durability) -> Result<()> {
        Ok(self.0.client.write(batch.into_ops()?, durability).await?)
    }

    /// Reads the newest values of several keys, in their order, with one message a shard.
    ///
    /// The keys of one shard are read as of one moment; between shards there is none.
    ///
    /// # Errors
    /// As for [`Database::get`], for the first key that fails.
    ///
    /// # Cancel safety
    /// Dropping the future drops the answers.
    pub async fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>> {
        let keys: Vec<K> = keys.into_iter().collect();
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        Ok(self.0.client.get_many(KeyspaceId::DEFAULT, &keys).await?)
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
        Ok(self.0.client.compact().await?)
    }

    /// Moves what is in memory into the tree files, so that the next open has nothing to replay.
    ///
    /// # Errors
    /// What the flush met; everything acknowledged stays in the log.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the flush under way.
    pub async fn flush(&self) -> Result<()> {
        Ok(self.0.client.flush().await?)
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
        for report in self.0.client.verify().await? {
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
            shards: self.0.client.stats().await?,
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
        let closed = self.0.client.close().await;
        if closed.is_err() {
            // A shard whose queue was full has not heard of it; asking twice is harmless.
            close_in_background(self.0.submitters.clone());
        }
        // The sender is dropped with the last shard, whether or not it has sent.
        self.0.stopped.clone().await.ok();
        match closed {
            Err(lightning_shards::Error::Closed | lightning_shards::Error::Busy { .. }) => Ok(()),
            other => Ok(other?),
        }
    }

    /// The number of shards, fixed at creation.
    pub fn shard_count(&self) -> usize {
        usize::from(self.0.client.router().shards())
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        &self.0.path
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
