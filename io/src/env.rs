//! The seam between a shard and the world: what a world has to offer, and what it promises.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::FutureExt;

use crate::{IoBuf, IoError};

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reads only.
    Read,
    /// Reads and writes; writes become durable at the next [`File::sync`].
    ReadWrite,
    /// Reads and writes; each write is durable when its future completes.
    ReadWriteDurable,
}

/// Whether opening a file may make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// The file must be there.
    MustExist,
    /// The file must not be there yet.
    MustCreate,
}

/// What a name in a directory stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A link, a device or anything else that a database has no use for.
    Other,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The last component of its path.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
}

/// Which queue a task runs in, from the most to the least urgent.
///
/// A world gives each class a share of the core; it may run them in any order that respects the
/// shares in the long run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskClass {
    /// Requests: reads and the entry into the log.
    Foreground,
    /// The writer of the write-ahead log.
    Wal,
    /// Sealed memtables on their way to the tree.
    Flush,
    /// Housekeeping that nobody waits for.
    Maintenance,
}

impl TaskClass {
    /// Every class, most urgent first.
    pub const ALL: [Self; 4] = [Self::Foreground, Self::Wal, Self::Flush, Self::Maintenance];

    /// The name under which a world reports this class.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Foreground => "foreground",
            Self::Wal => "wal",
            Self::Flush => "flush",
            Self::Maintenance => "maintenance",
        }
    }
}

/// A world that a shard can live in.
///
/// Handles are cheap to clone and stay on the shard's thread.
///
/// # Invariants
/// * Nothing here panics because of what a file holds or because a device fails.
/// * A path is absolute, or relative to the directory that the process was started in; a world
///   does not change it.
pub trait Env: Clone + 'static {
    /// An open file.
    type File: File;
    /// This shard's end of the mesh.
    type Port<M: Message>: Port<M>;
    /// A lock on a database; released when dropped.
    type Lock: 'static;

    /// Opens or creates a file for direct I/O.
    ///
    /// A created file is durable only after [`File::sync`] and a [`Env::sync_dir`] of its parent.
    fn open(
        &self,
        path: &Path,
        access: Access,
        creation: Creation,
    ) -> impl Future<Output = Result<Self::File, IoError>>;

    /// Creates a directory; its parent must exist.
    fn create_dir(&self, path: &Path) -> impl Future<Output = Result<(), IoError>>;

    /// Lists a directory, sorted by name.
    fn read_dir(&self, path: &Path) -> impl Future<Output = Result<Vec<DirEntry>, IoError>>;

    /// Removes a file; durable after [`Env::sync_dir`] of its parent.
    fn remove_file(&self, path: &Path) -> impl Future<Output = Result<(), IoError>>;

    /// Renames a file, replacing what had the new name; durable after [`Env::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = Result<(), IoError>>;

    /// Makes the entries of a directory durable: creations, removals, renames.
    fn sync_dir(&self, path: &Path) -> impl Future<Output = Result<(), IoError>>;

    /// Takes the exclusive lock that the file at `path` stands for, creating the file if needed.
    ///
    /// # Errors
    /// [`crate::IoErrorKind::Locked`] when it is held, by this process or another.
    fn lock(&self, path: &Path) -> impl Future<Output = Result<Self::Lock, IoError>>;

    /// Allocates a zeroed buffer of at least `len` bytes, rounded up to whole blocks, in memory
    /// that this world writes from without a copy.
    fn allocate(&self, len: usize) -> IoBuf;

    /// Time since some fixed moment; never goes back. Costs 20-30 ns: not for every operation.
    fn now(&self) -> Duration;

    /// Microseconds since the Unix epoch, as the machine's clock tells it: it may jump.
    fn wall_clock_us(&self) -> u64;

    /// Sixty-four random bits, unpredictable in production and seeded in simulation.
    fn random_u64(&self) -> u64;

    /// Waits for at least `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;

    /// Lets other tasks run if this one had its share. Call it in every loop longer than 20 us.
    fn yield_if_needed(&self) -> impl Future<Output = ()>;

    /// Starts a task on this shard. It runs to its end even if the handle is dropped; a panic in
    /// it ends that task alone and is reported by the handle.
    fn spawn<T: 'static>(
        &self,
        class: TaskClass,
        future: impl Future<Output = T> + 'static,
    ) -> JoinHandle<T>;
}

/// An open file, for positioned direct I/O.
///
/// Offsets, lengths and buffers are multiples of [`crate::BLOCK_BYTES`]. Clones share the file.
///
/// # Cancel safety
/// Dropping the future of a write or a sync may cancel it half-way: whoever needs the outcome runs
/// it in a task of its own. Dropping the future of a read is harmless.
pub trait File: Clone + fmt::Debug + 'static {
    /// Reads exactly `len` bytes.
    ///
    /// # Errors
    /// [`crate::IoErrorKind::ShortRead`] when the file ends before that.
    fn read_at(&self, offset: u64, len: usize) -> impl Future<Output = Result<IoBuf, IoError>>;

    /// Writes the whole buffer. After an error any part of it may be on disk.
    fn write_at(&self, offset: u64, buf: IoBuf) -> impl Future<Output = Result<(), IoError>>;

    /// Makes everything written so far durable, with the metadata that reading it back needs.
    ///
    /// After an error it is unknown what is durable; a second call proves nothing.
    fn sync(&self) -> impl Future<Output = Result<(), IoError>>;

    /// Reserves space up to `len` and makes the file that long; never shortens it.
    fn preallocate(&self, len: u64) -> impl Future<Output = Result<(), IoError>>;

    /// The file's length in bytes.
    fn length(&self) -> impl Future<Output = Result<u64, IoError>>;

    /// The path that the file was opened by.
    fn path(&self) -> &Path;

    /// Closes the file; other clones keep it open.
    fn close(self) -> impl Future<Output = Result<(), IoError>>;
}

/// What can be sent between shards.
pub trait Message: Send + 'static {}
impl<M: Send + 'static> Message for M {}

/// A message that could not be sent, handed back with the reason.
#[derive(Debug)]
pub enum SendError<M> {
    /// The receiver's queue is at its bound.
    Full(M),
    /// The receiver is gone.
    Closed(M),
}

impl<M> SendError<M> {
    /// The message.
    pub fn into_inner(self) -> M {
        match self {
            Self::Full(message) | Self::Closed(message) => message,
        }
    }
}

/// A way into one shard for callers that are no shard themselves.
pub trait Submit<M: Message>: Clone + 'static {
    /// Hands a message to the shard, without waiting.
    ///
    /// # Errors
    /// The message comes back when the shard's queue is full or the shard is gone.
    fn try_submit(&self, message: M) -> Result<(), SendError<M>>;
}

/// One shard's end of the mesh: what peers and callers send it, and what it sends to peers.
///
/// Messages from one sender arrive in the order in which they were sent; between senders there is
/// no order.
pub trait Port<M: Message>: 'static {
    /// The number of shards in the mesh.
    fn peers(&self) -> usize;

    /// Sends to a peer, or to oneself, without waiting.
    ///
    /// # Errors
    /// The message comes back when the peer's queue is full or the peer is gone.
    fn send(&self, to: usize, message: M) -> Result<(), SendError<M>>;

    /// Waits until something has arrived, then moves up to `limit` messages into `into`.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    fn recv(&self, into: &mut Vec<M>, limit: usize) -> impl Future<Output = ()>;
}

/// A task panicked; the text is what it panicked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPanic(pub String);

impl TaskPanic {
    pub(crate) fn from_payload(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| payload.downcast_ref::<String>().cloned());
        Self(text.unwrap_or_else(|| "a panic without a text".to_owned()))
    }
}

impl fmt::Display for TaskPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task panicked: {}", self.0)
    }
}

impl std::error::Error for TaskPanic {}

/// Runs a future and turns its panic into a value, so that no world ever sees one.
pub async fn catch_panic<T>(future: impl Future<Output = T>) -> Result<T, TaskPanic> {
    AssertUnwindSafe(future)
        .catch_unwind()
        .await
        .map_err(|payload| TaskPanic::from_payload(payload.as_ref()))
}

/// Calls a function and turns its panic into a value.
pub fn catch_panic_of<T>(call: impl FnOnce() -> T) -> Result<T, TaskPanic> {
    catch_unwind(AssertUnwindSafe(call))
        .map_err(|payload| TaskPanic::from_payload(payload.as_ref()))
}

/// Waits for a task. Dropping it leaves the task running.
pub struct JoinHandle<T>(oneshot::Receiver<Result<T, TaskPanic>>);

impl<T> JoinHandle<T> {
    /// Pairs a handle with the body that a world has to run.
    pub fn wrap(
        future: impl Future<Output = T> + 'static,
    ) -> (Self, impl Future<Output = ()> + 'static)
    where
        T: 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let body = async move {
            // A dropped handle means that nobody asks for the outcome.
            drop(sender.send(catch_panic(future).await));
        };
        (Self(receiver), body)
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, TaskPanic>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_unpin(cx).map(|received| {
            received.unwrap_or_else(|_| Err(TaskPanic("the executor stopped".to_owned())))
        })
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinHandle")
    }
}
