//! The whole database under a seeded scheduler and a hostile disk.
//!
//! One seed is one run: some shards, some callers, some lives of the process, ended by power
//! failures, kills and clean closes at points that the seed chose, with whatever faults were asked
//! for. Everything that a caller is told is checked against a model that knows exactly what may be
//! there. A run reports its figures, or the first violation.

#![forbid(unsafe_code)]

mod answer;
pub mod args;
mod check;
mod database;
mod explain;
pub mod faults;
pub mod figures;
mod keys;
mod life;
mod model;
mod panics;
mod plan;
pub mod planted;
pub mod report;
mod scans;
pub mod sequential;
mod session;
mod shrink;
mod spy;
pub mod sweep;
mod taking;
mod workload;

pub use life::{Outcome, run};
pub use plan::Options;
pub use shrink::{Shrunk, shrink};
