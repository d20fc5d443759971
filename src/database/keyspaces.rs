//! The keyspaces of a database.

use futures_executor::block_on;

use super::Database;
use crate::keyspace::KeyspaceInfo;
use crate::start::on_thread;
use crate::{Keyspace, KeyspaceOptions, Result};

impl Database {
    /// Creates a keyspace. A name has 1 to 128 bytes of UTF-8 and no control characters.
    ///
    /// # Errors
    /// [`crate::ErrorKind::AlreadyExists`] when there is one of this name; of several who create it
    /// at once, one succeeds. [`crate::ErrorKind::Invalid`] for a name or an option
    /// that cannot be used.
    /// Otherwise as for [`Keyspace::put`].
    ///
    /// # Durability
    /// It is there after a crash once this has returned.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open whether the keyspace was created.
    pub async fn create_keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        self.check_operator(name, &options)?;
        let record = self.client().create_keyspace(name, &options).await?;
        Keyspace::new(self.handle(), name, record)
    }

    /// A keyspace that exists. `default` always does.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is none of this name,
    /// [`crate::ErrorKind::Version`] when another version of this crate created it with options
    /// that this one does not know, [`crate::ErrorKind::Invalid`] when it needs a merge operator
    /// that the database was not opened with.
    ///
    /// # Cancel safety
    /// Dropping the future drops the answer.
    pub async fn keyspace(&self, name: &str) -> Result<Keyspace> {
        let record = self.client().keyspace(name).await?;
        Keyspace::new(self.handle(), name, record)
    }

    /// A keyspace, which is created if there is none of this name.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] when it exists with other options; otherwise as for
    /// [`Database::create_keyspace`] and [`Database::keyspace`].
    ///
    /// # Durability
    /// As for [`Database::create_keyspace`].
    ///
    /// # Cancel safety
    /// As for [`Database::create_keyspace`].
    pub async fn keyspace_or_create(
        &self,
        name: &str,
        options: KeyspaceOptions,
    ) -> Result<Keyspace> {
        self.check_operator(name, &options)?;
        let record = self.client().keyspace_or_create(name, &options).await?;
        Keyspace::new(self.handle(), name, record)
    }

    /// Every keyspace, the default one first, the others in the order of their names.
    ///
    /// # Errors
    /// As for [`Database::keyspace`], for the first that cannot be read.
    ///
    /// # Cancel safety
    /// Dropping the future drops the answer.
    pub async fn keyspaces(&self) -> Result<Vec<KeyspaceInfo>> {
        let found = self.client().keyspaces().await?.into_iter();
        let info = found.map(|(name, record)| KeyspaceInfo {
            name,
            id: record.id,
            options: record.options,
        });
        Ok(info.collect())
    }

    /// Drops a keyspace with everything in it.
    ///
    /// One in use can be dropped: from the moment when this is durable every call on every handle
    /// fails with [`crate::ErrorKind::Dropped`], and so does a batch that writes to it. Then its
    /// keys are deleted, in pieces, as [`Keyspace::delete_range`] does. The space of their values
    /// comes back with the next flushes. After a crash in between, the next opening goes on with it
    /// in the background.
    ///
    /// ```
    /// # fn main() -> Result<(), lightning_db::Error> {
    /// # futures_executor::block_on(async {
    /// # let directory = tempfile::tempdir().expect("a temporary directory");
    /// # let db = lightning_db::Database::create(directory.path().join("db")).await?;
    /// use lightning_db::{ErrorKind, KeyspaceOptions};
    ///
    /// let drafts = db.create_keyspace("drafts", KeyspaceOptions::new()).await?;
    /// drafts.put("1", "Dear all,").await?;
    /// db.drop_keyspace("drafts").await?;
    /// assert_eq!(drafts.get("1").await.unwrap_err().kind(), ErrorKind::Dropped);
    /// assert_eq!(db.keyspace("drafts").await.unwrap_err().kind(), ErrorKind::NotFound);
    /// # db.close().await
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is none of this name,
    /// [`crate::ErrorKind::Invalid`] for the default one; [`crate::ErrorKind::NoSpace`] on a full
    /// disk, where [`Keyspace::delete_range`] still empties it. After any other error it may be gone
    /// already, and some of its keys may still take space: call it again, or leave that to the next
    /// opening.
    ///
    /// # Durability
    /// It is gone after a crash once this has returned.
    ///
    /// # Cancel safety
    /// Once polled, dropping the future leaves the drop under way.
    pub async fn drop_keyspace(&self, name: &str) -> Result<()> {
        let (client, name) = (self.client().clone(), name.to_owned());
        on_thread("lightning-drop", self.path(), move || {
            Ok(block_on(client.drop_keyspace(&name))?)
        })
        .await
    }

    /// Whether the merge operator is there that a keyspace is to have.
    fn check_operator(&self, name: &str, options: &KeyspaceOptions) -> Result<()> {
        let operator = options.merge_operator.as_deref();
        let found = self.handle().operators.for_keyspace(name, operator);
        Ok(found.map(drop)?)
    }
}
