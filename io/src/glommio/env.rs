//! The executor as a shard sees it.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
#[expect(
    clippy::disallowed_types,
    reason = "this is the world that the clock comes from"
)]
use std::time::{Instant, SystemTime};

use ::glommio::{Latency, Shares, TaskQueueHandle};
use rustix::rand::{GetRandomFlags, getrandom};

use super::activity::{Activity, Supervised};
use super::dir::{self, GlommioLock};
use super::executors::ExecutorConfig;
use super::file::{self, GlommioFile};
use super::port::GlommioPort;
use crate::{
    Access, BLOCK_BYTES, Creation, DirEntry, Env, IoBuf, IoError, JoinHandle, Message, TaskClass,
};

/// The longest sleep: a year, which no process outlives by waiting for it. The runtime adds what it
/// is given to its clock, and panics where that overflows.
const SLEEP_MAX: Duration = Duration::from_hours(365 * 24);

/// The production [`Env`].
#[derive(Clone)]
pub struct GlommioEnv(Rc<Shared>);

struct Shared {
    activity: Rc<Activity>,
    queues: Queues,
    /// Whether files are opened for direct I/O.
    direct: bool,
    #[expect(
        clippy::disallowed_types,
        reason = "this is the world that the clock comes from"
    )]
    started: Instant,
    random: RefCell<Random>,
}

impl GlommioEnv {
    /// Makes the world of the executor that runs on this thread.
    #[expect(
        clippy::disallowed_types,
        reason = "this is the world that the clock comes from"
    )]
    pub(super) fn new(activity: &Rc<Activity>, config: &ExecutorConfig) -> Self {
        Self(Rc::new(Shared {
            activity: Rc::clone(activity),
            queues: Queues::create(config.preempt_timer),
            direct: config.direct_io,
            started: Instant::now(),
            random: RefCell::default(),
        }))
    }
}

/// One queue of the executor for each [`TaskClass`].
struct Queues([TaskQueueHandle; TaskClass::ALL.len()]);

impl Queues {
    fn create(preempt_timer: Duration) -> Self {
        Self(TaskClass::ALL.map(|class| {
            let shares = match class {
                TaskClass::Foreground | TaskClass::Wal => 1000,
                // Under full load a flush gets an eighth of the core and housekeeping a fiftieth:
                // enough to keep up with what the other queues then produce.
                TaskClass::Flush => 300,
                TaskClass::Maintenance => 50,
            };
            // The timer in force is that of the most urgent queue with work, and the executor's own
            // is long (`executors.rs`): a queue without one would keep the core.
            let latency = Latency::Matters(preempt_timer);
            ::glommio::executor().create_task_queue(Shares::Static(shares), latency, class.name())
        }))
    }

    fn of(&self, class: TaskClass) -> TaskQueueHandle {
        let index = TaskClass::ALL.iter().position(|&other| other == class);
        self.0[index.expect("every class is in ALL")]
    }
}

/// Random words, fetched from the kernel by the bufferful: a system call for each 32.
#[derive(Default)]
struct Random {
    words: [u64; 32],
    left: usize,
}

impl Random {
    fn next(&mut self) -> u64 {
        if self.left == 0 {
            self.refill();
        }
        self.left -= 1;
        self.words[self.left]
    }

    fn refill(&mut self) {
        // Up to 256 bytes come whole once the kernel's pool is ready.
        let mut bytes = [0_u8; 256];
        let filled = getrandom(&mut bytes, GetRandomFlags::empty()) == Ok(bytes.len());
        for (word, chunk) in self.words.iter_mut().zip(bytes.as_chunks().0) {
            *word = if filled {
                u64::from_le_bytes(*chunk)
            } else {
                // Keyed from the kernel when the process started, and different in each call.
                RandomState::new().hash_one(*word)
            };
        }
        self.left = self.words.len();
    }
}

impl Env for GlommioEnv {
    type File = GlommioFile;
    type Port<M: Message> = GlommioPort<M>;
    type Lock = GlommioLock;

    async fn open(
        &self,
        path: &Path,
        access: Access,
        creation: Creation,
    ) -> Result<GlommioFile, IoError> {
        file::open(&self.0.activity, path, access, creation, self.0.direct).await
    }

    async fn create_dir(&self, path: &Path) -> Result<(), IoError> {
        dir::create(&self.0.activity, path).await
    }

    async fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>, IoError> {
        dir::list(&self.0.activity, path).await
    }

    async fn remove_file(&self, path: &Path) -> Result<(), IoError> {
        dir::remove_file(&self.0.activity, path).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        dir::rename(&self.0.activity, from, to).await
    }

    async fn sync_dir(&self, path: &Path) -> Result<(), IoError> {
        dir::sync(&self.0.activity, path).await
    }

    async fn lock(&self, path: &Path) -> Result<GlommioLock, IoError> {
        dir::lock(&self.0.activity, path).await
    }

    #[inline]
    fn now(&self) -> Duration {
        self.0.started.elapsed()
    }

    #[expect(
        clippy::disallowed_types,
        reason = "this is the world that the clock comes from"
    )]
    fn wall_clock_us(&self) -> u64 {
        // A clock before 1970 reads as 1970; one after the year 586,000 does not occur.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| {
            u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
        })
    }

    fn allocate(&self, len: usize) -> IoBuf {
        let len = len.max(1).next_multiple_of(BLOCK_BYTES);
        if self.0.direct {
            IoBuf::from_dma(::glommio::allocate_dma_buffer(len))
        } else {
            IoBuf::zeroed(len)
        }
    }

    fn random_u64(&self) -> u64 {
        self.0.random.borrow_mut().next()
    }

    async fn sleep(&self, duration: Duration) {
        ::glommio::timer::sleep(duration.min(SLEEP_MAX)).await;
    }

    #[inline]
    async fn yield_if_needed(&self) {
        ::glommio::yield_if_needed().await;
    }

    fn spawn<T: 'static>(
        &self,
        class: TaskClass,
        future: impl Future<Output = T> + 'static,
    ) -> JoinHandle<T> {
        let (handle, body) = JoinHandle::wrap(future);
        let task = Supervised::new(&self.0.activity, body);
        // Without its queue the task is dropped, and the handle says that the executor stopped.
        if let Ok(task) = ::glommio::spawn_local_into(task, self.0.queues.of(class)) {
            drop(task.detach());
        }
        handle
    }
}

impl fmt::Debug for GlommioEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GlommioEnv(direct: {})", self.0.direct)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_words_differ() {
        let mut random = Random::default();
        let mut words: Vec<u64> = (0..100).map(|_| random.next()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 100);
    }
}
