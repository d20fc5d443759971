//! The figures of the project: each with what is required beside what was reached, in one table.
//!
//! # Algorithm
//! 1. Seeds run with all faults, in portions, until the required number is reached and every count
//!    of what happened in them is as high as it has to be.
//! 2. Some of these seeds run twice, and have to do the same.
//! 3. The sweeps run, which try every place instead of drawing some.
//! 4. The planted bugs and the fuzzer are programs of their own: cargo builds and runs them.
//!
//! A seed depends on its number alone, and a portion counts whole, so nothing in the table but the
//! seconds, and what the fuzzer got done in its time, depends on the number of threads.

#![expect(
    clippy::disallowed_types,
    reason = "how long it took is part of the report, and of nothing that is simulated"
)]

mod part;
mod program;
mod seeds;
mod sweeps;
mod table;

use std::time::Instant;

pub use part::Part;
pub use seeds::run_seeds;
pub use table::{Row, Table};

/// What the table is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether to do what a release needs, which takes hours.
    pub long: bool,
    /// Threads.
    pub jobs: usize,
    /// The first seed.
    pub first_seed: u64,
    /// The parts of the table that are wanted.
    pub parts: Vec<Part>,
}

/// Fills the table; `progress` is told every few seconds how far it is.
pub fn measure(settings: &Settings, progress: &mut dyn FnMut(&str)) -> Table {
    let began = Instant::now();
    let mut table = Table::default();
    for part in &settings.parts {
        progress(&format!("{}: {}", part.name(), part.what()));
        let known = table.rows.len();
        match part {
            Part::Seeds => seeds::simulate(settings, &mut table, progress),
            Part::Twice => seeds::repeat(settings, &mut table),
            Part::Syncs | Part::Calls | Part::Bytes | Part::Swaps => {
                sweeps::sweep(*part, settings, &mut table, progress);
            }
            Part::Planted => program::planted(&mut table),
            Part::Fuzz => program::fuzz(settings, &mut table),
        }
        for row in &table.rows[known..] {
            progress(&row.to_string());
        }
    }
    table.took = began.elapsed();
    table
}
