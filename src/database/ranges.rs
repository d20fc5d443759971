//! Operations on ranges of keys.

use bytes::Bytes;
use lightning_io::mesh::Submitter;
use lightning_shards::client::Scanner;
use lightning_shards::{KeyspaceId, Request};

use super::Database;
use crate::key_range::prefix_end;
use crate::{Estimate, KeyRange, Result, Scan};

impl Database {
    /// Reads a range of keys in order, as of one moment over all shards: see [`Scan`].
    ///
    /// ```
    /// # fn main() -> Result<(), lightning_db::Error> {
    /// # futures_executor::block_on(async {
    /// # let directory = tempfile::tempdir().expect("a temporary directory");
    /// # let db = lightning_db::Database::create(directory.path().join("db")).await?;
    /// use futures_util::TryStreamExt;
    ///
    /// db.put("a", "1").await?;
    /// db.put("b", "2").await?;
    /// let rows: Vec<_> = db.scan("a".."z").try_collect().await?;
    /// assert_eq!(rows, [("a".into(), "1".into()), ("b".into(), "2".into())]);
    /// # db.close().await
    /// # })
    /// # }
    /// ```
    #[expect(
        clippy::needless_pass_by_value,
        reason = "ranges are written in place: `..`, `a..b`"
    )]
    pub fn scan(&self, range: impl KeyRange) -> Scan {
        Scan::new(self.scanner(&range))
    }

    /// Reads the keys that begin with a prefix, in order: see [`Scan`].
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Scan {
        let prefix = prefix.as_ref();
        let start = std::ops::Bound::Included(prefix.to_vec());
        self.scan((start, prefix_end(prefix)))
    }

    /// The row with the smallest key of a range, as of one moment over all shards.
    ///
    /// ```
    /// # fn main() -> Result<(), lightning_db::Error> {
    /// # futures_executor::block_on(async {
    /// # let directory = tempfile::tempdir().expect("a temporary directory");
    /// # let db = lightning_db::Database::create(directory.path().join("db")).await?;
    /// db.put("a", "1").await?;
    /// db.put("b", "2").await?;
    /// assert_eq!(db.first(..).await?, Some(("a".into(), "1".into())));
    /// assert_eq!(db.last(..).await?, Some(("b".into(), "2".into())));
    /// assert_eq!(db.first("c"..).await?, None);
    /// # db.close().await
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Database::get`], and [`crate::ErrorKind::Invalid`] for a range whose end lies before
    /// its start.
    ///
    /// # Cancel safety
    /// Dropping the future drops the answer.
    pub async fn first(&self, range: impl KeyRange) -> Result<Option<(Bytes, Bytes)>> {
        let mut scanner = self.scanner(&range);
        scanner.set_limit(1);
        Ok(scanner.next().await?)
    }

    /// The row with the largest key of a range, as of one moment over all shards.
    ///
    /// # Errors
    /// As for [`Database::first`].
    ///
    /// # Cancel safety
    /// Dropping the future drops the answer.
    pub async fn last(&self, range: impl KeyRange) -> Result<Option<(Bytes, Bytes)>> {
        let mut scanner = self.scanner(&range);
        scanner.reverse();
        scanner.set_limit(1);
        Ok(scanner.next().await?)
    }

    /// The number of keys in a range, exactly, as of one moment over all shards.
    ///
    /// Every shard reads the whole range, in pieces between which others have their turn; no row is
    /// sent. [`Database::estimate`] is much faster where a guess will do.
    ///
    /// ```
    /// # fn main() -> Result<(), lightning_db::Error> {
    /// # futures_executor::block_on(async {
    /// # let directory = tempfile::tempdir().expect("a temporary directory");
    /// # let db = lightning_db::Database::create(directory.path().join("db")).await?;
    /// for user in ["user:1", "user:2", "user:3"] {
    ///     db.put(user, "").await?;
    /// }
    /// assert_eq!(db.count(..).await?, 3);
    /// assert_eq!(db.count("user:2"..).await?, 2);
    /// # db.close().await
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Database::first`].
    ///
    /// # Cancel safety
    /// Dropping the future ends the counting.
    pub async fn count(&self, range: impl KeyRange) -> Result<u64> {
        Ok(self.scanner(&range).count().await?)
    }

    /// About how many keys lie in a range and how many bytes they take, from a few pages of each
    /// shard.
    ///
    /// A range within one page of a shard is counted exactly, and so is the whole. Between pages the
    /// averages of a few sampled ones are used: where keys and values are of like sizes, that is
    /// right to a factor of two and two pages a shard, and on average to a tenth. Where dense and
    /// sparse pages lie apart, it is off by as much as they differ. Keys in memory are guessed in the
    /// same way and added; those of them that are on disk too, or are deleted, count once more than
    /// they should until the next flush.
    ///
    /// ```
    /// # fn main() -> Result<(), lightning_db::Error> {
    /// # futures_executor::block_on(async {
    /// # let directory = tempfile::tempdir().expect("a temporary directory");
    /// # let db = lightning_db::Database::create(directory.path().join("db")).await?;
    /// db.put("user:1", "Ada").await?;
    /// db.flush().await?;
    /// let users = db.estimate("user:".."user;").await?;
    /// assert_eq!(users.entries, 1);
    /// assert!(users.bytes >= 3);
    /// # db.close().await
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Database::first`].
    ///
    /// # Cancel safety
    /// Dropping the future drops the answer.
    pub async fn estimate(&self, range: impl KeyRange) -> Result<Estimate> {
        let (start, end) = (range.start(), range.end());
        let estimated = self.0.client.estimate(KeyspaceId::DEFAULT, start, end);
        Ok(estimated.await?)
    }

    fn scanner(&self, range: &impl KeyRange) -> Scanner<Submitter<Request>> {
        let (start, end) = (range.start(), range.end());
        self.0.client.scan(KeyspaceId::DEFAULT, start, end)
    }
}
