//! The `import` command.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use futures_channel::mpsc;
use futures_executor::block_on;
use lightning_db::{
    Batch, DEFAULT_KEYSPACE_NAME, Database, Durability, ErrorKind, Keyspace, KeyspaceOptions,
};

use super::chunk::{Reading, read_chunks};
use super::error::ImportError;
use super::format::Format;
use super::progress::Progress;
use super::source::Source;
use super::writer::{Cause, Ended, Writer};
use crate::args::ImportArgs;
use crate::error::CliError;
use crate::output::Output;

/// Chunks that are read ahead of the writing.
const READ_AHEAD_MAX: usize = 4;

/// What an import did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Imported {
    /// Rows that were written.
    pub(crate) rows: u64,
    /// Rows that were left out.
    pub(crate) skipped: u64,
    /// From the first row read to the last row durable.
    pub(crate) elapsed: Duration,
}

/// Imports a file as the command line says.
pub(crate) fn run(args: &ImportArgs) -> Result<(), CliError> {
    let format = args.format.map_or_else(|| Format::of(&args.file), Ok)?;
    // An input that cannot be used does not leave an empty database behind.
    let (source, length) = Source::open(&args.file, format, args.key.clone())?;
    let mut progress = Progress::bar(source.name(), length);
    if args.ack {
        progress.acknowledge();
    }
    let imported = block_on(async {
        let db = open_or_create(&args.database, args.shards).await?;
        let imported = async {
            let keyspace = open_or_create_keyspace(&db, args.keyspace.name.as_deref()).await?;
            import_all(&db, &keyspace, source, args.skip_bad, progress).await
        };
        let imported = imported.await;
        let closed = db.close().await;
        let imported = imported?;
        closed?;
        Ok::<_, CliError>(imported)
    })?;
    let mut out = Output::new();
    out.line(format_args!(
        "rows {}\nskipped {}\nseconds {:.3}\nrows/s {:.0}",
        imported.rows,
        imported.skipped,
        imported.elapsed.as_secs_f64(),
        rate(imported.rows, imported.elapsed),
    ))
    .and_then(|()| out.flush())
}

async fn open_or_create(path: &Path, shards: Option<usize>) -> Result<Database, CliError> {
    match Database::open(path).await {
        Ok(db) => match shards {
            Some(wanted) if wanted != db.shard_count() => {
                let found = db.shard_count();
                db.close().await?;
                let path = path.to_path_buf();
                Err(CliError::Shards {
                    path,
                    found,
                    wanted,
                })
            }
            _ => Ok(db),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let builder = Database::builder(path);
            let builder = match shards {
                Some(count) => builder.shards(count),
                None => builder,
            };
            Ok(builder.create().await?)
        }
        Err(error) => Err(error.into()),
    }
}

async fn open_or_create_keyspace(db: &Database, name: Option<&str>) -> Result<Keyspace, CliError> {
    let name = name.unwrap_or(DEFAULT_KEYSPACE_NAME);
    match db.keyspace(name).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Ok(db.create_keyspace(name, KeyspaceOptions::new()).await?)
        }
        keyspace => Ok(keyspace?),
    }
}

/// Writes all rows of an input to a keyspace of a database.
///
/// # Errors
/// A bad row (unless they are skipped), or a failure of the input or of the database; the error
/// says how many rows are durable.
pub(crate) async fn import_all(
    db: &Database,
    keyspace: &Keyspace,
    source: Source,
    skip_bad: bool,
    mut progress: Progress,
) -> Result<Imported, CliError> {
    let began = Instant::now();
    let file = source.name().to_owned();
    let (sender, readings) = mpsc::channel(READ_AHEAD_MAX);
    // Not joined: when the writing fails, the thread may wait for an input that never comes.
    let target = keyspace.clone();
    thread::spawn(move || read_chunks(source, &target, skip_bad, sender));
    let write = |batch: Batch| {
        let db = db.clone();
        // What is told to be durable has to be, however the database was opened.
        async move { db.write_with(batch, Durability::Sync).await }
    };
    let Ended {
        cause,
        durable_rows: durable,
        unsure_rows: unsure,
    } = Writer::new(write, &mut progress).run(readings).await;
    let elapsed = began.elapsed();
    let skipped = progress.finish();
    match cause {
        Cause::Reading(Some(Reading::End)) => {}
        Cause::Reading(Some(Reading::Bad(bad))) => {
            return Err(ImportError::Row { file, bad, durable }.into());
        }
        Cause::Reading(Some(Reading::Failed(error))) => {
            return Err(ImportError::Read {
                file,
                error,
                durable,
            }
            .into());
        }
        Cause::Reading(Some(Reading::Chunk(_)) | None) => {
            return Err(ImportError::ReaderLost { file, durable }.into());
        }
        Cause::Write(error) => {
            return Err(ImportError::Write {
                file,
                error,
                durable,
                unsure,
            }
            .into());
        }
    }
    let skipped = skipped?;
    Ok(Imported {
        rows: durable - skipped,
        skipped,
        elapsed,
    })
}

/// Events a second.
pub(crate) fn rate(count: u64, elapsed: Duration) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate is shown with a few digits"
    )]
    let count = count as f64;
    count / elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
}
