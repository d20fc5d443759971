//! An allocator that counts what a thread holds, so that memory out of proportion is seen.

#![expect(
    unsafe_code,
    reason = "an allocator is unsafe by nature; this one hands every call on"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that this thread holds, and the most since the last reset. Constant, and without a
    /// destructor: counting allocates nothing.
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// The allocator; a program that wants memory to be counted makes it its global one.
#[derive(Debug)]
pub struct Counting;

/// Begins a count. What is held already is left out.
pub(crate) fn reset() {
    HELD.set(0);
    PEAK.set(0);
}

/// The most that was held at a time since the last reset; 0 where nobody counts.
pub(crate) fn peak_bytes() -> usize {
    PEAK.get()
}

fn took(bytes: usize) {
    let held = HELD.get().saturating_add(bytes);
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

fn gave_back(bytes: usize) {
    HELD.set(HELD.get().saturating_sub(bytes));
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is the system's too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is the system's too.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        gave_back(layout.size());
        // SAFETY: the block came from the system's allocator with this layout.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        took(new_size);
        gave_back(layout.size());
        // SAFETY: the block came from the system's allocator with this layout.
        unsafe { System.realloc(block, layout, new_size) }
    }
}
