//! A file for positioned direct I/O, or for buffered I/O where the file system leaves no choice.
//!
//! # Durability
//! A file opened for durable writes carries `O_DSYNC`: a write is complete when the device has it.
//! That holds for buffered files too. An error of such a write belongs to that write alone.
//!
//! # Cancellation
//! A started operation runs to its end even if its future is dropped (`activity.rs`). Bare glommio
//! would cancel it; a test pins both.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ::glommio::io::{BufferedFile, DmaBuffer, DmaFile, OpenOptions, ReadResult};

use super::activity::{Activity, RunToEnd};
use super::failure;
use crate::{
    Access, BLOCK_BYTES, Creation, File, IoBuf, IoError, IoErrorKind, IoOp, catch_panic, to_u64,
};

/// The permissions of a new file: the owner's alone, for what is in a database is its owner's to
/// share. The process's mask may take more away.
const FILE_MODE: u32 = 0o600;

/// The production [`File`].
#[derive(Clone)]
pub struct GlommioFile(Rc<Inner>);

struct Inner {
    handle: Handle,
    path: PathBuf,
    activity: Rc<Activity>,
}

enum Handle {
    /// Past the page cache.
    Direct(DmaFile),
    /// Through the page cache: the file system refuses direct I/O.
    Buffered(BufferedFile),
}

/// Opens or creates a file.
pub(super) async fn open(
    activity: &Rc<Activity>,
    path: &Path,
    access: Access,
    creation: Creation,
    direct: bool,
) -> Result<GlommioFile, IoError> {
    let op = match creation {
        Creation::MustExist => IoOp::Open,
        Creation::MustCreate => IoOp::Create,
    };
    let mut options = OpenOptions::new();
    // glommio creates only what it may write; creating for reading alone has no use anyway.
    let writes = access != Access::Read || creation == Creation::MustCreate;
    options.read(true).write(writes).mode(FILE_MODE);
    options.create_new(creation == Creation::MustCreate);
    if access == Access::ReadWriteDurable {
        options.custom_flags(libc::O_DSYNC);
    }
    let target = path.to_path_buf();
    let opened = RunToEnd::new(activity, async move {
        // glommio asks for the file system by the path, and panics when the path is gone by then.
        catch_panic(async {
            if direct {
                options.dma_open(&target).await.map(Handle::Direct)
            } else {
                options.buffered_open(&target).await.map(Handle::Buffered)
            }
        })
        .await
    });
    let handle = opened
        .await
        .map_err(|panic| failure::panicked(op, path, &panic))?
        .map_err(|error| refused(op, path, direct, &failure::os_error(error)))?;
    Ok(GlommioFile(Rc::new(Inner {
        handle,
        path: path.to_path_buf(),
        activity: Rc::clone(activity),
    })))
}

/// The error of an open; a file system that refuses direct I/O says no more than `EINVAL`.
fn refused(op: IoOp, path: &Path, direct: bool, error: &io::Error) -> IoError {
    if direct && error.raw_os_error() == Some(libc::EINVAL) {
        let kind = IoErrorKind::Unsupported {
            what: "the file system refuses direct I/O".to_owned(),
            remedy: "put every file of a database on one file system, and check it with preflight"
                .to_owned(),
        };
        return IoError::new(op, path, kind);
    }
    IoError::from_os(op, path, error)
}

impl GlommioFile {
    /// Whether reads and writes pass by the page cache.
    pub fn is_direct(&self) -> bool {
        matches!(self.0.handle, Handle::Direct(_))
    }

    /// Runs an operation on the file to its end, whoever waits for it.
    fn run<T, Fut>(&self, operation: impl FnOnce(Rc<Inner>) -> Fut + 'static) -> RunToEnd<T>
    where
        T: 'static,
        Fut: Future<Output = T> + 'static,
    {
        let inner = Rc::clone(&self.0);
        RunToEnd::new(&self.0.activity, async move { operation(inner).await })
    }

    /// Refuses what direct I/O refuses, before the kernel does and without naming a place.
    fn check(&self, op: IoOp, offset: u64, len: usize) -> Result<(), IoError> {
        let aligned = offset.is_multiple_of(to_u64(BLOCK_BYTES)) && len.is_multiple_of(BLOCK_BYTES);
        if aligned && len > 0 && offset.checked_add(to_u64(len)).is_some() {
            return Ok(());
        }
        let kind = IoErrorKind::Device {
            errno: Some(libc::EINVAL),
            message: format!("offset and length must be multiples of {BLOCK_BYTES}, length not 0"),
        };
        Err(IoError::at(op, &self.0.path, offset, len, kind))
    }

    /// Reads what one request brings: all of it, or less at the end of the file.
    async fn read_once(&self, offset: u64, len: usize) -> io::Result<ReadResult> {
        let read = self.run(move |inner| async move {
            match &inner.handle {
                Handle::Direct(file) => file.read_at_aligned(offset, len).await,
                Handle::Buffered(file) => file.read_at(offset, len).await,
            }
        });
        read.await.map_err(failure::os_error)
    }
}

impl File for GlommioFile {
    async fn read_at(&self, offset: u64, len: usize) -> Result<IoBuf, IoError> {
        self.check(IoOp::Read, offset, len)?;
        let fail = |kind| IoError::at(IoOp::Read, &self.0.path, offset, len, kind);
        let first = self
            .read_once(offset, len)
            .await
            .map_err(|error| fail(IoErrorKind::from(&error)))?;
        if first.len() == len {
            return Ok(IoBuf::from_read(first));
        }
        // A short read is the end of the file, or a device that took the request in parts.
        let mut whole = IoBuf::zeroed(len);
        let mut found = first.len();
        whole[..found].copy_from_slice(&first);
        while found < len {
            // What does not end on a block ends at the end of the file.
            if found == 0 || !found.is_multiple_of(BLOCK_BYTES) {
                let expected = len;
                return Err(fail(IoErrorKind::ShortRead { expected, found }));
            }
            let next = self
                .read_once(offset + to_u64(found), len - found)
                .await
                .map_err(|error| fail(IoErrorKind::from(&error)))?;
            if next.is_empty() {
                let expected = len;
                return Err(fail(IoErrorKind::ShortRead { expected, found }));
            }
            whole[found..found + next.len()].copy_from_slice(&next);
            found += next.len();
        }
        Ok(whole)
    }

    async fn write_at(&self, offset: u64, buf: IoBuf) -> Result<(), IoError> {
        let expected = buf.len();
        self.check(IoOp::Write, offset, expected)?;
        let written = self.run(move |inner| async move {
            match &inner.handle {
                Handle::Direct(file) => {
                    let buf = buf.into_dma().unwrap_or_else(|heap| copy(file, &heap));
                    file.write_at(buf, offset).await
                }
                Handle::Buffered(file) => file.write_at(buf.to_vec(), offset).await,
            }
        });
        let fail = |kind| IoError::at(IoOp::Write, &self.0.path, offset, expected, kind);
        let found = written
            .await
            .map_err(|error| fail(IoErrorKind::from(&failure::os_error(error))))?;
        if found == expected {
            Ok(())
        } else {
            Err(fail(IoErrorKind::ShortWrite { expected, found }))
        }
    }

    async fn sync(&self) -> Result<(), IoError> {
        let synced = self.run(|inner| async move {
            match &inner.handle {
                Handle::Direct(file) => file.fdatasync().await,
                Handle::Buffered(file) => file.fdatasync().await,
            }
        });
        let synced = synced.await;
        synced.map_err(|error| failure::whole(IoOp::Sync, &self.0.path, error))
    }

    async fn preallocate(&self, len: u64) -> Result<(), IoError> {
        // The kernel takes a signed length, and nothing of length zero.
        if i64::try_from(len).is_err() {
            return Err(IoError::new(
                IoOp::Resize,
                &self.0.path,
                IoErrorKind::NoSpace,
            ));
        }
        if len == 0 {
            return Ok(());
        }
        let reserved = self.run(move |inner| async move {
            match &inner.handle {
                Handle::Direct(file) => file.pre_allocate(len, false).await,
                Handle::Buffered(file) => file.pre_allocate(len, false).await,
            }
        });
        let error = match reserved.await.map_err(failure::os_error) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if error.raw_os_error() != Some(libc::EOPNOTSUPP) {
            return Err(IoError::from_os(IoOp::Resize, &self.0.path, &error));
        }
        // The file system reserves nothing ahead; the length at least can be had.
        if self.length().await? >= len {
            return Ok(());
        }
        let extended = self.run(move |inner| async move {
            match &inner.handle {
                Handle::Direct(file) => file.truncate(len).await,
                Handle::Buffered(file) => file.truncate(len).await,
            }
        });
        let extended = extended.await;
        extended.map_err(|error| failure::whole(IoOp::Resize, &self.0.path, error))
    }

    async fn length(&self) -> Result<u64, IoError> {
        let length = self.run(|inner| async move {
            match &inner.handle {
                Handle::Direct(file) => file.file_size().await,
                Handle::Buffered(file) => file.file_size().await,
            }
        });
        let length = length.await;
        length.map_err(|error| failure::whole(IoOp::Stat, &self.0.path, error))
    }

    fn path(&self) -> &Path {
        &self.0.path
    }

    async fn close(self) -> Result<(), IoError> {
        // Another clone, or an operation that outlived its future, closes it when it goes.
        let Ok(Inner {
            handle,
            path,
            activity,
        }) = Rc::try_unwrap(self.0)
        else {
            return Ok(());
        };
        let closed = RunToEnd::new(&activity, async move {
            match handle {
                Handle::Direct(file) => file.close().await,
                Handle::Buffered(file) => file.close().await,
            }
        });
        let closed = closed.await;
        closed.map_err(|error| failure::whole(IoOp::Sync, &path, error))
    }
}

/// Copies heap memory into a buffer of the executor, the only kind that glommio writes from.
fn copy(file: &DmaFile, heap: &IoBuf) -> DmaBuffer {
    let mut buffer = file.alloc_dma_buffer(heap.len());
    buffer.as_bytes_mut().copy_from_slice(heap);
    buffer
}

impl fmt::Debug for GlommioFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GlommioFile({})", self.0.path.display())
    }
}
