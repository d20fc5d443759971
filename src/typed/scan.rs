//! Typed rows in key order, as a stream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::{Key, TypedKeyspace, Value};
use crate::{Result, Scan};

/// A scan of a [`TypedKeyspace`]: see [`Scan`].
///
/// A row that does not decode is an error in its place, [`crate::ErrorKind::Encoding`], and the scan
/// goes on behind it.
pub struct TypedScan<K, V> {
    scan: Scan,
    keyspace: TypedKeyspace<K, V>,
}

impl<K, V> TypedScan<K, V> {
    pub(super) fn new(scan: Scan, keyspace: &TypedKeyspace<K, V>) -> Self {
        let keyspace = keyspace.clone();
        Self { scan, keyspace }
    }

    /// As [`Scan::reverse`].
    #[must_use]
    pub fn reverse(mut self) -> Self {
        self.scan = self.scan.reverse();
        self
    }

    /// As [`Scan::limit`].
    #[must_use]
    pub fn limit(mut self, rows: usize) -> Self {
        self.scan = self.scan.limit(rows);
        self
    }
}

impl<K: Key, V: Value> Stream for TypedScan<K, V> {
    type Item = Result<(K, V)>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let row = std::task::ready!(Pin::new(&mut self.scan).poll_next(cx));
        Poll::Ready(row.map(|row| self.keyspace.decode(&row?)))
    }
}

impl<K, V> fmt::Debug for TypedScan<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TypedScan({:?}, {:?})", self.keyspace, self.scan)
    }
}
