//! Which edges of the program an input takes, where the build counts them.
//!
//! `-Cpasses=sancov-module` with `-sanitizer-coverage-inline-8bit-counters` gives every edge a
//! counter of one byte and calls [`__sanitizer_cov_8bit_counters_init`] with the place of all of
//! them. Without these flags there is nothing to see, and inputs are kept for what a target says
//! of them alone.

#![expect(
    unsafe_code,
    reason = "the compiler's counters are raw memory with a symbol of a given name"
)]

use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

static START: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// What the instrumented program calls before `main`, once for each of its parts, always with the
/// place of the counters of all.
///
/// # Safety
/// `start..stop` are the counters, which live as long as the program.
#[unsafe(no_mangle)]
#[expect(
    unreachable_pub,
    reason = "the symbol is what the instrumented program reaches"
)]
pub unsafe extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    START.store(start, Ordering::Relaxed);
    COUNT.store(stop.addr() - start.addr(), Ordering::Relaxed);
}

/// The edges and how often each was taken at the most, by order of magnitude.
#[derive(Debug)]
pub(crate) struct Coverage {
    seen: Vec<u8>,
    edges: usize,
}

/// Whether the build counts.
pub(crate) fn is_there() -> bool {
    COUNT.load(Ordering::Relaxed) > 0
}

/// Sets all counters to zero.
pub(crate) fn reset() {
    with_counters(|counters| counters.fill(0));
}

/// One thread fuzzes in a build that counts (`campaign` sees to it); the others only wait.
fn with_counters<T>(use_them: impl FnOnce(&mut [u8]) -> T) -> Option<T> {
    let (start, count) = (START.load(Ordering::Relaxed), COUNT.load(Ordering::Relaxed));
    if start.is_null() || count == 0 {
        return None;
    }
    // SAFETY: the counters are `count` bytes from `start` on, for good; other code changes them
    // one byte at a time and hands out no references to them.
    let counters = unsafe { std::slice::from_raw_parts_mut(start, count) };
    Some(use_them(counters))
}

impl Coverage {
    pub(crate) fn new() -> Self {
        Self {
            seen: vec![0; COUNT.load(Ordering::Relaxed)],
            edges: 0,
        }
    }

    /// Takes what was counted since the reset; whether any of it is new.
    pub(crate) fn take(&mut self) -> bool {
        with_counters(|counters| self.merge(counters)).unwrap_or(false)
    }

    /// Edges that were ever taken.
    pub(crate) fn edges(&self) -> usize {
        self.edges
    }

    fn merge(&mut self, counters: &[u8]) -> bool {
        let mut is_new = false;
        for (counts, seen) in counters.chunks(16).zip(self.seen.chunks_mut(16)) {
            // Few of many edges are taken by one input.
            if counts.iter().all(|&count| count == 0) {
                continue;
            }
            for (&count, seen) in counts.iter().zip(seen) {
                let magnitude = magnitude(count);
                if magnitude & !*seen != 0 {
                    self.edges += usize::from(*seen == 0);
                    *seen |= magnitude;
                    is_new = true;
                }
            }
        }
        is_new
    }
}

/// One bit for each of 1, 2, 3, up to 7, 15, 31, 127 and more.
fn magnitude(count: u8) -> u8 {
    match count {
        0 => 0,
        1 => 1,
        2 => 1 << 1,
        3 => 1 << 2,
        4..8 => 1 << 3,
        8..16 => 1 << 4,
        16..32 => 1 << 5,
        32..128 => 1 << 6,
        128.. => 1 << 7,
    }
}
