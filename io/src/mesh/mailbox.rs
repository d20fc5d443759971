//! Everything that others can send to one shard, and its end.
//!
//! # Closing
//! A message that was accepted and is never read must be dropped, or whoever waits for its reply
//! hangs. The receiver closes in this order: set `closed`, pass a fence, empty the inbox, hand the
//! consuming ends of its rings to `remains`, and empty them there. A sender appends, passes a
//! fence, and looks at `closed`. The fences order the two:
//! * Receiver's first: the sender sees `closed` and clears away what is left, its own message
//!   included, if the rings have been handed over. If they have not, the receiver takes the lock of
//!   `remains` after the sender gave it back, so the receiver's clearing sees the message.
//! * Sender's first: the receiver's clearing sees the message.
//!
//! The lock is touched only once `closed` is set: never on the path of a message.

use std::sync::PoisonError;
use std::task::{Context, Poll};

use super::inbox::Inbox;
use super::park::Parker;
use super::spsc::Consumer;
#[expect(
    clippy::disallowed_types,
    reason = "the mesh joins threads, and this lock is touched at the end of a shard only"
)]
use super::sync::Mutex;
use super::sync::{AtomicBool, Ordering, fence};

/// The shared half of one shard's receiving side.
#[derive(Debug)]
pub(super) struct Mailbox<M> {
    /// What threads without an endpoint sent.
    pub(super) inbox: Inbox<M>,
    parker: Parker,
    /// Set once, before the queues are emptied for the last time.
    closed: AtomicBool,
    /// The consuming ends of the rings, once the receiver has given them up.
    #[expect(clippy::disallowed_types, reason = "as above: used after the end only")]
    remains: Mutex<Vec<Consumer<M>>>,
}

impl<M> Mailbox<M> {
    /// Makes an open mailbox.
    pub(super) fn new(inbox_slots: usize) -> Self {
        Self {
            inbox: Inbox::new(inbox_slots),
            parker: Parker::default(),
            closed: AtomicBool::new(false),
            #[expect(clippy::disallowed_types, reason = "as above: used after the end only")]
            remains: Mutex::new(Vec::new()),
        }
    }

    /// Whether the receiver is gone.
    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Parks the receiver, unless there is work or the end has come.
    pub(super) fn poll_park(&self, cx: &Context<'_>, has_work: impl FnOnce() -> bool) -> Poll<()> {
        self.parker.poll_park(cx, || has_work() || self.is_closed())
    }

    /// Tells the receiver of a message that was just appended to one of its queues.
    #[inline]
    pub(super) fn announce(&self) {
        // One fence serves both questions: is it gone, does it sleep.
        fence(Ordering::SeqCst);
        if self.is_closed() {
            self.clear();
            return;
        }
        self.parker.unpark();
    }

    /// Ends the receiving side: nothing is accepted from now on, and what was is dropped.
    pub(super) fn close(&self, consumers: Vec<Consumer<M>>) {
        // The fence orders it; a sender that looks without one hears of the end a little later.
        self.closed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.remains
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(consumers);
        self.clear();
        // A receive that is parked on another task of the shard learns of the end.
        self.parker.unpark();
    }

    /// Drops every message that is left in a closed mailbox.
    fn clear(&self) {
        let mut left = Vec::new();
        {
            let remains = self.remains.lock().unwrap_or_else(PoisonError::into_inner);
            for consumer in remains.iter() {
                left.extend(std::iter::from_fn(|| consumer.pop()));
            }
        }
        // Dropping a message runs its owner's code, which must not find the lock taken.
        drop(left);
        while let Some(message) = self.inbox.pop() {
            drop(message);
        }
    }
}
