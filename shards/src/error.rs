//! What can go wrong in a shard, and where it did.

use std::fmt;
use std::path::{Path, PathBuf};

use lightning_io::{IoError, IoErrorKind, IoOp};

use crate::ShardId;

/// What the functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A place in a file of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The shard whose file it is; `None` for files of the database as a whole.
    pub shard: Option<ShardId>,
    /// The file.
    pub file: PathBuf,
    /// The byte offset.
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(shard) = self.shard {
            write!(f, "shard {shard}, ")?;
        }
        write!(f, "file {}, offset {}", self.file.display(), self.offset)
    }
}

/// Bytes on disk that are not what was written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corruption {
    /// Where.
    pub place: Place,
    /// What was found to be wrong: what was expected, and what was there.
    pub what: String,
    /// The keys that cannot be read because of it: from, inclusive, and to, exclusive, `None` for
    /// the ends of the key space; absent where no keys are concerned.
    pub keys: Option<KeyRange>,
}

/// A range of stored keys: from, inclusive, to, exclusive; `None` is the end of the key space.
pub type KeyRange = (Option<Vec<u8>>, Option<Vec<u8>>);

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)?;
        match &self.keys {
            Some(keys) => write!(f, "; {}", KeysText(keys)),
            None => Ok(()),
        }
    }
}

/// A range of keys as a message names it.
pub(crate) struct KeysText<'a>(pub(crate) &'a KeyRange);

impl fmt::Display for KeysText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = self.0;
        let end = |key: &Option<Vec<u8>>, open: &str| {
            key.as_ref().map_or_else(
                || open.to_owned(),
                // The keyspace prefix is the engine's; the caller knows the rest.
                |key| {
                    crate::StorageKey::user_key(key)
                        .unwrap_or(key)
                        .escape_ascii()
                        .to_string()
                },
            )
        };
        write!(
            f,
            "keys from {} to {}",
            end(from, "the first"),
            end(to, "the last")
        )
    }
}

/// Why a request to a shard failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error("{0}")]
    Io(#[from] IoError),
    /// Stored bytes are damaged.
    #[error("corruption in {0}")]
    Corruption(Box<Corruption>),
    /// There is no database at the path.
    #[error("no database at {}: {reason}", path.display())]
    NotADatabase {
        /// The path.
        path: PathBuf,
        /// What is missing or unexpected there.
        reason: String,
    },
    /// There is a database at the path already.
    #[error("a database exists at {}", path.display())]
    AlreadyExists {
        /// The path.
        path: PathBuf,
    },
    /// The database was written by another version of the format.
    #[error("{} has format version {found}; this build reads version {supported}", path.display())]
    Version {
        /// The file that says so.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that this build reads.
        supported: u32,
    },
    /// The caller's argument cannot be used.
    #[error("invalid {what}: {reason}")]
    Invalid {
        /// Which argument.
        what: &'static str,
        /// Why, with the bound that it broke.
        reason: String,
    },
    /// A queue is at its bound; the request was not taken and can be sent again.
    #[error("shard {shard} is busy: {what}")]
    Busy {
        /// The shard.
        shard: ShardId,
        /// Which bound.
        what: &'static str,
    },
    /// A write was refused before it was taken, for lack of space.
    #[error("shard {shard} has no space for the write: {cause}")]
    NoSpace {
        /// The shard.
        shard: ShardId,
        /// The operation that found no space.
        cause: IoError,
    },
    /// A shard stopped taking writes after a failure; the way out is to close and open again.
    #[error("shard {shard} stopped taking writes: {cause}")]
    Poisoned {
        /// The shard that failed.
        shard: ShardId,
        /// What failed.
        cause: String,
    },
    /// The shard failed while the write was under way: after the next open it is there whole, or
    /// not at all.
    #[error("shard {shard} failed during the commit, which may or may not survive: {cause}")]
    MaybeCommitted {
        /// The shard that failed.
        shard: ShardId,
        /// What failed.
        cause: String,
    },
    /// The function of an update panicked on the shard; nothing was written.
    #[error("shard {shard} wrote nothing: the function of an update panicked: {cause}")]
    Panicked {
        /// The shard.
        shard: ShardId,
        /// What it panicked with.
        cause: String,
    },
    /// The database is closed, or is closing.
    #[error("the database is closed")]
    Closed,
}

impl Error {
    /// Reports damage at a place of a shard's file.
    pub fn corruption(shard: ShardId, file: &Path, offset: u64, what: impl Into<String>) -> Self {
        let place = Place {
            shard: Some(shard),
            file: file.to_path_buf(),
            offset,
        };
        Self::Corruption(Box::new(Corruption {
            place,
            what: what.into(),
            keys: None,
        }))
    }

    /// Names the keys that a damage makes unreadable; other errors stay as they are.
    #[must_use]
    pub fn with_keys(self, keys: KeyRange) -> Self {
        match self {
            Self::Corruption(mut corruption) => {
                corruption.keys.get_or_insert(keys);
                Self::Corruption(corruption)
            }
            other => other,
        }
    }

    /// Whether the failed operation found no space, and nothing is open because of that: a sync that
    /// says so has failed like any other.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Io(error) => {
                matches!(error.kind(), IoErrorKind::NoSpace) && !self.is_failed_sync()
            }
            Self::NoSpace { .. } => true,
            _ => false,
        }
    }

    /// Whether a sync failed, for whatever reason.
    ///
    /// What it should have saved may be lost although the next one succeeds: a device or a file
    /// system may report an error once and forget what it was about. One that reports no space is
    /// no exception, as it speaks of writes that were acknowledged.
    pub(crate) fn is_failed_sync(&self) -> bool {
        matches!(self, Self::Io(error) if matches!(error.op(), IoOp::Sync | IoOp::SyncDir))
    }

    /// Whether stored bytes are damaged or cannot be read, which concerns some keys and no others.
    pub(crate) fn is_unreadable(&self) -> bool {
        match self {
            Self::Corruption(_) => true,
            Self::Io(error) => error.op() == IoOp::Read,
            _ => false,
        }
    }

    /// Whether a write failed, for another reason than space.
    pub(crate) fn is_failed_write(&self) -> bool {
        matches!(self, Self::Io(error) if error.op() == IoOp::Write) && !self.is_no_space()
    }
}
