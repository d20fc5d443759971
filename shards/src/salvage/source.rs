//! The world as a salvage sees it: nothing in it can be changed, and no read of a file fails.
//!
//! # Invariants
//! * Every file is opened for reading, whatever was asked for, and everything that would change the
//!   disk is refused: the readers of the engine can be used as they are, and the source of a salvage
//!   stays as it is.
//! * A block that the device does not give, or that lies behind the end of the file, reads as zeros
//!   and is noted. Zeros pass no checksum: what was there is found damaged by whoever needs it, and
//!   the blocks around it are read.

use std::cell::RefCell;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use lightning_io::{
    Access, BLOCK_BYTES, Creation, DirEntry, Env, File, IoBuf, IoError, IoErrorKind, IoOp,
    JoinHandle, Message, TaskClass, to_u64, to_usize,
};

/// Unreadable blocks that are noted one by one; what lies on more is found by its checksums alone.
const NOTED_MAX: usize = 10_000;

/// A world that only reads.
#[derive(Clone)]
pub(crate) struct Source<E: Env> {
    env: E,
    unread: Rc<RefCell<Vec<IoError>>>,
}

impl<E: Env> std::fmt::Debug for Source<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

impl<E: Env> Source<E> {
    pub(crate) fn new(env: &E) -> Self {
        Self {
            env: env.clone(),
            unread: Rc::default(),
        }
    }

    /// The reads that failed since this was last asked.
    pub(crate) fn take_unread(&self) -> Vec<IoError> {
        std::mem::take(&mut *self.unread.borrow_mut())
    }
}

/// A file that is read, and reads as zeros where it cannot be.
#[derive(Debug, Clone)]
pub(crate) struct SourceFile<F> {
    file: F,
    unread: Rc<RefCell<Vec<IoError>>>,
}

fn refused(op: IoOp, path: &Path) -> IoError {
    IoError::new(op, path, IoErrorKind::PermissionDenied)
}

impl<F: File> SourceFile<F> {
    async fn read_block(&self, offset: u64, block: &mut [u8]) {
        match self.file.read_at(offset, BLOCK_BYTES).await {
            Ok(bytes) => block.copy_from_slice(&bytes),
            Err(error) => {
                let mut unread = self.unread.borrow_mut();
                if unread.len() < NOTED_MAX && !unread.contains(&error) {
                    unread.push(error);
                }
            }
        }
    }
}

impl<F: File> File for SourceFile<F> {
    async fn read_at(&self, offset: u64, len: usize) -> Result<IoBuf, IoError> {
        let length = self.file.length().await?;
        let whole = length / to_u64(BLOCK_BYTES) * to_u64(BLOCK_BYTES);
        let there = to_usize(whole.saturating_sub(offset).min(to_u64(len)));
        if there == len
            && let Ok(bytes) = self.file.read_at(offset, len).await
        {
            return Ok(bytes);
        }
        // Block by block: one that cannot be read does not take its neighbours with it.
        let mut bytes = IoBuf::zeroed(len);
        for at in (0..there).step_by(BLOCK_BYTES) {
            let block = &mut bytes[at..at + BLOCK_BYTES];
            self.read_block(offset + to_u64(at), block).await;
        }
        Ok(bytes)
    }

    async fn write_at(&self, _offset: u64, _buf: IoBuf) -> Result<(), IoError> {
        Err(refused(IoOp::Write, self.path()))
    }

    /// There is nothing to make durable.
    async fn sync(&self) -> Result<(), IoError> {
        Ok(())
    }

    async fn preallocate(&self, _len: u64) -> Result<(), IoError> {
        Err(refused(IoOp::Resize, self.path()))
    }

    async fn length(&self) -> Result<u64, IoError> {
        self.file.length().await
    }

    fn path(&self) -> &Path {
        self.file.path()
    }

    async fn close(self) -> Result<(), IoError> {
        self.file.close().await
    }
}

impl<E: Env> Env for Source<E> {
    type File = SourceFile<E::File>;
    type Port<M: Message> = E::Port<M>;
    type Lock = E::Lock;

    async fn open(
        &self,
        path: &Path,
        _access: Access,
        creation: Creation,
    ) -> Result<Self::File, IoError> {
        if creation == Creation::MustCreate {
            return Err(refused(IoOp::Create, path));
        }
        Ok(SourceFile {
            file: self.env.open(path, Access::Read, creation).await?,
            unread: Rc::clone(&self.unread),
        })
    }

    async fn create_dir(&self, path: &Path) -> Result<(), IoError> {
        Err(refused(IoOp::Create, path))
    }

    async fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>, IoError> {
        self.env.read_dir(path).await
    }

    async fn remove_file(&self, path: &Path) -> Result<(), IoError> {
        Err(refused(IoOp::Remove, path))
    }

    async fn rename(&self, from: &Path, _to: &Path) -> Result<(), IoError> {
        Err(refused(IoOp::Rename, from))
    }

    /// There is nothing to make durable.
    async fn sync_dir(&self, _path: &Path) -> Result<(), IoError> {
        Ok(())
    }

    /// Takes the lock, and with it makes the file that stands for it, should it be missing.
    async fn lock(&self, path: &Path) -> Result<Self::Lock, IoError> {
        self.env.lock(path).await
    }

    fn allocate(&self, len: usize) -> IoBuf {
        self.env.allocate(len)
    }

    fn now(&self) -> Duration {
        self.env.now()
    }

    fn wall_clock_us(&self) -> u64 {
        self.env.wall_clock_us()
    }

    fn random_u64(&self) -> u64 {
        self.env.random_u64()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        self.env.sleep(duration)
    }

    fn yield_if_needed(&self) -> impl Future<Output = ()> {
        self.env.yield_if_needed()
    }

    fn spawn<T: 'static>(
        &self,
        class: TaskClass,
        future: impl Future<Output = T> + 'static,
    ) -> JoinHandle<T> {
        self.env.spawn(class, future)
    }
}
