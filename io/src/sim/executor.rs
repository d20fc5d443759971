//! One thread that runs the tasks of every shard, in an order that the seed decides.
//!
//! # Algorithm
//! A turn: (1) everything whose time has come happens: timers fire, I/O completes; (2) wake-ups are
//! gathered; (3) one of the ready tasks is drawn and polled, which costs a little virtual time.
//! When no task is ready the clock jumps to the next event. Without an event it is a deadlock.
//!
//! # Invariants
//! * Nothing foreign runs while the state is borrowed: futures are polled and dropped, wakers
//!   woken, outside of it. A waker touches nothing but a lock-free queue.
//! * Once the world has stopped, no I/O, message or task begins: dropping the tasks of a dead
//!   process has no effect that anybody could see.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crossbeam_queue::SegQueue;

use super::cut::{Cut, Pending};
use super::disk::{Disk, Outcome, Request};
use super::faults::Fault;
use super::rng::Rng;
use super::trace::{Mark, Trace};
use crate::{TaskClass, to_u64};

/// A shard's tasks, or (number 0) those of the clients.
pub(super) type Group = usize;

/// The group of the tasks that stand for callers outside of the shards.
pub(super) const CLIENTS: Group = 0;

/// A moment and a number that tells events of one moment apart.
pub(super) type TimerKey = (u64, u64);

/// What happens at a moment.
#[derive(Debug)]
enum Event {
    Wake(Waker),
    /// The operation at this place of the table completes.
    Io(usize),
    /// A stalled group runs again.
    Resume(Group),
}

/// What one step of time brought.
enum Fired {
    /// It is nobody's time yet.
    Nothing,
    /// Something happened, and a task may have to be woken.
    Event(Option<Waker>),
}

/// A task's place in the table and its number, which no later task at that place shares.
type TaskId = (usize, u64);

/// The future that `run` was called with has this place; its future is not in the table.
const MAIN: TaskId = (usize::MAX, 0);

/// Wakes one task by putting it on the queue, once.
struct TaskWaker {
    id: TaskId,
    queued: AtomicBool,
    queue: Arc<SegQueue<Arc<TaskWaker>>>,
}

impl TaskWaker {
    fn new(id: TaskId, queue: &Arc<SegQueue<Arc<Self>>>) -> Arc<Self> {
        Arc::new(Self {
            id,
            queued: AtomicBool::new(false),
            queue: Arc::clone(queue),
        })
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // One thread runs the world; the atomic is there because a waker has to be Sync.
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.queue.push(Arc::clone(self));
        }
    }
}

struct Task {
    id: TaskId,
    group: Group,
    class: TaskClass,
    waker: Arc<TaskWaker>,
    /// Absent while it is being polled.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

/// An operation that has been asked for and not been taken note of.
struct InFlight {
    /// Absent once it was carried out.
    request: Option<Request>,
    dispatched_at: u64,
    event: TimerKey,
    /// Absent when the future was dropped.
    waker: Option<Waker>,
    outcome: Option<Outcome>,
}

/// The streams that are not the disk's.
pub(super) struct Streams {
    pub(super) schedule: Rng,
    pub(super) cancel: Rng,
    pub(super) yields: Rng,
    pub(super) messages: Rng,
    pub(super) timers: Rng,
    pub(super) program: Vec<Rng>,
}

/// The bounds of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) polls_max: u64,
    pub(super) poll_ns_max: u64,
    pub(super) yield_ppm: u32,
    pub(super) message_ns_max: u64,
}

/// Everything that changes while the world runs.
pub(super) struct State {
    pub(super) now: u64,
    pub(super) wall_offset_us: i64,
    pub(super) streams: Streams,
    pub(super) disk: Disk,
    pub(super) trace: Trace,
    pub(super) panics: Vec<String>,
    pub(super) io_count: u64,
    /// Of these, operations by kind that a crash could take back when they were done.
    pub(super) pending_counts: [u64; Pending::COUNT],
    pub(super) poll_count: u64,

    tasks: Vec<Option<Task>>,
    free_tasks: Vec<usize>,
    next_task: u64,
    ready: Vec<(TaskId, Group)>,
    /// Until when each group stands still, and its tasks that wait for that.
    stalls: Vec<u64>,
    stalled: Vec<(TaskId, Group)>,

    timers: BTreeMap<TimerKey, Event>,
    next_timer: u64,
    in_flight: Vec<Option<InFlight>>,
    free_in_flight: Vec<usize>,
}

/// What the handles of one world share.
pub(super) struct Shared {
    pub(super) state: RefCell<State>,
    pub(super) limits: Limits,
    pub(super) seed: u64,
    queue: Arc<SegQueue<Arc<TaskWaker>>>,
    main: Arc<TaskWaker>,
    stopped: Cell<bool>,
    running: Cell<bool>,
}

/// Why a run ended without its future's output.
#[derive(Debug)]
pub(super) enum Stop {
    CrashPoint,
    Deadlock(String),
    Livelock(u64),
    AlreadyStopped,
}

impl State {
    pub(super) fn new(disk: Disk, trace: Trace, streams: Streams) -> Self {
        Self {
            now: 0,
            wall_offset_us: 0,
            streams,
            disk,
            trace,
            panics: Vec::new(),
            io_count: 0,
            pending_counts: [0; Pending::COUNT],
            poll_count: 0,
            tasks: Vec::new(),
            free_tasks: Vec::new(),
            next_task: 1,
            ready: Vec::new(),
            stalls: Vec::new(),
            stalled: Vec::new(),
            timers: BTreeMap::new(),
            next_timer: 0,
            in_flight: Vec::new(),
            free_in_flight: Vec::new(),
        }
    }

    fn at(&mut self, time: u64, event: Event) -> TimerKey {
        let key = (time, self.next_timer);
        self.next_timer += 1;
        self.timers.insert(key, event);
        key
    }

    /// Wakes a task at a moment, unless it is cancelled before.
    pub(super) fn wake_at(&mut self, time: u64, waker: Waker) -> TimerKey {
        self.at(time, Event::Wake(waker))
    }

    /// The waker comes back so that it is dropped outside of the borrow.
    pub(super) fn cancel_timer(&mut self, key: TimerKey) -> Option<Waker> {
        match self.timers.remove(&key) {
            Some(Event::Wake(waker)) => Some(waker),
            _ => None,
        }
    }

    /// Starts an operation and returns its place in the table.
    pub(super) fn submit(&mut self, mut request: Request, waker: Waker) -> usize {
        let schedule = self.disk.submit(&mut request, self.now);
        let (op, hash) = (request.op(), request.place.hash);
        let (offset, len) = request.range().unwrap_or_default();
        let words = [op as u64, hash, offset, to_u64(len), schedule.done_at];
        self.trace.mark(Mark::Submit, self.now, &words);
        let slot = self.free_in_flight.pop().unwrap_or_else(|| {
            self.in_flight.push(None);
            self.in_flight.len() - 1
        });
        let event = self.at(schedule.done_at, Event::Io(slot));
        self.in_flight[slot] = Some(InFlight {
            request: Some(request),
            dispatched_at: schedule.dispatched_at,
            event,
            waker: Some(waker),
            outcome: None,
        });
        slot
    }

    /// Takes the outcome of an operation, or leaves a waker for it.
    pub(super) fn poll_io(&mut self, slot: usize, waker: &Waker) -> Poll<Outcome> {
        let io = self.in_flight[slot].as_mut();
        let io = io.expect("a future owns its place until it is done or dropped");
        if let Some(outcome) = io.outcome.take() {
            self.release(slot);
            return Poll::Ready(outcome);
        }
        if !io.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            io.waker = Some(waker.clone());
        }
        Poll::Pending
    }

    /// The future of an operation was dropped: what has not reached the device never will; what has
    /// may be carried out or not. The parts come back to be dropped outside of the borrow.
    pub(super) fn cancel_io(&mut self, slot: usize) -> impl Sized + use<> {
        let io = self.in_flight[slot].as_mut();
        let io = io.expect("a future owns its place until it is done or dropped");
        let waker = io.waker.take();
        if io.outcome.is_some() {
            return (waker, self.release(slot));
        }
        let (event, dispatched_at) = (io.event, io.dispatched_at);
        let goes_on = dispatched_at <= self.now && self.streams.cancel.coin();
        self.trace
            .mark(Mark::Cancel, self.now, &[to_u64(slot), u64::from(goes_on)]);
        if goes_on {
            return (waker, None);
        }
        self.timers.remove(&event);
        (waker, self.release(slot))
    }

    fn release(&mut self, slot: usize) -> Option<InFlight> {
        self.free_in_flight.push(slot);
        self.in_flight[slot].take()
    }

    /// An operation completes. Returns whom to wake.
    fn complete(&mut self, slot: usize) -> Option<Waker> {
        let io = self.in_flight[slot].as_mut()?;
        let request = io.request.take()?;
        self.io_count += 1;
        if let Some(kind) = request.pending_kind() {
            self.pending_counts[kind as usize] += 1;
        }
        let (op, place) = (request.op(), request.place.clone());
        let [offset, len, content] = request.words();
        let outcome = self.disk.perform(request, self.now);
        let result = match &outcome {
            Ok(super::disk::Reply::Buf(buf)) => u64::from(crc32fast::hash(buf)),
            Ok(super::disk::Reply::Length(len)) => *len,
            Ok(_) => 1,
            Err(_) => 2,
        };
        let words = [op as u64, place.hash, offset, len, content, result];
        self.trace.mark(Mark::Io, self.now, &words);
        let count = self.io_count;
        self.trace.note(self.now, || match &outcome {
            Ok(_) => format!("io {count} {op:?} {} {offset}+{len}", place.path.display()),
            Err(error) => format!("io {count} {error}"),
        });
        let io = self.in_flight[slot].as_mut()?;
        let waker = io.waker.take();
        if waker.is_some() {
            io.outcome = Some(outcome);
        } else {
            self.release(slot);
        }
        waker
    }

    /// The process ends. What has reached the device may have been done: it is pending now.
    pub(super) fn settle_in_flight(&mut self) {
        for io in &mut self.in_flight {
            if let Some(io) = io
                && io.dispatched_at <= self.now
                && let Some(request) = io.request.take()
                && (io.event.0 <= self.now || self.streams.cancel.coin())
            {
                self.disk.settle(request);
            }
        }
    }

    /// Stops all tasks of a group for a while.
    pub(super) fn stall_group(&mut self, group: Group, until: u64) {
        if self.stalls.len() <= group {
            self.stalls.resize(group + 1, 0);
        }
        if until > self.stalls[group].max(self.now) {
            self.stalls[group] = until;
            self.at(until, Event::Resume(group));
        }
    }

    fn stalled_until(&self, group: Group) -> u64 {
        self.stalls.get(group).copied().unwrap_or(0)
    }

    /// Whether the next thing to happen is that a durable write completes.
    pub(super) fn durable_write_is_due(&self) -> bool {
        let next = self.timers.first_key_value();
        let Some((&(time, _), &Event::Io(slot))) = next else {
            return false;
        };
        let io = self.in_flight[slot].as_ref();
        let request = io.and_then(|io| io.request.as_ref());
        time <= self.now && request.is_some_and(Request::is_durable_write)
    }

    /// Lets the next event happen if its time has come.
    fn fire_one(&mut self) -> Fired {
        let Some(entry) = self.timers.first_entry() else {
            return Fired::Nothing;
        };
        if entry.key().0 > self.now {
            return Fired::Nothing;
        }
        match entry.remove() {
            Event::Wake(waker) => Fired::Event(Some(waker)),
            Event::Io(slot) => Fired::Event(self.complete(slot)),
            Event::Resume(group) => {
                if self.stalled_until(group) <= self.now {
                    let stalled = std::mem::take(&mut self.stalled);
                    let (resumed, still) = stalled.into_iter().partition(|task| task.1 == group);
                    self.stalled = still;
                    self.ready.extend::<Vec<_>>(resumed);
                }
                Fired::Event(None)
            }
        }
    }

    fn group_of(&self, id: TaskId) -> Option<Group> {
        if id == MAIN {
            return Some(CLIENTS);
        }
        let task = self.tasks.get(id.0)?.as_ref()?;
        (task.id == id).then_some(task.group)
    }

    fn strikes_group(&mut self, group: Group) -> bool {
        let faults = &mut self.disk.faults;
        group != CLIENTS
            && faults.is_on(Fault::TaskStall)
            && faults.strike(Fault::TaskStall, Path::new(group_name(group).as_ref()))
    }

    /// Draws one of the ready tasks. Tasks of a stalled group are put aside.
    fn pick(&mut self) -> Option<TaskId> {
        while !self.ready.is_empty() {
            let index = self.streams.schedule.index(self.ready.len());
            let (id, group) = self.ready.swap_remove(index);
            if self.strikes_group(group) {
                let rng = self.disk.faults.rng(Fault::TaskStall);
                let stall = 1_000_000 + rng.below(999_000_000);
                self.stall_group(group, self.now + stall);
            }
            if self.stalled_until(group) > self.now {
                self.stalled.push((id, group));
                continue;
            }
            self.trace
                .mark(Mark::Pick, self.now, &[id.1, to_u64(group)]);
            return Some(id);
        }
        None
    }

    /// Who waits, by group and class, for the report of a deadlock.
    pub(super) fn waiting(&self) -> String {
        let mut counts: BTreeMap<(Group, TaskClass), usize> = BTreeMap::new();
        for task in self.tasks.iter().flatten() {
            *counts.entry((task.group, task.class)).or_default() += 1;
        }
        let mut text = String::from("the main future");
        for ((group, class), count) in counts {
            let (group, class) = (group_name(group), class.name());
            write!(text, ", {group}/{class}: {count}").expect("a string takes any text");
        }
        text
    }

    /// The stream of random bits that a group's program draws from.
    pub(super) fn program_rng(&mut self, group: Group, seed: u64, purpose: u64) -> &mut Rng {
        let programs = &mut self.streams.program;
        while programs.len() <= group {
            let next = Rng::stream(seed, purpose + to_u64(programs.len()));
            programs.push(next);
        }
        &mut programs[group]
    }
}

/// A group's name in reports and for the filter of a fault.
fn group_name(group: Group) -> std::borrow::Cow<'static, str> {
    match group {
        CLIENTS => "clients".into(),
        shard => format!("shard-{:03}", shard - 1).into(),
    }
}

impl Shared {
    pub(super) fn new(state: State, limits: Limits, seed: u64) -> Rc<Self> {
        let queue = Arc::new(SegQueue::new());
        Rc::new(Self {
            state: RefCell::new(state),
            limits,
            seed,
            main: TaskWaker::new(MAIN, &queue),
            queue,
            stopped: Cell::new(false),
            running: Cell::new(false),
        })
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    /// Puts a task into the world. In a stopped one it is dropped at once.
    pub(super) fn spawn(
        &self,
        group: Group,
        class: TaskClass,
        future: Pin<Box<dyn Future<Output = ()>>>,
    ) {
        if self.is_stopped() {
            return;
        }
        let waker = {
            let state = &mut *self.state.borrow_mut();
            let slot = state.free_tasks.pop().unwrap_or_else(|| {
                state.tasks.push(None);
                state.tasks.len() - 1
            });
            let id = (slot, state.next_task);
            state.next_task += 1;
            let waker = TaskWaker::new(id, &self.queue);
            state.tasks[slot] = Some(Task {
                id,
                group,
                class,
                waker: Arc::clone(&waker),
                future: Some(future),
            });
            let words = [id.1, to_u64(group), class as u64];
            state.trace.mark(Mark::Spawn, state.now, &words);
            let (now, task) = (state.now, id.1);
            state.trace.note(now, || {
                format!("spawn {task} {}/{}", group_name(group), class.name())
            });
            waker
        };
        waker.wake();
    }

    /// Runs the world until the future is done or something stops it.
    pub(super) fn run<T>(
        &self,
        main: Pin<&mut impl Future<Output = T>>,
        cut: &Cut,
    ) -> Result<T, Stop> {
        assert!(!self.running.get(), "a world cannot be run from inside");
        if self.is_stopped() {
            return Err(Stop::AlreadyStopped);
        }
        self.running.set(true);
        let result = self.turns(main, cut);
        self.running.set(false);
        if result.is_err() {
            self.stopped.set(true);
        }
        result
    }

    fn turns<T>(&self, mut main: Pin<&mut impl Future<Output = T>>, cut: &Cut) -> Result<T, Stop> {
        let main_waker = Waker::from(Arc::clone(&self.main));
        let polls_before = self.state.borrow().poll_count;
        self.main.wake_by_ref();
        loop {
            self.fire_due(cut)?;
            let picked = {
                let mut state = self.state.borrow_mut();
                self.gather(&mut state);
                state.pick()
            };
            let Some(id) = picked else {
                self.jump(cut)?;
                continue;
            };
            let polls = {
                let mut state = self.state.borrow_mut();
                let cost = 1 + state.streams.schedule.below(self.limits.poll_ns_max);
                state.now += cost;
                state.poll_count += 1;
                state.poll_count - polls_before
            };
            if id == MAIN {
                self.main.queued.store(false, Ordering::Relaxed);
                let mut cx = Context::from_waker(&main_waker);
                if let Poll::Ready(output) = main.as_mut().poll(&mut cx) {
                    return Ok(output);
                }
            } else {
                self.poll_task(id);
            }
            if polls >= self.limits.polls_max {
                return Err(Stop::Livelock(polls));
            }
        }
    }

    /// Lets everything happen whose time has come, and stops at the cut.
    fn fire_due(&self, cut: &Cut) -> Result<(), Stop> {
        loop {
            let fired = {
                let mut state = self.state.borrow_mut();
                if cut.is_reached(&state) {
                    return Err(Stop::CrashPoint);
                }
                state.fire_one()
            };
            match fired {
                Fired::Event(Some(waker)) => waker.wake(),
                Fired::Event(None) => {}
                Fired::Nothing => return Ok(()),
            }
        }
    }

    /// Moves woken tasks from the queue to the ready list.
    fn gather(&self, state: &mut State) {
        while let Some(woken) = self.queue.pop() {
            // A task that has ended may still be woken.
            if let Some(group) = state.group_of(woken.id) {
                state.ready.push((woken.id, group));
            }
        }
    }

    /// Moves the clock to the next event.
    fn jump(&self, cut: &Cut) -> Result<(), Stop> {
        let mut state = self.state.borrow_mut();
        let Some((&(time, _), _)) = state.timers.first_key_value() else {
            return Err(Stop::Deadlock(state.waiting()));
        };
        state.now = state.now.max(time.min(cut.now));
        Ok(())
    }

    fn poll_task(&self, id: TaskId) {
        let taken = {
            let mut state = self.state.borrow_mut();
            let task = state.tasks[id.0].as_mut().filter(|task| task.id == id);
            task.and_then(|task| Some((task.future.take()?, Arc::clone(&task.waker))))
        };
        let Some((mut future, waker)) = taken else {
            return;
        };
        waker.queued.store(false, Ordering::Relaxed);
        let waker = Waker::from(waker);
        let done = future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready();
        let ended = {
            let state = &mut *self.state.borrow_mut();
            if done {
                state.trace.mark(Mark::End, state.now, &[id.1]);
                state.free_tasks.push(id.0);
                let task = state.tasks[id.0].take();
                task.map(|task| (task, future))
            } else {
                if let Some(task) = &mut state.tasks[id.0] {
                    task.future = Some(future);
                }
                None
            }
        };
        drop(ended);
    }

    /// Ends the process: every task is dropped, and nothing it does in that has an effect.
    pub(super) fn stop(&self) {
        self.stopped.set(true);
        let (tasks, timers) = {
            let mut state = self.state.borrow_mut();
            state.ready.clear();
            (
                std::mem::take(&mut state.tasks),
                std::mem::take(&mut state.timers),
            )
        };
        drop(tasks);
        drop(timers);
        while self.queue.pop().is_some() {}
    }
}
