//! The atomics, cells and locks that the mesh is built of, in one place.
//!
//! Everything else in the mesh takes them from here, so that a build under the model checker loom
//! (`--cfg loom`, tests only) swaps this module alone. [`UnsafeCell`] has the checker's closure
//! interface for that reason. What other crates provide is opaque to loom and has a stand-in there:
//! see `sync/model.rs`.

#[cfg(not(all(test, loom)))]
mod production;
#[cfg(not(all(test, loom)))]
pub(super) use production::*;

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, loom))]
pub(super) use model::*;
