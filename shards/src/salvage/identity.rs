//! What a database is whose file `DATABASE` does not say it any more.
//!
//! Every superblock, segment header and tree header names the database that it belongs to; most of
//! them are right. The number of shards is that of the directories: keys are routed by it, and a
//! copy is routed anew.

use std::path::Path;

use lightning_io::{Env, FileKind};

use super::report::{Findings, what_of};
use super::source::Source;
use crate::identity::{self, FILE_NAME, Identity, State};
use crate::shard::{TREE_FILE_NAME, shard_of_directory};
use crate::tree::TreeReader;
use crate::wal::{SegmentFile, file_number};
use crate::{DatabaseId, Error, FileOwner, Result, SHARDS_MAX, ShardId, superblock};

/// Reads the identity, or finds out what it must have been.
///
/// # Errors
/// [`Error::NotADatabase`] when nothing there looks like one, [`Error::Version`] for another
/// version's, [`Error::Corruption`] when no file says which database it belongs to.
pub(super) async fn identify<E: Env>(
    env: &Source<E>,
    root: &Path,
    findings: &mut Findings,
) -> Result<Identity> {
    let error = match identity::read(env, root).await {
        Ok((identity, state)) => {
            if state == State::Creating {
                let what = "the creation was never finished, so nothing was ever acknowledged";
                findings.note(&root.join(FILE_NAME), 0, what);
            }
            return Ok(identity);
        }
        Err(error @ (Error::Corruption(_) | Error::NotADatabase { .. } | Error::Io(_))) => error,
        Err(error) => return Err(error),
    };
    let mut shards = Vec::new();
    for entry in env.read_dir(root).await? {
        let shard = shard_of_directory(&entry.name).filter(|shard| shard.0 < SHARDS_MAX);
        if entry.kind == FileKind::Directory {
            shards.extend(shard);
        }
    }
    let Some(last) = shards.iter().max() else {
        return Err(error);
    };
    let mut votes = Vec::new();
    for &shard in &shards {
        votes_of(env, &crate::shard::directory(root, shard), &mut votes).await;
    }
    let Some(database) = elect(&votes) else {
        return Err(error);
    };
    let count = last.0 + 1;
    let what = format!(
        "{}; other files say that it was database {database}, and there are directories for {count} \
         shards",
        what_of(error)
    );
    findings.note(&root.join(FILE_NAME), 0, what);
    Ok(Identity::new(database, count))
}

/// The database that most files name.
fn elect(votes: &[DatabaseId]) -> Option<DatabaseId> {
    let count = |of: &DatabaseId| votes.iter().filter(|vote| *vote == of).count();
    votes.iter().copied().max_by_key(count)
}

/// What the files of a shard say; one that cannot be read says nothing.
async fn votes_of<E: Env>(env: &Source<E>, directory: &Path, votes: &mut Vec<DatabaseId>) {
    let slots = superblock::read_slots(env, &directory.join(superblock::FILE_NAME)).await;
    for (_, slot) in slots.unwrap_or_default() {
        votes.extend(slot.ok().map(|(owner, ..)| owner.database));
    }
    let nobody = FileOwner {
        database: DatabaseId([0; 16]),
        shard: ShardId(0),
    };
    if let Ok(tree) = TreeReader::open(env, &directory.join(TREE_FILE_NAME), nobody).await
        && let Ok(Some(owner)) = tree.owner().await
    {
        votes.push(owner.database);
    }
    for entry in env.read_dir(directory).await.unwrap_or_default() {
        if entry.kind != FileKind::File || file_number(&entry.name).is_none() {
            continue;
        }
        if let Ok(segment) = SegmentFile::open(env, &directory.join(&entry.name)).await {
            for (_, copy) in segment.read_copies(None).await.unwrap_or_default() {
                votes.extend(copy.ok().map(|header| header.owner.database));
            }
        }
    }
}
