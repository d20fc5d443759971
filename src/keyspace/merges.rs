//! Merging operands into values.

use std::sync::Arc;

use bytes::Bytes;
use lightning_shards::Error as Cause;
use lightning_shards::client::Merge;

use super::Keyspace;
use crate::{Durability, Result};

impl Keyspace {
    /// Merges an operand into the value of a key with the keyspace's merge operator; returns the
    /// new value. No other write of the key comes in between, so none of several merges is lost.
    ///
    /// It is an [`Keyspace::update`] with the operator as its function: the value is read, merged
    /// and written at once, and nothing is put off to a later read.
    ///
    /// ```
    /// # fn main() -> Result<(), lightning_db::Error> {
    /// # futures_executor::block_on(async {
    /// # let directory = tempfile::tempdir().expect("a temporary directory");
    /// # let db = lightning_db::Database::create(directory.path().join("db")).await?;
    /// use lightning_db::{ADD_U64, KeyspaceOptions};
    ///
    /// let options = KeyspaceOptions::new().merge_operator(ADD_U64);
    /// let counters = db.create_keyspace("counters", options).await?;
    /// counters.merge("hits", 1_u64.to_le_bytes()).await?;
    /// let hits = counters.merge("hits", 2_u64.to_le_bytes()).await?;
    /// assert_eq!(hits, 3_u64.to_le_bytes()[..]);
    /// # db.close().await
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Keyspace::update`]; [`crate::ErrorKind::Invalid`] when the keyspace has no merge
    /// operator, or with what the operator says against the operand or the value. Nothing was
    /// written then.
    ///
    /// # Durability
    /// As for [`Keyspace::update`].
    ///
    /// # Cancel safety
    /// As for [`Keyspace::put`].
    pub async fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<Bytes> {
        self.merge_with(key, operand, self.durability()).await
    }

    /// Merges with a durability of its own.
    ///
    /// # Errors
    /// As for [`Keyspace::merge`].
    ///
    /// # Durability
    /// As asked: see [`Durability`].
    ///
    /// # Cancel safety
    /// As for [`Keyspace::put`].
    pub async fn merge_with(
        &self,
        key: impl AsRef<[u8]>,
        operand: impl AsRef<[u8]>,
        durability: Durability,
    ) -> Result<Bytes> {
        let Some(operator) = &self.known.merge_operator else {
            let name = self.name();
            return Err(Cause::Invalid {
                what: "merge",
                reason: format!("the keyspace \"{name}\" was created without a merge operator"),
            }
            .into());
        };
        let merge = Merge {
            operator: Arc::clone(operator),
            operand: operand.as_ref(),
        };
        let (target, key) = (self.target(), key.as_ref());
        Ok(self.client().merge(target, key, merge, durability).await?)
    }
}
