//! Keyspaces of Rust types: keys that keep their order as bytes, and values by serde.
//!
//! What is stored is plain keys and values: `docs/format/typed.md` has the bytes, which other
//! languages can read, and the keyspace underneath can be used beside this.

mod key;
mod range;
mod scan;
mod value;

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeBounds;
use std::time::Duration;

use crate::key_range::Bounds;
use crate::{Batch, Error, Keyspace, Result};

pub use key::Key;
pub use scan::TypedScan;
pub use value::Value;

/// A keyspace with keys of type `K` and values of type `V`.
///
/// Keys are tuples of integers, floats, strings, bytes, booleans, options and tuples of these, or one
/// of them alone: see [`Key`]. They come in the order of their parts, so what begins alike lies
/// together. Values are whatever serde can write and read.
///
/// Clones are cheap and share the [`Keyspace`].
///
/// ```
/// # fn main() -> Result<(), lightning_db::Error> {
/// # futures_executor::block_on(async {
/// # let directory = tempfile::tempdir().expect("a temporary directory");
/// # let db = lightning_db::Database::create(directory.path().join("db")).await?;
/// use futures_util::TryStreamExt;
/// use lightning_db::{KeyspaceOptions, TypedKeyspace};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct Reading {
///     celsius: f32,
///     sensor: Option<String>,
/// }
///
/// let keyspace = db.create_keyspace("readings", KeyspaceOptions::new()).await?;
/// // From a place and a time to what was read there.
/// let readings: TypedKeyspace<(String, i64), Reading> = keyspace.typed();
/// for (at, celsius) in [(-60, 18.5), (0, 19.0), (60, 19.5)] {
///     let reading = Reading { celsius, sensor: None };
///     readings.put(&("attic".to_owned(), at), &reading).await?;
/// }
/// let recent = readings.scan_prefix(&("attic".to_owned(),)).reverse().limit(1);
/// let recent: Vec<_> = recent.try_collect().await?;
/// assert_eq!(recent[0].0, ("attic".to_owned(), 60));
/// assert_eq!(recent[0].1.celsius, 19.5);
/// # db.close().await
/// # })
/// # }
/// ```
pub struct TypedKeyspace<K, V> {
    keyspace: Keyspace,
    types: PhantomData<fn(K) -> V>,
}

impl Keyspace {
    /// This keyspace with keys and values of these types.
    ///
    /// Nothing is checked here: what was written with other types fails with
    /// [`crate::ErrorKind::Encoding`] when it is read, or is read as something else where the bytes
    /// allow it.
    pub fn typed<K: Key, V: Value>(&self) -> TypedKeyspace<K, V> {
        TypedKeyspace {
            keyspace: self.clone(),
            types: PhantomData,
        }
    }
}

impl<K: Key, V: Value> TypedKeyspace<K, V> {
    /// The keyspace underneath.
    pub fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// As [`Keyspace::put`].
    ///
    /// # Errors
    /// As for [`Keyspace::put`], and [`crate::ErrorKind::Encoding`] for a value that serde cannot
    /// write.
    ///
    /// # Durability
    /// As for [`Keyspace::put`].
    ///
    /// # Cancel safety
    /// As for [`Keyspace::put`].
    pub async fn put(&self, key: &K, value: &V) -> Result<()> {
        let (key, value) = self.encode(key, value)?;
        self.keyspace.put(key, value).await
    }

    /// As [`Keyspace::put_with_ttl`].
    ///
    /// # Errors
    /// As for [`Keyspace::put_with_ttl`] and [`TypedKeyspace::put`].
    ///
    /// # Durability
    /// As for [`Keyspace::put`].
    ///
    /// # Cancel safety
    /// As for [`Keyspace::put`].
    pub async fn put_with_ttl(&self, key: &K, value: &V, ttl: Duration) -> Result<()> {
        let (key, value) = self.encode(key, value)?;
        self.keyspace.put_with_ttl(key, value, ttl).await
    }

    /// Adds a put to a batch.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Encoding`] for a value that serde cannot write; the batch is as it was.
    pub fn put_in(&self, batch: &mut Batch, key: &K, value: &V) -> Result<()> {
        let (key, value) = self.encode(key, value)?;
        batch.put_in(&self.keyspace, key, value);
        Ok(())
    }

    /// Adds a deletion to a batch.
    pub fn delete_in(&self, batch: &mut Batch, key: &K) {
        batch.delete_in(&self.keyspace, key.to_bytes());
    }

    /// As [`Keyspace::get`].
    ///
    /// # Errors
    /// As for [`Keyspace::get`], and [`crate::ErrorKind::Encoding`] for a value that is no `V`.
    ///
    /// # Cancel safety
    /// Dropping the future drops the answer.
    pub async fn get(&self, key: &K) -> Result<Option<V>> {
        let key = key.to_bytes();
        let value = self.keyspace.get(&key).await?;
        value
            .map(|value| self.decode_value(&key, &value))
            .transpose()
    }

    /// As [`Keyspace::get_many`].
    ///
    /// # Errors
    /// As for [`TypedKeyspace::get`], for the first key that fails.
    ///
    /// # Cancel safety
    /// Dropping the future drops the answers.
    pub async fn get_many<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k K>,
    ) -> Result<Vec<Option<V>>>
    where
        K: 'k,
    {
        let keys: Vec<Vec<u8>> = keys.into_iter().map(Key::to_bytes).collect();
        let values = self.keyspace.get_many(&keys).await?;
        let decode = |(key, value): (&Vec<u8>, Option<bytes::Bytes>)| {
            value
                .map(|value| self.decode_value(key, &value))
                .transpose()
        };
        keys.iter().zip(values).map(decode).collect()
    }

    /// As [`Keyspace::exists`].
    ///
    /// # Errors
    /// As for [`Keyspace::get`].
    ///
    /// # Cancel safety
    /// Dropping the future drops the answer.
    pub async fn exists(&self, key: &K) -> Result<bool> {
        self.keyspace.exists(key.to_bytes()).await
    }

    /// As [`Keyspace::delete`].
    ///
    /// # Errors
    /// As for [`Keyspace::put`].
    ///
    /// # Durability
    /// As for [`Keyspace::put`].
    ///
    /// # Cancel safety
    /// As for [`Keyspace::put`].
    pub async fn delete(&self, key: &K) -> Result<()> {
        self.keyspace.delete(key.to_bytes()).await
    }

    /// As [`Keyspace::update`]: the function sees the current value, if there is one, and gives what
    /// becomes of it; returns that.
    ///
    /// ```
    /// # fn main() -> Result<(), lightning_db::Error> {
    /// # futures_executor::block_on(async {
    /// # let directory = tempfile::tempdir().expect("a temporary directory");
    /// # let db = lightning_db::Database::create(directory.path().join("db")).await?;
    /// let keyspace = db.keyspace("default").await?;
    /// let stock = keyspace.typed::<(String, u32), u64>();
    /// let shelf = ("screws".to_owned(), 7);
    /// stock.update(&shelf, |count| Some(count.unwrap_or(0) + 100)).await?;
    /// let left = stock.update(&shelf, |count| count?.checked_sub(30)).await?;
    /// assert_eq!(left, Some(70));
    /// # db.close().await
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Keyspace::update`], and [`crate::ErrorKind::Encoding`] when the current value is no
    /// `V`, or the new one cannot be written: nothing is changed then.
    ///
    /// # Durability
    /// As for [`Keyspace::update`].
    ///
    /// # Cancel safety
    /// As for [`Keyspace::put`].
    pub async fn update(
        &self,
        key: &K,
        function: impl FnOnce(Option<V>) -> Option<V> + Send + 'static,
    ) -> Result<Option<V>> {
        value::update(self, &key.to_bytes(), function).await
    }

    /// As [`Keyspace::scan`], with keys for ends: `..`, `a..b`, `a..=b`, `a..`, `..b`, `..=b`.
    pub fn scan(&self, range: impl RangeBounds<K>) -> TypedScan<K, V> {
        self.scan_bounds(range::bounds(&range))
    }

    /// Reads the keys whose first parts are these, in order: `P` is a tuple of the types that the
    /// tuple `K` begins with.
    pub fn scan_prefix<P: Key>(&self, parts: &P) -> TypedScan<K, V> {
        self.scan_bounds(range::beginning_with(parts))
    }

    /// As [`Keyspace::first`].
    ///
    /// # Errors
    /// As for [`Keyspace::first`], and [`crate::ErrorKind::Encoding`].
    ///
    /// # Cancel safety
    /// Dropping the future drops the answer.
    pub async fn first(&self, range: impl RangeBounds<K>) -> Result<Option<(K, V)>> {
        let row = self.keyspace.first(range::bounds(&range)).await?;
        row.map(|row| self.decode(&row)).transpose()
    }

    /// As [`Keyspace::last`].
    ///
    /// # Errors
    /// As for [`TypedKeyspace::first`].
    ///
    /// # Cancel safety
    /// Dropping the future drops the answer.
    pub async fn last(&self, range: impl RangeBounds<K>) -> Result<Option<(K, V)>> {
        let row = self.keyspace.last(range::bounds(&range)).await?;
        row.map(|row| self.decode(&row)).transpose()
    }

    /// As [`Keyspace::count`]; no key and no value is looked at.
    ///
    /// # Errors
    /// As for [`Keyspace::first`].
    ///
    /// # Cancel safety
    /// Dropping the future ends the counting.
    pub async fn count(&self, range: impl RangeBounds<K>) -> Result<u64> {
        self.keyspace.count(range::bounds(&range)).await
    }

    /// As [`Keyspace::delete_range`].
    ///
    /// # Errors
    /// As for [`Keyspace::delete_range`].
    ///
    /// # Durability
    /// As for [`Keyspace::delete_range`].
    ///
    /// # Cancel safety
    /// As for [`Keyspace::delete_range`].
    pub async fn delete_range(&self, range: impl RangeBounds<K>) -> Result<u64> {
        self.keyspace.delete_range(range::bounds(&range)).await
    }

    fn scan_bounds(&self, bounds: Bounds) -> TypedScan<K, V> {
        TypedScan::new(self.keyspace.scan(bounds), self)
    }

    fn encode(&self, key: &K, value: &V) -> Result<(Vec<u8>, Vec<u8>)> {
        let key = key.to_bytes();
        match value::to_bytes(value) {
            Ok(value) => Ok((key, value)),
            Err(reason) => Err(self.error("value", &key, reason)),
        }
    }

    fn decode(&self, (key, value): &(bytes::Bytes, bytes::Bytes)) -> Result<(K, V)> {
        let decoded = K::from_bytes(key).map_err(|reason| self.error("key", key, reason))?;
        Ok((decoded, self.decode_value(key, value)?))
    }

    fn decode_value(&self, key: &[u8], value: &[u8]) -> Result<V> {
        value::from_bytes(value).map_err(|reason| self.error("value", key, reason))
    }

    fn error(&self, what: &'static str, key: &[u8], reason: String) -> Error {
        Error::encoding(self.keyspace.name(), what, key, reason)
    }
}

impl<K, V> Clone for TypedKeyspace<K, V> {
    fn clone(&self) -> Self {
        Self {
            keyspace: self.keyspace.clone(),
            types: PhantomData,
        }
    }
}

impl<K, V> fmt::Debug for TypedKeyspace<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, value) = (std::any::type_name::<K>(), std::any::type_name::<V>());
        write!(
            f,
            "TypedKeyspace<{key}, {value}>({:?})",
            self.keyspace.name()
        )
    }
}
