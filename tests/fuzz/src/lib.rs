//! Every decoder, the whole database and sequences of operations under mutated inputs.
//!
//! A target takes any bytes. What a run tries are saved inputs, sound inputs made anew, noise, and
//! mutations of all of these; for structures with a checksum a share of the mutations has it put
//! right, as nothing would come past it otherwise. A panic, also one that the engine catches,
//! memory or time out of proportion and every broken promise of a target is a crash.
//!
//! The same binary is guided by coverage when it was built with counters (`coverage`).

#![deny(unsafe_code)]

pub mod args;
pub mod campaign;
pub mod corpus;
mod coverage;
mod input;
pub mod memory;
mod mutate;
mod panics;
mod site;
pub mod target;
mod targets;

pub use campaign::{Report, Settings, TargetReport, run};
pub use targets::{NAMES, target};
