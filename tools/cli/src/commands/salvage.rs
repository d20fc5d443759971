//! A copy of what can be read of a damaged database, and the report of what cannot.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use futures_executor::block_on;
use lightning_db::{Corruption, Loss, Lost, SalvageReport, ShardSalvage};
use serde_json::{Value, json};

use crate::args::SalvageArgs;
use crate::error::CliError;
use crate::escape::escaped;
use crate::output::Output;

pub(super) fn run(args: &SalvageArgs) -> Result<(), CliError> {
    let path = report_path(args)?;
    let unwritten = |error: std::io::Error| CliError::SalvageReport {
        path: path.clone(),
        reason: error.to_string(),
    };
    // Made before the work, so that hours of it do not end without a place for the report.
    let mut file = match &args.report {
        Some(_) => File::create(&path),
        None => File::create_new(&path),
    }
    .map_err(unwritten)?;
    let report = match block_on(lightning_db::salvage(&args.database, &args.out)) {
        Ok(report) => report,
        Err(error) => {
            drop(file);
            if args.report.is_none() {
                // Nothing was written to it, and a second attempt makes it again.
                drop(std::fs::remove_file(&path));
            }
            return Err(error.into());
        }
    };
    let text = if args.json {
        format!("{}\n", to_json(args, &report))
    } else {
        to_text(args, &report)
    };
    let written = file.write_all(text.as_bytes());
    written.and_then(|()| file.sync_all()).map_err(unwritten)?;
    let mut out = Output::new();
    let printed = out.bytes(text.as_bytes()).and_then(|()| out.flush());
    // A reader that left early changes nothing about what was lost.
    if !report.is_whole() {
        return Err(CliError::Lost {
            losses: report.losses.len(),
            path: args.database.clone(),
            report: path,
        });
    }
    printed
}

/// Where the report goes: beside the new database, unless it is said.
fn report_path(args: &SalvageArgs) -> Result<PathBuf, CliError> {
    let Some(path) = &args.report else {
        let extension = if args.json { "json" } else { "txt" };
        let out = std::path::absolute(&args.out).unwrap_or_else(|_| args.out.clone());
        let name = out.file_name().ok_or_else(|| {
            let out = args.out.display();
            CliError::Usage(format!(
                "{out} has no name to call the report by: give --report"
            ))
        })?;
        let mut name = name.to_os_string();
        name.push(format!(".salvage.{extension}"));
        return Ok(out.with_file_name(name));
    };
    let resolved = |path: &Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        path.canonicalize().unwrap_or(path)
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    for database in [&args.database, &args.out] {
        if resolved(directory).starts_with(resolved(database)) {
            return Err(CliError::Usage(format!(
                "--report {} lies inside of the database {}",
                path.display(),
                database.display()
            )));
        }
    }
    Ok(path.clone())
}

fn to_text(args: &SalvageArgs, report: &SalvageReport) -> String {
    let mut text = String::new();
    let mut line = |line: &dyn std::fmt::Display| {
        writeln!(text, "{line}").expect("a string takes what is written to it");
    };
    let (from, to) = (args.database.display(), args.out.display());
    line(&format_args!(
        "{from}, database {}, copied to {to}",
        report.database
    ));
    for shard in &report.shards {
        line(&shard_line(shard));
    }
    for loss in &report.losses {
        line(&format_args!("lost: {loss}"));
    }
    for note in &report.notes {
        line(&format_args!("note: {note}"));
    }
    let entries = report.entries();
    let end = match report.losses.len() {
        0 => "nothing lost".to_owned(),
        1 => "1 loss".to_owned(),
        losses => format!("{losses} losses"),
    };
    line(&format_args!(
        "total {entries} entries copied and verified, {end}"
    ));
    text
}

fn shard_line(shard: &ShardSalvage) -> String {
    let ShardSalvage {
        shard,
        tree_entries,
        log_entries,
        older_entries,
        found_entries,
        records,
        commits,
        last_record,
    } = shard;
    let log = format!("{records} records with {commits} commits, up to record {last_record}");
    let older = match older_entries {
        0 => String::new(),
        count => format!(", {count} as an older generation of the tree has them"),
    };
    let found = match found_entries {
        0 => String::new(),
        count => format!(", {count} found outside of the tree, may be old or deleted"),
    };
    format!(
        "shard {shard}: {tree_entries} entries from the tree, {log_entries} from the log ({log})\
         {older}{found}"
    )
}

fn to_json(args: &SalvageArgs, report: &SalvageReport) -> Value {
    let shards = report.shards.iter().map(|shard| {
        json!({
            "shard": shard.shard.0,
            "tree_entries": shard.tree_entries,
            "log_entries": shard.log_entries,
            "older_entries": shard.older_entries,
            "found_entries": shard.found_entries,
            "records": shard.records,
            "commits": shard.commits,
            "last_record": shard.last_record.0,
        })
    });
    json!({
        "path": args.database.to_string_lossy(),
        "out": args.out.to_string_lossy(),
        "database": report.database.to_string(),
        "entries": report.entries(),
        "shards": shards.collect::<Vec<_>>(),
        "losses": report.losses.iter().map(loss_to_json).collect::<Vec<_>>(),
        "notes": report.notes.iter().map(note_to_json).collect::<Vec<_>>(),
    })
}

fn loss_to_json(loss: &Loss) -> Value {
    // The keyspace in front of a stored key is the engine's; the caller knows the rest.
    let key = |key: &Option<Vec<u8>>| key.as_ref().map(|key| escaped(key.get(4..).unwrap_or(key)));
    let lost = match &loss.lost {
        Lost::Everything => json!("everything"),
        Lost::Keys((from, to)) => json!({ "keys_from": key(from), "keys_to": key(to) }),
        Lost::Records { from, to } => {
            json!({ "record_from": from.0, "record_to": to.map(|to| to.0) })
        }
    };
    json!({
        "shard": loss.place.shard.map(|shard| shard.0),
        "file": loss.place.file.to_string_lossy(),
        "offset": loss.place.offset,
        "bytes": loss.bytes,
        "what": loss.what,
        "lost": lost,
    })
}

fn note_to_json(note: &Corruption) -> Value {
    json!({
        "shard": note.place.shard.map(|shard| shard.0),
        "file": note.place.file.to_string_lossy(),
        "offset": note.place.offset,
        "what": note.what,
    })
}
