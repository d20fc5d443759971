//! The whole database in simulated worlds: crashes, determinism, a plain model, and old findings.

mod crashes;
mod determinism;
mod model;
mod regressions;
mod sweeps;
