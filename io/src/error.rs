//! What can go wrong with a file, and where it did.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IoOp {
    /// Opening an existing file or directory.
    Open,
    /// Creating a file or directory.
    Create,
    /// A positioned read.
    Read,
    /// A positioned write.
    Write,
    /// Making written data durable.
    Sync,
    /// Reserving space or changing a file's length.
    Resize,
    /// Removing a file or directory.
    Remove,
    /// Renaming a file.
    Rename,
    /// Listing a directory.
    List,
    /// Making a directory's entries durable.
    SyncDir,
    /// Asking for a file's length or kind.
    Stat,
    /// Taking the lock of a database.
    Lock,
    /// Starting the runtime of a shard.
    Start,
}

impl IoOp {
    fn verb(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Resize => "resize",
            Self::Remove => "remove",
            Self::Rename => "rename",
            Self::List => "list",
            Self::SyncDir => "sync the directory",
            Self::Stat => "inspect",
            Self::Lock => "lock",
            Self::Start => "start the runtime for",
        }
    }
}

/// The reason, as coarse as a caller can act on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IoErrorKind {
    /// There is no such file or directory.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The process may not do this, or the file system is read-only.
    PermissionDenied,
    /// The device, the quota or the configured limit is exhausted.
    NoSpace,
    /// Fewer bytes were read than the file was expected to hold.
    ShortRead {
        /// Bytes asked for.
        expected: usize,
        /// Bytes that came.
        found: usize,
    },
    /// Fewer bytes were written than were handed over.
    ShortWrite {
        /// Bytes handed over.
        expected: usize,
        /// Bytes that the device took.
        found: usize,
    },
    /// Somebody else holds the lock.
    Locked,
    /// The machine cannot run this; the remedy says what to change.
    Unsupported {
        /// What is missing.
        what: String,
        /// What the user can do about it.
        remedy: String,
    },
    /// Anything else that the operating system reports, `EIO` first of all.
    Device {
        /// The operating system's error number, when there is one.
        errno: Option<i32>,
        /// Its text.
        message: String,
    },
}

/// A failed file operation: what, where and why.
///
/// Cheap to clone, so that one failure can be told to every caller that it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IoError(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    op: IoOp,
    kind: IoErrorKind,
    path: PathBuf,
    /// First byte and byte count, for reads and writes.
    range: Option<(u64, usize)>,
}

impl IoError {
    /// Builds the error of an operation on a whole file or directory.
    pub fn new(op: IoOp, path: &Path, kind: IoErrorKind) -> Self {
        Self(Arc::new(Inner {
            op,
            kind,
            path: path.to_path_buf(),
            range: None,
        }))
    }

    /// Builds the error of a read or write of `len` bytes at `offset`.
    pub fn at(op: IoOp, path: &Path, offset: u64, len: usize, kind: IoErrorKind) -> Self {
        Self(Arc::new(Inner {
            op,
            kind,
            path: path.to_path_buf(),
            range: Some((offset, len)),
        }))
    }

    /// Translates what the operating system said.
    pub fn from_os(op: IoOp, path: &Path, error: &std::io::Error) -> Self {
        Self::new(op, path, IoErrorKind::from(error))
    }

    /// The operation that failed.
    pub fn op(&self) -> IoOp {
        self.0.op
    }

    /// Why it failed.
    pub fn kind(&self) -> &IoErrorKind {
        &self.0.kind
    }

    /// The file or directory it failed on.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The byte offset it failed at, for reads and writes.
    pub fn offset(&self) -> Option<u64> {
        self.0.range.map(|(offset, _)| offset)
    }
}

impl From<&std::io::Error> for IoErrorKind {
    fn from(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Os;
        match error.kind() {
            Os::NotFound => Self::NotFound,
            Os::AlreadyExists => Self::AlreadyExists,
            Os::PermissionDenied | Os::ReadOnlyFilesystem => Self::PermissionDenied,
            Os::StorageFull | Os::QuotaExceeded | Os::FileTooLarge => Self::NoSpace,
            _ => Self::Device {
                errno: error.raw_os_error(),
                message: error.to_string(),
            },
        }
    }
}

impl fmt::Display for IoErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("it does not exist"),
            Self::AlreadyExists => f.write_str("it already exists"),
            Self::PermissionDenied => f.write_str("permission denied (or a read-only file system)"),
            Self::NoSpace => f.write_str("no space left"),
            Self::ShortRead { expected, found } => {
                write!(f, "expected {expected} bytes, found {found}")
            }
            Self::ShortWrite { expected, found } => {
                write!(f, "wrote {found} of {expected} bytes")
            }
            Self::Locked => f.write_str("another process or handle holds the lock"),
            Self::Unsupported { what, remedy } => write!(f, "{what}; {remedy}"),
            Self::Device { message, .. } => f.write_str(message),
        }
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            op,
            kind,
            path,
            range,
        } = &*self.0;
        write!(f, "cannot {} {}", op.verb(), path.display())?;
        if let Some((offset, len)) = range {
            write!(f, " ({len} bytes at offset {offset})")?;
        }
        write!(f, ": {kind}")
    }
}

impl std::error::Error for IoError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_names_operation_place_and_reason() {
        let kind = IoErrorKind::ShortRead {
            expected: 4096,
            found: 512,
        };
        let error = IoError::at(IoOp::Read, Path::new("db/shard-000/tree"), 8192, 4096, kind);
        assert_eq!(
            error.to_string(),
            "cannot read db/shard-000/tree (4096 bytes at offset 8192): \
             expected 4096 bytes, found 512"
        );
    }

    #[test]
    fn a_full_disk_is_told_apart_from_a_broken_one() {
        let full = std::io::Error::from_raw_os_error(28);
        let broken = std::io::Error::from_raw_os_error(5);
        assert_eq!(IoErrorKind::from(&full), IoErrorKind::NoSpace);
        assert!(matches!(
            IoErrorKind::from(&broken),
            IoErrorKind::Device { errno: Some(5), .. }
        ));
    }
}
