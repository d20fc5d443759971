//! A deterministic world: one thread, virtual time, and a disk that loses, tears and spoils data.
//!
//! Everything that a program in it can observe is a function of the seed: which task runs next, how
//! long an operation takes, what a crash keeps, which fault strikes where. A failure is reported as
//! its seed and replayed by it.

mod at_rest;
mod blocks;
mod crash;
mod cut;
mod disk;
mod entries;
mod env;
mod executor;
mod faults;
mod image;
mod lies;
mod pending;
mod port;
mod rng;
mod trace;
mod transfer;
mod world;

pub use crash::{CrashModel, CrashReport};
pub use cut::{CrashPoint, Pending};
pub use disk::BlocksRead;
pub use env::{SimEnv, SimFile, SimLock};
pub use faults::{Damage, Fault, FaultConfig, Knob, Script, Space, Strike};
pub use image::Image;
pub use port::{SimPort, SimSubmitter};
pub use rng::{PPM, Rng};
pub use world::{Failure, SimConfig, World};

#[cfg(test)]
mod tests;
