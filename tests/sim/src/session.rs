//! What happens in one world: the database is opened and checked, clients work, and it is closed.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use lightning_io::sim::{PPM, Rng, SimEnv, World};
use lightning_io::{Access, Creation, Env, File, TaskClass, to_u64};
use lightning_shards::{Error, ShardConfig};

use crate::database::{Database, Opening, ROOT, Site};
use crate::keys::KeyId;
use crate::plan::Purpose;
use crate::workload::{Caller, Phase, Scene};

/// How often to ask a shard for what it owes once there is space: refusals by chance are bounded,
/// and it looks for space again and again.
const ATTEMPTS_MAX: usize = 40;
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(150);

/// What a world is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    /// Open, check, let clients work, and close or not.
    Work { close: bool },
    /// Open and check.
    Check,
}

/// How a world ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The crash point was reached, in this phase.
    Cut(Phase),
    /// The work is done; whether the database was closed well.
    Done { closed: bool },
    /// It could not be opened because of a fault.
    NotOpened(Error),
}

/// What runs in one world.
pub(crate) struct Session<'a> {
    /// What its tasks share.
    pub scene: Rc<Scene>,
    /// The world.
    pub world: &'a World,
    /// Its handles.
    pub site: Site,
    /// How to open the database.
    pub opening: Opening,
    /// What for.
    pub aim: Aim,
    /// Whether there is a database that has to be as the oracle has it.
    pub exists: bool,
    /// Clients at once.
    pub clients: usize,
    /// Operations of each.
    pub operations: u64,
    /// The seed of the run.
    pub seed: u64,
    /// The number of the first client: each has chance of its own.
    pub first_client: u64,
    /// Its name in reports.
    pub name: String,
}

impl Session<'_> {
    /// Runs it; the world may end before.
    pub(crate) async fn run(self) -> Ended {
        let scene = Rc::clone(&self.scene);
        let env = self.site.clients.clone();
        let config = self.opening.config;
        let opened = Database::open(self.site, self.opening, &scene.model).await;
        let database = match opened {
            Ok(database) => Rc::new(database),
            Err(error) => return Ended::NotOpened(error),
        };
        scene.phase.set(Phase::Checking);
        let seed = self.seed;
        let caller = |name: &str, stream: u64| Caller {
            scene: Rc::clone(&scene),
            database: Rc::clone(&database),
            env: env.clone(),
            rng: Rng::stream(seed, stream),
            name: format!("{}, {name}", self.name),
        };
        let mut checker = caller("checking", u64::from(PPM) + self.first_client);
        if self.exists && !checker.check_recovery().await {
            return Ended::Done { closed: false };
        }
        if scene.violation.borrow().is_some() || self.aim == Aim::Check {
            return Ended::Done { closed: false };
        }
        scene.phase.set(Phase::Working);
        let callers = (0..self.clients).map(|client| {
            let number = Purpose::Clients as u64 + self.first_client + to_u64(client);
            caller(&format!("client {client}"), number)
        });
        work(&scene, &env, callers.collect(), self.operations, &self.name).await;
        if scene.poisoned.get() {
            checker.check_poisoned().await;
        } else if !scene.stopped.get() && checker.check_space_returned(&config).await {
            checker.check_filled_again(self.world, &config).await;
        }
        checker.note_stats().await;
        let Aim::Work { close: true } = self.aim else {
            return Ended::Done { closed: false };
        };
        if !scene.stopped.get() {
            checker.check_at_rest().await;
        }
        drop(checker);
        close(&scene, database, &self.name).await
    }
}

/// Lets the clients work, all at once.
async fn work(scene: &Rc<Scene>, env: &SimEnv, callers: Vec<Caller>, operations: u64, name: &str) {
    let working = callers.into_iter();
    let working = working.map(|caller| env.spawn(TaskClass::Foreground, caller.work(operations)));
    for outcome in join_all(working.collect::<Vec<_>>()).await {
        if let Err(panic) = outcome {
            scene.violate(name, format!("a client: {panic}"));
        }
    }
}

async fn close(scene: &Rc<Scene>, database: Rc<Database>, name: &str) -> Ended {
    scene.phase.set(Phase::Closing);
    let Ok(database) = Rc::try_unwrap(database) else {
        scene.violate(name, "a client has not let go of the database");
        return Ended::Done { closed: false };
    };
    let visible = scene.model.borrow().visible();
    match database.close().await {
        Ok(()) => {
            scene.model.borrow_mut().made_durable(&visible);
            Ended::Done { closed: true }
        }
        Err(error) => {
            scene.note_error(&format!("{name}, closing"), error);
            Ended::Done { closed: false }
        }
    }
}

impl Caller {
    /// Takes the shards' figures.
    async fn note_stats(&self) {
        if let Ok(stats) = self.database.client.stats().await {
            let mut figures = self.scene.figures.borrow_mut();
            for shard in stats {
                figures.flushes += shard.flushes;
                figures.merge_steps += shard.merge_steps;
                figures.replayed += shard.replayed_records;
                figures.shortages += shard.shortages;
                figures.reserve_deletes += shard.reserve_deletes;
            }
        }
    }

    /// A key of each shard that has one.
    fn key_of_each_shard(&self) -> Vec<usize> {
        let keys = &self.scene.keys;
        let shards = usize::from(self.router().shards());
        let key_of = |shard| (0..keys.len()).find(|&id| keys.shard(self.router(), id) == shard);
        (0..shards).filter_map(key_of).collect()
    }

    /// After a shard failed: what can be read is right, and no shard takes a write any more.
    async fn check_poisoned(&self) {
        /// Peers hear of it by message, and tasks may stand still for a second.
        const NEWS_TIME: Duration = Duration::from_secs(3);
        let step = format!("{}, after a shard failed", self.name);
        self.env.sleep(NEWS_TIME).await;
        self.get_all(&step).await;
        for key in self.key_of_each_shard() {
            match self.write_key(key, Some(100)).await {
                Ok(()) => {
                    let what = "a shard took a write although another one had failed";
                    return self.scene.violate(&step, what);
                }
                Err(error) => self.scene.note_error(&step, error),
            }
        }
        self.scene.figures.borrow_mut().poisoned += 1;
    }

    /// Once the disk has space again, every shard takes writes again, without being opened anew, and
    /// holds its reserve again; true if that is so.
    async fn check_space_returned(&self, config: &ShardConfig) -> bool {
        let Some(returns_at) = self.scene.space_returns_at else {
            return false;
        };
        let step = format!("{}, with space again", self.name);
        self.env
            .sleep(returns_at.saturating_sub(self.env.now()))
            .await;
        for key in self.key_of_each_shard() {
            if !self.check_takes_puts(&step, key).await {
                return false;
            }
        }
        for shard in 0..self.router().shards() {
            if !self.check_holds_reserve(&step, shard, config).await {
                return false;
            }
        }
        self.scene.figures.borrow_mut().space_returned += 1;
        true
    }

    /// A shard that has space takes puts, after some time; true if it does.
    async fn check_takes_puts(&self, step: &str, key: KeyId) -> bool {
        let mut refusal = None;
        for _ in 0..ATTEMPTS_MAX {
            let Err(error) = self.write_key(key, Some(100)).await else {
                return true;
            };
            self.scene.note_error(step, error.clone());
            refusal = Some(error);
            if self.scene.poisoned.get() {
                return false;
            }
            self.env.sleep(ATTEMPT_INTERVAL).await;
        }
        // A damaged tree is another reason, and a good one.
        match refusal.filter(Error::is_no_space) {
            Some(error) => {
                let what = format!("writes are refused although there is space: {error}");
                self.scene.violate(step, what);
                false
            }
            None => true,
        }
    }

    /// A shard that has space holds its reserve, after some time; true if it does.
    async fn check_holds_reserve(&self, step: &str, shard: u16, config: &ShardConfig) -> bool {
        let path = Path::new(ROOT).join(format!("shard-{shard:03}/reserve"));
        for _ in 0..ATTEMPTS_MAX {
            let opened = self
                .env
                .open(&path, Access::Read, Creation::MustExist)
                .await;
            let length = match opened {
                Ok(file) => file.length().await.unwrap_or(0),
                Err(_) => 0,
            };
            if length == config.reserve_bytes {
                return true;
            }
            self.env.sleep(ATTEMPT_INTERVAL).await;
        }
        if !self.scene.poisoned.get() {
            let what = format!("shard {shard} holds no reserve although there is space");
            self.scene.violate(step, what);
        }
        false
    }

    /// A disk that is full again, after a shortage was over: puts are refused, but one shard's
    /// reserve is enough for a deletion.
    async fn check_filled_again(&self, world: &World, config: &ShardConfig) {
        /// Puts after which the disk is left alone: the log goes in circles in room of its own.
        const PUTS_MAX: usize = 300;
        /// With its value it fits a record of one block, for which the smallest segment has room.
        const KEY_BYTES: usize = 1_000;
        const VALUE_BYTES: usize = 2_500;
        if config.reserve_bytes < config.segment_bytes_first {
            return;
        }
        let step = format!("{}, on a disk filled again", self.name);
        let mut ids = 0..self.scene.keys.len();
        let Some(key) = ids.find(|&id| self.scene.keys.bytes(id).len() <= KEY_BYTES) else {
            return;
        };
        world.set_capacity(Some(world.image().used_bytes()));
        let mut full = false;
        for _ in 0..PUTS_MAX {
            if let Err(error) = self.write_key(key, Some(VALUE_BYTES)).await {
                full = error.is_no_space();
                self.scene.note_error(&step, error);
                break;
            }
        }
        if full {
            match self.write_key(key, None).await {
                Ok(()) => self.scene.figures.borrow_mut().filled_again += 1,
                Err(error) if error.is_no_space() => {
                    let what = format!("a deletion is refused where there was a reserve: {error}");
                    self.scene.violate(&step, what);
                }
                Err(error) => self.scene.note_error(&step, error),
            }
        }
        world.set_capacity(None);
        for key in self.key_of_each_shard() {
            if self.scene.stopped.get() || !self.check_takes_puts(&step, key).await {
                return;
            }
        }
    }
}
