//! One thread a shard, each with an executor.
//!
//! # Start
//! 1. Every thread makes its executor and reports.
//! 2. When all have reported success they are let go and make their shard's main future; when one
//!    has failed the others end, and the start fails with its error.
//!
//! # End
//! A shard ends with its main future, by a value or by a panic. Then, on its thread and in this
//! order: its endpoint closes, so that what waits there is dropped and senders see the end; its
//! other tasks are dropped; operations in flight run to their end; the executor goes.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use ::glommio::{LocalExecutor, LocalExecutorBuilder};

use super::activity::Activity;
use super::cpus::{self, Seat};
use super::env::GlommioEnv;
use super::failure;
use super::port::GlommioPort;
use super::slice;
use super::watchdog::Watch;
use crate::mesh::{Endpoint, MeshConfig, Submitter, mesh};
use crate::{Env, IoError, IoErrorKind, IoOp, Message, TaskClass, TaskPanic};

/// How long an executor that is told to poll for ever waits for I/O on its rings before it lets the
/// kernel wake it: several times what a device takes, and an end, for glommio may enter this wait
/// with runnable tasks (`watchdog.rs`).
const BUSY_IO_SPIN: Duration = Duration::from_micros(100);

/// The preempt timer of the executor itself, in force until the shard's own queues have work. The
/// first task runs before the watchdog knows the executor, so the timer that glommio must not meet
/// (`watchdog.rs`) is longer here than any pause of the scheduler.
const START_TIMER: Duration = Duration::from_secs(10);

/// How long an idle shard polls before it parks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spin {
    /// For this long; zero parks at once, which suits a laptop.
    For(Duration),
    /// For ever, unless an operation is in flight: the core is the shard's.
    Forever,
}

/// How executors are set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorConfig {
    /// The first part of the threads' names; the shard's number follows.
    pub name: String,
    /// Bytes of I/O memory that each executor registers with the kernel. It counts three times
    /// against `RLIMIT_MEMLOCK`; beyond it, or beyond the limit, buffers come from the heap.
    pub io_memory_bytes: usize,
    /// Operations that an executor can have submitted at a time, for each of its three rings.
    pub ring_depth: usize,
    /// How long a task that does not yield by itself may keep the core from the others, and a
    /// submission from the kernel: a commit beside a busy task waits for up to two of these. At
    /// 200 us the busy one loses 1 %.
    pub preempt_timer: Duration,
    /// How long an idle shard polls before it parks.
    pub spin: Spin,
    /// Whether each shard is pinned to a CPU, where there are enough of them.
    pub pin: bool,
    /// Whether files are opened for direct I/O: what [`super::Preflight`] found.
    pub direct_io: bool,
    /// Whether to ask the kernel for the long scheduling slice.
    pub long_slice: bool,
    /// The bounds of the mesh.
    pub mesh: MeshConfig,
}

impl Default for ExecutorConfig {
    fn default() -> Self {
        Self {
            name: "lightning".to_owned(),
            // 64 requests of 16 KiB, the depth beyond which reads get no faster, and small enough
            // for two executors' registrations under the common limit of 8 MiB.
            io_memory_bytes: 1 << 20,
            ring_depth: 256,
            preempt_timer: Duration::from_micros(200),
            // About the cost of one wake-up on both sides: the break-even of polling.
            spin: Spin::For(Duration::from_micros(30)),
            pin: true,
            direct_io: true,
            long_slice: true,
            mesh: MeshConfig::default(),
        }
    }
}

/// Running executors. Dropping it leaves them running.
pub struct Executors<T> {
    threads: Vec<thread::JoinHandle<Result<T, TaskPanic>>>,
    cpus: Vec<Option<usize>>,
    long_slice: bool,
}

impl<T: Send + 'static> Executors<T> {
    /// Starts `shard_count` executors, on each the future that `make` returns there.
    ///
    /// The submitters lead to the shards, in their order. This blocks until every executor stands.
    ///
    /// # Errors
    /// When any executor cannot be started; none runs then.
    pub fn start<M, F, Fut>(
        config: &ExecutorConfig,
        shard_count: usize,
        make: F,
    ) -> Result<(Self, Vec<Submitter<M>>), IoError>
    where
        M: Message,
        F: FnOnce(usize, GlommioEnv, GlommioPort<M>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let usable = if config.pin {
            cpus::usable()
        } else {
            Vec::new()
        };
        let seats = cpus::seat(shard_count, &usable);
        let (endpoints, submitters) = mesh::<M>(shard_count, config.mesh);
        let mut threads = Vec::new();
        let mut starts = Vec::new();
        for (endpoint, seat) in endpoints.into_iter().zip(&seats) {
            let (start, gate) = Start::channel();
            let plan = Plan {
                config: config.clone(),
                seat: seat.clone(),
                gate,
            };
            let make = make.clone();
            let name = format!("{}-{}", config.name, endpoint.index());
            let spawned = thread::Builder::new()
                .name(name)
                .spawn(move || run_shard(plan, endpoint, make));
            // Leaving here drops the starts, and the threads that wait for them end.
            threads.push(spawned.map_err(|error| not_started(&error.to_string()))?);
            starts.push(start);
        }
        let mut long_slice = config.long_slice;
        for start in &starts {
            long_slice &= start.wait()?;
        }
        starts.into_iter().for_each(Start::go);
        let cpus = seats.iter().map(|seat| seat.cpu).collect();
        let executors = Self {
            threads,
            cpus,
            long_slice,
        };
        Ok((executors, submitters))
    }

    /// Blocks until every shard has ended, and returns what each came to.
    pub fn join(self) -> Vec<Result<T, TaskPanic>> {
        let ended = |thread: thread::JoinHandle<_>| {
            let panicked = |payload: Box<dyn std::any::Any + Send>| {
                Err(TaskPanic::from_payload(payload.as_ref()))
            };
            thread.join().unwrap_or_else(panicked)
        };
        self.threads.into_iter().map(ended).collect()
    }

    /// What each shard came to, if all have ended.
    ///
    /// # Errors
    /// Itself, while one still runs.
    pub fn try_join(self) -> Result<Vec<Result<T, TaskPanic>>, Self> {
        if self.is_finished() {
            Ok(self.join())
        } else {
            Err(self)
        }
    }

    /// Whether every shard has ended.
    pub fn is_finished(&self) -> bool {
        self.threads.iter().all(thread::JoinHandle::is_finished)
    }

    /// The CPU that each shard is pinned to.
    pub fn cpus(&self) -> &[Option<usize>] {
        &self.cpus
    }

    /// Whether every executor has the long scheduling slice.
    pub fn has_long_slice(&self) -> bool {
        self.long_slice
    }
}

impl<T> fmt::Debug for Executors<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Executors({} threads)", self.threads.len())
    }
}

/// The starter's side of one thread's start.
struct Start {
    report: mpsc::Receiver<Result<bool, IoError>>,
    go: mpsc::Sender<()>,
}

/// The thread's side: dropped without a word it counts as a failure.
struct Gate {
    report: mpsc::Sender<Result<bool, IoError>>,
    go: mpsc::Receiver<()>,
}

impl Start {
    fn channel() -> (Self, Gate) {
        let (report_sender, report) = mpsc::channel();
        let (go, go_receiver) = mpsc::channel();
        let gate = Gate {
            report: report_sender,
            go: go_receiver,
        };
        (Self { report, go }, gate)
    }

    /// Waits for the executor; tells whether it has the long slice.
    fn wait(&self) -> Result<bool, IoError> {
        let ended = |_| Err(not_started("its thread panicked"));
        self.report.recv().unwrap_or_else(ended)
    }

    fn go(self) {
        if self.go.send(()).is_err() {
            tracing::error!("an executor's thread ended before it began");
        }
    }
}

/// What a thread needs to become an executor.
struct Plan {
    config: ExecutorConfig,
    seat: Seat,
    gate: Gate,
}

/// The whole life of a shard's thread.
fn run_shard<M, F, Fut, T>(plan: Plan, endpoint: Endpoint<M>, make: F) -> Result<T, TaskPanic>
where
    M: Message,
    F: FnOnce(usize, GlommioEnv, GlommioPort<M>) -> Fut + 'static,
    Fut: Future<Output = T> + 'static,
    T: 'static,
{
    let Plan { config, seat, gate } = plan;
    let not_run = || TaskPanic("the executor was not started".to_owned());
    let executor = match make_executor(&config, &seat) {
        Ok(executor) => executor,
        Err(error) => {
            // A starter that is gone has failed over another thread already.
            drop(gate.report.send(Err(error)));
            return Err(not_run());
        }
    };
    // After the executor, whose blocking thread must not inherit it.
    let long_slice = config.long_slice && slice::lengthen().is_ok();
    drop(gate.report.send(Ok(long_slice)));
    gate.go.recv().map_err(|_| not_run())?;

    let endpoint = Rc::new(endpoint);
    let life = live(&config, Rc::clone(&endpoint), make);
    let ended = catch_unwind(AssertUnwindSafe(|| executor.run(life)));
    endpoint.close();
    match ended {
        Ok(End { outcome, quiet }) => {
            if !quiet {
                tracing::error!(
                    shard = endpoint.index(),
                    "a device does not answer: the executor's memory is leaked, not freed"
                );
                mem::forget(executor);
            }
            outcome
        }
        Err(payload) => {
            // The executor itself failed: nobody knows what the kernel still holds.
            mem::forget(executor);
            Err(TaskPanic::from_payload(payload.as_ref()))
        }
    }
}

/// How a shard ended.
struct End<T> {
    outcome: Result<T, TaskPanic>,
    /// Whether no task and no operation is left.
    quiet: bool,
}

/// Runs a shard's main future on the executor, and clears up behind it.
async fn live<M, F, Fut, T>(config: &ExecutorConfig, endpoint: Rc<Endpoint<M>>, make: F) -> End<T>
where
    M: Message,
    F: FnOnce(usize, GlommioEnv, GlommioPort<M>) -> Fut + 'static,
    Fut: Future<Output = T> + 'static,
    T: 'static,
{
    let activity = Rc::new(Activity::default());
    activity.start();
    let env = GlommioEnv::new(&activity, config);
    let port = GlommioPort::new(Rc::clone(&endpoint), config.spin, Rc::clone(&activity));
    // In a task of its own, so that `make` may panic too, and so that other threads hold wakers of
    // detached tasks only: glommio frees a joined task without regard for those.
    let main = env.spawn(TaskClass::Foreground, {
        let env = env.clone();
        let index = endpoint.index();
        async move { make(index, env, port).await }
    });
    let heart = Heart::start();
    let outcome = main.await;
    endpoint.close();
    let quiet = activity.stop().await;
    // The end needs the watchdog as much as the life before it.
    heart.stop().await;
    End { outcome, quiet }
}

/// The task by which the watchdog reaches an executor.
struct Heart {
    stopped: Rc<Cell<bool>>,
    watch: Rc<RefCell<Option<Watch>>>,
    waker: Rc<RefCell<Option<Waker>>>,
}

impl Heart {
    fn start() -> Self {
        let heart = Self {
            stopped: Rc::default(),
            watch: Rc::default(),
            waker: Rc::default(),
        };
        let (stopped, watch) = (Rc::clone(&heart.stopped), Rc::clone(&heart.watch));
        let waker = Rc::clone(&heart.waker);
        let beat = poll_fn(move |cx| {
            watch
                .borrow_mut()
                .get_or_insert_with(|| Watch::start(cx.waker()));
            waker.borrow_mut().get_or_insert_with(|| cx.waker().clone());
            if stopped.get() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        drop(::glommio::spawn_local(beat).detach());
        heart
    }

    /// Ends the task, and with the watch after it: nothing may be waited for from here on.
    async fn stop(self) {
        self.stopped.set(true);
        while Rc::strong_count(&self.stopped) > 1 {
            let waker = self.waker.borrow().clone();
            if let Some(waker) = waker {
                waker.wake();
            }
            ::glommio::executor().yield_task_queue_now().await;
        }
    }
}

/// Makes the executor of the calling thread, pinned where its seat says so.
fn make_executor(config: &ExecutorConfig, seat: &Seat) -> Result<LocalExecutor, IoError> {
    if config.ring_depth == 0 {
        return Err(not_started("the ring depth is zero"));
    }
    // Reading the machine's topology panics inside glommio when the kernel does not show it.
    let made = catch_unwind(AssertUnwindSafe(|| {
        LocalExecutorBuilder::new(seat.placement())
            .name(&config.name)
            .io_memory(config.io_memory_bytes)
            .ring_depth(config.ring_depth)
            .preempt_timer(START_TIMER)
            .spin_before_park(match config.spin {
                Spin::For(time) => time,
                Spin::Forever => BUSY_IO_SPIN,
            })
            .blocking_thread_pool_placement(seat.pool_placement())
            .make()
    }));
    match made {
        Ok(Ok(executor)) => Ok(executor),
        Ok(Err(error)) => Err(not_started(&failure::os_error(error).to_string())),
        Err(payload) => Err(not_started(&TaskPanic::from_payload(payload.as_ref()).0)),
    }
}

/// The error of an executor that could not be started.
pub(super) fn not_started(what: &str) -> IoError {
    let kind = IoErrorKind::Unsupported {
        what: format!("an executor cannot be started: {what}"),
        remedy: "run the preflight check and follow what it says".to_owned(),
    };
    IoError::new(IoOp::Start, Path::new("io_uring"), kind)
}

/// Makes an executor without a place and runs nothing on it, to see whether the machine can.
pub(super) fn try_executor() -> Result<(), IoError> {
    let config = ExecutorConfig::default();
    let seat = Seat {
        cpu: None,
        pool: Vec::new(),
    };
    let executor = make_executor(&config, &seat)?;
    catch_unwind(AssertUnwindSafe(|| executor.run(async {})))
        .map_err(|payload| not_started(&TaskPanic::from_payload(payload.as_ref()).0))
}
