//! Read-modify-write of one key.

use bytes::Bytes;
use lightning_shards::client::Swap;
use lightning_shards::{Decide, Durability, KeyspaceId};

use super::Database;
use crate::{Change, Mismatch, Result};

impl Database {
    /// Gives a key another value if it has the expected one; `None` stands for a key that is not
    /// there. No other write of the key comes in between.
    ///
    /// ```
    /// # fn main() -> Result<(), lightning_db::Error> {
    /// # futures_executor::block_on(async {
    /// # let directory = tempfile::tempdir().expect("a temporary directory");
    /// # let db = lightning_db::Database::create(directory.path().join("db")).await?;
    /// // Only one of those who ask for it gets the lock.
    /// let taken = db.compare_and_swap("lock", None, Some(b"me")).await?;
    /// assert!(taken.is_ok());
    /// let refused = db.compare_and_swap("lock", None, Some(b"you")).await?;
    /// assert_eq!(refused.unwrap_err().found.as_deref(), Some(&b"me"[..]));
    /// let released = db.compare_and_swap("lock", Some(b"me"), None).await?;
    /// assert!(released.is_ok());
    /// # db.close().await
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Database::put`], and [`crate::ErrorKind::Corruption`] when the current value lies
    /// under damaged bytes. A value that is another than the expected one is no error: it is the
    /// [`Mismatch`] in the answer.
    ///
    /// # Durability
    /// As for [`Database::put`]. What a mismatch tells is durable, unless it was written with
    /// relaxed durability.
    ///
    /// # Cancel safety
    /// As for [`Database::put`].
    pub async fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Result<(), Mismatch>> {
        let swap = Swap { expected, new };
        let (client, durability) = (&self.0.client, self.0.durability);
        let swapped = client.compare_and_swap(KeyspaceId::DEFAULT, key.as_ref(), swap, durability);
        Ok(swapped.await?)
    }

    /// Has a function see the current value of a key and say what becomes of it; returns the value
    /// that the key has then. No other write of the key comes in between.
    ///
    /// The function gives a [`Change`], or an `Option<Vec<u8>>`: a value to put, or none to delete.
    /// It runs on the key's shard, which does nothing else meanwhile: it should be short, and it must
    /// not wait for anything, this database least of all. It is called once at the most, and not at
    /// all when the update is refused before its turn.
    ///
    /// ```
    /// # fn main() -> Result<(), lightning_db::Error> {
    /// # futures_executor::block_on(async {
    /// # let directory = tempfile::tempdir().expect("a temporary directory");
    /// # let db = lightning_db::Database::create(directory.path().join("db")).await?;
    /// let visits = |value: Option<&[u8]>| {
    ///     let count = value.and_then(|value| value.try_into().ok()).map_or(0, u64::from_le_bytes);
    ///     Some((count + 1).to_le_bytes().to_vec())
    /// };
    /// db.update("visits", visits).await?;
    /// let count = db.update("visits", visits).await?;
    /// assert_eq!(count.as_deref(), Some(&2_u64.to_le_bytes()[..]));
    /// # db.close().await
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Database::put`]; [`crate::ErrorKind::Corruption`] when the current value lies under
    /// damaged bytes; [`crate::ErrorKind::Panicked`] when the function panicked. Nothing was written
    /// in these cases, whether or not the function has run.
    ///
    /// # Durability
    /// As for [`Database::put`]. What the function saw is durable when this returns, unless it was
    /// written with relaxed durability.
    ///
    /// # Cancel safety
    /// As for [`Database::put`].
    pub async fn update<C: Into<Change>>(
        &self,
        key: impl AsRef<[u8]>,
        function: impl FnOnce(Option<&[u8]>) -> C + Send + 'static,
    ) -> Result<Option<Bytes>> {
        self.update_with(key, self.0.durability, function).await
    }

    /// Updates a key with a durability of its own.
    ///
    /// # Errors
    /// As for [`Database::update`].
    ///
    /// # Durability
    /// As asked: see [`Durability`].
    ///
    /// # Cancel safety
    /// As for [`Database::put`].
    pub async fn update_with<C: Into<Change>>(
        &self,
        key: impl AsRef<[u8]>,
        durability: Durability,
        function: impl FnOnce(Option<&[u8]>) -> C + Send + 'static,
    ) -> Result<Option<Bytes>> {
        let decide = Decide::new(|value| function(value).into());
        let (client, key) = (&self.0.client, key.as_ref());
        let updated = client.update(KeyspaceId::DEFAULT, key, decide, durability);
        Ok(updated.await?.value)
    }
}
