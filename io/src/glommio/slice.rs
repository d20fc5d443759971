//! The scheduling slice of an executor's thread.
//!
//! The kernel's fair scheduler protects a running thread for its slice. The kernel thread that
//! finishes a durable write is an ordinary thread with an ordinary slice, so beside a busy executor
//! it waits for the next tick: a write of 36 us took 4 ms. A thread that asks for a *longer* slice
//! may be preempted at once by one with a shorter slice, so executors ask for 100 ms (Linux 6.12 or
//! later, no privilege needed).
//!
//! Threads that an executor thread starts would inherit the slice, the kernel's own I/O workers
//! among them, and lose the advantage; `SCHED_FLAG_RESET_ON_FORK` keeps it to the thread that
//! asked.

#![expect(
    unsafe_code,
    reason = "no safe wrapper of sched_setattr exists in the crates this one uses"
)]

use std::io;
use std::mem;

/// The slice that executors ask for: the longest that the kernel grants.
const LONG_SLICE_NS: u64 = 100_000_000;

/// `SCHED_FLAG_RESET_ON_FORK` of the kernel's interface.
const RESET_ON_FORK: u64 = 0x01;

/// Asks for the long slice for the calling thread and looks whether the kernel gave it.
///
/// # Errors
/// What the kernel said, or `Unsupported` when it took the request and did nothing, as kernels
/// before 6.12 do, or when the thread is under another policy than the fair scheduler's.
pub(super) fn lengthen() -> io::Result<()> {
    let mut attributes = read()?;
    if attributes.sched_policy != libc::SCHED_OTHER.cast_unsigned() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the thread is not under the fair scheduler",
        ));
    }
    attributes.sched_runtime = LONG_SLICE_NS;
    attributes.sched_flags |= RESET_ON_FORK;
    write(&attributes)?;
    if read()?.sched_runtime == LONG_SLICE_NS {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "the kernel ignores the slice; it takes Linux 6.12 or later",
    ))
}

fn empty() -> libc::sched_attr {
    libc::sched_attr {
        size: crate::to_u32(mem::size_of::<libc::sched_attr>()),
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    }
}

/// The attributes of the calling thread.
fn read() -> io::Result<libc::sched_attr> {
    let mut attributes = empty();
    // SAFETY: the pointer is to a live structure of the size that is passed along, and the kernel
    // writes no further than that.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_getattr,
            0,
            &raw mut attributes,
            attributes.size,
            0,
        )
    };
    outcome(result).map(|()| attributes)
}

/// Sets the attributes of the calling thread.
fn write(attributes: &libc::sched_attr) -> io::Result<()> {
    let attributes: *const libc::sched_attr = attributes;
    // SAFETY: the pointer is to a live structure that states its own size; the kernel only reads.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, attributes, 0) };
    outcome(result)
}

fn outcome(result: libc::c_long) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_slice_stays_with_the_thread_that_asked() {
        let (asked, own, child) = std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                let asked = lengthen();
                let own = read().unwrap().sched_runtime;
                let child = std::thread::scope(|scope| {
                    let child = scope.spawn(|| read().unwrap().sched_runtime);
                    child.join().unwrap()
                });
                (asked, own, child)
            });
            asked.join().unwrap()
        });
        match asked {
            Ok(()) => assert_eq!(own, LONG_SLICE_NS),
            // An older kernel: the request must have been told apart from a success.
            Err(_) => assert_ne!(own, LONG_SLICE_NS),
        }
        assert_ne!(child, LONG_SLICE_NS);
    }
}
