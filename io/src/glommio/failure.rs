//! glommio's errors as the errors of this crate.

use std::io;
use std::path::Path;

use ::glommio::GlommioError;

use crate::{IoError, IoErrorKind, IoOp, TaskPanic};

/// What the operating system said underneath a glommio error.
pub(super) fn os_error<T>(error: GlommioError<T>) -> io::Error {
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => source,
        other => io::Error::other(other.to_string()),
    }
}

/// The error of an operation on a whole file or directory.
pub(super) fn whole<T>(op: IoOp, path: &Path, error: GlommioError<T>) -> IoError {
    IoError::from_os(op, path, &os_error(error))
}

/// The error of an operation that ended in a panic of the runtime.
pub(super) fn panicked(op: IoOp, path: &Path, panic: &TaskPanic) -> IoError {
    let message = format!("the runtime panicked: {}", panic.0);
    let errno = None;
    IoError::new(op, path, IoErrorKind::Device { errno, message })
}
