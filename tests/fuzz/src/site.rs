//! A database in a simulated world, opened as production opens one.

use std::path::Path;
use std::time::Duration;

use lightning_io::sim::{SimConfig, SimEnv, SimLock, SimPort, SimSubmitter, World};
use lightning_io::{Env, JoinHandle, TaskClass};
use lightning_shards::client::Client;
use lightning_shards::{
    Compression, Error, KeyspaceId, OpenMode, Request, Result, Root, Shard, ShardConfig, ShardId,
    finish_create, open_root,
};

/// Where the database lives.
pub(crate) const ROOT: &str = "/db";
pub(crate) const KEYSPACE: KeyspaceId = KeyspaceId::DEFAULT;

/// Requests that a shard's queue holds: more than a target has under way.
const SLOTS: usize = 256;

/// Polls after which a run is taken for endless: a hundred times what the longest one takes.
const POLLS_MAX: u64 = 5_000_000;

/// The settings of every world here.
pub(crate) fn world_config() -> SimConfig {
    SimConfig {
        root: ROOT.into(),
        polls_max: POLLS_MAX,
        ..SimConfig::default()
    }
}

/// Settings that make a few hundred keys split pages, fill memtables and recycle segments.
fn shard_config(compression: Compression) -> ShardConfig {
    ShardConfig {
        memory_bytes: ShardConfig::MEMORY_BYTES_MIN,
        runs: 2,
        compression,
        // A page of a single unit is never compressed.
        page_bytes: 8 << 10,
        segment_bytes_first: 12 << 10,
        segment_bytes_max: 48 << 10,
        relaxed_interval: Duration::from_millis(5),
        mark_interval: Duration::from_millis(1),
        reserve_bytes: 0,
    }
}

/// What of a world a database needs, taken before the world runs.
pub(crate) struct Site {
    clients: SimEnv,
    envs: Vec<SimEnv>,
    ports: Vec<SimPort<Request>>,
    submitters: Vec<SimSubmitter<Request>>,
    compression: Compression,
}

impl Site {
    /// Room for so many shards; a database that has another number is opened as far as it goes.
    pub(crate) fn new(world: &World, shards: usize, compression: Compression) -> Self {
        let (ports, submitters) = world.mesh::<Request>(shards, SLOTS);
        Self {
            clients: world.client(),
            envs: (0..shards).map(|shard| world.env(shard)).collect(),
            ports,
            submitters,
            compression,
        }
    }
}

/// An open database.
pub(crate) struct Database {
    pub(crate) client: Client<SimSubmitter<Request>>,
    serving: Vec<JoinHandle<()>>,
    _lock: SimLock,
}

impl Database {
    /// Opens or creates it, one shard after the other.
    pub(crate) async fn open(site: Site, mode: OpenMode) -> Result<Self> {
        let path = Path::new(ROOT);
        let count = u16::try_from(site.envs.len()).expect("a few shards");
        let root = open_root(&site.clients, path, mode, None, count).await?;
        let Root {
            lock,
            identity,
            creating,
        } = root;
        if identity.router().shards() != count {
            let reason = format!("{}, not {count}", identity.router().shards());
            return Err(Error::Invalid {
                what: "number of shards",
                reason,
            });
        }
        let config = shard_config(site.compression);
        let mut shards = Vec::new();
        for (id, env) in identity.router().all().zip(&site.envs) {
            shards.push(open_shard(env, &identity, id, config, creating).await?);
        }
        if creating {
            finish_create(&site.clients, path, &identity).await?;
        }
        let served = shards.into_iter().zip(&site.envs).zip(site.ports);
        let serving = served
            .map(|((shard, env), port)| {
                env.spawn(
                    TaskClass::Foreground,
                    async move { shard.serve(port).await },
                )
            })
            .collect();
        Ok(Self {
            client: Client::new(identity.router(), site.submitters),
            serving,
            _lock: lock,
        })
    }

    /// Closes every shard and waits until the last has stopped serving.
    pub(crate) async fn close(self) -> Result<()> {
        let closed = self.client.close().await;
        for serving in self.serving {
            // A panic of it is recorded where all panics are.
            drop(serving.await);
        }
        closed
    }
}

async fn open_shard(
    env: &SimEnv,
    identity: &lightning_shards::Identity,
    id: ShardId,
    config: ShardConfig,
    creating: bool,
) -> Result<Shard<SimEnv>> {
    let (own, identity) = (env.clone(), *identity);
    let task = env.spawn(TaskClass::Foreground, async move {
        let path = Path::new(ROOT);
        if creating {
            Shard::create(&own, path, &identity, id, &config).await?;
        }
        Shard::open(&own, path, &identity, id, &config).await
    });
    let ended = |panic: lightning_io::TaskPanic| Error::Invalid {
        what: "shard",
        reason: panic.to_string(),
    };
    task.await.map_err(ended)?
}
