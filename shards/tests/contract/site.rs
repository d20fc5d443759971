//! A database in a simulated world, opened as production opens one.

use std::path::Path;

use futures_util::future::join_all;
use lightning_io::sim::{Image, SimConfig, SimEnv, SimLock, SimPort, SimSubmitter, World};
use lightning_io::{Env, JoinHandle, Port, TaskClass};
use lightning_shards::client::Client;
use lightning_shards::{
    Durability, Error, KeyspaceId, OpenMode, Ops, Request, Result, Shard, ShardConfig, ShardId,
    finish_create, open_root,
};

/// Where the database lives.
pub(crate) const ROOT: &str = "/db";

/// Messages that a queue of the mesh holds.
const SLOTS: usize = 64;

/// Small enough that a few hundred writes fill memtables and segments.
pub(crate) fn small() -> ShardConfig {
    ShardConfig {
        memory_bytes: ShardConfig::MEMORY_BYTES_MIN,
        page_bytes: 4 << 10,
        segment_bytes_first: 64 << 10,
        segment_bytes_max: 64 << 10,
        ..ShardConfig::default()
    }
}

/// A world with an empty disk and no faults but those that a test makes.
pub(crate) fn world(seed: u64) -> World {
    World::new(seed, SimConfig::default())
}

/// A world on the disk that another one left.
pub(crate) fn world_on(seed: u64, image: Image) -> World {
    World::with_image(seed, SimConfig::default(), image)
}

/// What a world has for the shards of a database, taken before the world runs.
pub(crate) struct Site<E, P> {
    pub(crate) clients: SimEnv,
    pub(crate) envs: Vec<E>,
    pub(crate) ports: Vec<P>,
    submitters: Vec<SimSubmitter<Request>>,
}

impl Site<SimEnv, SimPort<Request>> {
    pub(crate) fn new(world: &World, shards: usize) -> Self {
        let (ports, submitters) = world.mesh::<Request>(shards, SLOTS);
        Self {
            clients: world.client(),
            envs: (0..shards).map(|shard| world.env(shard)).collect(),
            ports,
            submitters,
        }
    }
}

impl<E: Env<Lock = SimLock>, P: Port<Request>> Site<E, P> {
    /// The same site with other environments.
    pub(crate) fn with_envs<F>(self, wrap: impl FnMut(E) -> F) -> Site<F, P> {
        Site {
            clients: self.clients,
            envs: self.envs.into_iter().map(wrap).collect(),
            ports: self.ports,
            submitters: self.submitters,
        }
    }

    /// The same site with other ports.
    pub(crate) fn with_ports<Q>(self, wrap: impl FnMut(P) -> Q) -> Site<E, Q> {
        Site {
            clients: self.clients,
            envs: self.envs,
            ports: self.ports.into_iter().map(wrap).collect(),
            submitters: self.submitters,
        }
    }

    /// Opens the database, or creates it where there is none.
    pub(crate) async fn open(self, config: ShardConfig) -> Result<Running> {
        let (path, mode) = (Path::new(ROOT), OpenMode::OpenOrCreate);
        let count = u16::try_from(self.envs.len()).expect("a test has a few shards");
        let root = open_root(&self.envs[0], path, mode, None, count).await?;
        let (identity, creating) = (root.identity, root.creating);
        let mut opened = Vec::new();
        for (number, env) in self.envs.iter().enumerate() {
            let id = ShardId(u16::try_from(number).expect("a test has a few shards"));
            let own = env.clone();
            opened.push(env.spawn(TaskClass::Foreground, async move {
                if creating {
                    Shard::create(&own, path, &identity, id, &config).await?;
                }
                Shard::open(&own, path, &identity, id, &config).await
            }));
        }
        let first = self.envs[0].clone();
        let (mut serving, mut failed) = (Vec::new(), None);
        let opened = join_all(opened).await.into_iter();
        for ((outcome, env), port) in opened.zip(self.envs).zip(self.ports) {
            match outcome.expect("opening does not panic") {
                Ok(shard) => {
                    serving.push(env.spawn(TaskClass::Foreground, shard.serve(port)));
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if creating {
            finish_create(&first, path, &identity).await?;
        }
        Ok(Running {
            client: Client::new(identity.router(), self.submitters),
            clients: self.clients,
            serving,
            _lock: root.lock,
        })
    }
}

/// A database that is open.
pub(crate) struct Running {
    pub(crate) client: Client<SimSubmitter<Request>>,
    pub(crate) clients: SimEnv,
    serving: Vec<JoinHandle<()>>,
    _lock: SimLock,
}

impl Running {
    pub(crate) async fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        self.put_with(key, value, Durability::Sync).await
    }

    pub(crate) async fn put_with(&self, key: &str, value: &[u8], how: Durability) -> Result<()> {
        let mut ops = Ops::default();
        ops.put(KeyspaceId::DEFAULT, key.as_bytes(), value)?;
        self.client.write(ops, how).await
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<()> {
        let mut ops = Ops::default();
        ops.delete(KeyspaceId::DEFAULT, key.as_bytes())?;
        self.client.write(ops, Durability::Sync).await
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let value = self.client.get(KeyspaceId::DEFAULT, key.as_bytes()).await?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// The shard that owns a key.
    pub(crate) fn shard_of(&self, key: &str) -> ShardId {
        let key = lightning_shards::StorageKey::new(KeyspaceId::DEFAULT, key.as_bytes());
        self.client.router().shard_of(key.as_slice())
    }

    /// Keys `PREFIX0`, `PREFIX1` and so on that one shard owns.
    pub(crate) fn keys_of(&self, shard: u16, prefix: &str) -> impl Iterator<Item = String> {
        let (router, prefix) = (self.client.router(), prefix.to_owned());
        let keys = (0..).map(move |number: u32| format!("{prefix}{number}"));
        keys.filter(move |key| {
            let stored = lightning_shards::StorageKey::new(KeyspaceId::DEFAULT, key.as_bytes());
            router.shard_of(stored.as_slice()) == ShardId(shard)
        })
    }

    /// Closes every shard, and waits until the last has stopped serving.
    pub(crate) async fn close(self) -> Result<()> {
        let closed = self.client.close().await;
        for served in join_all(self.serving).await {
            served.expect("the serving task does not panic");
        }
        closed
    }
}

/// Whether a write was refused because a shard had failed before.
pub(crate) fn is_poisoned(outcome: &Result<()>) -> bool {
    matches!(outcome, Err(Error::Poisoned { .. }))
}
