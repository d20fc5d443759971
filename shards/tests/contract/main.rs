//! The contract under faults, fault by fault: what a database does about each, in a simulated world
//! on whose disk exactly that goes wrong.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod creation;
mod damage;
mod hooks;
mod misreads;
mod panics;
mod peers;
mod site;
mod space;
mod syncs;
mod unwritable;
