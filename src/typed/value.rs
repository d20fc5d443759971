//! Values by serde, in the format of the crate `postcard`.

use futures_channel::oneshot;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Key, TypedKeyspace};
use crate::{Change, Result};

/// A type of values: whatever serde can write and read.
///
/// The bytes are those of postcard, <https://postcard.jamesmunns.com/wire-format>: small, and without
/// the names of fields. So a type with a field more or less does not read them: bytes that are left
/// over, or missing, are an error. For values that change their shape, use an enum with a variant for
/// each.
pub trait Value: Serialize + DeserializeOwned {}

impl<T: Serialize + DeserializeOwned> Value for T {}

pub(super) fn to_bytes<V: Value>(value: &V) -> Result<Vec<u8>, String> {
    postcard::to_stdvec(value).map_err(|error| error.to_string())
}

pub(super) fn from_bytes<V: Value>(bytes: &[u8]) -> Result<V, String> {
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(|error| error.to_string())?;
    match rest.len() {
        0 => Ok(value),
        left => Err(format!("{left} bytes are left over")),
    }
}

/// Updates a key by a function of values. What goes wrong on the shard is told here, after it.
pub(super) async fn update<K: Key, V: Value>(
    typed: &TypedKeyspace<K, V>,
    key: &[u8],
    function: impl FnOnce(Option<V>) -> Option<V> + Send + 'static,
) -> Result<Option<V>> {
    let (fail, mut failed) = oneshot::channel();
    let on_bytes = move |bytes: Option<&[u8]>| {
        let changed = bytes.map(from_bytes).transpose().and_then(|value| {
            let changed = function(value);
            changed.as_ref().map(to_bytes).transpose()
        });
        match changed {
            Ok(Some(bytes)) => Change::Put(bytes),
            Ok(None) => Change::Delete,
            Err(reason) => {
                // Nobody listens any more when the caller has left.
                drop(fail.send(reason));
                Change::Keep
            }
        }
    };
    let bytes = typed.keyspace.update(key, on_bytes).await?;
    if let Ok(Some(reason)) = failed.try_recv() {
        return Err(typed.error("value", key, reason));
    }
    bytes
        .map(|bytes| typed.decode_value(key, &bytes))
        .transpose()
}
