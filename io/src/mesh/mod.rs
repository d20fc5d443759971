//! Messages between threads: from every shard to every shard, and from any thread to a shard.
//!
//! A mesh of n shards has n mailboxes. A mailbox holds one single-producer single-consumer ring
//! for each shard that may send to it (its own included) and one bounded inbox that every other
//! thread shares. [`Endpoint`] is a shard's end: it reads its own mailbox and writes to all.
//! [`Submitter`] is anybody else's handle to one mailbox.
//!
//! # Invariants
//! * Messages of one sender arrive in the order in which they were sent.
//! * Every queue is bounded; at the bound the message comes back as [`crate::SendError::Full`].
//! * A message is either handed to the receiver or dropped, and it is dropped no later than the
//!   moment at which both its send has returned and the receiver has closed. Whoever waits for a
//!   reply whose sender travels in the message therefore never hangs (`mailbox.rs` argues it).
//! * A receiver that parks is woken by the next message (`park.rs` argues it).

mod endpoint;
mod inbox;
#[cfg(all(test, loom))]
mod loom;
mod mailbox;
mod park;
mod spsc;
mod sync;

pub use endpoint::{Endpoint, MeshConfig, Submitter, mesh};
