//! The file `reserve`: disk space that a shard holds back, to be given up when there is no other.
//!
//! # On-disk layout
//! A file of the configured length; its content means nothing and is never read.
//!
//! # Crash argument
//! Nothing that is durable depends on the file, so neither it nor its name is ever synced. A crash
//! may leave it, or not, or shorter than it was: an opening makes it again. A leftover of another
//! length is removed first, as a file cannot be made shorter.

use std::path::{Path, PathBuf};

use lightning_io::{Access, Creation, Env, File, IoError, IoErrorKind};

/// The name of the file in a shard's directory.
const FILE_NAME: &str = "reserve";

/// Whether the reserve is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// It is, or there is to be none.
    Yes,
    /// There is no space for it.
    NoSpace(IoError),
}

/// The reserve of one shard.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
}

impl Reserve {
    /// A reserve of `bytes` in a shard's directory; nothing is done yet.
    pub(super) fn new(directory: &Path, bytes: u64) -> Self {
        Self {
            path: directory.join(FILE_NAME),
            bytes,
        }
    }

    /// The space that it takes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives the space back; false if there was none to give.
    pub(super) async fn give_up<E: Env>(&self, env: &E) -> bool {
        match env.remove_file(&self.path).await {
            Ok(()) => return true,
            Err(error) if matches!(error.kind(), IoErrorKind::NotFound) => {}
            Err(error) => tracing::warn!(%error, "the reserve of space could not be given up"),
        }
        false
    }

    /// Makes sure that it is there. A failure for another reason than space is no reason not to
    /// serve: the shard goes on without a reserve.
    pub(super) async fn hold<E: Env>(&self, env: &E) -> Held {
        let outcome = match self.is_there(env).await {
            Ok(true) => return Held::Yes,
            Ok(false) if self.bytes == 0 => Ok(()),
            Ok(false) => self.make(env).await,
            Err(error) => Err(error),
        };
        let Err(error) = outcome else {
            return Held::Yes;
        };
        // What there is of it takes space that others need.
        self.give_up(env).await;
        if matches!(error.kind(), IoErrorKind::NoSpace) {
            return Held::NoSpace(error);
        }
        tracing::warn!(%error, "no space could be held back for a full disk");
        Held::Yes
    }

    /// Whether a file of the right length is there; one of another length is removed.
    async fn is_there<E: Env>(&self, env: &E) -> Result<bool, IoError> {
        let opened = env.open(&self.path, Access::Read, Creation::MustExist);
        let file = match opened.await {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), IoErrorKind::NotFound) => return Ok(false),
            Err(error) => return Err(error),
        };
        let length = file.length().await?;
        file.close().await?;
        if length == self.bytes && length > 0 {
            return Ok(true);
        }
        env.remove_file(&self.path).await?;
        Ok(false)
    }

    async fn make<E: Env>(&self, env: &E) -> Result<(), IoError> {
        let opened = env.open(&self.path, Access::ReadWrite, Creation::MustCreate);
        let file = opened.await?;
        file.preallocate(self.bytes).await?;
        file.close().await
    }
}
