//! What the mesh runs on.

pub(in crate::mesh) use std::sync::Arc;
#[expect(
    clippy::disallowed_types,
    reason = "the mesh joins threads; `mailbox.rs` says when its lock is touched"
)]
pub(in crate::mesh) use std::sync::Mutex;
pub(in crate::mesh) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

pub(in crate::mesh) use crossbeam_queue::ArrayQueue;
pub(in crate::mesh) use futures_util::task::AtomicWaker;

/// A cell whose content is reached through a raw pointer.
#[derive(Debug)]
pub(in crate::mesh) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    /// Wraps a value.
    pub(in crate::mesh) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Hands out a pointer for reading.
    #[inline]
    pub(in crate::mesh) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Hands out a pointer for writing.
    #[inline]
    pub(in crate::mesh) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}
