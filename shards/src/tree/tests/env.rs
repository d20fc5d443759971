//! A world of memory: files are vectors, every future is ready at once, and what a test plans to
//! fail, fails.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use lightning_io::{
    Access, Creation, DirEntry, Env, File, IoBuf, IoError, IoErrorKind, IoOp, JoinHandle, Message,
    Port, SendError, TaskClass, to_u64, to_usize,
};

type Bytes = Rc<RefCell<Vec<u8>>>;

/// What is to go wrong.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Reads, writes and syncs that fail, the next ones first.
    pub(super) failing_reads: Cell<u32>,
    pub(super) failing_writes: Cell<u32>,
    pub(super) failing_syncs: Cell<u32>,
    /// Writes that succeed before the failing ones begin.
    pub(super) writes_before: Cell<u32>,
    /// The longest file the device has room for.
    pub(super) bytes_max: Cell<Option<u64>>,
    /// Whether a task lets others run whenever it may.
    pub(super) yields: Cell<bool>,
    pub(super) reads: Cell<u64>,
    pub(super) writes: RefCell<Vec<(u64, usize)>>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct TestEnv {
    files: Rc<RefCell<BTreeMap<PathBuf, Bytes>>>,
    pub(super) plan: Rc<Plan>,
}

impl TestEnv {
    pub(super) fn bytes(&self, path: &Path) -> Bytes {
        Rc::clone(&self.files.borrow()[path])
    }

    /// Another world with a copy of every file.
    pub(super) fn fork(&self) -> Self {
        let fork = Self::default();
        for (path, bytes) in self.files.borrow().iter() {
            let copy = Rc::new(RefCell::new(bytes.borrow().clone()));
            fork.files.borrow_mut().insert(path.clone(), copy);
        }
        fork
    }
}

#[derive(Debug, Clone)]
pub(super) struct TestFile {
    path: PathBuf,
    bytes: Bytes,
    plan: Rc<Plan>,
}

fn device(op: IoOp, path: &Path) -> IoError {
    let kind = IoErrorKind::Device {
        errno: Some(5),
        message: "planned".to_owned(),
    };
    IoError::new(op, path, kind)
}

/// Counts a planned failure down.
fn fails(planned: &Cell<u32>) -> bool {
    let left = planned.get();
    planned.set(left.saturating_sub(1));
    left > 0
}

impl File for TestFile {
    async fn read_at(&self, offset: u64, len: usize) -> Result<IoBuf, IoError> {
        self.plan.reads.set(self.plan.reads.get() + 1);
        if fails(&self.plan.failing_reads) {
            return Err(device(IoOp::Read, &self.path));
        }
        let bytes = self.bytes.borrow();
        let start = to_usize(offset);
        if let Some(found) = bytes.get(start..start + len) {
            return Ok(IoBuf::from_slice(found));
        }
        let kind = IoErrorKind::ShortRead {
            expected: len,
            found: bytes.len().saturating_sub(start),
        };
        Err(IoError::at(IoOp::Read, &self.path, offset, len, kind))
    }

    async fn write_at(&self, offset: u64, buf: IoBuf) -> Result<(), IoError> {
        self.plan.writes.borrow_mut().push((offset, buf.len()));
        let before = self.plan.writes_before.get();
        self.plan.writes_before.set(before.saturating_sub(1));
        if before == 0 && fails(&self.plan.failing_writes) {
            return Err(device(IoOp::Write, &self.path));
        }
        let mut bytes = self.bytes.borrow_mut();
        let start = to_usize(offset);
        if bytes.len() < start + buf.len() {
            bytes.resize(start + buf.len(), 0);
        }
        bytes[start..start + buf.len()].copy_from_slice(&buf);
        Ok(())
    }

    async fn sync(&self) -> Result<(), IoError> {
        if fails(&self.plan.failing_syncs) {
            return Err(device(IoOp::Sync, &self.path));
        }
        Ok(())
    }

    async fn preallocate(&self, len: u64) -> Result<(), IoError> {
        if self.plan.bytes_max.get().is_some_and(|max| len > max) {
            let full = IoErrorKind::NoSpace;
            return Err(IoError::new(IoOp::Resize, &self.path, full));
        }
        let mut bytes = self.bytes.borrow_mut();
        let len = to_usize(len).max(bytes.len());
        bytes.resize(len, 0);
        Ok(())
    }

    async fn length(&self) -> Result<u64, IoError> {
        Ok(to_u64(self.bytes.borrow().len()))
    }

    fn path(&self) -> &Path {
        &self.path
    }

    async fn close(self) -> Result<(), IoError> {
        Ok(())
    }
}

/// A mesh of one shard that nobody sends to.
#[derive(Debug)]
pub(super) struct NoPort;

impl<M: Message> Port<M> for NoPort {
    fn peers(&self) -> usize {
        1
    }

    fn send(&self, _to: usize, message: M) -> Result<(), SendError<M>> {
        Err(SendError::Closed(message))
    }

    async fn recv(&self, _into: &mut Vec<M>, _limit: usize) {
        std::future::pending::<()>().await;
    }
}

impl Env for TestEnv {
    type File = TestFile;
    type Port<M: Message> = NoPort;
    type Lock = ();

    async fn open(
        &self,
        path: &Path,
        _access: Access,
        creation: Creation,
    ) -> Result<TestFile, IoError> {
        let mut files = self.files.borrow_mut();
        if creation == Creation::MustCreate {
            files.insert(path.to_path_buf(), Bytes::default());
        }
        let bytes = files.get(path).ok_or_else(|| device(IoOp::Open, path))?;
        Ok(TestFile {
            path: path.to_path_buf(),
            bytes: Rc::clone(bytes),
            plan: Rc::clone(&self.plan),
        })
    }

    fn allocate(&self, len: usize) -> IoBuf {
        IoBuf::zeroed(len)
    }

    async fn create_dir(&self, _path: &Path) -> Result<(), IoError> {
        Ok(())
    }

    async fn read_dir(&self, _path: &Path) -> Result<Vec<DirEntry>, IoError> {
        Ok(Vec::new())
    }

    async fn remove_file(&self, path: &Path) -> Result<(), IoError> {
        self.files.borrow_mut().remove(path);
        Ok(())
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        let mut files = self.files.borrow_mut();
        let bytes = files
            .remove(from)
            .ok_or_else(|| device(IoOp::Rename, from))?;
        files.insert(to.to_path_buf(), bytes);
        Ok(())
    }

    async fn sync_dir(&self, _path: &Path) -> Result<(), IoError> {
        Ok(())
    }

    async fn lock(&self, _path: &Path) -> Result<(), IoError> {
        Ok(())
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn wall_clock_us(&self) -> u64 {
        0
    }

    fn random_u64(&self) -> u64 {
        4
    }

    async fn sleep(&self, _duration: Duration) {}

    async fn yield_if_needed(&self) {
        let mut yielded = !self.plan.yields.get();
        poll_fn(|context| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn spawn<T: 'static>(
        &self,
        _class: TaskClass,
        future: impl Future<Output = T> + 'static,
    ) -> JoinHandle<T> {
        let (handle, body) = JoinHandle::wrap(future);
        body.now_or_never().expect("every future is ready at once");
        handle
    }
}
