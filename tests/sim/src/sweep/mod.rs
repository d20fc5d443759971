//! Sweeps: instead of drawing what goes wrong, every place is tried where it can.
//!
//! Two small databases stand for all. One is a program (`program`) during which each call of the
//! disk fails in turn; the other lies on disk (`sample`) and has each of its bytes damaged, and
//! each of its blocks replaced by another one.

mod bytes;
mod calls;
mod contract;
pub(crate) mod jobs;
mod judge;
mod layout;
mod program;
mod sample;
mod swaps;
mod trouble;

pub use bytes::{ByteFigures, Classes, sweep_bytes};
pub use calls::{CallFigures, sweep_calls, sweep_syncs};
pub use layout::Region;
pub(crate) use layout::is_sound;
pub use sample::Ending;
pub use swaps::sweep_swaps;

/// How much of a sweep is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// So many cases, spread evenly.
    Sampled(u64),
    /// All of them.
    Whole,
}
