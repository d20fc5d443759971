//! Which errors and losses the faults of a run explain. Every other one is a violation.
//!
//! # Algorithm
//! A fault excuses nothing by having struck somewhere: what counts is the ledger of damages, entry
//! by entry. An error of an operation is explained by an entry for that file and that operation; a
//! report of damage by an entry for the file that it names, or for one that says what that file
//! must hold; a poisoned shard by a write or a sync of its files that failed in this life.
//!
//! What no fault excuses is not asked here: wrong values, invented keys, panics, hangs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use lightning_io::sim::{Damage, Fault, World};
use lightning_io::{BLOCK_BYTES, IoError, IoErrorKind, IoOp, to_u64, to_usize};
use lightning_shards::{Corruption, Error};

use crate::database::ROOT;

/// What struck a world, and what was damaged on its disk by then.
#[derive(Debug)]
pub(crate) struct Evidence {
    fired: BTreeMap<Fault, u64>,
    /// Every damage that was live when this world began, or that struck in it.
    damage: Vec<Entry>,
    /// How long each damaged file of a log is.
    log_bytes: BTreeMap<PathBuf, u64>,
}

/// The ledger of a world when it begins.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inherited {
    live: Vec<bool>,
}

impl Inherited {
    /// Takes note of what is damaged.
    pub(crate) fn note(world: &World) -> Self {
        let damage = world.damage();
        Self {
            live: damage.iter().map(|damage| damage.live).collect(),
        }
    }

    /// How many entries the ledger has.
    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }
}

/// One entry of the ledger, with the path as the engine names it.
#[derive(Debug)]
struct Entry {
    fault: Fault,
    path: PathBuf,
    offset: u64,
    len: u64,
    /// Whether it is there still.
    live: bool,
    /// Its number in the ledger.
    index: usize,
    /// Whether it struck in this world.
    fresh: bool,
}

/// Faults that change what is read of a place until it is written again.
const LASTING: [Fault; 6] = [
    Fault::BitRot,
    Fault::MisdirectedWrite,
    Fault::StickyMisdirectedRead,
    Fault::PhantomWrite,
    Fault::StickyStaleRead,
    Fault::LyingSync,
];

/// Faults that change what one read brings.
const PASSING: [Fault; 2] = [Fault::MisdirectedRead, Fault::StaleRead];

/// Faults that make reads fail.
const UNREADABLE: [Fault; 3] = [Fault::ReadError, Fault::StickyReadError, Fault::ShortRead];

/// Faults of writes and syncs that the engine is told of, and that may poison a shard.
const FAILED_WRITES: [Fault; 5] = [
    Fault::WriteError,
    Fault::StickyWriteError,
    Fault::DurableWriteError,
    Fault::SyncError,
    Fault::ShortWrite,
];

/// A path of the image as the engine names it.
fn absolute(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

/// The directory of a shard.
fn directory(shard: usize) -> PathBuf {
    Path::new(ROOT).join(format!("shard-{shard:03}"))
}

fn name_of(path: &Path) -> &str {
    let name = path.file_name().and_then(|name| name.to_str());
    name.unwrap_or_default()
}

fn is_log(path: &Path) -> bool {
    name_of(path).starts_with("wal-")
}

impl Evidence {
    /// Takes what is known at the end of a world. What was mended in it may have been met before.
    pub(crate) fn gather(world: &World, inherited: &Inherited) -> Self {
        let entry = |(index, damage): (usize, Damage)| Entry {
            fault: damage.fault,
            path: absolute(&damage.path),
            offset: damage.offset,
            len: damage.len,
            live: damage.live,
            index,
            fresh: index >= inherited.len(),
        };
        let damage = world.damage().into_iter().enumerate().map(entry);
        let damage: Vec<Entry> = damage
            .filter(|entry| inherited.live.get(entry.index).is_none_or(|&live| live))
            .collect();
        let logs = damage.iter().filter(|entry| is_log(&entry.path));
        let log_bytes = logs.filter_map(|entry| {
            let bytes = world.read_file(&entry.path)?;
            Some((entry.path.clone(), to_u64(bytes.len())))
        });
        Self {
            fired: world.faults_fired().into_iter().collect(),
            log_bytes: log_bytes.collect(),
            damage,
        }
    }

    /// Whether anything on the disk is not what was written, for good.
    pub(crate) fn has_lasting(&self) -> bool {
        self.any(|entry| {
            entry.live && (LASTING.contains(&entry.fault) || entry.fault == Fault::StickyReadError)
        })
    }

    /// Why an error is not explained by what struck; `None` when it is.
    pub(crate) fn objection(&self, error: &Error) -> Option<String> {
        if error.to_string().contains("panicked") {
            return Some("a task panicked".to_owned());
        }
        let explained = match error {
            Error::Busy { .. } => true,
            Error::NoSpace { .. } => self.fired.contains_key(&Fault::NoSpace),
            Error::Io(error) => self.explains_io(error),
            Error::Corruption(corruption) => self.explains_corruption(corruption),
            Error::Poisoned { shard, .. } | Error::MaybeCommitted { shard, .. } => {
                self.explains_poison(shard.index())
            }
            Error::NotADatabase { .. } => self.explains_absence(Path::new(ROOT)),
            _ => false,
        };
        (!explained).then(|| "no fault that struck explains it".to_owned())
    }

    fn any(&self, wanted: impl Fn(&Entry) -> bool) -> bool {
        self.damage.iter().any(wanted)
    }

    fn explains_io(&self, error: &IoError) -> bool {
        let path = error.path();
        let failed = |faults: &[Fault]| {
            self.any(|entry| entry.fresh && entry.path == path && faults.contains(&entry.fault))
        };
        match (error.op(), error.kind()) {
            (_, IoErrorKind::NoSpace) => self.fired.contains_key(&Fault::NoSpace),
            (_, IoErrorKind::NotFound) => self.explains_absence(path),
            (_, IoErrorKind::ShortWrite { .. }) => failed(&[Fault::ShortWrite]),
            (_, IoErrorKind::ShortRead { .. }) => {
                failed(&[Fault::ShortRead]) || self.has_lied(path)
            }
            (IoOp::Read, IoErrorKind::Device { .. }) => {
                failed(&[Fault::ReadError]) || self.is_unreadable(path, error.offset())
            }
            (IoOp::Write, IoErrorKind::Device { .. }) => failed(&[
                Fault::WriteError,
                Fault::StickyWriteError,
                Fault::DurableWriteError,
            ]),
            (IoOp::Sync | IoOp::SyncDir, IoErrorKind::Device { .. }) => failed(&[Fault::SyncError]),
            _ => false,
        }
    }

    /// A block of the file cannot be read, at or behind the offset.
    fn is_unreadable(&self, path: &Path, offset: Option<u64>) -> bool {
        self.any(|entry| {
            entry.fault == Fault::StickyReadError
                && entry.path == path
                && offset.is_none_or(|offset| entry.offset + entry.len > offset)
        })
    }

    /// A sync of a file claimed to save what it did not.
    fn has_lied(&self, path: &Path) -> bool {
        self.any(|entry| entry.fault == Fault::LyingSync && entry.path == path)
    }

    /// The name of a file or directory may be lost: a directory above it was not really synced.
    fn explains_absence(&self, path: &Path) -> bool {
        let root = path == Path::new(ROOT);
        path.ancestors().skip(1).any(|above| self.has_lied(above))
            // What makes a directory a database is a file in it.
            || (root && self.has_lied(path))
            || (root && self.any(|entry| spoils(entry) && entry.path.parent() == Some(path)))
    }

    fn explains_corruption(&self, corruption: &Corruption) -> bool {
        let file = &corruption.place.file;
        self.any(|entry| {
            let named = entry.path == *file || entry.path.parent() == Some(file);
            match entry.fault {
                Fault::LyingSync => named || Some(entry.path.as_path()) == file.parent(),
                // What cannot be read is reported as damage by the verifier.
                fault if UNREADABLE.contains(&fault) => named,
                _ => spoils(entry) && (named || speaks_of(&entry.path, file)),
            }
        })
    }

    /// A write or a sync of the shard's files failed in this life.
    fn explains_poison(&self, shard: usize) -> bool {
        let directory = directory(shard);
        self.any(|entry| {
            entry.fresh
                && FAILED_WRITES.contains(&entry.fault)
                && entry.path.starts_with(&directory)
        })
    }

    /// Whether syncs lied about a shard's files or names since the ledger had `since` entries.
    pub(crate) fn has_lied_about(&self, shard: usize, since: usize) -> bool {
        let directory = directory(shard);
        self.any(|entry| {
            entry.fault == Fault::LyingSync
                && entry.index >= since
                && (entry.path.starts_with(&directory) || directory.starts_with(&entry.path))
        })
    }

    /// The most records that a segment hides because both copies of its header are damaged, one of
    /// them since the ledger had `since` entries: records are whole blocks between the two.
    fn records_hidden(&self, file: &Path, bytes: u64, since: usize) -> usize {
        let block = to_u64(BLOCK_BYTES);
        let struck = |at: u64| {
            let damage = self.damage.iter().filter(move |entry| {
                LASTING.contains(&entry.fault)
                    && entry.path == file
                    && entry.offset < at + block
                    && entry.offset + entry.len > at
            });
            damage.map(|entry| entry.index).max()
        };
        match (struck(0), struck(bytes.saturating_sub(block))) {
            (Some(first), Some(second)) if first.max(second) >= since => {
                to_usize(bytes / block).saturating_sub(2)
            }
            _ => 0,
        }
    }

    /// How many records of a shard's log may have been damaged since the ledger had `since`
    /// entries: a damage is inside one record, but for a write that landed on others, and for one
    /// that hides a segment.
    pub(crate) fn log_records_damaged(&self, shard: usize, since: usize) -> usize {
        let directory = directory(shard);
        let logs = self.log_bytes.iter();
        let here = logs.filter(|(file, _)| file.starts_with(&directory));
        let hidden = here.map(|(file, &bytes)| self.records_hidden(file, bytes, since));
        let inside = |entry: &&Entry| {
            LASTING.contains(&entry.fault)
                && entry.index >= since
                && entry.path.starts_with(&directory)
                && is_log(&entry.path)
        };
        let records = |entry: &Entry| match entry.fault {
            Fault::MisdirectedWrite | Fault::StickyMisdirectedRead => {
                to_usize(entry.len.div_ceil(to_u64(BLOCK_BYTES)))
            }
            _ => 1,
        };
        let damaged = self.damage.iter().filter(inside).map(records);
        hidden.chain(damaged).sum()
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.damage.iter().try_for_each(|entry| {
            let Entry {
                fault,
                path,
                offset,
                len,
                ..
            } = entry;
            let age = if entry.fresh {
                ""
            } else {
                " (of an earlier life)"
            };
            write!(f, "; {fault:?} at {}, {offset}+{len}{age}", path.display())
        })
    }
}

/// The entry makes a read of its place bring other bytes than were written.
fn spoils(entry: &Entry) -> bool {
    LASTING.contains(&entry.fault) || (entry.fresh && PASSING.contains(&entry.fault))
}

/// What one file says decides what another has to hold: a superblock which tree and which records,
/// and a segment of the log where the others begin and end.
fn speaks_of(damaged: &Path, named: &Path) -> bool {
    damaged.parent() == named.parent()
        && (name_of(damaged) == "superblock" || (is_log(damaged) && is_log(named)))
}
