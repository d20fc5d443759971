//! Several writes in one.

use std::time::Duration;

use lightning_shards::client::Target;
use lightning_shards::{DatabaseId, Error as Cause, KeyspaceId, Ops, Ttl};

use crate::{Error, Keyspace};

/// Puts and deletions that are written together.
///
/// A batch is atomic on each shard: after a crash, its part on a shard is there whole or not at
/// all. Between shards it is not atomic yet. Of several writes to one key the last counts. It may
/// write to several keyspaces of one database.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    ops: Ops,
    /// The database whose keyspaces it writes to, other than by their common name `default`.
    database: Option<DatabaseId>,
    /// The first operation that broke a bound; told when the batch is written.
    error: Option<Error>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a put to the keyspace `default`. A key or value out of its bounds makes the whole batch
    /// fail when it is written.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        let added = self
            .ops
            .put(KeyspaceId::DEFAULT, key.as_ref(), value.as_ref());
        self.note(added)
    }

    /// Adds a deletion from the keyspace `default`. A key out of its bounds makes the whole batch
    /// fail when it is written.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        let added = self.ops.delete(KeyspaceId::DEFAULT, key.as_ref());
        self.note(added)
    }

    /// Adds a put to a keyspace.
    pub fn put_in(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.bind(keyspace);
        let target = keyspace.target();
        let added = self.ops.put_to(target, key.as_ref(), value.as_ref());
        self.note(added)
    }

    /// Adds a put to a keyspace of a value that expires: see [`Keyspace::put_with_ttl`].
    pub fn put_in_with_ttl(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> &mut Self {
        self.bind(keyspace);
        let added = Ttl::new(ttl).and_then(|ttl| {
            let target = Target {
                keyspace: keyspace.id(),
                ttl: Some(ttl),
            };
            self.ops.put_to(target, key.as_ref(), value.as_ref())
        });
        self.note(added)
    }

    /// Adds a deletion from a keyspace.
    pub fn delete_in(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> &mut Self {
        self.bind(keyspace);
        let added = self.ops.delete(keyspace.id(), key.as_ref());
        self.note(added)
    }

    /// The number of operations.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    fn note(&mut self, added: lightning_shards::Result<()>) -> &mut Self {
        if let Err(error) = added {
            self.error.get_or_insert(error.into());
        }
        self
    }

    /// Takes note of the database that a keyspace is in: its number means another one elsewhere.
    fn bind(&mut self, keyspace: &Keyspace) {
        let database = *self.database.get_or_insert(keyspace.database());
        if database != keyspace.database() {
            self.error
                .get_or_insert_with(|| of_another(keyspace.database(), database));
        }
    }

    /// The operations, to be written to a database.
    pub(crate) fn into_ops(self, database: DatabaseId) -> Result<Ops, Error> {
        let bound = self.database.filter(|&bound| bound != database);
        let error = self
            .error
            .or_else(|| bound.map(|bound| of_another(bound, database)));
        error.map_or(Ok(self.ops), Err)
    }
}

fn of_another(found: DatabaseId, expected: DatabaseId) -> Error {
    Cause::Invalid {
        what: "batch",
        reason: format!("it writes to a keyspace of the database {found}, not of {expected}"),
    }
    .into()
}
