//! What each shard holds and has done, as tables for people or as JSON for programs.

use std::fmt::Write;
use std::path::Path;

use lightning_db::ShardStats;
use serde_json::{Map, Value};

use super::with_database;
use crate::error::CliError;
use crate::output::Output;

/// One figure of a shard: its name in JSON, its heading in a table, and how to read it.
struct Figure {
    name: &'static str,
    heading: &'static str,
    of: fn(&ShardStats) -> u64,
}

macro_rules! figures {
    ($($field:ident $heading:literal),+ $(,)?) => {
        [$(Figure {
            name: stringify!($field),
            heading: $heading,
            of: |shard| shard.$field.into(),
        }),+]
    };
}

/// What a shard holds. The count of entries is approximate.
const HOLDS: [Figure; 9] = figures![
    entries "entries",
    memtable_bytes "memtable bytes",
    flush_blocked "flush blocked",
    space_short "space short",
    wal_bytes "wal bytes",
    wal_segments "wal segments",
    tree_bytes "tree bytes",
    tree_live_bytes "of them live",
    cache_bytes "cache bytes",
];

/// What a shard has done since it was opened.
const DID: [Figure; 14] = figures![
    puts "puts",
    gets "gets",
    gets_from_disk "from disk",
    deletes "deletes",
    reserve_deletes "from reserve",
    shortages "shortages",
    scans "scans",
    wal_commits "commits",
    wal_records "wal writes",
    wal_bytes_written "wal written",
    flushes "flushes",
    cache_hits "cache hits",
    cache_misses "cache misses",
    replayed_records "replayed",
];

pub(super) fn run(path: &Path, json: bool) -> Result<(), CliError> {
    let stats = with_database(path, async |db| Ok(db.stats().await?))?;
    let mut out = Output::new();
    if json {
        out.line(to_json(path, &stats.shards))?;
    } else {
        out.line(format_args!("{}\n", path.display()))?;
        out.line(table(&HOLDS, &stats.shards))?;
        out.bytes(table(&DID, &stats.shards).as_bytes())?;
    }
    out.flush()
}

fn to_json(path: &Path, shards: &[ShardStats]) -> Value {
    let object = |shards: &[ShardStats]| -> Map<String, Value> {
        HOLDS
            .iter()
            .chain(&DID)
            .map(|figure| (figure.name.to_owned(), total(figure, shards).into()))
            .collect()
    };
    let each = shards.iter().map(|shard| {
        let mut fields = object(std::slice::from_ref(shard));
        fields.insert("shard".to_owned(), shard.shard.0.into());
        Value::Object(fields)
    });
    let mut whole = object(shards);
    whole.insert("path".to_owned(), path.to_string_lossy().into());
    whole.insert("shards".to_owned(), each.collect());
    Value::Object(whole)
}

fn total(figure: &Figure, shards: &[ShardStats]) -> u64 {
    shards
        .iter()
        .fold(0, |sum, shard| sum.saturating_add((figure.of)(shard)))
}

/// A line for each shard and one for all, columns aligned to the right.
fn table(figures: &[Figure], shards: &[ShardStats]) -> String {
    let heading = std::iter::once("shard".to_owned())
        .chain(figures.iter().map(|figure| figure.heading.to_owned()));
    let mut rows: Vec<Vec<String>> = vec![heading.collect()];
    for shard in shards {
        let values = figures.iter().map(|figure| (figure.of)(shard).to_string());
        rows.push(
            std::iter::once(shard.shard.to_string())
                .chain(values)
                .collect(),
        );
    }
    let totals = figures
        .iter()
        .map(|figure| total(figure, shards).to_string());
    rows.push(std::iter::once("all".to_owned()).chain(totals).collect());
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..=figures.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            write!(text, "{gap}{cell:>width$}").expect("a string takes what is written to it");
        }
        text.push('\n');
    }
    text
}
