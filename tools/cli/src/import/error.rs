//! Why an input was not imported whole, and how much of it is there.

use std::io;

use super::row::{BadRow, RowFault};

/// Why an input was not imported whole.
///
/// Rows are counted as the input has them, skipped ones included.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error("cannot open {file}: {error}")]
    Open { file: String, error: io::Error },
    #[error("{file}: {error}")]
    Header { file: String, error: HeaderError },
    #[error("cannot read {file}: {error}; the {durable} rows before that are durable")]
    Read {
        file: String,
        error: io::Error,
        durable: u64,
    },
    #[error("{file}, {bad}; the {durable} rows before it are durable")]
    Row {
        file: String,
        bad: BadRow,
        durable: u64,
    },
    #[error(
        "{error}; the first {durable} rows of {file} are durable, \
         and any of the {unsure} rows after them may be"
    )]
    Write {
        file: String,
        error: lightning_db::Error,
        durable: u64,
        unsure: u64,
    },
    #[error("reading {file} ended unexpectedly; its first {durable} rows are durable")]
    ReaderLost { file: String, durable: u64 },
}

/// Why a header cannot be used; nothing was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("cannot read the header: {0}")]
    Read(#[from] io::Error),
    #[error("there is no header line")]
    Missing,
    #[error("the header: {0}")]
    Row(RowFault),
    #[error("the header has the column \"{0}\" twice")]
    Twice(String),
    #[error("no column \"{column}\" in the header: {header}")]
    NoColumn { column: String, header: String },
}
