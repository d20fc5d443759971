//! The directory of a database: taking its lock, and reading or making its identity.
//!
//! # Algorithm
//! Opening: take the lock, read the identity; then each shard opens its own directory.
//! Creating: take the lock, write the identity as `being created`, have each shard create its own
//! directory, then write `ready`. A creation that was interrupted is started over by the next one.

use std::path::Path;

use lightning_io::{Env, IoErrorKind};

use crate::identity::{self, Identity, SHARDS_MAX, State};
use crate::{DatabaseId, Error, Result};

/// The name of the lock file.
pub(crate) const LOCK_FILE_NAME: &str = "LOCK";

/// What to do about a database that is there, or is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// It must be there.
    Open,
    /// It must not be there.
    Create,
    /// It is made if it is not there.
    OpenOrCreate,
}

/// A locked database directory.
#[derive(Debug)]
pub struct Root<L> {
    /// Keeps every other process and handle out.
    pub lock: L,
    /// What the database is.
    pub identity: Identity,
    /// Whether the shards' files are still to be created, and [`finish_create`] to be called then.
    pub creating: bool,
}

/// Locks the directory of a database and finds out what it is.
///
/// `shards` is used for a database that is created; `None` and an existing database of any number
/// of shards fit together.
///
/// # Errors
/// [`Error::NotADatabase`], [`Error::AlreadyExists`], [`Error::Invalid`] when `shards` is out of
/// bounds or contradicts the database, `Io` with [`IoErrorKind::Locked`] when it is in use, or what
/// reading the identity gives.
pub async fn open_root<E: Env>(
    env: &E,
    root: &Path,
    mode: OpenMode,
    shards: Option<u16>,
    default_shards: u16,
) -> Result<Root<E::Lock>> {
    if let Some(shards) = shards
        && (shards == 0 || shards > SHARDS_MAX)
    {
        let reason = format!("{shards}; a database has 1 to {SHARDS_MAX}");
        return Err(Error::Invalid {
            what: "number of shards",
            reason,
        });
    }
    let found = prepare_directory(env, root, mode).await?;
    let lock = env.lock(&root.join(LOCK_FILE_NAME)).await?;
    let existing = if found {
        existing(env, root, mode).await?
    } else {
        None
    };
    let identity = match existing {
        Some((identity, State::Ready)) => {
            check_shards(&identity, shards)?;
            identity::complete(env, root, &identity).await?;
            return Ok(Root {
                lock,
                identity,
                creating: false,
            });
        }
        // Nothing was ever acknowledged: start over with the same identity.
        Some((identity, State::Creating)) => {
            check_shards(&identity, shards)?;
            identity::keep(env, root).await?;
            identity
        }
        None => {
            let identity = Identity::new(random_id(env), shards.unwrap_or(default_shards).max(1));
            identity::create(env, root, &identity).await?;
            identity
        }
    };
    if mode == OpenMode::Open {
        let reason = "its creation was never finished; create it again".to_owned();
        return Err(Error::NotADatabase {
            path: root.to_path_buf(),
            reason,
        });
    }
    Ok(Root {
        lock,
        identity,
        creating: true,
    })
}

/// Declares a database complete whose shards have all created their files.
///
/// # Errors
/// Those of the file operations; the creation can be started over.
pub async fn finish_create<E: Env>(env: &E, root: &Path, identity: &Identity) -> Result<()> {
    env.sync_dir(root).await?;
    // An earlier creation may have been cut off between making the directory and this.
    sync_parent(env, root).await?;
    identity::finish(env, root, identity).await
}

/// Makes the name of a directory durable.
async fn sync_parent<E: Env>(env: &E, directory: &Path) -> Result<()> {
    match directory.parent().filter(|_| !planted!("skip_parent_sync")) {
        Some(parent) if parent.as_os_str().is_empty() => env.sync_dir(Path::new(".")).await?,
        Some(parent) => env.sync_dir(parent).await?,
        None => {}
    }
    Ok(())
}

/// Makes sure that the directory is there; returns whether it held anything.
async fn prepare_directory<E: Env>(env: &E, root: &Path, mode: OpenMode) -> Result<bool> {
    let entries = match env.read_dir(root).await {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), IoErrorKind::NotFound) => {
            if mode == OpenMode::Open {
                let reason = "there is no such directory".to_owned();
                return Err(Error::NotADatabase {
                    path: root.to_path_buf(),
                    reason,
                });
            }
            env.create_dir(root).await?;
            sync_parent(env, root).await?;
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    };
    let is_ours = entries
        .iter()
        .any(|entry| entry.name == identity::FILE_NAME);
    let stranger = entries.iter().find(|entry| entry.name != LOCK_FILE_NAME);
    match (is_ours, stranger, mode) {
        (true, _, _) => Ok(true),
        (false, None, OpenMode::Create | OpenMode::OpenOrCreate) => Ok(false),
        (false, stranger, _) => {
            let holds = stranger.map_or_else(
                || "it is empty".to_owned(),
                |entry| format!("it has no file {}, but {}", identity::FILE_NAME, entry.name),
            );
            Err(Error::NotADatabase {
                path: root.to_path_buf(),
                reason: holds,
            })
        }
    }
}

async fn existing<E: Env>(
    env: &E,
    root: &Path,
    mode: OpenMode,
) -> Result<Option<(Identity, State)>> {
    match identity::read(env, root).await {
        Ok((_, State::Ready)) if mode == OpenMode::Create => Err(Error::AlreadyExists {
            path: root.to_path_buf(),
        }),
        Ok(found) => Ok(Some(found)),
        // A crash right after the file's name was made leaves it without content, and alone.
        Err(Error::Corruption(_)) if mode != OpenMode::Open && is_alone(env, root).await? => {
            env.remove_file(&root.join(identity::FILE_NAME)).await?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn is_alone<E: Env>(env: &E, root: &Path) -> Result<bool> {
    let ours = [LOCK_FILE_NAME, identity::FILE_NAME];
    Ok(env
        .read_dir(root)
        .await?
        .iter()
        .all(|entry| ours.contains(&entry.name.as_str())))
}

fn check_shards(identity: &Identity, wanted: Option<u16>) -> Result<()> {
    let found = identity.router().shards();
    match wanted {
        Some(wanted) if wanted != found => {
            let reason = format!("{wanted}; the database has {found}, fixed at its creation");
            Err(Error::Invalid {
                what: "number of shards",
                reason,
            })
        }
        _ => Ok(()),
    }
}

fn random_id<E: Env>(env: &E) -> DatabaseId {
    let mut id = DatabaseId([0; 16]);
    id.0[..8].copy_from_slice(&env.random_u64().to_le_bytes());
    id.0[8..].copy_from_slice(&env.random_u64().to_le_bytes());
    id
}
