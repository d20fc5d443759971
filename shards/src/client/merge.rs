//! Merging operands into values.
//!
//! A merge is an update whose function is the keyspace's operator: it reads the value, merges and
//! writes, on the shard, with no other write of the key in between. Nothing is put off to a later
//! read or flush, so an operand that cannot be merged is refused at once, and to its caller alone.

use std::sync::Arc;

use bytes::Bytes;
use futures_channel::oneshot;
use lightning_io::Submit;

use super::Client;
use crate::message::{Change, Decide, Request, Target};
use crate::wal::Ops;
use crate::{Durability, Error, MergeOperator, Result};

/// An operand, and what merges it.
pub struct Merge<'a> {
    /// The operator of the keyspace.
    pub operator: Arc<dyn MergeOperator>,
    /// The operand.
    pub operand: &'a [u8],
}

impl std::fmt::Debug for Merge<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Merge({} bytes)", self.operand.len())
    }
}

impl<S: Submit<Request>> Client<S> {
    /// Merges an operand into the value of a key; returns the new value.
    ///
    /// # Errors
    /// [`Error::Invalid`] with what the operator says against it, [`Error::Panicked`] when it
    /// panicked: nothing was written.
    ///
    /// # Cancel safety
    /// As for [`Self::update`].
    pub async fn merge(
        &self,
        target: impl Into<Target>,
        key: &[u8],
        merge: Merge<'_>,
        durability: Durability,
    ) -> Result<Bytes> {
        let target = target.into();
        if planted!("merge_loses_operand") {
            return self.merge_apart(target, key, merge, durability).await;
        }
        let (own_key, operand) = (key.to_vec(), merge.operand.to_vec());
        let (sender, mut refusal) = oneshot::channel();
        let decide = Decide::new(move |existing| {
            match merge.operator.merge(&own_key, existing, &operand) {
                Ok(value) => Change::Put(value),
                Err(reason) => {
                    // A caller that stopped waiting needs no reason.
                    drop(sender.send(reason));
                    Change::Keep
                }
            }
        });
        let updated = self.update(target, key, decide, durability).await?;
        match refusal.try_recv() {
            Ok(Some(reason)) => Err(refused(reason)),
            _ => Ok(updated.value.unwrap_or_default()),
        }
    }

    /// The planted bug: what is written between the read and the write is lost.
    async fn merge_apart(
        &self,
        target: Target,
        key: &[u8],
        merge: Merge<'_>,
        durability: Durability,
    ) -> Result<Bytes> {
        let existing = self.get(target.keyspace, key).await?;
        let merged = merge
            .operator
            .merge(key, existing.as_deref(), merge.operand);
        let value = merged.map_err(refused)?;
        let mut ops = Ops::default();
        ops.put_to(target, key, &value)?;
        self.write(ops, durability).await?;
        Ok(value.into())
    }
}

fn refused(reason: String) -> Error {
    let what = "merge";
    Error::Invalid { what, reason }
}
