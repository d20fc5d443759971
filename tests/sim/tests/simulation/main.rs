//! The whole database in simulated worlds: crashes, determinism, a plain model, and old findings.

mod command;
mod crashes;
mod determinism;
mod faults;
mod model;
mod regressions;
mod sweeps;
