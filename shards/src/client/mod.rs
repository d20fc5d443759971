//! The side of the callers: routing, splitting and merging, over any way to reach the shards.

mod keyspaces;
mod merge;
mod scan;

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::future::join_all;
use lightning_io::{SendError, Submit};

pub use merge::Merge;
pub use scan::Scanner;

pub use crate::message::Target;

use crate::message::{Change, Decide, Estimate, Mismatch, Reply, Request, Updated, Want};
use crate::wal::{Ops, check_key, check_value};
use crate::{
    Durability, Error, KeyspaceId, Result, Router, ShardId, ShardStats, StorageKey, StoredRange,
    VerifyReport,
};

/// A handle on all shards of a database. Clones share it.
#[derive(Debug)]
pub struct Client<S>(Arc<Shared<S>>);

#[derive(Debug)]
struct Shared<S> {
    router: Router,
    /// One way in a shard, in shard order.
    shards: Vec<S>,
}

/// A conditional change of a key's value, where none stands for a key that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swap<'a> {
    /// What it has to have.
    pub expected: Option<&'a [u8]>,
    /// What it gets.
    pub new: Option<&'a [u8]>,
}

impl<S> Clone for Client<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Submit<Request>> Client<S> {
    /// A client of the shards behind `shards`, which are in shard order.
    ///
    /// # Panics
    /// When there are not as many as the router knows.
    pub fn new(router: Router, shards: Vec<S>) -> Self {
        assert_eq!(shards.len(), usize::from(router.shards()));
        Self(Arc::new(Shared { router, shards }))
    }

    /// How keys are spread over the shards.
    pub fn router(&self) -> Router {
        self.0.router
    }

    /// The newest value of a key.
    ///
    /// # Cancel safety
    /// Dropping the future drops the answer.
    pub async fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Bytes>> {
        self.read(keyspace, key, Want::Value).await
    }

    /// Whether a key is there; its value is not read.
    ///
    /// # Cancel safety
    /// Dropping the future drops the answer.
    pub async fn exists(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<bool> {
        let found = self.read(keyspace, key, Want::Presence).await?;
        Ok(found.is_some())
    }

    async fn read(&self, keyspace: KeyspaceId, key: &[u8], want: Want) -> Result<Option<Bytes>> {
        check_key(key)?;
        let key = StorageKey::new(keyspace, key);
        let shard = self.0.router.shard_of(key.as_slice());
        self.ask(shard, |reply| Request::Get { key, want, reply })?
            .answer()
            .await
    }

    /// The newest values of several keys, in their order: one message a shard.
    ///
    /// The keys of one shard are read as of one moment; between shards there is none.
    ///
    /// # Cancel safety
    /// Dropping the future drops the answers.
    pub async fn get_many(
        &self,
        keyspace: KeyspaceId,
        keys: &[impl AsRef<[u8]>],
    ) -> Result<Vec<Option<Bytes>>> {
        let mut parts: Vec<(Vec<usize>, Vec<StorageKey>)> = Vec::new();
        parts.resize_with(self.0.shards.len(), Default::default);
        for (position, key) in keys.iter().enumerate() {
            check_key(key.as_ref())?;
            let key = StorageKey::new(keyspace, key.as_ref());
            let part = &mut parts[self.0.router.shard_of(key.as_slice()).index()];
            part.0.push(position);
            part.1.push(key);
        }
        let mut asked = Vec::with_capacity(parts.len());
        for (shard, (positions, keys)) in self.0.router.all().zip(parts) {
            if !keys.is_empty() {
                asked.push((
                    positions,
                    self.ask(shard, |reply| Request::GetMany { keys, reply })?,
                ));
            }
        }
        let mut values = vec![None; keys.len()];
        for (positions, question) in asked {
            for (position, value) in positions.into_iter().zip(question.answer().await?) {
                values[position] = value;
            }
        }
        Ok(values)
    }

    /// Writes a batch: all or nothing on each shard.
    ///
    /// # Errors
    /// The first shard's that failed; the parts of other shards may be in force. Sending the same
    /// batch again is harmless.
    ///
    /// # Cancel safety
    /// Once polled, dropping the future drops the answer and not the write.
    pub async fn write(&self, ops: Ops, durability: Durability) -> Result<()> {
        if ops.is_empty() {
            return Ok(());
        }
        let parts = ops.split(self.0.router);
        let mut asked = Vec::with_capacity(parts.len());
        let mut failed = None;
        for (shard, ops) in parts {
            match self.ask(shard, |reply| Request::Write {
                ops,
                durability,
                reply,
            }) {
                Ok(question) => asked.push(question),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        for question in asked {
            if let Err(error) = question.answer().await {
                failed = Some(more_serious(failed, error));
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Has a function see the current value of a key and say what becomes of it, with no other write
    /// of the key in between.
    ///
    /// # Cancel safety
    /// Once polled, dropping the future drops the answer and not the update.
    pub async fn update(
        &self,
        target: impl Into<Target>,
        key: &[u8],
        decide: Decide,
        durability: Durability,
    ) -> Result<Updated> {
        check_key(key)?;
        let Target { keyspace, ttl } = target.into();
        let key = StorageKey::new(keyspace, key);
        let shard = self.0.router.shard_of(key.as_slice());
        let request = |reply| Request::Update {
            key,
            ttl,
            decide,
            durability,
            reply,
        };
        self.ask(shard, request)?.answer().await
    }

    /// Gives a key another value, or none, if it has the expected one, or none.
    ///
    /// # Cancel safety
    /// As for [`Self::update`].
    pub async fn compare_and_swap(
        &self,
        target: impl Into<Target>,
        key: &[u8],
        swap: Swap<'_>,
        durability: Durability,
    ) -> Result<Result<(), Mismatch>> {
        swap.new.map_or(Ok(()), check_value)?;
        let expected = swap.expected.map(Bytes::copy_from_slice);
        let (wanted, new) = (expected.clone(), swap.new.map(<[u8]>::to_vec));
        let decide = Decide::new(move |found| {
            let is_any = planted!("swap_takes_any_value") && found.is_some() && wanted.is_some();
            if found == wanted.as_deref() || is_any {
                Change::from(new)
            } else {
                Change::Keep
            }
        });
        let Updated { at, value } = self.update(target, key, decide, durability).await?;
        // To delete what is not there changes nothing and is not committed, but was as expected.
        if at.is_some() || value == expected {
            return Ok(Ok(()));
        }
        Ok(Err(Mismatch { found: value }))
    }

    /// What about lies in a range, from a few pages of each shard.
    ///
    /// # Cancel safety
    /// Dropping the future drops the answer.
    pub async fn estimate(
        &self,
        keyspace: KeyspaceId,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<Estimate> {
        let range = StoredRange::new(keyspace, from, to)?;
        let mut total = Estimate::default();
        if range.is_empty() {
            return Ok(total);
        }
        let request = |reply| Request::Estimate {
            range: range.clone(),
            reply,
        };
        for part in self.ask_all(request).await? {
            total.entries += part.entries;
            total.bytes += part.bytes;
        }
        Ok(total)
    }

    /// Moves what is in memory to the disks of all shards.
    pub async fn flush(&self) -> Result<()> {
        self.ask_all(|reply| Request::Flush { reply })
            .await
            .map(drop)
    }

    /// Moves what is in memory to disk, and merges everything there into the bases of all shards.
    pub async fn compact(&self) -> Result<()> {
        self.ask_all(|reply| Request::Compact { reply })
            .await
            .map(drop)
    }

    /// Reads and checks everything that the shards have on disk, shard by shard.
    pub async fn verify(&self) -> Result<Vec<VerifyReport>> {
        self.ask_all(|reply| Request::Verify { reply }).await
    }

    /// Figures about each shard.
    pub async fn stats(&self) -> Result<Vec<ShardStats>> {
        self.ask_all(|reply| Request::Stats { reply }).await
    }

    /// Closes every shard; each finishes what it has begun.
    ///
    /// # Errors
    /// The first shard's that could not close well; all are closed.
    pub async fn close(&self) -> Result<()> {
        self.ask_all(|reply| Request::Close { reply })
            .await
            .map(drop)
    }

    /// Asks every shard at once; the first failure counts, after all have answered.
    async fn ask_all<T>(&self, request: impl Fn(Reply<T>) -> Request) -> Result<Vec<T>> {
        let asked: Vec<_> = self
            .0
            .router
            .all()
            .map(|shard| self.ask(shard, &request))
            .collect();
        let answers = asked
            .into_iter()
            .map(|question| async { question?.answer().await });
        join_all(answers).await.into_iter().collect()
    }

    /// Sends a request to a shard.
    fn ask<T>(
        &self,
        shard: ShardId,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<Question<T>> {
        let (reply, answer) = oneshot::channel();
        match self.0.shards[shard.index()].try_submit(request(reply)) {
            Ok(()) => Ok(Question(answer)),
            Err(SendError::Full(_)) => Err(Error::Busy {
                shard,
                what: "its queue of requests is full",
            }),
            Err(SendError::Closed(_)) => Err(Error::Closed),
        }
    }
}

/// A request on its way to a shard and back.
#[derive(Debug)]
struct Question<T>(oneshot::Receiver<Result<T>>);

impl<T> Question<T> {
    async fn answer(self) -> Result<T> {
        self.0.await.unwrap_or(Err(Error::Closed))
    }
}

/// Of two failures of one batch, the one that the caller must know: an open outcome first.
fn more_serious(known: Option<Error>, error: Error) -> Error {
    match known {
        Some(known) if !matches!(error, Error::MaybeCommitted { .. }) => known,
        _ => error,
    }
}
