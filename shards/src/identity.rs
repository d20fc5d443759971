//! The file `DATABASE`: which database this is, how many shards it has, and whether creating it
//! was finished.
//!
//! # On-disk layout
//! Two blocks, each a whole copy (see `block` for the frame):
//! ```text
//! offset  bytes  field
//!     16     16  database id
//!     32      2  shard count, fixed at creation
//!     34      1  state: 1 being created, 2 ready
//!     35      1  partitioning: 1 CRC-32
//!     36      1  copy: 0 or 1
//!     37      .  zeros
//! ```
//!
//! # Crash argument
//! Creating a database writes `being created` first, then the shards' files, then `ready`. As long
//! as it says `being created` nothing was ever acknowledged, so the next creation may start over.
//! `ready` is written to one copy after the other, each write durable: at any moment at least one
//! copy is whole, and `ready` in either means that every shard's file is there. Opening syncs what
//! it read and completes the copies: a stale `being created` must not outlive a rotten `ready`. A copy
//! that does not read as `ready` is read twice.

use std::path::{Path, PathBuf};

use lightning_io::{Access, BLOCK_BYTES, Creation, Env, File, IoErrorKind, to_u64};

use crate::block::{self, BODY, BlockError, FORMAT_VERSION, get_u16, put};
use crate::reread::read_judged;
use crate::router::{Partitioning, Router};
use crate::{Corruption, DatabaseId, Error, Place, Result};

pub(crate) const MAGIC: [u8; 8] = *b"LDBIDENT";
const DATABASE: usize = BODY;
const SHARDS: usize = DATABASE + 16;
const STATE: usize = SHARDS + 2;
const PARTITIONING: usize = STATE + 1;
const COPY: usize = PARTITIONING + 1;
const END: usize = COPY + 1;
const COPIES: usize = 2;

const _: () = assert!(DATABASE == 16 && SHARDS == 32 && END == 37 && END <= BLOCK_BYTES);

/// The name of the file.
pub(crate) const FILE_NAME: &str = "DATABASE";

/// The most shards that a database can have: more than any machine has cores, and few enough for a
/// message ring between each two.
pub const SHARDS_MAX: u16 = 1024;

/// How far creation came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Creating,
    Ready,
}

/// What a database is, fixed at its creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    database: DatabaseId,
    router: Router,
}

impl Identity {
    pub(crate) fn new(database: DatabaseId, shards: u16) -> Self {
        Self {
            database,
            router: Router::new(shards, Partitioning::Crc32),
        }
    }

    /// The database's own id.
    pub fn database(&self) -> DatabaseId {
        self.database
    }

    /// How keys are spread over its shards.
    pub fn router(&self) -> Router {
        self.router
    }

    pub(crate) fn encode(&self, state: State, copy: u8, block: &mut [u8]) {
        put(block, DATABASE, &self.database.0);
        put(block, SHARDS, &self.router.shards().to_le_bytes());
        block[STATE] = match state {
            State::Creating => 1,
            State::Ready => 2,
        };
        block[PARTITIONING] = Partitioning::Crc32.to_byte();
        block[COPY] = copy;
        block::seal(block, MAGIC);
    }

    pub(crate) fn decode(block: &[u8], copy: u8) -> std::result::Result<(Self, State), BlockError> {
        block::check(block, MAGIC)?;
        let shards = get_u16(block, SHARDS);
        let state = match block[STATE] {
            1 => State::Creating,
            2 => State::Ready,
            _ => return Err(BlockError::Magic),
        };
        let partitioning = Partitioning::from_byte(block[PARTITIONING]).ok_or(BlockError::Magic)?;
        if block[COPY] != copy || shards == 0 || shards > SHARDS_MAX {
            return Err(BlockError::Magic);
        }
        let mut database = DatabaseId([0; 16]);
        database.0.copy_from_slice(&block[DATABASE..SHARDS]);
        Ok((
            Self {
                database,
                router: Router::new(shards, partitioning),
            },
            state,
        ))
    }
}

/// Opens the file for writes that are durable when they return.
async fn open<E: Env>(env: &E, root: &Path, creation: Creation) -> Result<E::File> {
    let path = root.join(FILE_NAME);
    Ok(env.open(&path, Access::ReadWriteDurable, creation).await?)
}

/// Writes the file for the first time, as `being created`.
pub(crate) async fn create<E: Env>(env: &E, root: &Path, identity: &Identity) -> Result<()> {
    let file = open(env, root, Creation::MustCreate).await?;
    write(env, &file, identity, State::Creating).await?;
    file.sync().await?;
    file.close().await?;
    env.sync_dir(root).await?;
    Ok(())
}

/// Changes the state from `being created` to `ready`.
pub(crate) async fn finish<E: Env>(env: &E, root: &Path, identity: &Identity) -> Result<()> {
    let file = open(env, root, Creation::MustExist).await?;
    write(env, &file, identity, State::Ready).await?;
    file.close().await?;
    Ok(())
}

/// Makes `being created` stay what it was read as, down to the file's name: the process that wrote
/// it may have been killed before that, and the shards' directories must not outlive it.
pub(crate) async fn keep<E: Env>(env: &E, root: &Path) -> Result<()> {
    let file = open(env, root, Creation::MustExist).await?;
    file.sync().await?;
    file.close().await?;
    env.sync_dir(root).await?;
    Ok(())
}

/// Makes `ready` stay what it was read as: the process that wrote it may have been killed before it
/// was durable, or before it was in both copies.
pub(crate) async fn complete<E: Env>(env: &E, root: &Path, identity: &Identity) -> Result<()> {
    let file = open(env, root, Creation::MustExist).await?;
    file.sync().await?;
    for copy in 0..COPIES {
        if read_copy(&file, copy).await? != Ok((*identity, State::Ready)) {
            write_copy(env, &file, copy, identity, State::Ready).await?;
        }
    }
    file.close().await?;
    Ok(())
}

async fn write<E: Env>(env: &E, file: &E::File, identity: &Identity, state: State) -> Result<()> {
    for copy in 0..COPIES {
        write_copy(env, file, copy, identity, state).await?;
    }
    Ok(())
}

async fn write_copy<E: Env>(
    env: &E,
    file: &E::File,
    copy: usize,
    identity: &Identity,
    state: State,
) -> Result<()> {
    let mut block = env.allocate(BLOCK_BYTES);
    let number = u8::try_from(copy).expect("there are two copies");
    identity.encode(state, number, &mut block);
    file.write_at(to_u64(copy * BLOCK_BYTES), block).await?;
    Ok(())
}

/// Reads the file.
///
/// # Errors
/// [`Error::NotADatabase`] when it is missing or was never one, [`Error::Version`] when another
/// version wrote it, [`Error::Corruption`] when no copy is sound.
pub(crate) async fn read<E: Env>(env: &E, root: &Path) -> Result<(Identity, State)> {
    let path = root.join(FILE_NAME);
    let file = match env.open(&path, Access::Read, Creation::MustExist).await {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), IoErrorKind::NotFound) => {
            let reason = format!("there is no file {FILE_NAME} in it");
            return Err(Error::NotADatabase {
                path: root.to_path_buf(),
                reason,
            });
        }
        Err(error) => return Err(error.into()),
    };
    let mut best: Option<(Identity, State)> = None;
    let mut first_error = None;
    for copy in 0..COPIES {
        match read_copy(&file, copy).await? {
            Ok((identity, state)) => match &best {
                Some((known, _)) if known.database != identity.database => {
                    first_error = Some(BlockError::Magic);
                    best = None;
                    break;
                }
                Some((_, State::Ready)) => {}
                _ => best = Some((identity, state)),
            },
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    file.close().await?;
    match (best, first_error) {
        (Some(found), _) => Ok(found),
        (None, Some(BlockError::Version(found))) => Err(Error::Version {
            path,
            found,
            supported: FORMAT_VERSION,
        }),
        (None, error) => Err(damaged(path, error)),
    }
}

async fn read_copy<F: File>(
    file: &F,
    copy: usize,
) -> Result<std::result::Result<(Identity, State), BlockError>> {
    let number = u8::try_from(copy).expect("there are two copies");
    let place = (to_u64(copy * BLOCK_BYTES), BLOCK_BYTES);
    let judge = |block: &[u8]| Identity::decode(block, number);
    // An unfinished creation is started over, which removes what is there: believed when read twice.
    let is_good = |found: &std::result::Result<(Identity, State), BlockError>| {
        matches!(found, Ok((_, State::Ready)))
    };
    match read_judged(file, place, judge, is_good).await {
        Ok(found) => Ok(found),
        // A crash during creation can leave the file shorter than its two copies.
        Err(error) if matches!(error.kind(), IoErrorKind::ShortRead { .. }) => {
            Ok(Err(BlockError::Blank))
        }
        Err(error) => Err(error.into()),
    }
}

fn damaged(file: PathBuf, error: Option<BlockError>) -> Error {
    let why = error.map_or_else(String::new, |error| format!(": {error}"));
    let place = Place {
        shard: None,
        file,
        offset: 0,
    };
    let what = format!("no copy of the database's identity is sound{why}");
    Error::Corruption(Box::new(Corruption {
        place,
        what,
        keys: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(copy: u8) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES];
        Identity::new(DatabaseId([7; 16]), 4).encode(State::Ready, copy, &mut block);
        block
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let (identity, state) = Identity::decode(&block(1), 1).expect("sound");
        assert_eq!(identity, Identity::new(DatabaseId([7; 16]), 4));
        assert_eq!(state, State::Ready);
    }

    #[test]
    fn a_copy_in_the_wrong_place_is_refused() {
        assert!(Identity::decode(&block(1), 0).is_err());
    }

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let block = block(0);
        assert_eq!(&block[..8], b"LDBIDENT");
        assert_eq!(&block[8..12], &[2, 0, 0, 0]);
        assert_eq!(&block[16..37], &[&[7; 16][..], &[4, 0, 2, 1, 0]].concat());
        assert!(block[37..].iter().all(|&byte| byte == 0));
    }
}
