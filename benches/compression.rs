//! What compression costs and saves: a page at a time, and in a whole database.
//!
//! `cargo bench --bench compression`. The pages are leaves of 16 KiB as a database wrote them, of
//! the rows in `examples/data` and of random values. Everything that is decompressed or read is
//! compared with what was written. The database lies in the directory that `TMPDIR` names.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a benchmark fails at once, prints, reads files and asks the clock"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_executor::block_on;
use futures_util::TryStreamExt;
use lightning_db::{Batch, Compression, Database, Durability};
use lightning_shards::{Codec, Compressor, Decompressor};

const PAGE_BYTES: usize = 16 << 10;
const UNIT_BYTES: usize = 4 << 10;
const HEADER_BYTES: usize = 64;
/// Pages that a codec goes round.
const PAGES: usize = 64;

type Rows = Vec<(String, Vec<u8>)>;

/// The rows of the shipped table, each as a JSON object under its code point.
fn unicode_rows() -> Rows {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/unicode.csv");
    let table = std::fs::read_to_string(path).unwrap();
    let mut lines = table.lines();
    let columns: Vec<&str> = lines.next().unwrap().split(',').collect();
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let named = columns.iter().zip(&fields);
        let named: Vec<String> = named
            .map(|(name, field)| format!("\"{name}\":\"{field}\""))
            .collect();
        (
            fields[0].to_owned(),
            format!("{{{}}}", named.join(",")).into_bytes(),
        )
    };
    lines.map(row).collect()
}

/// As many rows whose values have nothing to find in them.
fn random_rows() -> Rows {
    let mut state = 1_u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 32).to_le_bytes()
    };
    let row = |number: u32| {
        let value = (0..25).flat_map(|_| random()[..4].to_vec()).collect();
        (format!("{number:06x}"), value)
    };
    (0..34_888).map(row).collect()
}

fn load(path: &Path, compression: Compression, rows: &Rows) -> Database {
    let builder = Database::builder(path).shards(1).compression(compression);
    let db = block_on(builder.durability(Durability::Relaxed).create()).unwrap();
    for rows in rows.chunks(1000) {
        let mut batch = Batch::new();
        for (key, value) in rows {
            batch.put(key, value);
        }
        block_on(db.write(batch)).unwrap();
    }
    db
}

/// The contents of leaves of [`PAGE_BYTES`], found by their magic number in the tree's file.
fn leaf_contents(rows: &Rows) -> Vec<Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let db = load(&path, Compression::None, rows);
    block_on(db.flush()).unwrap();
    block_on(db.close()).unwrap();
    let tree = std::fs::read(path.join("shard-000/tree")).unwrap();
    let leaf = |unit: usize| {
        let page = tree.get(unit * UNIT_BYTES..unit * UNIT_BYTES + PAGE_BYTES)?;
        let raw_bytes = u32::try_from(PAGE_BYTES).unwrap().to_le_bytes();
        let is_leaf = page[4..10] == *b"LDBP\0\0" && page[48..52] == raw_bytes;
        is_leaf.then(|| page[HEADER_BYTES..].to_vec())
    };
    let pages: Vec<_> = (0..tree.len() / UNIT_BYTES)
        .filter_map(leaf)
        .take(PAGES)
        .collect();
    assert_eq!(pages.len(), PAGES);
    pages
}

#[derive(Clone, Copy)]
enum Way {
    Lz4,
    Zstd(u8),
    Snappy,
}

const WAYS: [(&str, Way); 6] = [
    ("LZ4", Way::Lz4),
    ("Snappy", Way::Snappy),
    ("Zstandard 1", Way::Zstd(1)),
    ("Zstandard 3", Way::Zstd(3)),
    ("Zstandard 9", Way::Zstd(9)),
    ("Zstandard 19", Way::Zstd(19)),
];

impl Way {
    fn codec(self) -> Codec {
        match self {
            Self::Lz4 => Codec::Lz4,
            Self::Zstd(_) => Codec::Zstd,
            Self::Snappy => Codec::Snappy,
        }
    }

    /// What the way makes of a content; nothing when that would be longer.
    fn compress<'a>(
        self,
        compressor: &mut Compressor,
        content: &[u8],
        output: &'a mut Vec<u8>,
    ) -> Option<&'a [u8]> {
        match self {
            Self::Lz4 => compressor.lz4(content, output),
            Self::Zstd(level) => compressor.zstd(level, content, output),
            Self::Snappy => compressor.snappy(content, output),
        }
    }
}

fn pages(criterion: &mut Criterion) {
    for (data, rows) in [
        ("Unicode rows", unicode_rows()),
        ("random values", random_rows()),
    ] {
        let contents = leaf_contents(&rows);
        for (name, way) in WAYS {
            page(criterion, data, &contents, name, way);
        }
    }
}

fn page(criterion: &mut Criterion, data: &str, contents: &[Vec<u8>], name: &str, way: Way) {
    let (mut compressor, mut output) = (Compressor::default(), Vec::new());
    let mut stored = Vec::new();
    for content in contents {
        let compressed = way.compress(&mut compressor, content, &mut output);
        stored.push(compressed.map(<[u8]>::to_vec));
    }
    let bytes = stored
        .iter()
        .map(|stored| stored.as_ref().map_or(PAGE_BYTES, Vec::len));
    let units = bytes
        .clone()
        .map(|len| (HEADER_BYTES + len).div_ceil(UNIT_BYTES).min(4));
    let (bytes, units) = (bytes.sum::<usize>(), units.sum::<usize>());
    println!(
        "{data}, {name}: {} bytes a page, {}.{:02} of 4 units",
        bytes / PAGES,
        units / PAGES,
        units * 100 / PAGES % 100
    );

    let mut group = criterion.benchmark_group(format!("page of 16 KiB, {data}"));
    group.throughput(Throughput::Bytes(u64::try_from(PAGE_BYTES).unwrap()));
    let mut next = (0..PAGES).cycle();
    group.bench_function(format!("{name}, compress"), |bencher| {
        bencher.iter(|| {
            let content = &contents[next.next().unwrap()];
            way.compress(&mut compressor, content, &mut output)
                .map(<[u8]>::len)
        });
    });
    if stored.iter().all(Option::is_some) {
        let mut decompressor = Decompressor::default();
        let mut page = vec![0; PAGE_BYTES - HEADER_BYTES];
        group.bench_function(format!("{name}, decompress"), |bencher| {
            bencher.iter(|| {
                let at = next.next().unwrap();
                let stored = stored[at].as_ref().unwrap();
                decompressor
                    .decompress(way.codec(), stored, &mut page)
                    .unwrap();
                assert_eq!(page[..64], contents[at][..64]);
            });
        });
        for (stored, content) in stored.iter().zip(contents) {
            let stored = stored.as_ref().unwrap();
            decompressor
                .decompress(way.codec(), stored, &mut page)
                .unwrap();
            assert!(page == *content);
        }
    }
    group.finish();
}

const SETTINGS: [(&str, Compression); 6] = [
    ("none", Compression::None),
    ("LZ4", Compression::Lz4),
    ("Snappy", Compression::Snappy),
    ("Zstandard 1", Compression::Zstd { level: 1 }),
    ("Zstandard 3", Compression::Zstd { level: 3 }),
    ("adaptive", Compression::Adaptive),
];

fn databases(criterion: &mut Criterion) {
    for (data, rows) in [
        ("Unicode rows", unicode_rows()),
        ("random values", random_rows()),
    ] {
        let mut group = criterion.benchmark_group(format!("database, {data}"));
        group.sample_size(10);
        group.throughput(Throughput::Elements(u64::try_from(rows.len()).unwrap()));
        for (name, setting) in SETTINGS {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("db");
            group.bench_function(format!("{name}, flush"), |bencher| {
                bencher.iter_custom(|times| (0..times).map(|_| flush(setting, &rows)).sum());
            });
            let db = load(&path, setting, &rows);
            block_on(db.flush()).unwrap();
            let pages = block_on(db.stats()).unwrap().shards[0].pages.total();
            println!(
                "{data}, {name}: {} pages in {} KiB of {}",
                pages.pages,
                pages.stored_bytes >> 10,
                pages.raw_bytes >> 10
            );
            block_on(db.close()).unwrap();
            group.bench_function(format!("{name}, first scan"), |bencher| {
                bencher.iter_custom(|times| (0..times).map(|_| first_scan(&path, &rows)).sum());
            });
        }
        group.finish();
    }
}

/// The time from a full memtable to a durable tree.
fn flush(setting: Compression, rows: &Rows) -> Duration {
    let directory = tempfile::tempdir().unwrap();
    let db = load(&directory.path().join("db"), setting, rows);
    let began = Instant::now();
    block_on(db.flush()).unwrap();
    let took = began.elapsed();
    block_on(db.close()).unwrap();
    took
}

/// The time to read every row from the disk.
fn first_scan(path: &Path, rows: &Rows) -> Duration {
    let db = block_on(Database::open(path)).unwrap();
    let began = Instant::now();
    let found: Vec<_> = block_on(db.scan(..).try_collect()).unwrap();
    let took = began.elapsed();
    assert_eq!(found.len(), rows.len());
    for ((key, value), (found_key, found_value)) in rows.iter().zip(&found) {
        assert!(key.as_bytes() == found_key && value == found_value);
    }
    block_on(db.close()).unwrap();
    took
}

fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
}

criterion_group! {
    name = compression;
    config = short();
    targets = pages, databases
}
criterion_main!(compression);
