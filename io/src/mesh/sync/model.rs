//! What the mesh runs on under loom: its own types, and stand-ins where it is blind or wrong.
//!
//! Two types of other crates are opaque to loom. Their stand-ins promise no more than the originals
//! document, and where a choice is free it is the weaker one:
//! * [`ArrayQueue`] is a locked deque. Whether it is empty is read without the lock, with acquire
//!   alone, where the original has sequentially consistent loads: the mesh may not lean on those.
//! * [`AtomicWaker`] is a locked slot. As in the original, a registration synchronises with the
//!   wakes before and after it, and one that meets a wake in progress wakes its own task.
//!
//! Two of loom's own types are wrapped, because of what loom 0.7.3 leaves out:
//! * It remembers one last access of an atomic, so that a thread which loads and then stores hides
//!   the other thread's load from the search, and half of the orders are never tried. Each access
//!   therefore marks a twin first, with an exchange that always fails: it stores nothing, orders
//!   nothing, and conflicts with every other mark.
//! * It does not know that nothing comes between an exchange and the value that it read, and lets
//!   a plain store by a third party stand there, which reports wake-ups as lost that no machine
//!   loses. A store of an [`AtomicBool`] is therefore an exchange, which has its place. Nothing is
//!   hidden: flags of the mesh are stored by one thread and cleared by exchanges of the others,
//!   so each exchange stands right behind one of that thread's stores in any case.

use std::collections::VecDeque;
use std::task::Waker;

pub(in crate::mesh) use ::loom::cell::UnsafeCell;
use ::loom::sync::atomic as checked;
pub(in crate::mesh) use ::loom::sync::atomic::{Ordering, fence};
pub(in crate::mesh) use ::loom::sync::{Arc, Mutex};

/// What shows the search that two accesses conflict.
#[derive(Debug)]
struct Twin(checked::AtomicBool);

impl Twin {
    fn new() -> Self {
        Self(checked::AtomicBool::new(false))
    }

    fn mark(&self) {
        let relaxed = Ordering::Relaxed;
        let outcome = self.0.compare_exchange(true, true, relaxed, relaxed);
        assert_eq!(outcome, Err(false), "nobody ever sets it");
    }
}

#[derive(Debug)]
pub(in crate::mesh) struct AtomicUsize(checked::AtomicUsize, Twin);

impl AtomicUsize {
    pub(in crate::mesh) fn new(value: usize) -> Self {
        Self(checked::AtomicUsize::new(value), Twin::new())
    }

    pub(in crate::mesh) fn load(&self, order: Ordering) -> usize {
        self.1.mark();
        self.0.load(order)
    }

    pub(in crate::mesh) fn store(&self, value: usize, order: Ordering) {
        self.1.mark();
        self.0.store(value, order);
    }

    pub(in crate::mesh) fn fetch_add(&self, value: usize, order: Ordering) -> usize {
        self.1.mark();
        self.0.fetch_add(value, order)
    }
}

#[derive(Debug)]
pub(in crate::mesh) struct AtomicBool(checked::AtomicBool, Twin);

impl Default for AtomicBool {
    fn default() -> Self {
        Self::new(false)
    }
}

impl AtomicBool {
    pub(in crate::mesh) fn new(value: bool) -> Self {
        Self(checked::AtomicBool::new(value), Twin::new())
    }

    pub(in crate::mesh) fn load(&self, order: Ordering) -> bool {
        self.1.mark();
        self.0.load(order)
    }

    pub(in crate::mesh) fn store(&self, value: bool, order: Ordering) {
        self.swap(value, order);
    }

    pub(in crate::mesh) fn swap(&self, value: bool, order: Ordering) -> bool {
        self.1.mark();
        self.0.swap(value, order)
    }
}

/// The stand-in for crossbeam's queue.
#[derive(Debug)]
pub(in crate::mesh) struct ArrayQueue<T> {
    queue: Mutex<VecDeque<T>>,
    /// The queue's length, written under its lock.
    count: AtomicUsize,
    capacity: usize,
}

impl<T> ArrayQueue<T> {
    pub(in crate::mesh) fn new(capacity: usize) -> Self {
        Self {
            queue: Mutex::new(VecDeque::new()),
            count: AtomicUsize::new(0),
            capacity,
        }
    }

    pub(in crate::mesh) fn push(&self, value: T) -> Result<(), T> {
        let mut queue = self.queue.lock().expect("no holder of the lock panics");
        if queue.len() == self.capacity {
            return Err(value);
        }
        queue.push_back(value);
        self.count.store(queue.len(), Ordering::Release);
        Ok(())
    }

    pub(in crate::mesh) fn pop(&self) -> Option<T> {
        let mut queue = self.queue.lock().expect("no holder of the lock panics");
        let value = queue.pop_front();
        self.count.store(queue.len(), Ordering::Release);
        value
    }

    pub(in crate::mesh) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    pub(in crate::mesh) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    pub(in crate::mesh) fn capacity(&self) -> usize {
        self.capacity
    }
}

/// The stand-in for the waker cell of futures-util.
#[derive(Debug)]
pub(in crate::mesh) struct AtomicWaker(Mutex<Option<Waker>>);

impl Default for AtomicWaker {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl AtomicWaker {
    pub(in crate::mesh) fn register(&self, waker: &Waker) {
        match self.0.try_lock() {
            Ok(mut slot) => *slot = Some(waker.clone()),
            Err(_) => waker.wake_by_ref(),
        }
    }

    pub(in crate::mesh) fn wake(&self) {
        let waker = self.0.lock().expect("no holder of the lock panics").take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
