//! The `demo` command: a real job on the shipped data, with everything that is read compared with
//! what was written.
//!
//! Latencies are of single calls, from before the call to after its answer, one clock reading on
//! either side; nothing is left out of them. Rates are counts over the time of the whole step.

mod data;
mod directory;
mod report;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use futures_util::{StreamExt, TryStreamExt, stream};
use lightning_db::{Batch, DEFAULT_KEYSPACE_NAME, Database};

use self::data::Model;
use self::report::{Latencies, Report};
use crate::error::CliError;
use crate::escape::escaped;
use crate::import::{Progress, import_all};

/// Calls under way at once, where several are.
const CONCURRENT: usize = 64;

/// Keys of one `get_many`.
const MANY_KEYS: usize = 64;

/// Durable puts one after the other: each costs a sync, so this many stay under a few seconds on
/// the slowest disks.
const SINGLE_PUTS: usize = 500;

/// Durable puts from [`CONCURRENT`] writers, which share syncs.
const SHARED_PUTS: usize = 10_000;

/// A prefix that the data has: all Greek characters.
const PREFIX: &[u8] = b"Greek/";

/// Runs the whole demonstration.
pub(crate) fn run(directory: Option<PathBuf>) -> Result<(), CliError> {
    let path = directory::prepare(directory)?.join("unicode.db");
    let mut report = Report::new();
    block_on(demonstrate(&path, &mut report))
}

async fn demonstrate(path: &Path, report: &mut Report) -> Result<(), CliError> {
    let text = data::unpack()?;
    let mut model = data::model(&text)?;
    report.text(
        "data",
        format_args!("{} rows of {}", model.len(), data::NAME),
    )?;
    let db = Database::create(path).await?;
    let shards = db.shard_count();
    report.text(
        "database",
        format_args!("{}, {shards} shards", path.display()),
    )?;

    let worked = work(&db, text, &mut model, report).await;
    let began = Instant::now();
    let closed = db.close().await;
    worked?;
    closed?;
    report.took("close", began.elapsed())?;

    let began = Instant::now();
    let db = Database::open(path).await?;
    report.took("reopen", began.elapsed())?;
    let checked = check(&db, &model, report).await;
    let closed = db.close().await;
    checked?;
    closed?;
    let path = path.display();
    report.text("result", "everything that was read is what was written")?;
    report.text(
        "try",
        format_args!("lightning scan {path} --prefix Greek/ --limit 5"),
    )?;
    report.text("", format_args!("lightning stats {path}"))
}

/// Fills the new database and reads it back while it is warm.
async fn work(
    db: &Database,
    text: Vec<u8>,
    model: &mut Model,
    report: &mut Report,
) -> Result<(), CliError> {
    let source = data::source(text)?;
    let (keyspace, progress) = (
        db.keyspace(DEFAULT_KEYSPACE_NAME).await?,
        Progress::quiet(data::NAME),
    );
    let imported = import_all(db, &keyspace, source, false, progress).await?;
    if imported.rows != data::as_u64(model.len()) {
        let rows = imported.rows;
        return failed(format!("imported {rows} rows of {}", model.len()));
    }
    report.rate(
        "import, durable",
        imported.rows,
        "rows",
        imported.elapsed,
        None,
    )?;

    let keys = data::scattered(model);
    get_each(db, &keys, 1, "get, one at a time", report).await?;
    get_each(db, &keys, CONCURRENT, "get, 64 at a time", report).await?;
    get_many(db, &keys, report).await?;
    scan_all(db, model, "scan, all", report).await?;
    scan_prefix(db, model, report).await?;

    put_each(db, model, 1, SINGLE_PUTS, "put, one at a time", report).await?;
    put_each(
        db,
        model,
        CONCURRENT,
        SHARED_PUTS,
        "put, 64 at a time",
        report,
    )
    .await?;
    write_batch(db, model, report).await
}

/// Compares a reopened database with what it must hold, and verifies its files.
async fn check(db: &Database, model: &Model, report: &mut Report) -> Result<(), CliError> {
    scan_all(db, model, "scan, all", report).await?;
    let keys = data::scattered(model);
    get_each(db, &keys, 1, "get, one at a time", report).await?;
    let began = Instant::now();
    let found = db.verify().await?;
    if let Some(damage) = found.damages.first() {
        return failed(format!("verify found damage: {damage}"));
    }
    if found.entries != data::as_u64(model.len()) {
        return failed(format!(
            "verify found {} entries, not {}",
            found.entries,
            model.len()
        ));
    }
    report.rate("verify", found.entries, "entries", began.elapsed(), None)
}

async fn get_each(
    db: &Database,
    keys: &[(&[u8], &[u8])],
    concurrent: usize,
    what: &str,
    report: &mut Report,
) -> Result<(), CliError> {
    let began = Instant::now();
    let calls = keys.iter().map(|&(key, expected)| async move {
        let began = Instant::now();
        let found = db.get(key).await?;
        let took = began.elapsed();
        same(key, found.as_deref(), expected)?;
        Ok::<Duration, CliError>(took)
    });
    let took = gather(calls, concurrent).await?;
    report.rate(
        what,
        data::as_u64(keys.len()),
        "keys",
        began.elapsed(),
        Some(took),
    )
}

async fn get_many(
    db: &Database,
    keys: &[(&[u8], &[u8])],
    report: &mut Report,
) -> Result<(), CliError> {
    let began = Instant::now();
    let calls = keys.chunks(MANY_KEYS).map(|chunk| async move {
        let began = Instant::now();
        let found = db.get_many(chunk.iter().map(|&(key, _)| key)).await?;
        let took = began.elapsed();
        if found.len() != chunk.len() {
            return failed(format!(
                "asked for {} keys, got {}",
                chunk.len(),
                found.len()
            ));
        }
        for (&(key, expected), found) in chunk.iter().zip(&found) {
            same(key, found.as_deref(), expected)?;
        }
        Ok(took)
    });
    let took = gather(calls, 1).await?;
    let count = data::as_u64(keys.len());
    report.rate("get_many of 64", count, "keys", began.elapsed(), Some(took))
}

/// Stores new keys, each durable when its call returns.
async fn put_each(
    db: &Database,
    model: &mut Model,
    concurrent: usize,
    count: usize,
    what: &str,
    report: &mut Report,
) -> Result<(), CliError> {
    let entries: Vec<(Vec<u8>, Vec<u8>)> = (0..count)
        .map(|number| {
            let key = format!("demo/{concurrent}/{number:06}");
            (key.into_bytes(), format!("value of {number}").into_bytes())
        })
        .collect();
    let began = Instant::now();
    let calls = entries.iter().map(|(key, value)| async move {
        let began = Instant::now();
        db.put(key, value).await?;
        Ok::<Duration, CliError>(began.elapsed())
    });
    let took = gather(calls, concurrent).await?;
    report.rate(
        what,
        data::as_u64(count),
        "durable",
        began.elapsed(),
        Some(took),
    )?;
    model.extend(entries);
    Ok(())
}

/// Changes a key, adds one and deletes many in one batch, and sees all of it.
async fn write_batch(
    db: &Database,
    model: &mut Model,
    report: &mut Report,
) -> Result<(), CliError> {
    let mut batch = Batch::new();
    let deleted = format!("demo/{CONCURRENT}/");
    model.retain(|key, _| {
        let gone = key.starts_with(deleted.as_bytes());
        if gone {
            batch.delete(key);
        }
        !gone
    });
    for (key, value) in [("demo/1/000000", "changed"), ("demo/batch", "added")] {
        batch.put(key, value);
        model.insert(key.into(), value.into());
    }
    let changes = data::as_u64(batch.len());
    let began = Instant::now();
    db.write(batch).await?;
    report.rate("batch", changes, "changes", began.elapsed(), None)?;
    let left = db.scan_prefix(&deleted).try_next().await?;
    if let Some((key, _)) = left {
        return failed(format!("{} is there after it was deleted", escaped(&key)));
    }
    for key in ["demo/1/000000", "demo/batch"] {
        let found = db.get(key).await?;
        same(key.as_bytes(), found.as_deref(), &model[key.as_bytes()])?;
    }
    Ok(())
}

async fn scan_all(
    db: &Database,
    model: &Model,
    what: &str,
    report: &mut Report,
) -> Result<(), CliError> {
    let began = Instant::now();
    let scan = db.scan(..);
    let expected = model.iter().map(|(key, value)| (&key[..], &value[..]));
    let count = compare_scan(scan, expected).await?;
    report.rate(what, count, "entries", began.elapsed(), None)
}

async fn scan_prefix(db: &Database, model: &Model, report: &mut Report) -> Result<(), CliError> {
    let began = Instant::now();
    let expected = model
        .range(PREFIX.to_vec()..)
        .map(|(key, value)| (&key[..], &value[..]))
        .take_while(|(key, _)| key.starts_with(PREFIX));
    let count = compare_scan(db.scan_prefix(PREFIX), expected).await?;
    report.rate(
        "scan, prefix Greek/",
        count,
        "entries",
        began.elapsed(),
        None,
    )
}

/// Compares what a scan yields with what it should, entry by entry, and counts them.
async fn compare_scan<'a>(
    mut scan: lightning_db::Scan,
    mut expected: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<u64, CliError> {
    let mut count = 0;
    while let Some((key, value)) = scan.try_next().await? {
        match expected.next() {
            Some((want, _)) if *want != *key => {
                let (want, key) = (escaped(want), escaped(&key));
                return failed(format!("a scan yielded {key} where {want} comes next"));
            }
            Some((_, want)) => same(&key, Some(&value), want)?,
            None => {
                return failed(format!(
                    "a scan yielded {} after the last key",
                    escaped(&key)
                ));
            }
        }
        count += 1;
    }
    match expected.next() {
        Some((want, _)) => failed(format!("a scan ended before {}", escaped(want))),
        None => Ok(count),
    }
}

/// Makes calls, so many at once, and gathers how long each took.
async fn gather<F: Future<Output = Result<Duration, CliError>>>(
    calls: impl Iterator<Item = F>,
    concurrent: usize,
) -> Result<Latencies, CliError> {
    let mut latencies = Latencies::new();
    let mut answers = stream::iter(calls).buffer_unordered(concurrent);
    while let Some(took) = answers.try_next().await? {
        latencies.record(took);
    }
    Ok(latencies)
}

fn same(key: &[u8], found: Option<&[u8]>, expected: &[u8]) -> Result<(), CliError> {
    match found {
        Some(found) if found == expected => Ok(()),
        Some(_) => failed(format!(
            "{} has another value than was written",
            escaped(key)
        )),
        None => failed(format!("{} was written and is not there", escaped(key))),
    }
}

fn failed<T>(what: String) -> Result<T, CliError> {
    Err(CliError::Demo(what))
}
