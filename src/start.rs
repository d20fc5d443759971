//! From settings to running shards.
//!
//! # Algorithm
//! 1. Look whether the machine can run the database at all.
//! 2. On an executor of its own that ends again: lock the directory, read or write the identity.
//! 3. Start one executor a shard; each creates its files if the database is new, and opens them.
//! 4. When all have, and the database is new, write that it is ready.
//!
//! Starting threads and waiting for them blocks, so all of it happens on a thread of its own, and
//! the caller's runtime waits for a message.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_channel::{mpsc, oneshot};
use futures_util::{FutureExt, StreamExt};
use lightning_io::glommio::{
    ExecutorConfig, Executors, GlommioEnv, GlommioLock, GlommioPort, Preflight,
};
use lightning_io::mesh::Submitter;
use lightning_io::{IoError, IoErrorKind, IoOp};
use lightning_shards::client::Client;
use lightning_shards::{
    Error as Cause, Identity, OpenMode, Request, Root, Shard, ShardConfig, ShardId, finish_create,
    open_root,
};

use crate::builder::Spin;
use crate::database::{Handle, request_close};
use crate::{Builder, Database, Error, Result};

/// Opens or creates a database.
pub(crate) async fn start(builder: Builder, mode: OpenMode) -> Result<Database> {
    let path = builder.path.clone();
    // A caller that stopped waiting drops the database, which closes it.
    on_thread("lightning-open", &path, move || {
        let (database, unfinished) = start_blocking(&builder, mode)?;
        match unfinished {
            Some(unfinished) => unfinished.finish().map(|()| database),
            None => Ok(database),
        }
    })
    .await
}

/// Runs what blocks on a thread of its own, and waits for it without blocking.
pub(crate) async fn on_thread<T: Send + 'static>(
    name: &str,
    path: &Path,
    run: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = oneshot::channel();
    let spawned = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || drop(sender.send(run())));
    if let Err(error) = spawned {
        return Err(IoError::from_os(IoOp::Start, path, &error).into());
    }
    receiver
        .await
        .unwrap_or_else(|_| Err(start_failed(path, format!("the thread {name} panicked"))))
}

/// A database whose shards are there, and which does not say yet that it is complete: until then
/// nobody can open it.
pub(crate) struct Unfinished {
    executors: ExecutorConfig,
    path: PathBuf,
    identity: Identity,
}

impl Unfinished {
    /// Declares the database complete.
    pub(crate) fn finish(self) -> Result<()> {
        let Self {
            executors,
            path,
            identity,
        } = self;
        let place = path.clone();
        run_once(&executors, &path, move |env| async move {
            finish_create(&env, &place, &identity).await
        })??;
        Ok(())
    }
}

/// Opens a database, or makes one and leaves it to the caller to declare it complete.
pub(crate) fn start_blocking(
    builder: &Builder,
    mode: OpenMode,
) -> Result<(Database, Option<Unfinished>)> {
    let path = absolute(&builder.path)?;
    let shards = builder.shards.map(to_shard_count).transpose()?;
    // Before anything is made: settings that cannot be used leave no half-made database behind. Of
    // a database that may exist only the identity knows how many shards share the memory.
    let at_least = match mode {
        OpenMode::Create => shards.unwrap_or_else(default_shards),
        OpenMode::Open | OpenMode::OpenOrCreate => shards.unwrap_or(1),
    };
    shard_config(builder, usize::from(at_least.max(1)))?;
    let executors = ExecutorConfig {
        spin: match builder.spin {
            Spin::For(time) => lightning_io::glommio::Spin::For(time),
            Spin::Forever => lightning_io::glommio::Spin::Forever,
        },
        ..executors_for(&path)?
    };
    let root = lock_root(&executors, &path, mode, shards)?;
    let shard_count = usize::from(root.identity.router().shards());
    let config = shard_config(builder, shard_count)?;
    let (creating, identity) = (root.creating, root.identity);
    let running = start_shards(&executors, &path, root, config)?;
    let unfinished = creating.then(|| Unfinished {
        executors,
        path: path.clone(),
        identity,
    });
    let database = Database::new(Handle {
        path,
        durability: builder.durability,
        client: Client::new(identity.router(), running.submitters.clone()),
        submitters: running.submitters,
        stopped: running.stopped.shared(),
    });
    Ok((database, unfinished))
}

/// A path that does not depend on the directory that the process is in.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| IoError::from_os(IoOp::Open, path, &error).into())
}

/// Looks whether the machine can run a database at this place, and how its executors should be.
pub(crate) fn executors_for(path: &Path) -> Result<ExecutorConfig> {
    let preflight = Preflight::check(&existing_directory(path))?;
    Ok(ExecutorConfig {
        direct_io: preflight.does_direct_io(),
        long_slice: preflight.long_slice,
        ..ExecutorConfig::default()
    })
}

fn to_shard_count(shards: usize) -> Result<u16> {
    u16::try_from(shards).map_err(|_| {
        let reason = format!("{shards}; a database has 1 to {}", crate::SHARDS_MAX);
        Cause::Invalid {
            what: "number of shards",
            reason,
        }
        .into()
    })
}

/// A shard for each core that the process may use.
fn default_shards() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u16::try_from(cores)
        .unwrap_or(crate::SHARDS_MAX)
        .min(crate::SHARDS_MAX)
}

fn shard_config(builder: &Builder, shards: usize) -> Result<ShardConfig> {
    let mut config = builder.shard;
    if let Some(budget) = builder.memory_budget {
        config.memory_bytes = budget / shards;
    }
    config.validate()?;
    Ok(config)
}

/// The database's directory, or the nearest one above it that exists: the same file system.
pub(crate) fn existing_directory(path: &Path) -> PathBuf {
    let existing = path.ancestors().find(|ancestor| ancestor.is_dir());
    existing.unwrap_or(path).to_path_buf()
}

fn lock_root(
    executors: &ExecutorConfig,
    path: &Path,
    mode: OpenMode,
    shards: Option<u16>,
) -> Result<Root<GlommioLock>> {
    let default_shards = default_shards();
    let place = path.to_path_buf();
    let root = run_once(executors, path, move |env| async move {
        open_root(&env, &place, mode, shards, default_shards).await
    })??;
    Ok(root)
}

/// Runs something on an executor that ends with it.
pub(crate) fn run_once<F, Fut, T>(executors: &ExecutorConfig, path: &Path, run: F) -> Result<T>
where
    F: FnOnce(GlommioEnv) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let config = ExecutorConfig {
        pin: false,
        ..executors.clone()
    };
    let make = move |_, env, _port: GlommioPort<()>| run(env);
    let (executors, _submitters) = Executors::start(&config, 1, make)?;
    match executors.join().pop() {
        Some(Ok(outcome)) => Ok(outcome),
        Some(Err(panic)) => Err(start_failed(path, panic.to_string())),
        None => Err(start_failed(path, "no executor was started".to_owned())),
    }
}

fn start_failed(path: &Path, message: String) -> Error {
    let kind = IoErrorKind::Device {
        errno: None,
        message,
    };
    IoError::new(IoOp::Start, path, kind).into()
}

/// The shards of a database, serving.
struct Running {
    submitters: Vec<Submitter<Request>>,
    stopped: oneshot::Receiver<()>,
}

/// What all shards hold while they live: the last one to go releases the lock, then tells.
struct Alive {
    lock: Option<GlommioLock>,
    stopped: Option<oneshot::Sender<()>>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        drop(self.lock.take());
        if let Some(stopped) = self.stopped.take() {
            // Nobody waits for a database whose handles are gone.
            stopped.send(()).ok();
        }
    }
}

type Opened = (usize, lightning_shards::Result<()>);

fn start_shards(
    executors: &ExecutorConfig,
    path: &Path,
    root: Root<GlommioLock>,
    config: ShardConfig,
) -> Result<Running> {
    let shard_count = usize::from(root.identity.router().shards());
    let (stopped_sender, stopped) = oneshot::channel();
    let alive = Alive {
        lock: Some(root.lock),
        stopped: Some(stopped_sender),
    };
    let (opened_sender, opened) = mpsc::unbounded();
    let start = ShardStart {
        path: path.to_path_buf(),
        identity: root.identity,
        creating: root.creating,
        config,
        alive: Arc::new(alive),
        opened: opened_sender,
    };
    let make = move |index, env, port| start.run(index, env, port);
    // The executors run by themselves; each shard reports through its port and its replies.
    let (_executors, submitters) = Executors::start(executors, shard_count, make)?;
    let running = Running {
        submitters,
        stopped,
    };
    match wait_until_open(opened, shard_count, path) {
        Ok(()) => Ok(running),
        Err(error) => {
            stop(running);
            Err(error)
        }
    }
}

/// What a shard's thread needs to open the shard.
#[derive(Clone)]
struct ShardStart {
    path: PathBuf,
    identity: Identity,
    creating: bool,
    config: ShardConfig,
    alive: Arc<Alive>,
    opened: mpsc::UnboundedSender<Opened>,
}

impl ShardStart {
    async fn run(self, index: usize, env: GlommioEnv, port: GlommioPort<Request>) {
        let Self {
            path,
            identity,
            creating,
            config,
            alive,
            opened,
        } = self;
        let id = ShardId(u16::try_from(index).expect("a shard count fits its number"));
        let shard = async {
            if creating {
                Shard::create(&env, &path, &identity, id, &config).await?;
            }
            Shard::open(&env, &path, &identity, id, &config).await
        };
        let told = match shard.await {
            Ok(shard) => {
                let told = opened.unbounded_send((index, Ok(())));
                drop(opened);
                shard.serve(port).await;
                told
            }
            Err(error) => opened.unbounded_send((index, Err(error))),
        };
        // Whoever opens the database waits for every shard's message.
        drop(told);
        drop(alive);
    }
}

/// Waits for every shard; the first failure, in shard order, is the one that is told.
fn wait_until_open(
    mut opened: mpsc::UnboundedReceiver<Opened>,
    shard_count: usize,
    path: &Path,
) -> Result<()> {
    let mut failures = Vec::new();
    let mut count = 0;
    while let Some((index, outcome)) = futures_executor::block_on(opened.next()) {
        count += 1;
        failures.extend(outcome.err().map(|error| (index, error)));
    }
    failures.sort_by_key(|(index, _)| *index);
    match failures.into_iter().next() {
        Some((_, error)) => Err(error.into()),
        None if count == shard_count => Ok(()),
        None => Err(start_failed(
            path,
            "a shard panicked while it was opened".to_owned(),
        )),
    }
}

fn stop(running: Running) {
    // Nothing was ever sent to them, so their queues have room.
    request_close(running.submitters);
    // Until then the directory is locked.
    futures_executor::block_on(running.stopped).ok();
}
