//! How a receiver goes to sleep and how senders wake it, without a lost wake-up.
//!
//! A wake-up costs its sender hundreds of nanoseconds and often a system call, so a sender wakes
//! only a receiver that has said that it parks. The danger is the crossing: the receiver finds its
//! queues empty, the sender appends and finds the receiver awake, the receiver goes to sleep.
//!
//! # Algorithm
//! The receiver, to park:
//! 1. registers its waker;
//! 2. sets `parked`;
//! 3. passes a sequentially consistent fence;
//! 4. looks at all its queues again. If anything is there, or it is closed, it takes `parked` back
//!    and goes on; otherwise it sleeps.
//!
//! A sender:
//! 1. appends its message;
//! 2. passes a sequentially consistent fence;
//! 3. reads `parked`. If it is set it swaps it to false and, when it was the one who cleared it,
//!    wakes the registered waker.
//!
//! # Why no wake-up is lost
//! The two fences are ordered one way or the other.
//! * Sender's first: the append precedes the receiver's look (4), which sees it: it does not sleep.
//! * Receiver's first: the sender's read (3) sees this `parked` = true or a later value. If it is
//!   false, somebody else has cleared it since, and that sender wakes the receiver. If it is true
//!   this sender clears it and wakes. The waker it finds is the one of this park, or a later one:
//!   had its wake come before the registration (1), the registration would have acquired the
//!   sender's swap by `AtomicWaker`'s own order, and a swap cannot read a `parked` (2) that follows
//!   it. So `parked` itself orders nothing, and is relaxed throughout.
//!
//! A sender that cleared `parked` and was held up before its wake may wake a later park: that is a
//! spurious turn of the receiver, which looks, finds nothing and parks again by the same four
//! steps; `parked` is set by each of them anew, so each park is covered by the argument above. Two
//! overlapping wakes and a wake during a registration are `AtomicWaker`'s to order, and it does: a
//! registration that meets a wake in progress wakes itself.
//!
//! A receive that is dropped while parked leaves `parked` set: the next sender wakes a waker of a
//! task that does not care, and the next receive looks before it parks.

use std::task::{Context, Poll};

use crossbeam_utils::CachePadded;

use super::sync::{AtomicBool, AtomicWaker, Ordering, fence};

/// The sleeping place of one receiver.
#[derive(Debug, Default)]
pub(super) struct Parker {
    /// Whether the receiver sleeps or is about to. Written at each park, read at each send.
    parked: CachePadded<AtomicBool>,
    waker: AtomicWaker,
}

impl Parker {
    /// Parks the calling receiver unless `has_work` says that there is something to do.
    ///
    /// Ready means: look again. Pending means that the next [`Parker::unpark`] wakes the task.
    pub(super) fn poll_park(&self, cx: &Context<'_>, has_work: impl FnOnce() -> bool) -> Poll<()> {
        self.waker.register(cx.waker());
        self.parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if has_work() {
            self.parked.store(false, Ordering::Relaxed);
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Wakes the receiver if it has parked. The caller has passed a sequentially consistent fence
    /// since it made work visible.
    #[inline]
    pub(super) fn unpark(&self) {
        if self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::Relaxed) {
            self.waker.wake();
        }
    }
}
