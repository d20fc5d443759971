//! What each shard holds and has done, as tables for people or as JSON for programs.

use std::fmt::Write;
use std::path::Path;

use lightning_db::{Codec, PageCount, ShardStats};
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
const HOLDS: [Figure; 13] = figures![
    entries "entries",
    memtable_bytes "memtable bytes",
    flush_blocked "flush blocked",
    space_short "space short",
    wal_bytes "wal bytes",
    wal_segments "wal segments",
    tree_bytes "tree bytes",
    tree_live_bytes "of them live",
    runs "runs",
    runs_bytes "runs bytes",
    debt_bytes "debt bytes",
    merge_blocked "merge blocked",
    cache_bytes "cache bytes",
];

/// What a shard has done since it was opened.
const DID: [Figure; 18] = figures![
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
    flush_bytes_written "flushed bytes",
    merge_steps "merge steps",
    merge_bytes_written "merged bytes",
    write_pauses "pauses",
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
        out.line(pages_table(&stats.shards))?;
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
            .chain([("pages".to_owned(), pages_json(shards))])
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

/// A line for each shard and one for all.
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
    aligned(&rows)
}

/// The name of a codec in JSON and in tables.
fn name(codec: Codec) -> &'static str {
    match codec {
        Codec::Raw => "raw",
        Codec::Lz4 => "lz4",
        Codec::Zstd => "zstd",
        Codec::Snappy => "snappy",
    }
}

/// The pages of all shards that are stored with one codec.
fn pages(codec: Codec, shards: &[ShardStats]) -> PageCount {
    let of = |figure: fn(&PageCount) -> u64| {
        let figures = shards.iter().map(|shard| figure(&shard.pages.of(codec)));
        figures.fold(0, u64::saturating_add)
    };
    PageCount {
        pages: of(|count| count.pages),
        stored_bytes: of(|count| count.stored_bytes),
        raw_bytes: of(|count| count.raw_bytes),
    }
}

fn pages_json(shards: &[ShardStats]) -> Value {
    let each = Codec::ALL.iter().map(|&codec| {
        let count = pages(codec, shards);
        let fields = [
            ("pages", count.pages),
            ("stored_bytes", count.stored_bytes),
            ("raw_bytes", count.raw_bytes),
        ];
        let fields = fields.map(|(name, figure)| (name.to_owned(), figure.into()));
        let fields: Map<String, Value> = fields.into_iter().collect();
        (name(codec).to_owned(), Value::Object(fields))
    });
    Value::Object(each.collect())
}

/// A line for each codec: how the trees' pages are stored, and what that saves.
fn pages_table(shards: &[ShardStats]) -> String {
    let heading = ["codec", "pages", "stored bytes", "uncompressed"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for codec in Codec::ALL {
        let count = pages(codec, shards);
        let figures = [count.pages, count.stored_bytes, count.raw_bytes];
        let cells = figures.iter().map(u64::to_string);
        rows.push(
            std::iter::once(name(codec).to_owned())
                .chain(cells)
                .collect(),
        );
    }
    aligned(&rows)
}

/// Rows of cells as lines, columns aligned to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            write!(text, "{gap}{cell:>width$}").expect("a string takes what is written to it");
        }
        text.push('\n');
    }
    text
}
