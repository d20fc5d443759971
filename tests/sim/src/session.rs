//! What happens in one world: the database is opened and checked, clients work, and it is closed.

use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use lightning_io::sim::{PPM, Rng, SimEnv};
use lightning_io::{Env, TaskClass, to_u64};
use lightning_shards::Error;

use crate::database::{Database, Opening, Site};
use crate::plan::Purpose;
use crate::workload::{Caller, Phase, Scene};

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
pub(crate) struct Session {
    /// What its tasks share.
    pub scene: Rc<Scene>,
    /// The world's handles.
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

impl Session {
    /// Runs it; the world may end before.
    pub(crate) async fn run(self) -> Ended {
        let scene = Rc::clone(&self.scene);
        let env = self.site.clients.clone();
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
        checker.note_stats().await;
        if scene.poisoned.get() {
            checker.check_poisoned().await;
        } else if !scene.stopped.get() {
            checker.check_space_returned().await;
        }
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
            match self.put_key(key).await {
                Ok(()) => {
                    let what = "a shard took a write although another one had failed";
                    return self.scene.violate(&step, what);
                }
                Err(error) => self.scene.note_error(&step, error),
            }
        }
        self.scene.figures.borrow_mut().poisoned += 1;
    }

    /// Once the disk has space again, every shard takes writes again, without being opened anew.
    async fn check_space_returned(&self) {
        /// How often to ask: refusals by chance are bounded, and a flush that waits tries again.
        const ATTEMPTS_MAX: usize = 40;
        const ATTEMPT_INTERVAL: Duration = Duration::from_millis(150);
        let Some(returns_at) = self.scene.space_returns_at else {
            return;
        };
        let step = format!("{}, with space again", self.name);
        self.env
            .sleep(returns_at.saturating_sub(self.env.now()))
            .await;
        for key in self.key_of_each_shard() {
            let mut refusal = None;
            for _ in 0..ATTEMPTS_MAX {
                match self.put_key(key).await {
                    Ok(()) => {
                        refusal = None;
                        break;
                    }
                    Err(error) => {
                        self.scene.note_error(&step, error.clone());
                        refusal = Some(error);
                    }
                }
                if self.scene.poisoned.get() {
                    return;
                }
                self.env.sleep(ATTEMPT_INTERVAL).await;
            }
            // A damaged tree is another reason, and a good one.
            if let Some(error) = refusal.filter(Error::is_no_space) {
                let what = format!("writes are refused although there is space: {error}");
                return self.scene.violate(&step, what);
            }
        }
        self.scene.figures.borrow_mut().space_returned += 1;
    }
}
