//! A panic anywhere in a shard is contained: the shard is poisoned at once, no caller hangs, no
//! other shard is concerned, closing ends, and nothing acknowledged is lost.
//!
//! The world panics at the n-th call of a kind, wherever in the shard that call is made: in its
//! loop, the log's writer, a timer, the preparation of a segment, a flush, a watch or a read.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use lightning_io::sim::{SimConfig, SimEnv, SimFile, SimLock, SimPort, World};
use lightning_io::{
    Access, Creation, DirEntry, Env, File, IoBuf, IoError, JoinHandle, Message, TaskClass,
};
use lightning_shards::{Durability, Error, KeyspaceId, Result, ShardConfig};

use crate::site::{Running, Site, small, world_on};

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
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

/// Which call of which kind panics.
#[derive(Debug, Default)]
struct Plan {
    armed: Cell<Option<(Call, u64)>>,
    fired: Cell<bool>,
}

impl Plan {
    fn note(&self, call: Call) {
        let Some((kind, left)) = self.armed.get() else {
            return;
        };
        if kind != call {
            return;
        }
        if left > 0 {
            return self.armed.set(Some((kind, left - 1)));
        }
        self.armed.set(None);
        self.fired.set(true);
        panic!("planned panic at {call:?}");
    }
}

/// A world that panics as planned.
#[derive(Clone)]
struct PanickingEnv(SimEnv, Rc<Plan>);

#[derive(Debug, Clone)]
struct PanickingFile(SimFile, Rc<Plan>);

impl Env for PanickingEnv {
    type File = PanickingFile;
    type Port<M: Message> = SimPort<M>;
    type Lock = SimLock;

    async fn open(&self, path: &Path, access: Access, creation: Creation) -> Opened {
        self.1.note(Call::Open);
        let file = self.0.open(path, access, creation).await?;
        Ok(PanickingFile(file, Rc::clone(&self.1)))
    }

    async fn create_dir(&self, path: &Path) -> Result<(), IoError> {
        self.0.create_dir(path).await
    }

    async fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>, IoError> {
        self.0.read_dir(path).await
    }

    async fn remove_file(&self, path: &Path) -> Result<(), IoError> {
        self.1.note(Call::Remove);
        self.0.remove_file(path).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.0.rename(from, to).await
    }

    async fn sync_dir(&self, path: &Path) -> Result<(), IoError> {
        self.1.note(Call::SyncDir);
        self.0.sync_dir(path).await
    }

    async fn lock(&self, path: &Path) -> Result<SimLock, IoError> {
        self.0.lock(path).await
    }

    fn allocate(&self, len: usize) -> IoBuf {
        self.1.note(Call::Allocate);
        self.0.allocate(len)
    }

    fn now(&self) -> Duration {
        self.0.now()
    }

    fn wall_clock_us(&self) -> u64 {
        self.1.note(Call::WallClock);
        self.0.wall_clock_us()
    }

    fn random_u64(&self) -> u64 {
        self.1.note(Call::Random);
        self.0.random_u64()
    }

    async fn sleep(&self, duration: Duration) {
        self.1.note(Call::Sleep);
        self.0.sleep(duration).await;
    }

    async fn yield_if_needed(&self) {
        self.1.note(Call::Yield);
        self.0.yield_if_needed().await;
    }

    fn spawn<T: 'static>(
        &self,
        class: TaskClass,
        future: impl Future<Output = T> + 'static,
    ) -> JoinHandle<T> {
        self.1.note(Call::Spawn);
        self.0.spawn(class, future)
    }
}

type Opened = Result<PanickingFile, IoError>;

impl File for PanickingFile {
    async fn read_at(&self, offset: u64, len: usize) -> Result<IoBuf, IoError> {
        self.1.note(Call::Read);
        self.0.read_at(offset, len).await
    }

    async fn write_at(&self, offset: u64, buf: IoBuf) -> Result<(), IoError> {
        self.1.note(Call::Write);
        self.0.write_at(offset, buf).await
    }

    async fn sync(&self) -> Result<(), IoError> {
        self.1.note(Call::Sync);
        self.0.sync().await
    }

    async fn preallocate(&self, len: u64) -> Result<(), IoError> {
        self.1.note(Call::Preallocate);
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

const SHARDS: usize = 2;
/// Writers at once, each with keys of its own.
const WRITERS: usize = 3;

/// Every page is read from disk, and every log record may end its segment.
fn config() -> ShardConfig {
    ShardConfig {
        segment_bytes_first: 16 << 10,
        segment_bytes_max: 16 << 10,
        relaxed_interval: Duration::from_micros(200),
        mark_interval: Duration::from_micros(100),
        ..small()
    }
}

fn assert_typed<T>(outcome: &Result<T>) {
    if let Err(error) = outcome {
        let typed = matches!(
            error,
            Error::Poisoned { .. } | Error::MaybeCommitted { .. } | Error::Closed
        );
        assert!(typed, "{error}");
    }
}

/// One writer's share of the work; returns what it knows to be durable.
async fn write(db: &Running, writer: usize) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut durable = BTreeMap::new();
    for round in 0..24_u8 {
        let (key, value) = (format!("{writer}-{}", round % 10), vec![round; 2000]);
        let how = if round % 4 == 3 {
            Durability::Relaxed
        } else {
            Durability::Sync
        };
        let written = db.put_with(&key, &value, how).await;
        assert_typed(&written);
        match written {
            Ok(()) if how == Durability::Sync => drop(durable.insert(key.clone(), Some(value))),
            Err(Error::Poisoned { .. }) => {}
            _ => drop(durable.insert(key.clone(), None)),
        }
        assert_typed(&db.get(&key).await);
        if round == 12 {
            assert_typed(&db.client.flush().await);
            let mut scan = db.client.scan(
                KeyspaceId::DEFAULT,
                std::ops::Bound::Unbounded,
                std::ops::Bound::Unbounded,
            );
            while let Ok(Some(_)) = scan.next().await {}
            assert_typed(&db.client.verify().await);
        }
        if round % 8 == 0 {
            // Long enough for the timers of the log.
            db.clients.sleep(Duration::from_millis(1)).await;
        }
    }
    durable
}

/// One run in which the `nth` call of a kind panics; false when there are not so many.
fn run(call: Call, nth: u64) -> bool {
    let settings = SimConfig {
        polls_max: 1_000_000,
        ..SimConfig::default()
    };
    let world = World::new(nth, settings);
    let plan = Rc::new(Plan::default());
    let mut first = true;
    let site = Site::new(&world, SHARDS).with_envs(|env| {
        let armed = std::mem::take(&mut first);
        PanickingEnv(
            env,
            if armed {
                Rc::clone(&plan)
            } else {
                Rc::default()
            },
        )
    });
    let finished = world.run(async {
        let db = site.open(config()).await.unwrap();
        plan.armed.set(Some((call, nth)));
        let durable = join_all((0..WRITERS).map(|writer| write(&db, writer))).await;
        let durable: BTreeMap<_, _> = durable.into_iter().flatten().collect();
        if plan.fired.get() {
            db.clients.sleep(Duration::from_millis(5)).await;
            for shard in 0..2 {
                let key = db.keys_of(shard, "late").next().unwrap();
                let late = db.put(&key, b"1").await;
                assert!(
                    matches!(late, Err(Error::Poisoned { .. })),
                    "{shard}: {late:?}"
                );
            }
            // The other shard goes on reading.
            let others = durable.iter().filter(|(key, _)| db.shard_of(key).0 == 1);
            for (key, value) in others {
                let found = db.get(key).await.unwrap();
                assert!(value.is_none() || *value == found, "{key}");
            }
        }
        let closed = db.close().await;
        assert_typed(&closed);
        assert_eq!(closed.is_err(), plan.fired.get());
        durable
    });
    let durable = finished.unwrap_or_else(|failure| panic!("{call:?} {nth}: {failure}"));
    let fired = plan.fired.get();
    if fired {
        let world = world_on(nth, world.crash());
        let site = Site::new(&world, SHARDS);
        let reopened = world.run(async {
            let db = site.open(config()).await.unwrap();
            for (key, value) in durable {
                let found = db.get(&key).await.unwrap();
                assert!(value.is_none() || value == found, "{call:?} {nth}: {key}");
            }
            db.close().await.unwrap();
        });
        reopened.unwrap();
    }
    fired
}

#[track_caller]
fn sweep(call: Call, least: u64) {
    let mut nth = 0;
    while run(call, nth) {
        // Every one of the first calls, then fewer and fewer.
        nth += 1 + nth / 60;
    }
    assert!(nth >= least, "{nth} calls of {call:?}");
}

#[test]
fn a_panic_in_a_write_is_contained() {
    sweep(Call::Write, 50);
    sweep(Call::Allocate, 50);
}

#[test]
fn a_panic_while_a_segment_is_prepared_is_contained() {
    sweep(Call::Open, 3);
    sweep(Call::Preallocate, 3);
    sweep(Call::SyncDir, 3);
    sweep(Call::Random, 3);
    sweep(Call::Remove, 1);
}

#[test]
fn a_panic_in_a_flush_or_a_read_is_contained() {
    sweep(Call::Sync, 4);
    sweep(Call::Read, 10);
    sweep(Call::Yield, 50);
}

#[test]
fn a_panic_in_a_timer_or_in_the_loop_is_contained() {
    sweep(Call::Sleep, 5);
    sweep(Call::WallClock, 50);
}

#[test]
fn a_panic_where_a_task_is_started_is_contained() {
    sweep(Call::Spawn, 20);
}
