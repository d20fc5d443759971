//! A database in a world: opened as production opens one.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use lightning_io::sim::{SimEnv, SimLock, SimPort, SimSubmitter, World};
use lightning_io::{Env, JoinHandle, TaskClass};
use lightning_shards::client::Client;
use lightning_shards::{
    Error, Identity, OpenMode, Request, Result, Root, Router, Shard, ShardConfig, ShardId,
    finish_create, open_root,
};

use crate::model::Model;
use crate::spy::Spy;
use crate::taking::Watching;

/// Where the database lives.
pub(crate) const ROOT: &str = "/db";

/// How long to wait before a busy shard is asked again to close.
const CLOSE_RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// Everything of a world that a database needs, taken before the world runs.
pub(crate) struct Site {
    /// The handle of the callers.
    pub clients: SimEnv,
    envs: Vec<SimEnv>,
    ports: Vec<SimPort<Request>>,
    submitters: Vec<SimSubmitter<Request>>,
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Site({} shards)", self.envs.len())
    }
}

impl Site {
    /// Lays out a mesh of so many shards.
    pub(crate) fn new(world: &World, shards: usize, slots: usize) -> Self {
        let (ports, submitters) = world.mesh::<Request>(shards, slots);
        Self {
            clients: world.client(),
            envs: (0..shards).map(|shard| world.env(shard)).collect(),
            ports,
            submitters,
        }
    }
}

/// How to open a database.
#[derive(Debug, Clone)]
pub(crate) struct Opening {
    /// Create, open, or either.
    pub mode: OpenMode,
    /// Whether to name the number of shards.
    pub name_shards: bool,
    /// The settings of each shard.
    pub config: ShardConfig,
}

/// An open database.
pub(crate) struct Database {
    /// The way to all of its shards.
    pub client: Client<Spy>,
    /// How keys are spread.
    pub router: Router,
    /// Whether the next writes are by callers who leave.
    pub unheard: Rc<Cell<bool>>,
    clients: SimEnv,
    serving: Vec<JoinHandle<()>>,
    lock: SimLock,
    _watching: Watching,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

impl Database {
    /// Opens or creates the database, all shards at once.
    pub(crate) async fn open(
        site: Site,
        opening: Opening,
        model: &Rc<RefCell<Model>>,
    ) -> Result<Self> {
        let path = Path::new(ROOT);
        let count = u16::try_from(site.envs.len()).expect("a run has a few shards");
        let named = opening.name_shards.then_some(count);
        let root = open_root(&site.clients, path, opening.mode, named, count).await?;
        let Root {
            lock,
            identity,
            creating,
        } = root;
        let router = identity.router();
        let (running, failed) = start(site.envs, site.ports, &identity, creating, &opening).await;
        if let Some(error) = failed {
            return Err(error);
        }
        let (shards, serving) = running.into_iter().unzip();
        let watching = Watching::begin(model, &site.clients, shards);
        if creating {
            finish_create(&site.clients, path, &identity).await?;
        }
        let unheard = Rc::new(Cell::new(false));
        let submitters = site.submitters.into_iter().enumerate();
        let spies = submitters
            .map(|(shard, inner)| Spy::new(inner, shard, model, &site.clients, &unheard))
            .collect();
        Ok(Self {
            client: Client::new(router, spies),
            router,
            unheard,
            clients: site.clients,
            serving,
            lock,
            _watching: watching,
        })
    }

    /// Closes every shard and waits until the last has stopped serving.
    ///
    /// # Errors
    /// What the first attempt gave. A shard whose queue is full is asked again.
    pub(crate) async fn close(self) -> Result<()> {
        let closed = self.client.close().await;
        let mut serving = pin!(join_all(self.serving));
        // A panic of a serving task is in the world's list.
        while let Either::Right(_) =
            select(&mut serving, pin!(self.clients.sleep(CLOSE_RETRY_INTERVAL))).await
        {
            // Those that have heard of it already say that they are closed.
            drop(self.client.close().await);
        }
        drop(self.lock);
        closed
    }
}

/// Opens every shard and has it serve; the first failure is told.
async fn start(
    envs: Vec<SimEnv>,
    ports: Vec<SimPort<Request>>,
    identity: &Identity,
    creating: bool,
    opening: &Opening,
) -> (Vec<(Shard<SimEnv>, JoinHandle<()>)>, Option<Error>) {
    let mut opened = Vec::new();
    for (index, env) in envs.iter().enumerate() {
        let id = ShardId(u16::try_from(index).expect("a run has a few shards"));
        let (own, identity, config) = (env.clone(), *identity, opening.config);
        let task = async move {
            let path = Path::new(ROOT);
            if creating {
                Shard::create(&own, path, &identity, id, &config).await?;
            }
            Shard::open(&own, path, &identity, id, &config).await
        };
        opened.push(env.spawn(TaskClass::Foreground, task));
    }
    let (mut serving, mut failed) = (Vec::new(), None);
    for ((outcome, env), port) in join_all(opened).await.into_iter().zip(envs).zip(ports) {
        match outcome {
            Ok(Ok(shard)) => {
                let own = shard.clone();
                let serve = async move { own.serve(port).await };
                serving.push((shard, env.spawn(TaskClass::Foreground, serve)));
            }
            Ok(Err(error)) => failed = failed.or(Some(error)),
            Err(panic) => {
                let what = "shard";
                let reason = panic.to_string();
                failed = failed.or(Some(Error::Invalid { what, reason }));
            }
        }
    }
    (serving, failed)
}
