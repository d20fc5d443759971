//! The `lightning` command: import, read, scan, verify and look into a Lightning DB.
//!
//! *Conventions*: results go to standard output and everything else to standard error. The exit
//! status is 0 for success, 1 when something was not found, is damaged or failed, and 2 when the
//! command line is wrong. A reader that closes the pipe early (`| head`) ends a command quietly.

#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "these lists are for shards; the tool runs on ordinary threads, files and clocks"
)]

mod args;
mod commands;
mod demo;
mod error;
mod escape;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod import;
mod output;

use std::process::ExitCode;

use clap::Parser;

/// Runs the command that the process was started as.
pub fn main() -> ExitCode {
    let args = args::Args::parse();
    match commands::run(args.command) {
        Ok(()) | Err(error::CliError::OutputClosed) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(format_args!("lightning: {error}"));
            ExitCode::from(error.exit_status())
        }
    }
}
