//! Several writes in one.

use lightning_shards::{KeyspaceId, Ops};

use crate::Error;

/// Puts and deletions that are written together.
///
/// A batch is atomic on each shard: after a crash, its part on a shard is there whole or not at
/// all. Between shards it is not atomic yet. Of several writes to one key the last counts.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    ops: Ops,
    /// The first operation that broke a bound; told when the batch is written.
    error: Option<Error>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a put. A key or value out of its bounds makes the whole batch fail when it is written.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        let added = self
            .ops
            .put(KeyspaceId::DEFAULT, key.as_ref(), value.as_ref());
        self.note(added)
    }

    /// Adds a deletion. A key out of its bounds makes the whole batch fail when it is written.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        let added = self.ops.delete(KeyspaceId::DEFAULT, key.as_ref());
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

    pub(crate) fn into_ops(self) -> Result<Ops, Error> {
        self.error.map_or(Ok(self.ops), Err)
    }
}
