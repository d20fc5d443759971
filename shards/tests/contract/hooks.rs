//! A world around the simulated one, in which a test has its hand in every call of a shard.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use lightning_io::sim::{SimEnv, SimFile, SimLock, SimPort};
use lightning_io::{
    Access, Creation, DirEntry, Env, File, IoBuf, IoError, JoinHandle, Message, TaskClass,
};

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    Remove,
    SyncDir,
    Allocate,
    Random,
    Sleep,
    Yield,
    WallClock,
    Spawn,
    Read,
    Write,
    Sync,
    Preallocate,
}

/// What a test does about the calls.
pub(crate) trait Hook {
    /// Before a call is made.
    fn before(&self, _call: Call) {}

    /// After a read: what the shard is told.
    fn read(
        &self,
        _path: &Path,
        _range: (u64, usize),
        outcome: Result<IoBuf, IoError>,
    ) -> Result<IoBuf, IoError> {
        outcome
    }
}

/// A simulated world whose calls go through a hook.
#[derive(Clone)]
pub(crate) struct HookedEnv(SimEnv, Rc<dyn Hook>);

#[derive(Clone)]
pub(crate) struct HookedFile(SimFile, Rc<dyn Hook>);

impl HookedEnv {
    pub(crate) fn new(env: SimEnv, hook: Rc<dyn Hook>) -> Self {
        Self(env, hook)
    }
}

impl fmt::Debug for HookedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Env for HookedEnv {
    type File = HookedFile;
    type Port<M: Message> = SimPort<M>;
    type Lock = SimLock;

    async fn open(
        &self,
        path: &Path,
        access: Access,
        creation: Creation,
    ) -> Result<HookedFile, IoError> {
        self.1.before(Call::Open);
        let file = self.0.open(path, access, creation).await?;
        Ok(HookedFile(file, Rc::clone(&self.1)))
    }

    async fn create_dir(&self, path: &Path) -> Result<(), IoError> {
        self.0.create_dir(path).await
    }

    async fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>, IoError> {
        self.0.read_dir(path).await
    }

    async fn remove_file(&self, path: &Path) -> Result<(), IoError> {
        self.1.before(Call::Remove);
        self.0.remove_file(path).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.0.rename(from, to).await
    }

    async fn sync_dir(&self, path: &Path) -> Result<(), IoError> {
        self.1.before(Call::SyncDir);
        self.0.sync_dir(path).await
    }

    async fn lock(&self, path: &Path) -> Result<SimLock, IoError> {
        self.0.lock(path).await
    }

    fn allocate(&self, len: usize) -> IoBuf {
        self.1.before(Call::Allocate);
        self.0.allocate(len)
    }

    fn now(&self) -> Duration {
        self.0.now()
    }

    fn wall_clock_us(&self) -> u64 {
        self.1.before(Call::WallClock);
        self.0.wall_clock_us()
    }

    fn random_u64(&self) -> u64 {
        self.1.before(Call::Random);
        self.0.random_u64()
    }

    async fn sleep(&self, duration: Duration) {
        self.1.before(Call::Sleep);
        self.0.sleep(duration).await;
    }

    async fn yield_if_needed(&self) {
        self.1.before(Call::Yield);
        self.0.yield_if_needed().await;
    }

    fn spawn<T: 'static>(
        &self,
        class: TaskClass,
        future: impl Future<Output = T> + 'static,
    ) -> JoinHandle<T> {
        self.1.before(Call::Spawn);
        self.0.spawn(class, future)
    }
}

impl File for HookedFile {
    async fn read_at(&self, offset: u64, len: usize) -> Result<IoBuf, IoError> {
        self.1.before(Call::Read);
        let outcome = self.0.read_at(offset, len).await;
        self.1.read(self.path(), (offset, len), outcome)
    }

    async fn write_at(&self, offset: u64, buf: IoBuf) -> Result<(), IoError> {
        self.1.before(Call::Write);
        self.0.write_at(offset, buf).await
    }

    async fn sync(&self) -> Result<(), IoError> {
        self.1.before(Call::Sync);
        self.0.sync().await
    }

    async fn preallocate(&self, len: u64) -> Result<(), IoError> {
        self.1.before(Call::Preallocate);
        self.0.preallocate(len).await
    }

    async fn length(&self) -> Result<u64, IoError> {
        self.0.length().await
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    async fn close(self) -> Result<(), IoError> {
        self.0.close().await
    }
}
