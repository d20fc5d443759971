//! The simulated world, tested as its users meet it.

mod crashes;
mod faults;
mod tasks;

use std::path::Path;

use crate::sim::{SimConfig, SimEnv, SimFile, World};
use crate::{Access, BLOCK_BYTES, Creation, Env, File, IoBuf};

/// A block full of one byte.
fn page(byte: u8) -> IoBuf {
    IoBuf::from_slice(&[byte; BLOCK_BYTES])
}

/// Creates a file whose entry is durable.
async fn create(env: &SimEnv, path: &str, access: Access) -> SimFile {
    let path = Path::new(path);
    let file = env.open(path, access, Creation::MustCreate).await.unwrap();
    file.sync().await.unwrap();
    env.sync_dir(path.parent().unwrap()).await.unwrap();
    file
}

async fn create_dir(env: &SimEnv, path: &str) {
    let path = Path::new(path);
    env.create_dir(path).await.unwrap();
    env.sync_dir(path.parent().unwrap()).await.unwrap();
}

fn world(seed: u64) -> World {
    World::new(seed, SimConfig::default())
}

/// What a file holds, block by block; empty when it is not there.
fn blocks(bytes: Option<Vec<u8>>) -> Vec<u8> {
    let bytes = bytes.unwrap_or_default();
    bytes.chunks(BLOCK_BYTES).map(|block| block[0]).collect()
}
