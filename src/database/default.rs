//! The calls of a database that are about its default keyspace.

use std::time::Duration;

use bytes::Bytes;

use super::Database;
use crate::{Change, Durability, Estimate, KeyRange, Mismatch, Result, Scan};

impl Database {
    /// As [`crate::Keyspace::put`], in the keyspace `default`.
    pub async fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.default.put(key, value).await
    }

    /// As [`crate::Keyspace::put_with_ttl`], in the keyspace `default`.
    pub async fn put_with_ttl(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<()> {
        self.default.put_with_ttl(key, value, ttl).await
    }

    /// As [`crate::Keyspace::get`], in the keyspace `default`.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        self.default.get(key).await
    }

    /// As [`crate::Keyspace::exists`], in the keyspace `default`.
    pub async fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.default.exists(key).await
    }

    /// As [`crate::Keyspace::delete`], in the keyspace `default`.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.default.delete(key).await
    }

    /// As [`crate::Keyspace::delete_many`], in the keyspace `default`.
    pub async fn delete_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<()> {
        self.default.delete_many(keys).await
    }

    /// As [`crate::Keyspace::delete_range`], in the keyspace `default`.
    pub async fn delete_range(&self, range: impl KeyRange) -> Result<u64> {
        self.default.delete_range(range).await
    }

    /// As [`crate::Keyspace::get_many`], in the keyspace `default`.
    pub async fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>> {
        self.default.get_many(keys).await
    }

    /// As [`crate::Keyspace::compare_and_swap`], in the keyspace `default`.
    pub async fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Result<(), Mismatch>> {
        self.default.compare_and_swap(key, expected, new).await
    }

    /// As [`crate::Keyspace::update`], in the keyspace `default`.
    pub async fn update<C: Into<Change>>(
        &self,
        key: impl AsRef<[u8]>,
        function: impl FnOnce(Option<&[u8]>) -> C + Send + 'static,
    ) -> Result<Option<Bytes>> {
        self.default.update(key, function).await
    }

    /// As [`crate::Keyspace::update_with`], in the keyspace `default`.
    pub async fn update_with<C: Into<Change>>(
        &self,
        key: impl AsRef<[u8]>,
        durability: Durability,
        function: impl FnOnce(Option<&[u8]>) -> C + Send + 'static,
    ) -> Result<Option<Bytes>> {
        self.default.update_with(key, durability, function).await
    }

    /// As [`crate::Keyspace::scan`], in the keyspace `default`.
    pub fn scan(&self, range: impl KeyRange) -> Scan {
        self.default.scan(range)
    }

    /// As [`crate::Keyspace::scan_prefix`], in the keyspace `default`.
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Scan {
        self.default.scan_prefix(prefix)
    }

    /// As [`crate::Keyspace::first`], in the keyspace `default`.
    pub async fn first(&self, range: impl KeyRange) -> Result<Option<(Bytes, Bytes)>> {
        self.default.first(range).await
    }

    /// As [`crate::Keyspace::last`], in the keyspace `default`.
    pub async fn last(&self, range: impl KeyRange) -> Result<Option<(Bytes, Bytes)>> {
        self.default.last(range).await
    }

    /// As [`crate::Keyspace::count`], in the keyspace `default`.
    pub async fn count(&self, range: impl KeyRange) -> Result<u64> {
        self.default.count(range).await
    }

    /// As [`crate::Keyspace::estimate`], in the keyspace `default`.
    pub async fn estimate(&self, range: impl KeyRange) -> Result<Estimate> {
        self.default.estimate(range).await
    }
}
