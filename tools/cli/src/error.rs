//! Why a command did not succeed, and the exit status that says so.

use std::io;
use std::path::PathBuf;

use crate::import::ImportError;

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The library refused or failed; its message names the thing and the place.
    #[error("{0}")]
    Database(#[from] lightning_db::Error),
    /// The command line asks for something that cannot be.
    #[error("{0}\n\nFor more information, try '--help'.")]
    Usage(String),
    /// There is no such key.
    #[error("key not found: {0}")]
    KeyNotFound(String),
    /// Verification found damage; the lines on standard output say what.
    #[error("{damages} damaged {} found in {}", if *.damages == 1 { "place" } else { "places" }, .path.display())]
    Damaged {
        /// How many damages were reported.
        damages: usize,
        /// The database.
        path: PathBuf,
    },
    /// A salvage could not read everything; the report says what.
    #[error("{losses} {} in {}; the report is in {}", if *.losses == 1 { "loss" } else { "losses" }, .path.display(), .report.display())]
    Lost {
        /// How many losses were reported.
        losses: usize,
        /// The database.
        path: PathBuf,
        /// Where they are listed.
        report: PathBuf,
    },
    /// The report of a salvage has no place.
    #[error("cannot write the report {}: {reason}", path.display())]
    SalvageReport {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// An existing database has another number of shards than was asked for.
    #[error("{} has {found} shards, not {wanted}: --shards is for a database that is yet to be created", path.display())]
    Shards {
        /// The database.
        path: PathBuf,
        /// What it has.
        found: usize,
        /// What `--shards` said.
        wanted: usize,
    },
    /// An input was not imported whole.
    #[error("{0}")]
    Import(#[from] ImportError),
    /// A directory of the demonstration cannot be used.
    #[error("cannot use {} for the demonstration: {reason}", path.display())]
    DemoDirectory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// What the demonstration read back is not what it wrote.
    #[error("the demonstration failed: {0}")]
    Demo(String),
    /// Standard output was closed by whoever read it, which is no failure.
    #[error("standard output was closed")]
    OutputClosed,
    /// Standard output failed in another way.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

impl CliError {
    /// The status of the process that ends with this error.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Usage(_) => 2,
            _ => 1,
        }
    }
}

impl From<io::Error> for CliError {
    /// Only standard output is written through `io` without a type of its own.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Output(error),
        }
    }
}
