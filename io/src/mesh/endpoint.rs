//! The two handles of the mesh: a shard's endpoint and everybody else's submitter.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::task::{Context, Poll};

use super::mailbox::Mailbox;
use super::spsc::{self, Consumer, Producer};
use super::sync::Arc;
use crate::{Message, SendError, Submit};

/// The bounds of a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeshConfig {
    /// Messages that can wait from one shard to one other; rounded up to a power of two.
    pub ring_slots: usize,
    /// Messages that can wait from all other threads to one shard.
    pub inbox_slots: usize,
}

impl Default for MeshConfig {
    /// 1024 in either: with messages of 64 bytes one ring is 64 KiB, so that the rings of a shard
    /// with 16 peers stay within a core's second-level cache, and a ring holds what a shard works
    /// off in 50 to 100 us, several times what it receives between two of its turns.
    fn default() -> Self {
        Self {
            ring_slots: 1024,
            inbox_slots: 1024,
        }
    }
}

/// Connects `shards` shards with each other and with the rest of the process.
///
/// The i-th endpoint belongs to shard i, and the i-th submitter leads to it.
pub fn mesh<M: Send>(shards: usize, config: MeshConfig) -> (Vec<Endpoint<M>>, Vec<Submitter<M>>) {
    let mailboxes: Vec<_> = (0..shards)
        .map(|_| Arc::new(Mailbox::new(config.inbox_slots)))
        .collect();
    let mut producers: Vec<Vec<Producer<M>>> = (0..shards).map(|_| Vec::new()).collect();
    let mut consumers: Vec<Vec<Consumer<M>>> = (0..shards).map(|_| Vec::new()).collect();
    for to in &mut consumers {
        for from in &mut producers {
            let (producer, consumer) = spsc::ring(config.ring_slots);
            from.push(producer);
            to.push(consumer);
        }
    }
    let submitters = mailboxes
        .iter()
        .map(|mailbox| Submitter(Arc::clone(mailbox)))
        .collect();
    let endpoints = producers
        .into_iter()
        .zip(consumers)
        .enumerate()
        .map(|(index, (producers, consumers))| Endpoint {
            index,
            peers: producers
                .into_iter()
                .zip(&mailboxes)
                .map(|(ring, mailbox)| Peer {
                    ring,
                    mailbox: Arc::clone(mailbox),
                })
                .collect(),
            consumers: RefCell::new(consumers),
            first: Cell::new(0),
        })
        .collect();
    (endpoints, submitters)
}

/// The way to one shard from another.
struct Peer<M> {
    ring: Producer<M>,
    mailbox: Arc<Mailbox<M>>,
}

/// A shard's end of the mesh. Moves to the shard's thread once and stays there.
///
/// Dropping it closes it.
pub struct Endpoint<M> {
    index: usize,
    /// One for each shard, this one included.
    peers: Vec<Peer<M>>,
    /// One for each shard, this one included; empty once closed.
    consumers: RefCell<Vec<Consumer<M>>>,
    /// The queue that the next receive serves first.
    first: Cell<usize>,
}

impl<M> Endpoint<M> {
    /// The shard that this is the end of.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The number of shards in the mesh, this one included.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Sends to a shard, or to oneself, without waiting.
    ///
    /// When the receiver ends at this very moment the message may be accepted and then dropped.
    ///
    /// # Errors
    /// The message comes back when the queue is full or the receiver is gone.
    ///
    /// # Panics
    /// When there is no shard `to`.
    #[inline]
    pub fn send(&self, to: usize, message: M) -> Result<(), SendError<M>> {
        let peer = &self.peers[to];
        if peer.mailbox.is_closed() {
            return Err(SendError::Closed(message));
        }
        peer.ring.push(message).map_err(SendError::Full)?;
        peer.mailbox.announce();
        Ok(())
    }

    /// Moves up to `limit` messages into `into` and returns how many.
    ///
    /// Each sender, and the inbox as one more, gets an equal part of `limit` first; what they leave
    /// goes to whoever has more. The one that is served first changes from call to call.
    pub fn try_recv(&self, into: &mut Vec<M>, limit: usize) -> usize {
        let consumers = self.consumers.borrow();
        if consumers.is_empty() {
            return 0;
        }
        let sources = consumers.len() + 1;
        let first = self.first.get();
        self.first.set((first + 1) % sources);
        let mut left = limit;
        let mut share = (limit / sources).max(1);
        loop {
            let before = left;
            for turn in 0..sources {
                let source = (first + turn) % sources;
                let mut part = share.min(left);
                while part > 0 {
                    let message = match consumers.get(source) {
                        Some(ring) => ring.pop(),
                        None => self.mailbox().inbox.pop(),
                    };
                    let Some(message) = message else { break };
                    into.push(message);
                    part -= 1;
                    left -= 1;
                }
            }
            // A round that found nothing, or filled the limit, is the last one.
            if left == 0 || left == before {
                return limit - left;
            }
            share = left;
        }
    }

    /// Ready when a message is there, or the endpoint was closed; otherwise the task is woken when
    /// that changes. Only one task at a time may wait.
    pub fn poll_recv(&self, cx: &Context<'_>) -> Poll<()> {
        if self.has_messages() {
            return Poll::Ready(());
        }
        self.mailbox().poll_park(cx, || self.has_messages())
    }

    /// Whether [`Endpoint::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.mailbox().is_closed()
    }

    /// Refuses every further message and drops those that wait. Sending to others still works.
    pub fn close(&self) {
        let consumers = self.consumers.take();
        if !self.is_closed() {
            self.mailbox().close(consumers);
        }
    }

    fn has_messages(&self) -> bool {
        !self.mailbox().inbox.is_empty()
            || self.consumers.borrow().iter().any(|ring| !ring.is_empty())
    }

    fn mailbox(&self) -> &Mailbox<M> {
        &self.peers[self.index].mailbox
    }
}

impl<M> Drop for Endpoint<M> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<M> fmt::Debug for Endpoint<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({} of {})", self.index, self.peers.len())
    }
}

/// Any thread's handle to one shard.
pub struct Submitter<M>(Arc<Mailbox<M>>);

impl<M> Submitter<M> {
    /// Whether the shard is gone.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl<M: Message> Submit<M> for Submitter<M> {
    /// When the receiver ends at this very moment the message may be accepted and then dropped.
    #[inline]
    fn try_submit(&self, message: M) -> Result<(), SendError<M>> {
        if self.0.is_closed() {
            return Err(SendError::Closed(message));
        }
        self.0.inbox.push(message).map_err(SendError::Full)?;
        self.0.announce();
        Ok(())
    }
}

impl<M> Clone for Submitter<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> fmt::Debug for Submitter<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Submitter(closed: {})", self.is_closed())
    }
}

#[cfg(test)]
mod tests;
