//! Salvage of a small database in the simulated world, damaged in every way, against exact contents.
//!
//! Three checks hold for every damage: nothing comes out that was never written, every key that
//! comes out older than it was, or not at all, is covered by a loss of the report, and the source
//! stays as it was, byte for byte.

mod build;
mod judge;
mod single;
mod sweep;
