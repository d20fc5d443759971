//! The public API, as a user meets it, on real files.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "these lists are for shards; the tests make, copy and damage ordinary files"
)]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests"
)]

mod basics;
mod damage;
mod durability;
mod expiry;
mod keyspaces;
mod limits;
mod merges;
mod model;
mod opening;
mod presets;
mod runtimes;
mod salvage;
mod scans;
mod send_sync;
mod support;
mod tidy;
mod typed;
mod updates;

use support::scratch;
