//! A thread that wakes every executor from time to time.
//!
//! # Why
//! glommio 0.12 can go to sleep on runnable tasks: when its preempt timer fires between being armed
//! and the first look at the task queues, it takes "no queue was run" for "nothing to run". It
//! takes a thread that loses its CPU for the length of the timer within that microsecond; beside
//! other busy threads this happened within seconds, and the executor then slept for ever. Timers of
//! the executor's own are no cure, as their tasks may be among those that are slept on. A wake-up
//! from another thread always ends the sleep, so this bounds it to [`INTERVAL`].
//!
//! # Ownership
//! One thread a process, which runs as long as any executor is watched. A watch keeps the waker of
//! a detached task; it is registered and dropped on the executor's own thread.

use std::collections::BTreeMap;
use std::sync::PoisonError;
#[expect(
    clippy::disallowed_types,
    reason = "executors start and end on threads of their own"
)]
use std::sync::{Mutex, MutexGuard};
use std::task::Waker;
use std::thread;
use std::time::Duration;

/// The longest that an executor sleeps on runnable tasks. Forty wake-ups a second cost an idle
/// shard about 0.1 % of a core.
const INTERVAL: Duration = Duration::from_millis(25);

#[derive(Default)]
struct Watched {
    wakers: BTreeMap<u64, Waker>,
    next: u64,
    running: bool,
}

#[expect(
    clippy::disallowed_types,
    reason = "executors start and end on threads of their own"
)]
static WATCHED: Mutex<Watched> = Mutex::new(Watched {
    wakers: BTreeMap::new(),
    next: 0,
    running: false,
});

fn watched() -> MutexGuard<'static, Watched> {
    // The map is whole whatever panicked while it was held.
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps an executor from sleeping on runnable tasks, until it is dropped.
#[derive(Debug)]
pub(super) struct Watch(u64);

impl Watch {
    /// Watches the executor of the task that `waker` wakes.
    pub(super) fn start(waker: &Waker) -> Self {
        let mut watched = watched();
        let id = watched.next;
        watched.next += 1;
        watched.wakers.insert(id, waker.clone());
        if !watched.running {
            let thread = thread::Builder::new().name("lightning-watch".to_owned());
            match thread.spawn(watch) {
                Ok(_) => watched.running = true,
                Err(error) => tracing::error!(%error, "no watchdog: an executor may oversleep"),
            }
        }
        Self(id)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let waker = watched().wakers.remove(&self.0);
        drop(waker);
    }
}

/// The thread: it ends when nothing is left to watch.
fn watch() {
    loop {
        thread::park_timeout(INTERVAL);
        let mut watched = watched();
        if watched.wakers.is_empty() {
            watched.running = false;
            return;
        }
        watched.wakers.values().for_each(Waker::wake_by_ref);
    }
}
