//! The files of a shard, made for the first time.

use std::path::Path;

use lightning_io::{Env, FileKind, IoErrorKind};

use super::{Shard, TREE_FILE_NAME, Waiter, directory};
use crate::config::ShardConfig;
use crate::superblock::{Checkpoint, Superblock};
use crate::tree::Tree;
use crate::wal::{LogEnd, Marks, Replay, Segments, Wal};
use crate::{Error, FileOwner, Identity, Lsn, Result, ShardId, Timestamp, identity};

impl<E: Env> Shard<E> {
    /// Creates the files of a shard, durable down to their names.
    ///
    /// Call it while the database's identity says that it is being created: what an earlier,
    /// unfinished creation left is removed first.
    ///
    /// # Errors
    /// [`Error::Corruption`] when the shard holds commits, so that the identity cannot be right, or
    /// those of the file operations. A creation that failed can be started over.
    pub async fn create(
        env: &E,
        root: &Path,
        identity: &Identity,
        shard: ShardId,
        config: &ShardConfig,
    ) -> Result<()> {
        let directory = directory(root, shard);
        let owner = FileOwner {
            database: identity.database(),
            shard,
        };
        if holds_commits(env, &directory, owner).await? {
            let what = "it says that the database is being created, but the shard holds commits; \
                        creating it would destroy them";
            let path = root.join(identity::FILE_NAME);
            return Err(Error::corruption(shard, &path, 0, what));
        }
        remove_unfinished(env, &directory).await?;
        match env.create_dir(&directory).await {
            Err(error) if !matches!(error.kind(), IoErrorKind::AlreadyExists) => {
                return Err(error.into());
            }
            _ => {}
        }
        let path = directory.join(TREE_FILE_NAME);
        let (_, state) = Tree::create(env, &path, owner, config.tree()).await?;
        let first = Checkpoint {
            marks: Marks::default(),
            newest: Timestamp::ZERO,
            tree: state,
        };
        Superblock::create(env, &directory, owner, first).await?;

        let marks = Marks::default();
        let end = LogEnd {
            segments: Segments::empty(env, &directory, owner),
            last: marks.checkpoint,
            last_hash: marks.checkpoint_hash,
        };
        let wal: Wal<E, Waiter> =
            Wal::start(env, shard, config.wal(), end, Timestamp::ZERO).await?;
        let shortage = wal.take_shortage();
        wal.close().await?;
        if let Some(error) = shortage {
            return Err(error);
        }
        env.sync_dir(&directory).await?;
        debug_assert_eq!(wal.durable(), Lsn(0));
        Ok(())
    }
}

/// Whether commits were ever taken here: nobody is answered before creation is finished, so what is
/// then found in place of files is not the rest of one.
async fn holds_commits<E: Env>(env: &E, directory: &Path, owner: FileOwner) -> Result<bool> {
    let superblock = match Superblock::open(env, directory, owner).await {
        Ok(superblock) => superblock.current(),
        Err(error) => return absent(error),
    };
    if superblock.newest > Timestamp::ZERO {
        return Ok(true);
    }
    let replay = match Segments::find(env, directory, owner).await {
        Ok(segments) => Replay::start(env, segments, superblock.marks),
        Err(error) => Err(error),
    };
    match replay {
        Ok(mut replay) => Ok(replay.next().await?.is_some()),
        Err(error) => absent(error),
    }
}

/// Files that are missing or were never whole hold nothing; other failures are reported.
fn absent(error: Error) -> Result<bool> {
    match error {
        Error::Corruption(_) => Ok(false),
        Error::Io(error) if matches!(error.kind(), IoErrorKind::NotFound) => Ok(false),
        Error::Io(error) if matches!(error.kind(), IoErrorKind::ShortRead { .. }) => Ok(false),
        error => Err(error),
    }
}

async fn remove_unfinished<E: Env>(env: &E, directory: &Path) -> Result<()> {
    let entries = match env.read_dir(directory).await {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), IoErrorKind::NotFound) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for entry in entries.iter().filter(|entry| entry.kind == FileKind::File) {
        env.remove_file(&directory.join(&entry.name)).await?;
    }
    env.sync_dir(directory).await?;
    Ok(())
}
