//! A named ordered map inside a database: what callers read and write through.

mod merges;
mod ranges;
mod updates;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lightning_io::mesh::Submitter;
use lightning_shards::client::{Client, Target};
use lightning_shards::{
    DEFAULT_KEYSPACE_NAME, DatabaseId, Durability, KeyspaceId, KeyspaceOptions, KeyspaceRecord,
    MergeOperator, Ops, Request, Ttl,
};

use crate::Result;
use crate::database::Handle;

/// A keyspace of an open database: an ordered map of keys to values with a name.
///
/// Clones are cheap, share it, and keep the database open as those of [`crate::Database`] do, whose
/// own calls are about the keyspace `default`. Keyspaces share the log, the memory and the files of
/// their database, so one that is not used costs nothing, and a [`crate::Batch`] may write to
/// several.
///
/// When it is dropped by [`crate::Database::drop_keyspace`], every call on every handle fails with
/// [`crate::ErrorKind::Dropped`] from then on, also when another keyspace of the same name is
/// created.
///
/// ```
/// # fn main() -> Result<(), lightning_db::Error> {
/// # futures_executor::block_on(async {
/// # let directory = tempfile::tempdir().expect("a temporary directory");
/// # let db = lightning_db::Database::create(directory.path().join("db")).await?;
/// use lightning_db::KeyspaceOptions;
///
/// let users = db.create_keyspace("users", KeyspaceOptions::new()).await?;
/// users.put("ada", "Lovelace").await?;
/// assert_eq!(db.get("ada").await?, None);
/// assert_eq!(db.keyspace("users").await?.count(..).await?, 1);
/// # db.close().await
/// # })
/// # }
/// ```
#[derive(Clone)]
pub struct Keyspace {
    pub(crate) handle: Arc<Handle>,
    known: Arc<Known>,
}

/// What is known of a keyspace as long as it exists.
struct Known {
    name: String,
    record: KeyspaceRecord,
    /// How long what is written lives unless the write says otherwise.
    ttl: Option<Ttl>,
    merge_operator: Option<Arc<dyn MergeOperator>>,
}

/// What the catalogue says of a keyspace.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyspaceInfo {
    /// Its name.
    pub name: String,
    /// Its number: no other keyspace of the database ever has it.
    pub id: KeyspaceId,
    /// How it was created.
    pub options: KeyspaceOptions,
}

impl Keyspace {
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] when its merge operator is missing.
    pub(crate) fn new(handle: &Arc<Handle>, name: &str, record: KeyspaceRecord) -> Result<Self> {
        let operator = record.options.merge_operator.as_deref();
        let known = Known {
            name: name.to_owned(),
            ttl: record.options.default_ttl()?,
            merge_operator: handle.operators.for_keyspace(name, operator)?,
            record,
        };
        Ok(Self {
            handle: Arc::clone(handle),
            known: Arc::new(known),
        })
    }

    /// The keyspace that every database has.
    pub(crate) fn default_of(handle: &Arc<Handle>) -> Self {
        let known = Known {
            name: DEFAULT_KEYSPACE_NAME.to_owned(),
            ttl: None,
            merge_operator: None,
            record: KeyspaceRecord {
                id: KeyspaceId::DEFAULT,
                options: KeyspaceOptions::default(),
            },
        };
        Self {
            handle: Arc::clone(handle),
            known: Arc::new(known),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.known.name
    }

    /// What it is and how it was created.
    pub fn info(&self) -> KeyspaceInfo {
        KeyspaceInfo {
            name: self.known.name.clone(),
            id: self.id(),
            options: self.known.record.options.clone(),
        }
    }

    pub(crate) fn id(&self) -> KeyspaceId {
        self.known.record.id
    }

    /// Where what is written goes, and how long it lives there.
    pub(crate) fn target(&self) -> Target {
        Target {
            keyspace: self.id(),
            ttl: self.known.ttl,
        }
    }

    /// The database that it is in.
    pub(crate) fn database(&self) -> DatabaseId {
        self.handle.id
    }

    pub(crate) fn client(&self) -> &Client<Submitter<Request>> {
        &self.handle.client
    }

    fn durability(&self) -> Durability {
        self.handle.durability
    }

    /// Writes one value. A key has 1 byte to 64 KiB, a value up to 64 MiB. In a keyspace with a
    /// time to live it expires: see [`Keyspace::put_with_ttl`].
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
        ops.put_to(self.target(), key.as_ref(), value.as_ref())?;
        Ok(self.client().write(ops, self.durability()).await?)
    }

    /// Writes one value that expires a time after its commit, whatever the keyspace's own time is.
    ///
    /// From then on the key is not there, for every kind of read and for read-modify-write; flushes
    /// let its space go. The time is judged by the clock of the key's shard, which does not go back
    /// while the database is open. Of such a value there are up to 64 MiB less 8 bytes.
    ///
    /// ```
    /// # fn main() -> Result<(), lightning_db::Error> {
    /// # futures_executor::block_on(async {
    /// # let directory = tempfile::tempdir().expect("a temporary directory");
    /// # let db = lightning_db::Database::create(directory.path().join("db")).await?;
    /// use std::time::Duration;
    ///
    /// db.put_with_ttl("code", "4711", Duration::from_millis(20)).await?;
    /// std::thread::sleep(Duration::from_millis(30));
    /// assert_eq!(db.get("code").await?, None);
    /// # db.close().await
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Keyspace::put`], and [`crate::ErrorKind::Invalid`] for a time of less than a
    /// microsecond or more than about 142 years.
    ///
    /// # Durability
    /// As for [`Keyspace::put`].
    ///
    /// # Cancel safety
    /// As for [`Keyspace::put`].
    pub async fn put_with_ttl(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<()> {
        let mut ops = Ops::default();
        let target = Target {
            keyspace: self.id(),
            ttl: Some(Ttl::new(ttl)?),
        };
        ops.put_to(target, key.as_ref(), value.as_ref())?;
        Ok(self.client().write(ops, self.durability()).await?)
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
        Ok(self.client().get(self.id(), key.as_ref()).await?)
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
    /// As for [`Keyspace::get`].
    ///
    /// # Cancel safety
    /// Dropping the future drops the answer.
    pub async fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = key.as_ref();
        Ok(self.client().exists(self.id(), key).await?)
    }

    /// Deletes a key; it need not be there.
    ///
    /// # Errors
    /// As for [`Keyspace::put`].
    ///
    /// # Durability
    /// As for [`Keyspace::put`].
    ///
    /// # Cancel safety
    /// As for [`Keyspace::put`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        let mut ops = Ops::default();
        ops.delete(self.id(), key.as_ref())?;
        Ok(self.client().write(ops, self.durability()).await?)
    }

    /// Deletes several keys with one message a shard, as a [`crate::Batch`] of deletions does; they
    /// need not be there.
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
    /// As for [`crate::Database::write`].
    ///
    /// # Durability
    /// As for [`Keyspace::put`].
    ///
    /// # Cancel safety
    /// As for [`Keyspace::put`].
    pub async fn delete_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<()> {
        let mut ops = Ops::default();
        for key in keys {
            ops.delete(self.id(), key.as_ref())?;
        }
        Ok(self.client().write(ops, self.durability()).await?)
    }

    /// Reads the newest values of several keys, in their order, with one message a shard.
    ///
    /// The keys of one shard are read as of one moment; between shards there is none.
    ///
    /// # Errors
    /// As for [`Keyspace::get`], for the first key that fails.
    ///
    /// # Cancel safety
    /// Dropping the future drops the answers.
    pub async fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>> {
        let keys: Vec<K> = keys.into_iter().collect();
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        Ok(self.client().get_many(self.id(), &keys).await?)
    }
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyspace({:?})", self.name())
    }
}
