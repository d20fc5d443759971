//! The way out for a database that does not open: a copy of what can be read.
//!
//! # Crash argument
//! The new database says that it is being created until its content was flushed, verified and
//! counted. A salvage that fails or is cut off leaves one that nobody can open for a whole one.

use std::path::Path;

use futures_executor::block_on;
use lightning_io::glommio::{ExecutorConfig, GlommioEnv};
use lightning_io::mesh::Submitter;
use lightning_shards::client::Client;
use lightning_shards::{
    Corruption, Durability, Error as Cause, OpenMode, Ops, Place, Request, Salvage, SalvageConfig,
    SalvageReport, Sink,
};

use crate::start::{
    absolute, executors_for, existing_directory, on_thread, run_once, start_blocking,
};
use crate::{Database, Result};

/// Copies everything that can be read of the database at `from`, however damaged it is, to a new
/// database at `to`, which must not exist or be an empty directory.
///
/// The old database is read under its lock and not changed. The new one has as many shards and an
/// id of its own. The report names every loss by its place and by what it concerns; a copy with
/// losses is a success of this function, see [`SalvageReport::is_whole`].
///
/// ```
/// # fn main() -> Result<(), lightning_db::Error> {
/// # futures_executor::block_on(async {
/// # let directory = tempfile::tempdir().expect("a temporary directory");
/// # let (old, new) = (directory.path().join("old"), directory.path().join("new"));
/// use lightning_db::Database;
///
/// # let db = Database::create(&old).await?;
/// # db.put("key", "value").await?;
/// # db.close().await?;
/// let report = lightning_db::salvage(&old, &new).await?;
/// for loss in &report.losses {
///     eprintln!("{loss}");
/// }
/// let db = Database::open(&new).await?;
/// # assert_eq!(db.get("key").await?.as_deref(), Some(&b"value"[..]));
/// # assert!(report.is_whole());
/// # db.close().await
/// # })
/// # }
/// ```
///
/// # Errors
/// [`crate::ErrorKind::NotFound`] when there is no database at `from`, or something else than an
/// empty directory at `to`; [`crate::ErrorKind::Locked`] when `from` is in use;
/// [`crate::ErrorKind::AlreadyExists`] when there is a database at `to`;
/// [`crate::ErrorKind::Invalid`] when `to` lies inside `from`; [`crate::ErrorKind::Version`] for
/// another version's; [`crate::ErrorKind::Corruption`] when nothing says which database it is, or
/// when the copy does not verify. After an error from writing, remove what is at `to`.
///
/// # Durability
/// When this returns, the copy is on disk, closed, and was verified.
///
/// # Cancel safety
/// Once polled, dropping the future leaves the salvage under way.
pub async fn salvage(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<SalvageReport> {
    let (from, to) = (absolute(from.as_ref())?, absolute(to.as_ref())?);
    let place = to.clone();
    on_thread("lightning-salvage", &place, move || {
        salvage_blocking(&from, &to)
    })
    .await
}

fn salvage_blocking(from: &Path, to: &Path) -> Result<SalvageReport> {
    check_apart(from, to)?;
    let executors = ExecutorConfig {
        // Whether the old file system does direct I/O is found out by writing to it.
        direct_io: false,
        ..executors_for(to)?
    };
    let (source, target) = (from.to_path_buf(), to.to_path_buf());
    run_once(&executors, from, move |env| async move {
        copy(&env, &source, &target).await
    })?
}

/// A copy inside of the database that is read would change it.
fn check_apart(from: &Path, to: &Path) -> Result<()> {
    let resolved = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    if resolved(&existing_directory(to)).starts_with(resolved(from)) {
        let reason = format!("{} lies inside of {}", to.display(), from.display());
        let what = "destination of a salvage";
        return Err(Cause::Invalid { what, reason }.into());
    }
    Ok(())
}

/// Runs on an executor of its own. The shards of the new database have theirs, so waiting for them
/// may block this one.
async fn copy(env: &GlommioEnv, from: &Path, to: &Path) -> Result<SalvageReport> {
    let mut salvage = Salvage::open(env, from).await?;
    let builder = Database::builder(to).shards(usize::from(salvage.shards()));
    let (database, unfinished) = start_blocking(&builder, OpenMode::Create)?;
    let mut sink = Copy(database.client());
    let read = salvage.run(&SalvageConfig::default(), &mut sink).await;
    let outcome = match read {
        Ok(report) => block_on(check(&database, &report)).map(|()| report),
        Err(error) => Err(error.into()),
    };
    let closed = block_on(database.close());
    // What went wrong first is what has to be known first.
    let report = outcome?;
    closed?;
    if let Some(unfinished) = unfinished {
        unfinished.finish()?;
    }
    Ok(report)
}

/// Proves that the copy is on disk, sound, and as large as what was read.
async fn check(copy: &Database, report: &SalvageReport) -> Result<()> {
    copy.flush().await?;
    let verified = copy.verify().await?;
    if let Some(damage) = verified.damages.into_iter().next() {
        return Err(Cause::Corruption(Box::new(damage)).into());
    }
    if verified.entries == report.entries() {
        return Ok(());
    }
    let place = Place {
        shard: None,
        file: copy.path().to_path_buf(),
        offset: 0,
    };
    let what = format!(
        "{} entries were written, and {} are there",
        report.entries(),
        verified.entries
    );
    let keys = None;
    Err(Cause::Corruption(Box::new(Corruption { place, what, keys })).into())
}

/// Writes to the new database.
struct Copy<'a>(&'a Client<Submitter<Request>>);

impl Sink for Copy<'_> {
    async fn write(&mut self, puts: Ops) -> lightning_shards::Result<()> {
        // Nothing counts before the flush at the end, so no write waits for the disk.
        block_on(self.0.write(puts, Durability::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_copy_that_was_cut_off_cannot_be_opened() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("copy");
        let builder = Database::builder(&path).shards(1);
        let (database, unfinished) = start_blocking(&builder, OpenMode::Create).unwrap();
        block_on(async {
            database.put("key", "value").await.unwrap();
            database.close().await.unwrap();
            let refused = Database::open(&path).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
            unfinished.expect("it is new").finish().unwrap();
            let database = Database::open(&path).await.unwrap();
            assert!(database.get("key").await.unwrap().is_some());
            database.close().await.unwrap();
        });
    }
}
