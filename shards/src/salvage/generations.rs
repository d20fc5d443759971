//! The generations of a shard's superblock that can be read.

use std::path::Path;

use lightning_io::Env;

use super::report::{Findings, Lost, what_of};
use super::source::Source;
use crate::block::BlockError;
use crate::superblock::{self, Checkpoint, FILE_NAME};
use crate::{FileOwner, Result};

/// What the sound copies of a superblock say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Generations {
    /// The newest.
    pub(super) newest: Option<Checkpoint>,
    /// The one before it.
    pub(super) older: Option<Checkpoint>,
}

impl Generations {
    /// Reads every copy. Without a sound one, everything in the tree is lost.
    pub(super) async fn read<E: Env>(
        env: &Source<E>,
        directory: &Path,
        owner: FileOwner,
        findings: &mut Findings,
    ) -> Result<Self> {
        let path = directory.join(FILE_NAME);
        let slots = match superblock::read_slots(env, &path).await {
            Ok(slots) => slots,
            Err(error) => {
                findings.lose(&path, 0, what_of(error), Lost::Keys((None, None)));
                return Ok(Self::default());
            }
        };
        let mut sound = Vec::new();
        for (offset, slot) in slots {
            let what = match slot {
                Ok((found, generation, checkpoint)) if found == owner => {
                    sound.push((generation, checkpoint));
                    continue;
                }
                Ok((found, ..)) => format!(
                    "the superblock belongs to shard {} of database {}",
                    found.shard, found.database
                ),
                // A generation that was never written.
                Err(BlockError::Blank) => continue,
                Err(error) => format!("a copy of the superblock: {error}"),
            };
            findings.note(&path, offset, what);
        }
        sound.sort_by_key(|(generation, _)| std::cmp::Reverse(*generation));
        sound.dedup_by_key(|(generation, _)| *generation);
        let mut sound = sound.into_iter().map(|(_, checkpoint)| checkpoint);
        let (newest, older) = (sound.next(), sound.next());
        if newest.is_none() {
            let what = "no copy of the superblock is sound";
            findings.lose(&path, 0, what, Lost::Keys((None, None)));
        }
        Ok(Self { newest, older })
    }
}
