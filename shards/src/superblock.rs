//! The superblock of a shard: where its tree is, and from which record on the log is needed.
//!
//! # On-disk layout
//! The file `superblock` has four blocks (see `block` for the frame). Generation `g` is written to
//! blocks `2 * (g mod 2)` and `2 * (g mod 2) + 1`: two copies of it, next to two of the one before.
//! ```text
//! offset  bytes  field
//!     16     16  database id
//!     32      2  shard
//!     34      1  slot: 0 to 3
//!     35      5  zeros
//!     40      8  generation
//!     48      8  checkpoint: every record up to this LSN is in the tree
//!     56      8  hash of the record at the checkpoint
//!     64      8  durable LSN when this was written
//!     72      8  newest commit timestamp in the tree
//!     80      .  state of the tree, see `tree`
//! ```
//!
//! # Crash argument
//! A generation is written one copy after the other, each durable before the next, over the copies
//! of the generation before the last. Until the first copy is whole, the last generation's copies
//! are untouched; from then on the new one counts. One rotten block never hides a generation.
//! Should both copies of the newest be lost, the one before it is read, and the log, which is kept
//! only from the newest checkpoint on, does not reach back to it: opening refuses.

use std::cell::Cell;
use std::path::Path;

use lightning_io::{Access, BLOCK_BYTES, Creation, Env, File, IoErrorKind, to_u64};

use crate::block::{self, BODY, BlockError, FORMAT_VERSION, get_u16, get_u64, put};
use crate::reread::read_judged;
use crate::tree::TreeState;
use crate::wal::{Marks, RecordHash};
use crate::{Corruption, DatabaseId, Error, FileOwner, Lsn, Place, Result, ShardId, Timestamp};

pub(crate) const MAGIC: [u8; 8] = *b"LDBSUPER";
const DATABASE: usize = BODY;
const SHARD: usize = DATABASE + 16;
const SLOT: usize = SHARD + 2;
const ZEROS: usize = SLOT + 1;
const GENERATION: usize = ZEROS + 5;
const CHECKPOINT: usize = GENERATION + 8;
const CHECKPOINT_HASH: usize = CHECKPOINT + 8;
const DURABLE: usize = CHECKPOINT_HASH + 8;
const NEWEST: usize = DURABLE + 8;
const TREE: usize = NEWEST + 8;
const END: usize = TREE + TreeState::BYTES;

const _: () = assert!(GENERATION == 40 && TREE == 80 && END <= BLOCK_BYTES);

/// Copies of each generation.
const COPIES: u64 = 2;
/// Generations that are on disk at any time.
const GENERATIONS: u64 = 2;
const SLOTS: u64 = COPIES * GENERATIONS;

/// The name of the file in a shard's directory.
pub(crate) const FILE_NAME: &str = "superblock";

/// One generation's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// What the log has to provide and what is known of its durability.
    pub(crate) marks: Marks,
    /// The newest commit timestamp in the tree.
    pub(crate) newest: Timestamp,
    /// The tree.
    pub(crate) tree: TreeState,
}

/// The superblock file of one shard.
#[derive(Debug)]
pub(crate) struct Superblock<F> {
    file: F,
    owner: FileOwner,
    /// The newest generation, and what it says.
    current: Cell<(u64, Checkpoint)>,
}

impl<F: File> Superblock<F> {
    /// Creates the file with its first generation, durable but for its name.
    pub(crate) async fn create<E: Env<File = F>>(
        env: &E,
        directory: &Path,
        owner: FileOwner,
        first: Checkpoint,
    ) -> Result<Self> {
        let path = directory.join(FILE_NAME);
        let file = env
            .open(&path, Access::ReadWriteDurable, Creation::MustCreate)
            .await?;
        file.preallocate(SLOTS * to_u64(BLOCK_BYTES)).await?;
        for slot in 0..SLOTS {
            file.write_at(slot * to_u64(BLOCK_BYTES), env.allocate(BLOCK_BYTES))
                .await?;
        }
        let superblock = Self {
            file,
            owner,
            current: Cell::new((0, first)),
        };
        superblock.write(env, first).await?;
        superblock.file.sync().await?;
        Ok(superblock)
    }

    /// Opens the file and picks the newest sound generation.
    ///
    /// # Errors
    /// [`Error::Corruption`] when none is sound or the file is another shard's; [`Error::Version`]
    /// when another version wrote it.
    pub(crate) async fn open<E: Env<File = F>>(
        env: &E,
        directory: &Path,
        owner: FileOwner,
    ) -> Result<Self> {
        let path = directory.join(FILE_NAME);
        let access = if planted!("superblock_not_durable") {
            Access::ReadWrite
        } else {
            Access::ReadWriteDurable
        };
        let file = env.open(&path, access, Creation::MustExist).await?;
        let mut best: Option<(u64, Checkpoint)> = None;
        let mut failure = None;
        for slot in 0..SLOTS {
            match read_slot(&file, Some(owner), slot).await? {
                Ok((found, _, _)) if found != owner => {
                    let what = format!(
                        "the superblock belongs to shard {} of database {}, expected shard {} \
                         of {}",
                        found.shard, found.database, owner.shard, owner.database
                    );
                    let offset = slot * to_u64(BLOCK_BYTES);
                    return Err(Error::corruption(owner.shard, &path, offset, what));
                }
                Ok((_, generation, checkpoint)) => {
                    if best.is_none_or(|(known, _)| known < generation) {
                        best = Some((generation, checkpoint));
                    }
                }
                Err(error) if failure.is_none() || matches!(error, BlockError::Version(_)) => {
                    failure = Some(error);
                }
                Err(_) => {}
            }
        }
        match (best, failure) {
            (Some((generation, current)), _) => {
                // What is trusted from here on must not vanish in the next crash.
                file.sync().await?;
                let superblock = Self {
                    file,
                    owner,
                    current: Cell::new((generation, current)),
                };
                superblock.complete(env).await?;
                Ok(superblock)
            }
            (None, Some(BlockError::Version(found))) => Err(Error::Version {
                path,
                found,
                supported: FORMAT_VERSION,
            }),
            (None, failure) => {
                let why = failure.map_or_else(String::new, |error| format!(": {error}"));
                let what = format!("no copy of the superblock is sound{why}");
                Err(Error::corruption(owner.shard, &path, 0, what))
            }
        }
    }

    /// Writes the copies of the newest generation that a crash or rot has taken; the one that was
    /// read has proven its content.
    async fn complete<E: Env<File = F>>(&self, env: &E) -> Result<()> {
        let (generation, current) = self.current.get();
        for copy in 0..COPIES {
            let slot = slot_of(generation, copy);
            if read_slot(&self.file, Some(self.owner), slot).await?
                != Ok((self.owner, generation, current))
            {
                self.write_copy(env, slot, generation, &current).await?;
            }
        }
        Ok(())
    }

    async fn write_copy<E: Env<File = F>>(
        &self,
        env: &E,
        slot: u64,
        generation: u64,
        checkpoint: &Checkpoint,
    ) -> Result<()> {
        let mut block = env.allocate(BLOCK_BYTES);
        encode(self.owner, slot, generation, checkpoint, &mut block);
        self.file
            .write_at(slot * to_u64(BLOCK_BYTES), block)
            .await?;
        Ok(())
    }

    /// The newest generation's content.
    pub(crate) fn current(&self) -> Checkpoint {
        self.current.get().1
    }

    /// Writes a new generation; durable when it returns. One write at a time.
    ///
    /// # Errors
    /// After an error it is open whether the new generation or the last counts at the next open, so
    /// nothing that either refers to may be reused.
    pub(crate) async fn write<E: Env<File = F>>(
        &self,
        env: &E,
        checkpoint: Checkpoint,
    ) -> Result<()> {
        let (last, current) = self.current.get();
        assert!(checkpoint.marks.checkpoint >= current.marks.checkpoint);
        assert!(checkpoint.marks.durable >= checkpoint.marks.checkpoint);
        let generation = last + 1;
        for copy in u64::from(planted!("one_superblock_copy"))..COPIES {
            let slot = slot_of(generation, copy);
            self.write_copy(env, slot, generation, &checkpoint).await?;
        }
        assert_eq!(
            self.current.get().0,
            last,
            "one superblock is written at a time"
        );
        self.current.set((generation, checkpoint));
        Ok(())
    }

    /// Reads the copies again and reports those that are not what they should be.
    pub(crate) async fn verify(&self) -> Result<Vec<Corruption>> {
        loop {
            let (generation, current) = self.current.get();
            let damages = self.damaged_copies(generation, current).await?;
            // A flush may have written over what was read: then its generation is looked at.
            if self.current.get().0 == generation {
                return Ok(damages);
            }
        }
    }

    async fn damaged_copies(
        &self,
        generation: u64,
        current: Checkpoint,
    ) -> Result<Vec<Corruption>> {
        let mut damages = Vec::new();
        for copy in 0..COPIES {
            let slot = slot_of(generation, copy);
            let what = match read_slot(&self.file, Some(self.owner), slot).await? {
                Ok(found) if found == (self.owner, generation, current) => continue,
                Ok(_) => "a copy of the superblock is not the one that was written".to_owned(),
                Err(error) => format!("a copy of the superblock is damaged: {error}"),
            };
            let place = Place {
                shard: Some(self.owner.shard),
                file: self.file.path().to_path_buf(),
                offset: slot * to_u64(BLOCK_BYTES),
            };
            damages.push(Corruption {
                place,
                what,
                keys: None,
            });
        }
        Ok(damages)
    }
}

/// Reads every copy of every generation, for those who read what damage has left: each with its
/// offset.
///
/// # Errors
/// Those of the file operations.
pub(crate) async fn read_slots<E: Env>(
    env: &E,
    path: &Path,
) -> Result<Vec<(u64, std::result::Result<Slot, BlockError>)>> {
    let file = env.open(path, Access::Read, Creation::MustExist).await?;
    let mut slots = Vec::new();
    for slot in 0..SLOTS {
        let found = read_slot(&file, None, slot).await?;
        slots.push((slot * to_u64(BLOCK_BYTES), found));
    }
    Ok(slots)
}

/// The slot of a copy of a generation.
fn slot_of(generation: u64, copy: u64) -> u64 {
    if planted!("superblock_in_place") {
        return 0;
    }
    (generation % GENERATIONS) * COPIES + copy
}

/// Whose it is, the generation and its content.
pub(crate) type Slot = (FileOwner, u64, Checkpoint);

/// Reads a slot; what is not a sound copy, or not `owner`'s where that is known, is read twice.
async fn read_slot<F: File>(
    file: &F,
    owner: Option<FileOwner>,
    slot: u64,
) -> Result<std::result::Result<Slot, BlockError>> {
    let place = (slot * to_u64(BLOCK_BYTES), BLOCK_BYTES);
    let judge = |block: &[u8]| decode(block, slot);
    let is_good = |found: &std::result::Result<Slot, BlockError>| {
        let found = found.as_ref().ok();
        found.is_some_and(|found| owner.is_none_or(|owner| found.0 == owner))
    };
    match read_judged(file, place, judge, is_good).await {
        Ok(found) => Ok(found),
        Err(error) if matches!(error.kind(), IoErrorKind::ShortRead { .. }) => {
            Ok(Err(BlockError::Blank))
        }
        Err(error) => Err(error.into()),
    }
}

fn slot_byte(slot: u64) -> u8 {
    u8::try_from(slot).expect("there are four slots")
}

pub(crate) fn encode(
    owner: FileOwner,
    slot: u64,
    generation: u64,
    content: &Checkpoint,
    block: &mut [u8],
) {
    put(block, DATABASE, &owner.database.0);
    put(block, SHARD, &owner.shard.0.to_le_bytes());
    block[SLOT] = slot_byte(slot);
    put(block, GENERATION, &generation.to_le_bytes());
    put(block, CHECKPOINT, &content.marks.checkpoint.0.to_le_bytes());
    put(
        block,
        CHECKPOINT_HASH,
        &content.marks.checkpoint_hash.0.to_le_bytes(),
    );
    put(block, DURABLE, &content.marks.durable.0.to_le_bytes());
    put(block, NEWEST, &content.newest.0.to_le_bytes());
    let mut tree = [0; TreeState::BYTES];
    content.tree.encode(&mut tree);
    put(block, TREE, &tree);
    block::seal(block, MAGIC);
}

pub(crate) fn decode(block: &[u8], slot: u64) -> std::result::Result<Slot, BlockError> {
    block::check(block, MAGIC)?;
    let mut database = DatabaseId([0; 16]);
    database.0.copy_from_slice(&block[DATABASE..SHARD]);
    let mut tree = [0; TreeState::BYTES];
    tree.copy_from_slice(&block[TREE..END]);
    let tree = TreeState::decode(&tree)
        .map_err(|_| BlockError::Fields("the state of the tree contradicts itself"))?;
    if block[SLOT] != slot_byte(slot) {
        return Err(BlockError::Magic);
    }
    let owner = FileOwner {
        database,
        shard: ShardId(get_u16(block, SHARD)),
    };
    let marks = Marks {
        checkpoint: Lsn(get_u64(block, CHECKPOINT)),
        checkpoint_hash: RecordHash(get_u64(block, CHECKPOINT_HASH)),
        durable: Lsn(get_u64(block, DURABLE)),
    };
    let content = Checkpoint {
        marks,
        newest: Timestamp(get_u64(block, NEWEST)),
        tree,
    };
    let generation = get_u64(block, GENERATION);
    if marks.checkpoint > marks.durable || marks.durable > Lsn::MAX || generation > u64::MAX >> 1 {
        return Err(BlockError::Fields(
            "the superblock's numbers are out of range",
        ));
    }
    Ok((owner, generation, content))
}
