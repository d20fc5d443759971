//! What is under way on one executor, so that it can be ended without harm.
//!
//! # Why operations run to their end
//! Dropping a glommio I/O future cancels the operation: one that was not yet submitted never will
//! be, one that was may or may not happen. [`RunToEnd`] hands a started operation that is dropped
//! to a task of its own, which waits for it and throws its result away. So a caller that drops its
//! future gives up its waiting and nothing else, and the count of operations in flight is exact.
//!
//! # Why the end of an executor waits
//! glommio frees the buffers of unfinished operations with the executor, while the kernel may still
//! write into them; and it neither runs nor drops the tasks that sleep, so that what they hold,
//! reply senders first of all, would leak and their receivers hang. [`Activity::stop`] therefore
//! drops every task, and waits until there is none and no operation either. If a device keeps it
//! waiting beyond a bound, the caller leaks the executor instead of freeing it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::TaskPanic;

/// How often the end of an executor looks whether all is quiet. Sleeping also makes the executor
/// pass its submissions, closes of dropped files among them, to the kernel.
const QUIET_POLL: Duration = Duration::from_millis(1);

/// How many such looks it takes before it gives up: ten seconds, beyond the time-out after which a
/// kernel reports an error for a healthy but overloaded local device's request, and short enough
/// for a process that wants to exit.
const QUIET_POLLS_MAX: u32 = 10_000;

/// The operations and tasks of one executor.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Operations that the kernel or the blocking pool has not finished.
    in_flight: Cell<usize>,
    /// Set while the executor runs tasks: before and after, nothing can be spawned.
    running: Cell<bool>,
    /// Set once tasks are to drop their futures.
    stopping: Cell<bool>,
    /// The wakers of the unfinished tasks.
    tasks: RefCell<FxHashMap<u64, Waker>>,
    next_task: Cell<u64>,
}

impl Activity {
    /// Tells that the executor runs on this thread from now on.
    pub(super) fn start(&self) {
        self.running.set(true);
    }

    /// Whether an operation is under way, which the executor must be left alone to notice.
    #[inline]
    pub(super) fn waits_for_io(&self) -> bool {
        self.in_flight.get() > 0
    }

    /// Drops every task and waits for every operation. Returns whether all came to an end.
    pub(super) async fn stop(&self) -> bool {
        self.stopping.set(true);
        let mut quiet = false;
        for _ in 0..QUIET_POLLS_MAX {
            // A dropped task may have left a woken one behind, so each look wakes all.
            let wakers: Vec<Waker> = self.tasks.borrow().values().cloned().collect();
            wakers.into_iter().for_each(Waker::wake);
            ::glommio::timer::sleep(QUIET_POLL).await;
            // One quiet look more, so that closes of files that the last task held are submitted.
            let was_quiet = quiet;
            quiet = self.tasks.borrow().is_empty() && !self.waits_for_io();
            if quiet && was_quiet {
                break;
            }
        }
        self.running.set(false);
        quiet
    }
}

/// Counts one operation for as long as it lives.
struct InFlight(Rc<Activity>);

impl InFlight {
    fn new(activity: Rc<Activity>) -> Self {
        activity.in_flight.set(activity.in_flight.get() + 1);
        Self(activity)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
    }
}

/// An operation that, once started, runs to its end even if this future is dropped.
pub(super) struct RunToEnd<T: 'static> {
    /// Absent once it is done.
    operation: Option<Pin<Box<dyn Future<Output = T>>>>,
    started: bool,
    activity: Rc<Activity>,
}

impl<T: 'static> RunToEnd<T> {
    /// Wraps an operation; it starts at the first poll.
    pub(super) fn new(
        activity: &Rc<Activity>,
        operation: impl Future<Output = T> + 'static,
    ) -> Self {
        let counted = Rc::clone(activity);
        let operation = Box::pin(async move {
            let _in_flight = InFlight::new(counted);
            operation.await
        });
        Self {
            operation: Some(operation),
            started: false,
            activity: Rc::clone(activity),
        }
    }
}

impl<T: 'static> Future for RunToEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.started = true;
        let operation = self.operation.as_mut();
        let operation = operation.expect("a future is not polled after it is ready");
        let polled = operation.as_mut().poll(cx);
        if polled.is_ready() {
            self.operation = None;
        }
        polled
    }
}

impl<T: 'static> Drop for RunToEnd<T> {
    fn drop(&mut self) {
        let Some(operation) = self.operation.take() else {
            return;
        };
        if self.started && self.activity.running.get() {
            let end = async move { drop(operation.await) };
            // Scheduled, not run right here: a drop must not poll.
            let queue = ::glommio::executor().current_task_queue();
            if let Ok(task) = ::glommio::spawn_local_into(end, queue) {
                drop(task.detach());
            }
        }
    }
}

/// A task that ends when the executor does, and whose panics end there.
pub(super) struct Supervised<F> {
    /// Absent once it is done or dropped.
    future: Option<Pin<Box<F>>>,
    /// Its entry in [`Activity::tasks`], from the first poll on.
    id: Option<u64>,
    activity: Rc<Activity>,
}

impl<F: Future<Output = ()>> Supervised<F> {
    /// Wraps the body of a task.
    pub(super) fn new(activity: &Rc<Activity>, body: F) -> Self {
        Self {
            future: Some(Box::pin(body)),
            id: None,
            activity: Rc::clone(activity),
        }
    }
}

impl<F> Supervised<F> {
    fn finish(&mut self) {
        if let Some(future) = self.future.take() {
            // glommio aborts the process when the drop of a task's future panics.
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(future)));
            if let Err(payload) = dropped {
                let panic = TaskPanic::from_payload(payload.as_ref());
                tracing::error!(%panic, "the state of a finished task could not be dropped");
            }
        }
        if let Some(id) = self.id.take() {
            self.activity.tasks.borrow_mut().remove(&id);
        }
    }
}

impl<F: Future<Output = ()>> Future for Supervised<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.activity.stopping.get() {
            self.finish();
        }
        if self.id.is_none() {
            let id = self.activity.next_task.get();
            self.activity.next_task.set(id + 1);
            let waker = cx.waker().clone();
            self.activity.tasks.borrow_mut().insert(id, waker);
            self.id = Some(id);
        }
        let Some(future) = self.future.as_mut() else {
            self.finish();
            return Poll::Ready(());
        };
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {}
            Err(payload) => {
                let panic = TaskPanic::from_payload(payload.as_ref());
                tracing::error!(%panic, "a task panicked while it reported its end");
            }
        }
        self.finish();
        Poll::Ready(())
    }
}

impl<F> Drop for Supervised<F> {
    fn drop(&mut self) {
        self.finish();
    }
}
