//! The simulated world as a shard sees it.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::disk::{Call, Opened, Outcome, Place, Reply, Request, nanos};
use super::executor::{Group, Shared, TimerKey};
use super::faults::Fault;
use super::image::NodeId;
use super::port::SimPort;
use super::world::Purpose;
use crate::env::Message;
use crate::{
    Access, Creation, DirEntry, Env, File, IoBuf, IoError, JoinHandle, TaskClass, catch_panic,
};

/// The wall clock at the start of every world: 2024-01-01T00:00:00Z, in microseconds.
const EPOCH_US: u64 = 1_704_067_200_000_000;

/// A world's handle for the tasks of one group: a shard, or the clients.
#[derive(Clone)]
pub struct SimEnv {
    pub(super) shared: Rc<Shared>,
    pub(super) group: Group,
}

/// An open file of the simulated disk.
#[derive(Clone)]
pub struct SimFile(Rc<Handle>);

struct Handle {
    shared: Rc<Shared>,
    opened: Opened,
}

/// The lock that [`Env::lock`] takes in the simulated world.
pub struct SimLock {
    shared: Rc<Shared>,
    node: NodeId,
}

impl fmt::Debug for SimEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimEnv(group {})", self.group)
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile({})", self.path().display())
    }
}

impl fmt::Debug for SimLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimLock({})", self.node)
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.shared.state.borrow_mut().disk.unlock(self.node);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // A dead process closes nothing: its image is taken as it stands.
        if !self.shared.is_stopped() {
            let mut state = self.shared.state.borrow_mut();
            state.disk.closed(self.opened.node);
        }
    }
}

/// One operation on its way.
struct Io {
    shared: Rc<Shared>,
    stage: Stage,
}

enum Stage {
    New(Option<Request>),
    InFlight(usize),
    Done,
}

impl Io {
    fn new(shared: &Rc<Shared>, place: Place, call: Call) -> Self {
        Self {
            shared: Rc::clone(shared),
            stage: Stage::New(Some(Request { call, place })),
        }
    }
}

impl Future for Io {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = &mut *self;
        if this.shared.is_stopped() {
            return Poll::Pending;
        }
        match &mut this.stage {
            Stage::New(request) => {
                let request = request.take().expect("a new operation has its request");
                let mut state = this.shared.state.borrow_mut();
                let slot = state.submit(request, cx.waker().clone());
                this.stage = Stage::InFlight(slot);
                Poll::Pending
            }
            Stage::InFlight(slot) => {
                let polled = this.shared.state.borrow_mut().poll_io(*slot, cx.waker());
                if polled.is_ready() {
                    this.stage = Stage::Done;
                }
                polled
            }
            Stage::Done => Poll::Pending,
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        if let Stage::InFlight(slot) = self.stage
            && !self.shared.is_stopped()
        {
            let parts = self.shared.state.borrow_mut().cancel_io(slot);
            drop(parts);
        }
    }
}

/// Waits for a moment.
struct Sleep {
    shared: Rc<Shared>,
    until: u64,
    timer: Option<TimerKey>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let old = {
            let mut state = this.shared.state.borrow_mut();
            if state.now >= this.until {
                return Poll::Ready(());
            }
            let old = this.timer.and_then(|key| state.cancel_timer(key));
            this.timer = Some(state.wake_at(this.until, cx.waker().clone()));
            old
        };
        drop(old);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.timer {
            let waker = self.shared.state.borrow_mut().cancel_timer(key);
            drop(waker);
        }
    }
}

/// Gives way once.
struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.0) {
            cx.waker().wake_by_ref();
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }
}

impl SimEnv {
    async fn call(&self, path: &Path, call: Call) -> Result<(Reply, Place), IoError> {
        let place = self.shared.state.borrow_mut().disk.place(path);
        let reply = Io::new(&self.shared, place.clone(), call).await?;
        Ok((reply, place))
    }

    async fn call_done(&self, path: &Path, call: Call) -> Result<(), IoError> {
        self.call(path, call).await.map(drop)
    }
}

/// The disk answers a call with that call's kind of reply.
#[cold]
fn wrong_reply() -> ! {
    unreachable!("the disk answers a call with that call's kind of reply")
}

impl Env for SimEnv {
    type File = SimFile;
    type Port<M: Message> = SimPort<M>;
    type Lock = SimLock;

    async fn open(
        &self,
        path: &Path,
        access: Access,
        creation: Creation,
    ) -> Result<SimFile, IoError> {
        let (reply, place) = self.call(path, Call::Open(creation)).await?;
        let Reply::Opened(node) = reply else {
            wrong_reply()
        };
        self.shared.state.borrow_mut().disk.opened(node);
        Ok(SimFile(Rc::new(Handle {
            shared: Rc::clone(&self.shared),
            opened: Opened {
                node,
                place,
                access,
            },
        })))
    }

    async fn create_dir(&self, path: &Path) -> Result<(), IoError> {
        self.call_done(path, Call::CreateDir).await
    }

    async fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>, IoError> {
        match self.call(path, Call::ReadDir).await?.0 {
            Reply::Entries(entries) => Ok(entries),
            _ => wrong_reply(),
        }
    }

    async fn remove_file(&self, path: &Path) -> Result<(), IoError> {
        self.call_done(path, Call::Remove).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        let to = self.shared.state.borrow_mut().disk.place(to);
        self.call_done(from, Call::Rename(to)).await
    }

    async fn sync_dir(&self, path: &Path) -> Result<(), IoError> {
        self.call_done(path, Call::SyncDir { mark: 0 }).await
    }

    async fn lock(&self, path: &Path) -> Result<SimLock, IoError> {
        match self.call(path, Call::Lock).await?.0 {
            Reply::Locked(node) => Ok(SimLock {
                shared: Rc::clone(&self.shared),
                node,
            }),
            _ => wrong_reply(),
        }
    }

    fn allocate(&self, len: usize) -> IoBuf {
        IoBuf::zeroed(len)
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.shared.state.borrow().now)
    }

    fn wall_clock_us(&self) -> u64 {
        /// F18: a jump goes up to an hour either way.
        const JUMP_US_MAX: i64 = 3_600_000_000;
        let state = &mut *self.shared.state.borrow_mut();
        if state.disk.faults.strike(Fault::ClockJump, Path::new("")) {
            let rng = state.disk.faults.rng(Fault::ClockJump);
            let jump = rng.below(2 * JUMP_US_MAX.unsigned_abs());
            let jump = jump.cast_signed() - JUMP_US_MAX;
            state.wall_offset_us = state.wall_offset_us.saturating_add(jump);
        }
        let now = EPOCH_US + state.now / 1000;
        now.saturating_add_signed(state.wall_offset_us)
    }

    fn random_u64(&self) -> u64 {
        let mut state = self.shared.state.borrow_mut();
        let purpose = Purpose::Program.base();
        let rng = state.program_rng(self.group, self.shared.seed, purpose);
        rng.next_u64()
    }

    async fn sleep(&self, duration: Duration) {
        /// A timer is late by up to 50 us, the slack that Linux gives a thread's timers by default.
        const SLACK_NS: u64 = 50_000;
        let until = {
            let mut state = self.shared.state.borrow_mut();
            let slack = state.streams.timers.below(SLACK_NS);
            state
                .now
                .saturating_add(nanos(duration))
                .saturating_add(slack)
        };
        Sleep {
            shared: Rc::clone(&self.shared),
            until,
            timer: None,
        }
        .await;
    }

    async fn yield_if_needed(&self) {
        let yields = {
            let mut state = self.shared.state.borrow_mut();
            state.streams.yields.chance(self.shared.limits.yield_ppm)
        };
        Yield(yields).await;
    }

    fn spawn<T: 'static>(
        &self,
        class: TaskClass,
        future: impl Future<Output = T> + 'static,
    ) -> JoinHandle<T> {
        let shared = Rc::clone(&self.shared);
        // A panic is noted here as well, so that a test sees it when nobody reads the handle.
        let noted = async move {
            match catch_panic(future).await {
                Ok(output) => output,
                Err(panic) => {
                    shared.state.borrow_mut().panics.push(panic.0.clone());
                    std::panic::resume_unwind(Box::new(panic.0))
                }
            }
        };
        let (handle, body) = JoinHandle::wrap(noted);
        self.shared.spawn(self.group, class, Box::pin(body));
        handle
    }
}

impl SimFile {
    async fn call(&self, call: Call) -> Outcome {
        let place = self.0.opened.place.clone();
        Io::new(&self.0.shared, place, call).await
    }
}

impl File for SimFile {
    async fn read_at(&self, offset: u64, len: usize) -> Result<IoBuf, IoError> {
        let node = self.0.opened.node;
        match self.call(Call::Read { node, offset, len }).await? {
            Reply::Buf(buf) => Ok(buf),
            _ => wrong_reply(),
        }
    }

    async fn write_at(&self, offset: u64, buf: IoBuf) -> Result<(), IoError> {
        let file = self.0.opened.clone();
        self.call(Call::Write { file, offset, buf }).await.map(drop)
    }

    async fn sync(&self) -> Result<(), IoError> {
        let node = self.0.opened.node;
        self.call(Call::Sync { node, mark: 0 }).await.map(drop)
    }

    async fn preallocate(&self, len: u64) -> Result<(), IoError> {
        let file = self.0.opened.clone();
        self.call(Call::Preallocate { file, len }).await.map(drop)
    }

    async fn length(&self) -> Result<u64, IoError> {
        let node = self.0.opened.node;
        match self.call(Call::Length { node }).await? {
            Reply::Length(len) => Ok(len),
            _ => wrong_reply(),
        }
    }

    fn path(&self) -> &Path {
        &self.0.opened.place.path
    }

    async fn close(self) -> Result<(), IoError> {
        Ok(())
    }
}
