//! Directories, names and the lock, on the executor's blocking pool.
//!
//! These calls are rare and may take milliseconds: none of them runs on the shard's thread.

#[expect(
    clippy::disallowed_types,
    reason = "this is the world that files come from"
)]
use std::fs::File;
use std::fs::{self, DirBuilder, FileType, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::activity::{Activity, RunToEnd};
use crate::{DirEntry, FileKind, IoError, IoErrorKind, IoOp};

/// An exclusive lock on a database; released when dropped, by a crash too.
#[derive(Debug)]
pub struct GlommioLock {
    /// Closing it releases the lock.
    #[expect(
        clippy::disallowed_types,
        reason = "this is the world that files come from"
    )]
    _file: File,
}

/// Runs a blocking call on the pool and maps its error. It runs to its end even if dropped.
async fn blocking<T: Send + 'static>(
    activity: &Rc<Activity>,
    op: IoOp,
    path: &Path,
    call: impl FnOnce(&Path) -> Result<T, Failure> + Send + 'static,
) -> Result<T, IoError> {
    let owned = path.to_path_buf();
    let operation = async move {
        ::glommio::executor()
            .spawn_blocking(move || call(&owned))
            .await
    };
    RunToEnd::new(activity, operation)
        .await
        .map_err(|failure| match failure {
            Failure::Os(error) => IoError::from_os(op, path, &error),
            Failure::Kind(kind) => IoError::new(op, path, kind),
        })
}

/// Why a call on the pool failed.
enum Failure {
    Os(io::Error),
    Kind(IoErrorKind),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Os(error)
    }
}

pub(super) async fn create(activity: &Rc<Activity>, path: &Path) -> Result<(), IoError> {
    blocking(activity, IoOp::Create, path, |path| {
        Ok(DirBuilder::new().create(path)?)
    })
    .await
}

pub(super) async fn list(activity: &Rc<Activity>, path: &Path) -> Result<Vec<DirEntry>, IoError> {
    blocking(activity, IoOp::List, path, |path| {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            // A name that is not text is none of a database's; it is listed, for it is there.
            entries.push(DirEntry {
                name: entry.file_name().to_string_lossy().into_owned(),
                kind: kind_of(entry.file_type()?),
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    })
    .await
}

fn kind_of(kind: FileType) -> FileKind {
    if kind.is_file() {
        FileKind::File
    } else if kind.is_dir() {
        FileKind::Directory
    } else {
        FileKind::Other
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the world that files come from"
)]
pub(super) async fn remove_file(activity: &Rc<Activity>, path: &Path) -> Result<(), IoError> {
    blocking(activity, IoOp::Remove, path, |path| {
        Ok(fs::remove_file(path)?)
    })
    .await
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the world that files come from"
)]
pub(super) async fn rename(activity: &Rc<Activity>, from: &Path, to: &Path) -> Result<(), IoError> {
    let to: PathBuf = to.to_path_buf();
    blocking(activity, IoOp::Rename, from, move |from| {
        Ok(fs::rename(from, to)?)
    })
    .await
}

#[expect(
    clippy::disallowed_types,
    reason = "this is the world that files come from"
)]
pub(super) async fn sync(activity: &Rc<Activity>, path: &Path) -> Result<(), IoError> {
    blocking(activity, IoOp::SyncDir, path, |path| {
        let directory = File::open(path)?;
        if !directory.metadata()?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory).into());
        }
        Ok(directory.sync_all()?)
    })
    .await
}

pub(super) async fn lock(activity: &Rc<Activity>, path: &Path) -> Result<GlommioLock, IoError> {
    blocking(activity, IoOp::Lock, path, |path| {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(GlommioLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Failure::Kind(IoErrorKind::Locked)),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    })
    .await
}
