//! The production world: one executor a shard on `io_uring`, by way of glommio.
//!
//! [`Preflight`] looks at the machine before anything starts, [`Executors`] starts one pinned
//! thread a shard, and each gets a [`GlommioEnv`] and a [`GlommioPort`].
//!
//! # Invariants
//! * No glommio type is in a public signature.
//! * A submitted operation runs to its end, whatever becomes of the future that waits for it, and
//!   an executor is not torn down while the kernel may still write to its memory (`activity.rs`).
//! * A panic stays in the task it happened in and becomes a value.

mod activity;
mod cpus;
mod dir;
mod env;
mod executors;
mod failure;
mod file;
mod port;
mod preflight;
mod slice;
mod watchdog;

pub use dir::GlommioLock;
pub use env::GlommioEnv;
pub use executors::{ExecutorConfig, Executors, Spin};
pub use file::GlommioFile;
pub use port::GlommioPort;
pub use preflight::{DirectIo, OpenFiles, Preflight};

#[cfg(test)]
mod tests;
