//! What callers learn when something fails, and what they can do about it.

use std::fmt;

use lightning_io::{IoError, IoErrorKind};
use lightning_shards::{Corruption, Error as Cause};

/// A failed operation: its text says what failed, where, what was expected and what was found.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Failure>);

/// What failed: the engine, or the way from its bytes to a type and back.
#[derive(Clone, PartialEq, Eq)]
enum Failure {
    Engine(Cause),
    Encoding {
        keyspace: String,
        /// The key, or the value of it.
        what: &'static str,
        key: Vec<u8>,
        reason: String,
    },
}

/// Bytes of a key that a message shows.
const KEY_BYTES_SHOWN: usize = 64;

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no database at the path, or no keyspace of the name: create one, or correct that.
    NotFound,
    /// There is a database at the path, or a keyspace of the name, already: open it, or choose
    /// another.
    AlreadyExists,
    /// An argument is out of its bounds: correct the call.
    Invalid,
    /// A queue is at its bound; nothing happened: try again later, with less at once.
    Busy,
    /// There is no space for the write; nothing happened: make space, for which deletions are taken
    /// as long as they can be, then try again.
    NoSpace,
    /// Stored bytes are damaged: the text names the place. Other keys stay readable.
    Corruption,
    /// A file operation failed: the text names the file and the reason.
    Io,
    /// Another process, or another handle in this one, has the database open.
    Locked,
    /// This machine cannot run the database: the text names the remedy.
    Unsupported,
    /// Another version wrote the database, or created the keyspace: use a build that reads it.
    Version,
    /// A shard failed, so no more writes are taken; nothing happened: close and open again.
    Poisoned,
    /// A shard failed while the write was under way: close and open again, then look.
    MaybeCommitted,
    /// A function of the caller's panicked; nothing happened: the text says with what.
    Panicked,
    /// A value cannot be written as bytes, or stored bytes are no key or value of the type that they
    /// are read as; nothing happened: use the type that they were written with.
    Encoding,
    /// The keyspace was dropped; nothing happened: open or create another.
    Dropped,
    /// The database is closed.
    Closed,
}

impl Error {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        let Failure::Engine(cause) = &*self.0 else {
            return ErrorKind::Encoding;
        };
        match cause {
            Cause::Io(error) => io_kind(error),
            Cause::Corruption(_) => ErrorKind::Corruption,
            Cause::NotADatabase { .. } | Cause::KeyspaceNotFound { .. } => ErrorKind::NotFound,
            Cause::AlreadyExists { .. } | Cause::KeyspaceExists { .. } => ErrorKind::AlreadyExists,
            Cause::Version { .. } | Cause::KeyspaceUnreadable { .. } => ErrorKind::Version,
            Cause::Invalid { .. } => ErrorKind::Invalid,
            Cause::Busy { .. } => ErrorKind::Busy,
            Cause::NoSpace { .. } => ErrorKind::NoSpace,
            Cause::Poisoned { .. } => ErrorKind::Poisoned,
            Cause::MaybeCommitted { .. } => ErrorKind::MaybeCommitted,
            Cause::Panicked { .. } => ErrorKind::Panicked,
            Cause::KeyspaceDropped { .. } => ErrorKind::Dropped,
            Cause::Closed => ErrorKind::Closed,
            // The engine's errors are this project's own; one that is not told apart above still
            // reads well and cannot be acted on.
            _ => ErrorKind::Io,
        }
    }

    /// Whether the same call may succeed later, without a change and without opening again.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind(), ErrorKind::Busy | ErrorKind::NoSpace)
    }

    /// Whether a write with this error may yet turn out to be there.
    pub fn is_maybe_committed(&self) -> bool {
        self.kind() == ErrorKind::MaybeCommitted
    }

    /// Where stored bytes are damaged, for errors of kind [`ErrorKind::Corruption`].
    pub fn corruption(&self) -> Option<&Corruption> {
        match &*self.0 {
            Failure::Engine(Cause::Corruption(corruption)) => Some(corruption),
            _ => None,
        }
    }

    pub(crate) fn encoding(keyspace: &str, what: &'static str, key: &[u8], reason: String) -> Self {
        Self(Box::new(Failure::Encoding {
            keyspace: keyspace.to_owned(),
            what,
            key: key.to_vec(),
            reason,
        }))
    }
}

fn io_kind(error: &IoError) -> ErrorKind {
    match error.kind() {
        IoErrorKind::Locked => ErrorKind::Locked,
        IoErrorKind::NoSpace => ErrorKind::NoSpace,
        IoErrorKind::Unsupported { .. } => ErrorKind::Unsupported,
        _ => ErrorKind::Io,
    }
}

impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        Self(Box::new(Failure::Engine(cause)))
    }
}

impl From<IoError> for Error {
    fn from(error: IoError) -> Self {
        Cause::from(error).into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Failure::Engine(cause) => fmt::Display::fmt(cause, f),
            Failure::Encoding {
                keyspace,
                what,
                key,
                reason,
            } => {
                let shown = key[..key.len().min(KEY_BYTES_SHOWN)].escape_ascii();
                let more = if key.len() > KEY_BYTES_SHOWN {
                    ".."
                } else {
                    ""
                };
                write!(
                    f,
                    "the {what} at {shown}{more} in the keyspace {keyspace}: {reason}"
                )
            }
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind())
    }
}

impl std::error::Error for Error {}
