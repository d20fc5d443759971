//! What becomes known when a shard fails: to its own callers, and to its peers.
//!
//! # Invariants
//! * Whatever poisons a shard, its peers hear of it: a peer whose queue is full is told again until
//!   it took the news or is gone. Only the end of this shard's own log, and so of the database,
//!   ends that.

use std::time::Duration;

use lightning_io::{Env, Port, SendError};

use super::Shard;
use crate::Error;
use crate::message::Request;

/// How long a peer with a full queue is left alone before it is told again: a queue of a thousand
/// requests takes it less.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);

impl<E: Env> Shard<E> {
    /// Waits until the log fails; then refuses writes, and tells the peers to.
    pub(super) async fn watch_poison<P: Port<Request>>(&self, port: &P) {
        let Some(cause) = self.0.wal.wait_for_poison().await else {
            return;
        };
        let shard = self.id();
        self.refuse(&Error::Poisoned {
            shard,
            cause: cause.clone(),
        });
        let mut untold: Vec<usize> = (0..port.peers()).collect();
        untold.retain(|&peer| peer != shard.index());
        loop {
            untold.retain(|&peer| {
                let cause = cause.clone();
                let news = Request::PeerFailed { shard, cause };
                matches!(port.send(peer, news), Err(SendError::Full(_)))
            });
            if untold.is_empty() || self.0.wal.is_closed() {
                return;
            }
            tracing::debug!(%shard, ?untold, "the queues of peers are full; telling them again");
            self.0.env.sleep(RETRY_INTERVAL).await;
        }
    }

    /// Takes no more writes, and says so to those that wait.
    pub(super) fn refuse(&self, error: &Error) {
        self.0
            .refused
            .borrow_mut()
            .get_or_insert_with(|| error.clone());
        self.resume_deferred();
        self.0.flush_ended.occur();
    }
}
