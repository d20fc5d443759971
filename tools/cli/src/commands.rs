//! The commands on single keys, ranges and whole databases.

use std::ffi::OsStr;
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use futures_executor::block_on;
use futures_util::TryStreamExt;
use lightning_db::{DEFAULT_KEYSPACE_NAME, Database, Keyspace};

use crate::args::{Command, InKeyspace, KeyArgs, RangeArgs, ScanArgs};
use crate::error::CliError;
use crate::escape::{escape, escaped};
use crate::output::Output;
use crate::time::Time;
use crate::{demo, import};

mod keyspaces;
mod salvage;
mod stats;

/// Runs one command to its end.
pub(crate) fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Demo { directory } => demo::run(directory),
        Command::Import(args) => import::run(&args),
        Command::Put { at, value, ttl } => put(&at, &value, ttl),
        Command::Get(at) => get(&at),
        Command::Delete(at) => delete(&at),
        Command::Scan(args) => scan(&args),
        Command::Count(args) => count(&args),
        Command::Keyspaces(args) => keyspaces::run(&args),
        Command::Stats { database, json } => stats::run(&database.database, json),
        Command::Compact(args) => compact(&args.database),
        Command::Verify(args) => verify(&args.database),
        Command::Salvage(args) => salvage::run(&args),
    }
}

/// Opens an existing database for `work`, and closes it however that ends.
fn with_database<T>(
    path: &Path,
    work: impl AsyncFnOnce(&Database) -> Result<T, CliError>,
) -> Result<T, CliError> {
    block_on(async {
        let db = Database::open(path).await?;
        let outcome = work(&db).await;
        let closed = db.close().await;
        // What the command met first is what its user has to know first.
        let value = outcome?;
        closed?;
        Ok(value)
    })
}

/// Opens an existing keyspace of an existing database for `work`.
fn with_keyspace<T>(
    path: &Path,
    keyspace: &InKeyspace,
    work: impl AsyncFnOnce(&Keyspace) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let name = keyspace.name.as_deref().unwrap_or(DEFAULT_KEYSPACE_NAME);
    with_database(path, async |db| work(&db.keyspace(name).await?).await)
}

fn put(at: &KeyArgs, value: &OsStr, ttl: Option<Time>) -> Result<(), CliError> {
    let (key, value) = (at.key.as_bytes(), value.as_bytes());
    with_keyspace(&at.database, &at.keyspace, async |keyspace| match ttl {
        Some(Time(ttl)) => Ok(keyspace.put_with_ttl(key, value, ttl).await?),
        None => Ok(keyspace.put(key, value).await?),
    })
}

fn get(at: &KeyArgs) -> Result<(), CliError> {
    let value = with_keyspace(&at.database, &at.keyspace, async |keyspace| {
        Ok(keyspace.get(at.key.as_bytes()).await?)
    })?
    .ok_or_else(|| CliError::KeyNotFound(escaped(at.key.as_bytes())))?;
    let mut out = Output::new();
    out.bytes(&value)?;
    if out.is_terminal() {
        out.bytes(b"\n")?;
    }
    out.flush()
}

fn delete(at: &KeyArgs) -> Result<(), CliError> {
    with_keyspace(&at.database, &at.keyspace, async |keyspace| {
        Ok(keyspace.delete(at.key.as_bytes()).await?)
    })
}

fn scan(args: &ScanArgs) -> Result<(), CliError> {
    let Some(range) = KeyRange::of(&args.range)? else {
        return Ok(());
    };
    let at = &args.range;
    with_keyspace(&at.database, &at.keyspace, async |keyspace| {
        let mut entries = keyspace.scan((range.from, range.to));
        if args.reverse {
            entries = entries.reverse();
        }
        if args.keys {
            entries = entries.keys_only();
        }
        if let Some(limit) = args.limit {
            entries = entries.limit(limit);
        }
        let mut out = Output::new();
        let mut line = Vec::new();
        while let Some((key, value)) = entries.try_next().await? {
            line.clear();
            escape(&key, &mut line);
            if !args.keys {
                line.push(b'\t');
                escape(&value, &mut line);
            }
            line.push(b'\n');
            out.bytes(&line)?;
        }
        out.flush()
    })
}

fn count(args: &RangeArgs) -> Result<(), CliError> {
    let count = match KeyRange::of(args)? {
        Some(range) => with_keyspace(&args.database, &args.keyspace, async |keyspace| {
            Ok(keyspace.count((range.from, range.to)).await?)
        })?,
        None => 0,
    };
    let mut out = Output::new();
    out.line(count)?;
    out.flush()
}

fn compact(path: &Path) -> Result<(), CliError> {
    with_database(path, async |db| Ok(db.compact().await?))
}

fn verify(path: &Path) -> Result<(), CliError> {
    let report = with_database(path, async |db| Ok(db.verify().await?))?;
    let mut out = Output::new();
    let printed = if report.damages.is_empty() {
        out.line(format_args!("entries {}\nok", report.entries))
    } else {
        report
            .damages
            .iter()
            .try_for_each(|damage| out.line(damage))
    }
    .and_then(|()| out.flush());
    // A reader that left early changes nothing about the database's state.
    if !report.damages.is_empty() {
        return Err(CliError::Damaged {
            damages: report.damages.len(),
            path: path.to_path_buf(),
        });
    }
    printed
}

/// The keys that a range's options leave.
#[derive(Debug, PartialEq, Eq)]
struct KeyRange {
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
}

impl KeyRange {
    /// The range; `None` where the options leave no key.
    fn of(args: &RangeArgs) -> Result<Option<Self>, CliError> {
        let bytes = |option: &Option<std::ffi::OsString>| {
            option.as_ref().map(|text| text.as_bytes().to_vec())
        };
        let (prefix, from, to) = (bytes(&args.prefix), bytes(&args.from), bytes(&args.to));
        if let (Some(from), Some(to)) = (&from, &to)
            && from > to
        {
            let (from, to) = (escaped(from), escaped(to));
            return Err(CliError::Usage(format!(
                "--from {from} lies after --to {to}"
            )));
        }
        // The later of two beginnings and the earlier of two ends.
        let prefix_end = prefix.as_deref().and_then(after_prefix);
        let from = from.into_iter().chain(prefix).max();
        let to = to.into_iter().chain(prefix_end).min();
        if let (Some(from), Some(to)) = (&from, &to)
            && from >= to
        {
            return Ok(None);
        }
        Ok(Some(Self {
            from: from.map_or(Bound::Unbounded, Bound::Included),
            to: to.map_or(Bound::Unbounded, Bound::Excluded),
        }))
    }
}

/// The first key after all that begin with `prefix`; `None` where there is none.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(prefix: &str, from: &str, to: &str) -> Option<KeyRange> {
        let option = |text: &str| (!text.is_empty()).then(|| text.into());
        let args = RangeArgs {
            database: "db".into(),
            keyspace: InKeyspace { name: None },
            prefix: option(prefix),
            from: option(from),
            to: option(to),
        };
        KeyRange::of(&args).unwrap()
    }

    #[test]
    fn the_end_of_a_prefix_carries_over() {
        assert_eq!(after_prefix(b"ab").unwrap(), b"ac");
        assert_eq!(after_prefix(b"a\xff\xff").unwrap(), b"b");
        assert_eq!(after_prefix(b"\xff"), None);
        assert_eq!(after_prefix(b""), None);
    }

    #[test]
    fn prefix_and_bounds_narrow_each_other() {
        let wide = range("b", "a", "z").unwrap();
        assert_eq!(wide.from, Bound::Included(b"b".to_vec()));
        assert_eq!(wide.to, Bound::Excluded(b"c".to_vec()));
        let narrow = range("b", "bb", "bd").unwrap();
        assert_eq!(narrow.from, Bound::Included(b"bb".to_vec()));
        assert_eq!(narrow.to, Bound::Excluded(b"bd".to_vec()));
        assert_eq!(range("b", "c", ""), None);
        assert_eq!(range("", "b", "b"), None);
        assert_eq!(range("", "", "").unwrap().from, Bound::Unbounded);
    }
}
