//! Keyspaces in a simulated world: created, written, emptied and dropped by several callers at
//! once, through lives that end in crashes, kills and closes.
//!
//! # Algorithm
//! 1. Each key has one caller who writes it, so what it may hold is known exactly: the last value
//!    that was acknowledged, or one that was submitted and not answered (see `truth`). Each name
//!    has one caller who creates and drops it; everybody uses every handle.
//! 2. A life opens the database, goes on in the background with the drops that it finds, as
//!    production does, checks all that is there against what may be, and lets the callers work.
//! 3. It ends at a point that the seed chose, or when the work is done. Then everything is checked
//!    once more, to the number of entries on disk, and the keys of dropped keyspaces have to be
//!    gone.

mod caller;
mod check;
mod truth;

use std::cell::RefCell;
use std::rc::Rc;

use lightning_io::sim::{CrashPoint, Image, Rng, SimConfig, SimSubmitter, World};
use lightning_io::to_u64;
use lightning_shards::client::Client;
use lightning_shards::{KeyspaceId, OpenMode, Request, ShardId, StorageKey};

use crate::database::{Opening, Running, Site};
use crate::panics;
use crate::plan::Plan;

use caller::Caller;
use truth::Truth;

/// The database as callers reach it.
pub(crate) type Callers = Client<SimSubmitter<Request>>;

/// A stream of chance that no other part of the simulation draws from.
const STREAM: u64 = 0x6b65_7973;

/// How much a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Operations of callers.
    pub operations: u64,
    /// Keyspaces that were created.
    pub created: u64,
    /// Keyspaces that were dropped.
    pub dropped: u64,
    /// Drops that a crash cut short, and that a later life finished.
    pub drops_resumed: u64,
    /// Calls that were refused because their keyspace was dropped.
    pub refused: u64,
    /// Ranges that were deleted.
    pub ranges: u64,
    /// Operands that were merged.
    pub merges: u64,
    /// Power failures.
    pub crashes: u64,
    /// Values that were checked after a recovery.
    pub checked: u64,
}

impl std::ops::AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.operations += other.operations;
        self.created += other.created;
        self.dropped += other.dropped;
        self.drops_resumed += other.drops_resumed;
        self.refused += other.refused;
        self.ranges += other.ranges;
        self.merges += other.merges;
        self.crashes += other.crashes;
        self.checked += other.checked;
    }
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How much it did.
    pub figures: Figures,
    /// What went wrong first.
    pub violation: Option<String>,
    /// What it did, as a number: equal for equal seeds.
    pub hash: u64,
}

/// What a life is set up with.
#[derive(Debug, Clone, Copy)]
struct Shape {
    shards: usize,
    slots: usize,
    callers: usize,
    operations: u64,
}

/// Runs one seed.
pub fn run(seed: u64) -> Outcome {
    let guard = panics::record();
    let rng = &mut Rng::stream(seed, STREAM);
    let shape = Shape {
        shards: rng.pick(&[1, 2, 3, 4]),
        slots: rng.pick(&[8, 64, 1024]),
        callers: 2 + rng.index(4),
        operations: 10 + rng.below(50),
    };
    let truth = Rc::new(RefCell::new(Truth::default()));
    let lives = 2 + rng.index(4);
    let (mut image, mut hash) = (None, 0_u64);
    for life in 0..=lives {
        // The last one does its work and is closed.
        let point = Plan::crash_point(rng).filter(|_| life < lives);
        let world = match image.take() {
            None => World::new(rng.next_u64(), SimConfig::default()),
            Some(image) => World::with_image(rng.next_u64(), SimConfig::default(), image),
        };
        live(&world, &shape, &truth, point, rng);
        hash = hash.rotate_left(5) ^ world.trace_hash();
        if let Some(panic) = world.task_panics().first() {
            truth
                .borrow_mut()
                .violate(format!("a task panicked: {panic}"));
        }
        if truth.borrow().violation().is_some() {
            break;
        }
        image = Some(end(world, point.is_some(), &truth, rng));
    }
    let mut truth = truth.borrow_mut();
    for panic in guard.take() {
        truth.violate(format!("panicked: {panic}"));
    }
    Outcome {
        figures: truth.figures,
        violation: truth.violation().map(str::to_owned),
        hash,
    }
}

/// One life, up to its end or to where it is cut off.
fn live(
    world: &World,
    shape: &Shape,
    truth: &Rc<RefCell<Truth>>,
    point: Option<CrashPoint>,
    rng: &mut Rng,
) {
    let opening = Opening {
        mode: OpenMode::OpenOrCreate,
        name_shards: true,
        config: Plan::shard_config(rng),
    };
    let life = Life {
        site: Site::new(world, shape.shards, shape.slots),
        opening,
        shape: *shape,
        truth: Rc::clone(truth),
        seed: rng.next_u64(),
    };
    let point = point.unwrap_or(CrashPoint::AfterPolls(u64::MAX));
    if let Err(failure) = world.run_until_crash(life.run(), point) {
        truth.borrow_mut().violate(failure.to_string());
    }
}

/// What a life leaves on the disk.
fn end(world: World, was_cut: bool, truth: &Rc<RefCell<Truth>>, rng: &mut Rng) -> Image {
    truth.borrow_mut().end_life();
    if was_cut && rng.below(4) > 0 {
        truth.borrow_mut().figures.crashes += 1;
        world.crash()
    } else {
        world.shutdown()
    }
}

struct Life {
    site: Site,
    opening: Opening,
    shape: Shape,
    truth: Rc<RefCell<Truth>>,
    seed: u64,
}

/// What the tasks of a life share.
pub(crate) struct Scene {
    client: Callers,
    truth: Rc<RefCell<Truth>>,
    env: lightning_io::sim::SimEnv,
}

impl Scene {
    /// The shard of a key.
    fn shard_of(&self, id: KeyspaceId, key: &[u8]) -> ShardId {
        let stored = StorageKey::new(id, key);
        self.client.router().shard_of(stored.as_slice())
    }

    /// The time of a key's shard.
    fn now_us(&self, id: KeyspaceId, key: &[u8]) -> u64 {
        self.truth.borrow().now_us(self.shard_of(id, key))
    }
}

impl Life {
    async fn run(self) {
        let running = match Running::open(self.site, self.opening).await {
            Ok(running) => running,
            Err(error) => {
                let what = format!("could not be opened: {error}");
                return self.truth.borrow_mut().violate(what);
            }
        };
        let scene = Rc::new(Scene {
            client: Client::new(running.router, running.submitters.clone()),
            truth: Rc::clone(&self.truth),
            env: running.clients.clone(),
        });
        self.truth.borrow_mut().shards.clone_from(&running.shards);
        let mut rng = Rng::stream(self.seed, 0);
        let resuming = scene.resume_drops(&mut rng);
        scene.check_recovery().await;
        let callers = (0..self.shape.callers).map(|number| {
            let caller = Caller::new(&scene, number, Rng::stream(self.seed, 1 + to_u64(number)));
            caller.work(self.shape.operations)
        });
        futures_util::future::join_all(callers.collect::<Vec<_>>()).await;
        if resuming.await.is_err() {
            self.truth
                .borrow_mut()
                .violate("the deletion in the background panicked");
        }
        scene.check_at_rest().await;
        if rng.coin()
            && let Err(error) = running.close(&scene.client).await
        {
            let what = format!("could not be closed: {error}");
            self.truth.borrow_mut().violate(what);
        }
    }
}
