//! The salvage of a whole database, shard by shard.

use std::path::{Path, PathBuf};

use lightning_io::{Env, IoErrorKind};

use super::identity::identify;
use super::report::{Findings, SalvageReport};
use super::shard::ShardReader;
use super::source::Source;
use super::writer::{Sink, Writer};
use crate::root::LOCK_FILE_NAME;
use crate::{Error, FileOwner, Identity, Result, ShardId};

/// How much a salvage takes into memory at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SalvageConfig {
    /// The newest versions of a part of the key space. The sources are read once for each part.
    pub window_bytes: usize,
    /// Keys and values that are handed on together.
    pub batch_bytes: usize,
}

impl Default for SalvageConfig {
    fn default() -> Self {
        Self {
            // What the log of a busy shard holds fits: two full memtables.
            window_bytes: 128 << 20,
            batch_bytes: 1 << 20,
        }
    }
}

/// A database that is locked, and about to be read.
pub struct Salvage<E: Env> {
    env: Source<E>,
    root: PathBuf,
    identity: Identity,
    findings: Findings,
    _lock: E::Lock,
}

impl<E: Env> std::fmt::Debug for Salvage<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Salvage")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

impl<E: Env> Salvage<E> {
    /// Locks a database and finds out what it is.
    ///
    /// # Errors
    /// [`Error::NotADatabase`] when nothing there looks like one, [`Error::Corruption`] when no file
    /// says which database it belongs to, [`Error::Version`] for another version's, `Io` with
    /// [`IoErrorKind::Locked`] when it is in use.
    pub async fn open(env: &E, root: &Path) -> Result<Self> {
        let env = Source::new(env);
        if let Err(error) = env.read_dir(root).await {
            return Err(match error.kind() {
                IoErrorKind::NotFound => Error::NotADatabase {
                    path: root.to_path_buf(),
                    reason: "there is no such directory".to_owned(),
                },
                _ => error.into(),
            });
        }
        let mut findings = Findings::new(None);
        // Looked at before the lock is taken, as taking it makes a file in a directory of strangers.
        identify(&env, root, &mut Findings::new(None)).await?;
        let lock = env.lock(&root.join(LOCK_FILE_NAME)).await?;
        let identity = identify(&env, root, &mut findings).await?;
        Ok(Self {
            env,
            root: root.to_path_buf(),
            identity,
            findings,
            _lock: lock,
        })
    }

    /// The number of shards.
    pub fn shards(&self) -> u16 {
        self.identity.router().shards()
    }

    /// Hands everything that can be read to `sink`, and reports what could not be.
    ///
    /// # Errors
    /// What the sink said. Damage and failing reads are no errors, but in the report.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the database as it was, and the sink with a part.
    pub async fn run(
        &mut self,
        config: &SalvageConfig,
        sink: &mut impl Sink,
    ) -> Result<SalvageReport> {
        let database = self.identity.database();
        let mut report = SalvageReport {
            database,
            shards: Vec::new(),
            losses: std::mem::take(&mut self.findings.losses),
            notes: std::mem::take(&mut self.findings.notes),
        };
        self.note_unread(None, &mut report);
        for shard in self.identity.router().all() {
            let mut findings = Findings::new(Some(shard));
            let mut reader = ShardReader {
                env: &self.env,
                directory: crate::shard::directory(&self.root, shard),
                owner: FileOwner { database, shard },
                window_bytes: config.window_bytes,
                findings: &mut findings,
                writer: Writer::new(sink, config.batch_bytes),
            };
            // In a box: the reading of a shard is long, its future large.
            let read = Box::pin(reader.run()).await?;
            report.shards.push(read);
            report.losses.append(&mut findings.losses);
            report.notes.append(&mut findings.notes);
            self.note_unread(Some(shard), &mut report);
        }
        Ok(report)
    }

    fn note_unread(&self, shard: Option<ShardId>, report: &mut SalvageReport) {
        let mut findings = Findings::new(shard);
        for error in self.env.take_unread() {
            let offset = error.offset().unwrap_or_default();
            findings.note(error.path(), offset, error.kind().to_string());
        }
        report.notes.append(&mut findings.notes);
    }
}
