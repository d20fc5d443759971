//! Deleting ranges of keys, piece by piece.
//!
//! # Algorithm
//! 1. A piece reads the first keys of the range as of now, a bounded number, and with them those
//!    that have expired.
//! 2. Their tombstones are one commit, which goes the way of every write; it is answered when it is
//!    durable, with what is left of the range. One that finds nothing waits until what deleted the
//!    keys is durable.
//! 3. Whoever wants more of the range deleted asks for the next piece.
//!
//! So a deletion of any length holds up nobody, has nothing to stop when the shard closes, and
//! after a crash some first part of the range is gone.

use futures_channel::oneshot;
use lightning_io::Env;

use super::Shard;
use super::scan::Rows;
use super::write::{Caller, Deferred};
use crate::message::{DeletedPiece, Durability, Lease, Owner, Reply, ScanSpec};
use crate::wal::Ops;
use crate::{Direction, Error, KeyspaceId, Result, StorageKey, StoredRange, Timestamp};

/// Keys of a piece: to read them takes some 100 us, in turns of 20.
const PIECE_KEYS_MAX: usize = 1024;

/// Bytes of their tombstones, beyond which a piece ends: a small record of the log.
const PIECE_BYTES: usize = 64 << 10;

/// The tombstones of the keys that a walk meets.
struct Tombstones {
    keyspace: KeyspaceId,
    ops: Ops,
    /// Keys that were there.
    keys: u64,
}

impl Tombstones {
    fn delete(&mut self, key: &[u8]) {
        self.ops.delete_stored(&StorageKey::new(self.keyspace, key));
    }
}

impl Rows for Tombstones {
    fn push(&mut self, key: &[u8], _: &[u8]) {
        self.delete(key);
        self.keys += 1;
    }

    /// What has expired takes space until a flush comes by, which may be never.
    fn push_expired(&mut self, key: &[u8]) {
        self.delete(key);
    }

    /// A tombstone is behind what it deletes in the log, so it is durable no earlier.
    fn hold(&mut self, _: Timestamp) {}

    fn is_full(&self) -> bool {
        self.ops.len() >= PIECE_KEYS_MAX || self.ops.bytes() >= PIECE_BYTES
    }
}

impl<E: Env> Shard<E> {
    /// Deletes the first keys of a range.
    pub(super) fn delete_piece(
        &self,
        range: StoredRange,
        owner: Owner,
        reply: Reply<DeletedPiece>,
    ) {
        let allowed = match owner {
            Owner::InUse => self.check_in_use(range.keyspace()),
            Owner::Dropped => Ok(()),
        };
        if let Err(error) = allowed {
            return drop(reply.send(Err(error)));
        }
        let shard = self.clone();
        self.spawn_counted(async move {
            drop(reply.send(shard.delete_first(range).await));
        });
    }

    async fn delete_first(&self, range: StoredRange) -> Result<DeletedPiece> {
        let mut tombstones = Tombstones {
            keyspace: range.keyspace(),
            ops: Ops::default(),
            keys: 0,
        };
        let spec = ScanSpec {
            range,
            direction: Direction::Forward,
            keys_only: true,
        };
        // Nobody else holds the scan, and it is not to be given up.
        let lease = Lease::default();
        let mut scan = self.begin_scan(spec, lease.clone());
        let at = self.0.clock.now();
        let done = self.read_rows(&mut scan, at, &mut tombstones).await?;
        let ends = done || planted!("delete_one_piece");
        let rest = (!ends).then(|| scan.into_rest());
        drop(lease);
        let Tombstones { ops, keys, .. } = tombstones;
        if ops.is_empty() {
            // Keys may be gone by a deletion that is not durable yet, and whoever hears that
            // nothing is left forgets the keyspace.
            self.0.wal.sync().await?;
        } else {
            self.delete_durably(ops).await?;
        }
        Ok(DeletedPiece { keys, rest })
    }

    async fn delete_durably(&self, ops: Ops) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.write(Deferred {
            ops,
            durability: Durability::Sync,
            caller: Caller::Deletion(reply),
        });
        answer.await.unwrap_or(Err(Error::Closed)).map(drop)
    }
}
