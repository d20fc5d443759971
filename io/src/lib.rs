//! Files, time, randomness, tasks and shard-to-shard messages, behind one trait.
//!
//! Everything that a shard can observe of the world outside its own memory comes through [`Env`].
//! Two worlds implement it:
//!
//! * `glommio` (feature `glommio`): the production world, one pinned executor a shard on
//!   `io_uring`;
//! * [`sim`]: a deterministic world in which one seed replays one run, on one thread, with a disk
//!   that can lose what was not synced.
//!
//! This is the only crate that names glommio. It also has the switches of [planted bugs](mod@planted).

mod buffer;
mod convert;
mod env;
mod error;
#[cfg(feature = "glommio")]
pub mod glommio;
pub mod mesh;
pub mod planted;
pub mod sim;

pub use buffer::{BLOCK_BYTES, IoBuf};
pub use convert::{round_up, to_u32, to_u64, to_usize};
pub use env::{
    Access, Creation, DirEntry, Env, File, FileKind, JoinHandle, Message, Port, SendError, Submit,
    TaskClass, TaskPanic, catch_panic, catch_panic_of,
};
pub use error::{IoError, IoErrorKind, IoOp};
