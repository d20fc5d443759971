//! Waking tasks of a shard from other tasks of the same shard.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// A flag that tasks raise and one task waits for.
///
/// Raising it before the wait is remembered, so nothing is lost between a check and a wait.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Signal {
    /// Wakes the waiting task, or the next wait if none is under way.
    pub(crate) fn raise(&self) {
        self.raised.set(true);
        let waiter = self.waiter.borrow_mut().take();
        if let Some(waker) = waiter {
            waker.wake();
        }
    }

    /// Waits until the flag is raised, and lowers it.
    ///
    /// # Cancel safety
    /// A dropped wait leaves the flag as it is.
    pub(crate) async fn wait(&self) {
        poll_fn(|cx| {
            if self.raised.take() {
                return Poll::Ready(());
            }
            *self.waiter.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Something that happens again and again, and that any number of tasks wait for.
///
/// A wait ends at the first occurrence after it began; a task checks its condition, then waits,
/// with no await in between.
#[derive(Debug, Default)]
pub(crate) struct Event {
    occurrences: Cell<u64>,
    waiters: RefCell<Vec<Waker>>,
}

impl Event {
    /// Wakes every waiting task.
    pub(crate) fn occur(&self) {
        self.occurrences.set(self.occurrences.get() + 1);
        let waiters = self.waiters.take();
        waiters.into_iter().for_each(Waker::wake);
    }

    /// Waits for the next occurrence.
    pub(crate) async fn next(&self) {
        let before = self.occurrences.get();
        poll_fn(|cx| {
            if self.occurrences.get() != before {
                return Poll::Ready(());
            }
            self.waiters.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::join;

    use super::*;

    #[test]
    fn a_signal_raised_before_the_wait_is_not_lost() {
        let signal = Signal::default();
        signal.raise();
        assert!(signal.wait().now_or_never().is_some());
        assert!(signal.wait().now_or_never().is_none());
    }

    #[test]
    fn an_event_wakes_everybody_who_waits() {
        let event = Event::default();
        let mut waits = Box::pin(join(event.next(), event.next()));
        assert!(waits.as_mut().now_or_never().is_none());
        event.occur();
        assert!(waits.as_mut().now_or_never().is_some());
        assert!(event.next().now_or_never().is_none());
    }
}
