//! What about lies in a range: the guesses for base and runs and those of the memtables, added up.
//! A key that was written several times lately counts several times.

use lightning_io::Env;

use super::Shard;
use crate::message::{Estimate, Reply};
use crate::{Result, StoredRange};

impl<E: Env> Shard<E> {
    /// Answers with an estimate of a range.
    pub(super) fn estimate(&self, range: StoredRange, reply: Reply<Estimate>) {
        if let Err(error) = self.check_in_use(range.keyspace()) {
            return drop(reply.send(Err(error)));
        }
        let shard = self.clone();
        self.spawn_counted(async move { drop(reply.send(shard.estimate_range(&range).await)) });
    }

    async fn estimate_range(&self, range: &StoredRange) -> Result<Estimate> {
        let view = self.read_view();
        let in_tree = self.0.tree.estimate(&view.tree, range).await?;
        let mut total = Estimate {
            entries: in_tree.entries,
            bytes: in_tree.bytes,
        };
        for table in &view.memtables {
            let (keys, bytes) = table.borrow().estimate(range);
            total.entries += keys;
            total.bytes += bytes;
        }
        Ok(total)
    }
}
