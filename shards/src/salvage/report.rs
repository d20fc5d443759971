//! What a salvage says: what was copied, what is lost, and what was damaged without a loss.

use std::fmt;
use std::path::Path;

use crate::error::KeysText;
use crate::{Corruption, DatabaseId, Error, KeyRange, Lsn, Place, ShardId};

/// What a loss concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// Everything that the shard held.
    Everything,
    /// The keys of this range, as far as the shard held any: their newest versions, unless the log
    /// still had them. Older versions may stand in for them.
    Keys(KeyRange),
    /// What these records of the shard's log wrote. What follows them was applied without them.
    Records {
        /// The first.
        from: Lsn,
        /// The last; `None` where it is unknown.
        to: Option<Lsn>,
    },
}

/// Something that could not be read, and what is lost with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Where the damage is.
    pub place: Place,
    /// How many bytes it concerns, where that is known.
    pub bytes: Option<u64>,
    /// What is wrong there.
    pub what: String,
    /// What is lost.
    pub lost: Lost,
}

/// What was copied of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShardSalvage {
    /// Which shard.
    pub shard: ShardId,
    /// Entries as the tree holds them.
    pub tree_entries: u64,
    /// Entries as the log holds them, newer than those of the tree.
    pub log_entries: u64,
    /// Entries of lost ranges, as an older generation of the tree holds them: what was written or
    /// deleted later may be missing.
    pub older_entries: u64,
    /// Entries of lost ranges that were found outside of the tree: they may be old, or deleted.
    pub found_entries: u64,
    /// Records of the log that were read.
    pub records: u64,
    /// Commits in them.
    pub commits: u64,
    /// The last record that was read; 0 where there was none.
    pub last_record: Lsn,
}

/// What a salvage found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SalvageReport {
    /// The id of the database that was read.
    pub database: DatabaseId,
    /// One entry a shard, in shard order.
    pub shards: Vec<ShardSalvage>,
    /// Everything that could not be read and took something with it, shard by shard.
    pub losses: Vec<Loss>,
    /// Damages that took nothing with them, and other things to know.
    pub notes: Vec<Corruption>,
}

impl ShardSalvage {
    /// Entries that were copied, from wherever.
    pub fn entries(&self) -> u64 {
        self.tree_entries + self.log_entries + self.older_entries + self.found_entries
    }
}

impl SalvageReport {
    /// Whether everything was there.
    pub fn is_whole(&self) -> bool {
        self.losses.is_empty()
    }

    /// Entries that were copied.
    pub fn entries(&self) -> u64 {
        self.shards.iter().map(ShardSalvage::entries).sum()
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("everything in the shard"),
            Self::Keys((None, None)) => f.write_str("all keys of the tree"),
            Self::Keys(keys) => KeysText(keys).fmt(f),
            Self::Records { from, to: Some(to) } if from == to => write!(f, "record {from}"),
            Self::Records { from, to: Some(to) } => {
                write!(f, "records {from} to {to} ({} records)", to.0 - from.0 + 1)
            }
            Self::Records { from, to: None } => {
                write!(f, "records from {from} on, how many is unknown")
            }
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)?;
        if let Some(bytes) = self.bytes {
            write!(f, ", {bytes} bytes")?;
        }
        write!(f, ": {}; lost: {}", self.what, self.lost)
    }
}

/// Collects what is found wrong in one shard, or in the database's own files.
#[derive(Debug)]
pub(super) struct Findings {
    shard: Option<ShardId>,
    pub(super) losses: Vec<Loss>,
    pub(super) notes: Vec<Corruption>,
}

impl Findings {
    pub(super) fn new(shard: Option<ShardId>) -> Self {
        Self {
            shard,
            losses: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn place(&self, file: &Path, offset: u64) -> Place {
        Place {
            shard: self.shard,
            file: file.to_path_buf(),
            offset,
        }
    }

    pub(super) fn lose(&mut self, file: &Path, offset: u64, what: impl Into<String>, lost: Lost) {
        let (place, what) = (self.place(file, offset), what.into());
        self.losses.push(Loss {
            place,
            bytes: None,
            what,
            lost,
        });
    }

    pub(super) fn note(&mut self, file: &Path, offset: u64, what: impl Into<String>) {
        let (place, what) = (self.place(file, offset), what.into());
        self.notes.push(Corruption {
            place,
            what,
            keys: None,
        });
    }
}

/// What is wrong, without the place, which the caller knows.
pub(super) fn what_of(error: Error) -> String {
    match error {
        Error::Corruption(corruption) => corruption.what,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_names_its_place_its_cause_and_what_is_gone() {
        let mut findings = Findings::new(Some(ShardId(3)));
        let (from, to) = (Lsn(4), Some(Lsn(9)));
        findings.lose(
            Path::new("wal-000001"),
            8192,
            "torn",
            Lost::Records { from, to },
        );
        let keys = (
            Some(b"\0\0\0\x01apple".to_vec()),
            Some(b"\0\0\0\x01fig".to_vec()),
        );
        findings.lose(Path::new("tree"), 4096, "rotten", Lost::Keys(keys));
        findings.losses[1].bytes = Some(16384);
        let told: Vec<String> = findings.losses.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "shard 3, file wal-000001, offset 8192: torn; lost: records 4 to 9 (6 records)",
                "shard 3, file tree, offset 4096, 16384 bytes: rotten; \
                 lost: keys from apple to fig",
            ]
        );
    }
}
