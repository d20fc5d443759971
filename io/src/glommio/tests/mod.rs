//! The production world on real files, threads and kernels.

mod files;
mod shards;
mod tasks;

use std::cell::RefCell;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;
#[expect(clippy::disallowed_types, reason = "bounds the time of a test")]
use std::time::Instant;

use futures_channel::oneshot;
use futures_executor::block_on;

use super::*;
use crate::mesh::Submitter;
use crate::{
    Access, BLOCK_BYTES, Creation, Env, File, FileKind, IoBuf, IoErrorKind, IoOp, Port, SendError,
    Submit, TaskClass, TaskPanic, to_u64,
};

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test prepares its own directory"
    )]
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lightning-io-{}-{number}", process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test removes its own directory"
    )]
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn config() -> ExecutorConfig {
    ExecutorConfig {
        name: "test".to_owned(),
        ..ExecutorConfig::default()
    }
}

type Reply = oneshot::Sender<u64>;

/// Runs one shard whose main future needs no messages.
fn on_shard<T, F, Fut>(config: &ExecutorConfig, body: F) -> Result<T, TaskPanic>
where
    T: Send + 'static,
    F: FnOnce(GlommioEnv) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    let make = move |_, env, _port: GlommioPort<()>| body(env);
    let (executors, _) = Executors::start(config, 1, make).unwrap();
    executors.join().remove(0)
}

fn pattern(len: usize, seed: u8) -> IoBuf {
    let mut buf = IoBuf::zeroed(len);
    for (index, byte) in buf.iter_mut().enumerate() {
        *byte = u8::try_from(index % 251).unwrap() ^ seed;
    }
    buf
}
