//! A simulated world: tasks, time, messages and a disk, all of it decided by one seed.
//!
//! A test runs a program in a world, cuts it off anywhere, takes the disk as a crash left it, and
//! starts the next world from that:
//!
//! ```
//! use std::path::Path;
//!
//! use lightning_io::sim::{CrashPoint, SimConfig, World};
//! use lightning_io::{Access, Creation, Env, File, IoBuf};
//!
//! let world = World::new(42, SimConfig::default());
//! let env = world.env(0);
//! let cut = world.run_until_crash(
//!     async {
//!         let path = Path::new("log");
//!         let log = env.open(path, Access::ReadWriteDurable, Creation::MustCreate).await?;
//!         log.write_at(0, IoBuf::from_slice(b"first")).await?;
//!         env.sync_dir(Path::new("/")).await?;
//!         log.write_at(4096, IoBuf::from_slice(b"second")).await
//!     },
//!     CrashPoint::AfterIos(3),
//! );
//! assert!(matches!(cut, Ok(None)));
//! let image = world.crash();
//! let bytes = image.read_file(Path::new("log")).expect("its entry was synced");
//! assert_eq!(&bytes[..5], b"first");
//! ```

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use super::crash::CrashModel;
use super::cut::{CrashPoint, Cut};
use super::disk::{BlocksRead, Disk, nanos};
use super::env::SimEnv;
use super::executor::{CLIENTS, Limits, Shared, State, Stop, Streams};
use super::faults::{Damage, Fault, FaultConfig, Faults, Script, Space, Strike};
use super::image::Image;
use super::port::{self, SimPort, SimSubmitter};
use super::rng::{PPM, Rng};
use super::trace::Trace;
use crate::env::Message;
use crate::{IoOp, TaskPanic, catch_panic};

/// What each stream of chance is for. New ones go to the end: the numbers are part of a seed's
/// meaning.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    Schedule = 1,
    Cancel,
    Yields,
    Messages,
    Timers,
    Latency,
    Crash,
    /// One stream a fault from here on.
    Faults,
    /// One stream a group from here on.
    Program,
}

impl Purpose {
    /// The first stream of the purpose: each has room for as many as can be.
    pub(super) const fn base(self) -> u64 {
        (self as u64) << 32
    }

    fn stream(self, seed: u64) -> Rng {
        Rng::stream(seed, self.base())
    }
}

/// The settings of a world.
#[derive(Debug, Clone)]
pub struct SimConfig {
    /// Where the database lives: each directory right below is a shard with its own luck in
    /// crashes.
    pub root: PathBuf,
    /// What goes wrong while it runs.
    pub faults: FaultConfig,
    /// What a crash does.
    pub crash: CrashModel,
    /// Polls after which a run is taken for a livelock.
    pub polls_max: u64,
    /// The longest that one poll takes, in virtual time.
    pub poll_time_max: Duration,
    /// The mean latency of an I/O operation.
    pub io_latency: Duration,
    /// The longest that a message is on its way.
    pub message_delay_max: Duration,
    /// How often `yield_if_needed` yields, in parts of a million.
    pub yield_ppm: u32,
    /// How many of the last events to keep as text for a report of a failure.
    pub trace_last: usize,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            root: PathBuf::from("db"),
            faults: FaultConfig::default(),
            crash: CrashModel::default(),
            // Seconds of real time, and a hundred times what a test of some thousand operations
            // takes.
            polls_max: 20_000_000,
            poll_time_max: Duration::from_micros(1),
            // What the machine of the measurements needs for a durable write.
            io_latency: Duration::from_micros(40),
            message_delay_max: Duration::from_micros(100),
            yield_ppm: PPM / 10,
            trace_last: 0,
        }
    }
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The future waits, no task can run and nothing is going to happen.
    Deadlock {
        /// How many tasks wait, by group and class.
        waiting: String,
    },
    /// The run went on for too long.
    Livelock {
        /// Polls until it was given up.
        polls: u64,
    },
    /// The future panicked. A panic of a spawned task is reported by its handle, and by
    /// [`World::task_panics`].
    TaskPanic(TaskPanic),
    /// The world was stopped before: by a crash point or a failure.
    Stopped,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadlock { waiting } => write!(f, "deadlock; waiting: {waiting}"),
            Self::Livelock { polls } => write!(f, "no end in sight after {polls} polls"),
            Self::TaskPanic(panic) => panic.fmt(f),
            Self::Stopped => f.write_str("the world was stopped before"),
        }
    }
}

impl std::error::Error for Failure {}

/// One process, its machine and its disk.
///
/// Everything that a program in it can observe is a function of the seed, the settings and the
/// image.
pub struct World {
    shared: Rc<Shared>,
    crash: CrashModel,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World(seed {})", self.shared.seed)
    }
}

impl World {
    /// A world with an empty disk.
    pub fn new(seed: u64, config: SimConfig) -> Self {
        let image = Image::new(&config.root);
        Self::with_image(seed, config, image)
    }

    /// A world with a disk that another world left.
    pub fn with_image(seed: u64, config: SimConfig, image: Image) -> Self {
        let faults = Faults::new(seed, Purpose::Faults.base(), config.faults);
        let latency = Purpose::Latency.stream(seed);
        let disk = Disk::new(image, faults, nanos(config.io_latency), latency);
        let streams = Streams {
            schedule: Purpose::Schedule.stream(seed),
            cancel: Purpose::Cancel.stream(seed),
            yields: Purpose::Yields.stream(seed),
            messages: Purpose::Messages.stream(seed),
            timers: Purpose::Timers.stream(seed),
            program: Vec::new(),
        };
        let limits = Limits {
            polls_max: config.polls_max,
            poll_ns_max: nanos(config.poll_time_max),
            yield_ppm: config.yield_ppm,
            message_ns_max: nanos(config.message_delay_max),
        };
        let state = State::new(disk, Trace::new(config.trace_last), streams);
        Self {
            shared: Shared::new(state, limits, seed),
            crash: config.crash,
        }
    }

    /// The handle for the tasks of one shard, counted from zero.
    pub fn env(&self, shard: usize) -> SimEnv {
        SimEnv {
            shared: Rc::clone(&self.shared),
            group: shard + 1,
        }
    }

    /// The handle for the tasks of callers, who are on no shard.
    pub fn client(&self) -> SimEnv {
        SimEnv {
            shared: Rc::clone(&self.shared),
            group: CLIENTS,
        }
    }

    /// Connects `count` shards with queues of `slots` messages per ordered pair, and gives
    /// everybody else a submitter for each shard.
    pub fn mesh<M: Message>(
        &self,
        count: usize,
        slots: usize,
    ) -> (Vec<SimPort<M>>, Vec<SimSubmitter<M>>) {
        port::mesh(&self.shared, count, slots)
    }

    /// Runs a future, and every task that was or is spawned, until the future is done.
    ///
    /// Tasks that are not done wait for the next run. After a failure the world is stopped.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> Result<T, Failure> {
        match self.run_to(future, &Cut::NEVER) {
            Ok(Some(output)) => Ok(output),
            Ok(None) => Err(Failure::Stopped),
            Err(failure) => Err(failure),
        }
    }

    /// Runs a future until it is done or the crash point is reached; then there is no output, and
    /// the world is stopped: take its disk with [`World::crash`] or [`World::shutdown`].
    pub fn run_until_crash<T>(
        &self,
        future: impl Future<Output = T>,
        point: CrashPoint,
    ) -> Result<Option<T>, Failure> {
        let cut = Cut::at(point, &self.shared.state.borrow());
        self.run_to(future, &cut)
    }

    fn run_to<T>(&self, future: impl Future<Output = T>, cut: &Cut) -> Result<Option<T>, Failure> {
        let future = pin!(catch_panic(future));
        match self.shared.run(future, cut) {
            Ok(Ok(output)) => Ok(Some(output)),
            Ok(Err(panic)) => Err(Failure::TaskPanic(panic)),
            Err(Stop::CrashPoint) => Ok(None),
            Err(Stop::Deadlock(waiting)) => Err(Failure::Deadlock { waiting }),
            Err(Stop::Livelock(polls)) => Err(Failure::Livelock { polls }),
            Err(Stop::AlreadyStopped) => Err(Failure::Stopped),
        }
    }

    /// The power fails: all tasks are dropped, and what is not durable is lost as the model has it.
    pub fn crash(self) -> Image {
        let mut rng = Purpose::Crash.stream(self.shared.seed);
        let model = self.crash;
        let mut image = self.shutdown();
        image.crash(&mut rng, &model);
        image
    }

    /// The process is killed: all tasks are dropped, what was written stays, durable or not. What
    /// was in flight may have happened or not.
    pub fn shutdown(self) -> Image {
        self.shared.stop();
        let mut state = self.shared.state.borrow_mut();
        state.settle_in_flight();
        let empty = Image::new(Path::new(""));
        let mut image = std::mem::replace(&mut state.disk.image, empty);
        image.close_all();
        image
    }

    /// What the run did until now, as a number: equal for equal seeds and programs.
    pub fn trace_hash(&self) -> u64 {
        self.shared.state.borrow().trace.hash()
    }

    /// The last events as text, as many as [`SimConfig::trace_last`] asked for.
    pub fn trace_text(&self) -> String {
        self.shared.state.borrow().trace.to_string()
    }

    /// I/O operations carried out until now.
    pub fn io_count(&self) -> u64 {
        self.shared.state.borrow().io_count
    }

    /// Polls of tasks until now.
    pub fn poll_count(&self) -> u64 {
        self.shared.state.borrow().poll_count
    }

    /// The virtual time.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.shared.state.borrow().now)
    }

    /// Calls of one kind until now on paths that contain `text`: what a sweep over all of them
    /// needs.
    pub fn calls(&self, op: IoOp, text: &str) -> u64 {
        self.shared.state.borrow().disk.calls(op, text)
    }

    /// Has the blocks noted that are read from now on.
    pub fn note_blocks_read(&self) {
        let mut state = self.shared.state.borrow_mut();
        state.disk.blocks_read.get_or_insert_default();
    }

    /// The blocks that were read since [`Self::note_blocks_read`]. What lies in any other block has
    /// had no influence on anything that happened.
    pub fn blocks_read(&self) -> BlocksRead {
        let state = self.shared.state.borrow();
        state.disk.blocks_read.clone().unwrap_or_default()
    }

    /// How often each fault struck; those that did not are left out.
    pub fn faults_fired(&self) -> Vec<(Fault, u64)> {
        self.shared.state.borrow().disk.faults.fired()
    }

    /// Everything that was damaged on purpose, oldest first.
    pub fn damage(&self) -> Vec<Damage> {
        self.with_image_ref(|image| image.damage().to_vec())
    }

    /// The panics of spawned tasks until now.
    pub fn task_panics(&self) -> Vec<String> {
        self.shared.state.borrow().panics.clone()
    }

    /// Changes what goes wrong from now on; counts go on.
    pub fn set_faults(&self, config: FaultConfig) {
        self.shared.state.borrow_mut().disk.set_faults(config);
    }

    /// Makes one call fail.
    pub fn add_script(&self, script: Script) {
        let mut state = self.shared.state.borrow_mut();
        state.disk.faults.add_script(script, false);
    }

    /// Makes one call fail and every later one that matches, until the scripts are cleared.
    pub fn add_lasting_script(&self, script: Script) {
        let mut state = self.shared.state.borrow_mut();
        state.disk.faults.add_script(script, true);
    }

    /// Ends all scripts: what failed by them works again.
    pub fn clear_scripts(&self) {
        self.shared.state.borrow_mut().disk.faults.clear_scripts();
    }

    /// The calls that scripts made fail, oldest first; of very many the first.
    pub fn strikes(&self) -> Vec<Strike> {
        self.shared.state.borrow().disk.faults.strikes().to_vec()
    }

    /// Changes the size of the disk; `None` gives all space back.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        let space = capacity_bytes.map(|capacity_bytes| Space {
            capacity_bytes,
            returns_at: None,
        });
        self.shared.state.borrow_mut().disk.faults.config.space = space;
    }

    /// When a limit to the size of the disk ends, if there is one that does.
    pub fn space_returns_at(&self) -> Option<Duration> {
        let state = self.shared.state.borrow();
        state.disk.faults.config.space?.returns_at
    }

    /// Stops all tasks of one shard for a while.
    pub fn stall_tasks(&self, shard: usize, duration: Duration) {
        let state = &mut *self.shared.state.borrow_mut();
        state.stall_group(shard + 1, state.now.saturating_add(nanos(duration)));
    }

    /// Stops all files below one directory of the root for a while.
    pub fn stall_files(&self, directory: &str, duration: Duration) {
        let state = &mut *self.shared.state.borrow_mut();
        let shard = state.disk.image.shard_named(directory);
        state
            .disk
            .stall(shard, state.now.saturating_add(nanos(duration)));
    }

    /// Moves the wall clock, either way.
    pub fn jump_wall_clock(&self, delta_us: i64) {
        let state = &mut *self.shared.state.borrow_mut();
        state.wall_offset_us = state.wall_offset_us.saturating_add(delta_us);
    }

    /// The newest bytes of a file, durable or not.
    pub fn read_file(&self, path: &Path) -> Option<Vec<u8>> {
        self.with_image_ref(|image| image.read_file(path))
    }

    /// Puts a durable file in place; see [`Image::write_file`].
    pub fn write_file(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.shared.state.borrow_mut();
        state.disk.image.write_file(path, bytes);
    }

    /// Flips one bit at rest; false when the file or the byte is not there.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> bool {
        let mut state = self.shared.state.borrow_mut();
        state.disk.image.flip_bit(path, offset, bit)
    }

    /// Every file by path, sorted.
    pub fn list_files(&self) -> Vec<PathBuf> {
        self.with_image_ref(Image::list_files)
    }

    /// A copy of the disk as it stands, with what is pending: for trying crashes while the world
    /// goes on.
    pub fn image(&self) -> Image {
        let mut image = self.with_image_ref(Image::clone);
        image.close_all();
        image
    }

    fn with_image_ref<T>(&self, ask: impl FnOnce(&Image) -> T) -> T {
        ask(&self.shared.state.borrow().disk.image)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shared.stop();
    }
}
