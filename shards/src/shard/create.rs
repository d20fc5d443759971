//! The files of a shard, made for the first time.

use std::path::Path;

use lightning_io::{Env, FileKind, IoErrorKind};

use super::{Shard, TREE_FILE_NAME, Waiter, directory};
use crate::config::ShardConfig;
use crate::superblock::{Checkpoint, Superblock};
use crate::tree::Tree;
use crate::wal::{LogEnd, Marks, Segments, Wal};
use crate::{FileOwner, Identity, Lsn, Result, ShardId, Timestamp};

impl<E: Env> Shard<E> {
    /// Creates the files of a shard, durable down to their names.
    ///
    /// Call it while the database's identity says that it is being created: what an earlier,
    /// unfinished creation left is removed first.
    ///
    /// # Errors
    /// Those of the file operations. A creation that failed can be started over.
    pub async fn create(
        env: &E,
        root: &Path,
        identity: &Identity,
        shard: ShardId,
        config: &ShardConfig,
    ) -> Result<()> {
        let directory = directory(root, shard);
        remove_unfinished(env, &directory).await?;
        match env.create_dir(&directory).await {
            Err(error) if !matches!(error.kind(), IoErrorKind::AlreadyExists) => {
                return Err(error.into());
            }
            _ => {}
        }
        let owner = FileOwner {
            database: identity.database(),
            shard,
        };
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
