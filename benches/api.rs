//! What the public API costs, from one thread that is no shard.
//!
//! `cargo bench --bench api`. Everything that is read is compared with what was written. The sample
//! sizes are chosen so that the whole takes about a minute. The database lies in the directory that
//! `TMPDIR` names; durable writes measure that disk.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark ends with the first failure"
)]

use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_executor::block_on;
use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use lightning_db::{Batch, Database, Durability};

/// Rows of the database that is read: some 23 MiB, within the default memory budget.
const ROWS: u64 = 200_000;
/// Rows of a bounded scan.
const SCAN_ROWS: u64 = 100;
/// Calls under way at once, where there are several.
const IN_FLIGHT: u64 = 64;

const VALUE_BYTES: usize = 100;

fn key(row: u64) -> String {
    format!("key-{row:012}")
}

fn value(row: u64) -> [u8; VALUE_BYTES] {
    let mut value = [7; VALUE_BYTES];
    value[..8].copy_from_slice(&row.to_le_bytes());
    value
}

/// Rows in an order that no cache foresees: a full-period linear congruential generator's.
struct Rows(Cell<u64>);

impl Rows {
    fn new() -> Self {
        Self(Cell::new(1))
    }

    fn next(&self) -> u64 {
        let next = self
            .0
            .get()
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0.set(next);
        (next >> 33) % ROWS
    }
}

fn open(directory: &tempfile::TempDir, durability: Durability) -> Database {
    let path = directory.path().join("db");
    block_on(
        Database::builder(path)
            .durability(durability)
            .open_or_create(),
    )
    .unwrap()
}

fn fill(db: &Database) {
    for first in (0..ROWS).step_by(1000) {
        let mut batch = Batch::new();
        for row in first..first + 1000 {
            batch.put(key(row), value(row));
        }
        block_on(db.write_with(batch, Durability::Relaxed)).unwrap();
    }
    block_on(db.flush()).unwrap();
}

fn puts(criterion: &mut Criterion) {
    let rows = Rows::new();
    let mut group = criterion.benchmark_group("put");
    for (name, durability, writers) in [
        ("relaxed", Durability::Relaxed, 1),
        ("relaxed, 64 in flight", Durability::Relaxed, IN_FLIGHT),
        ("durable, 1 writer", Durability::Sync, 1),
        ("durable, 64 writers", Durability::Sync, IN_FLIGHT),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let db = open(&directory, durability);
        group.throughput(Throughput::Elements(writers));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let rows: Vec<u64> = (0..writers).map(|_| rows.next()).collect();
                let puts = rows.iter().map(|&row| db.put(key(row), value(row)));
                block_on(try_join_all(puts)).unwrap();
                // One of them, so that the check costs little beside the writes.
                let last = rows[rows.len() - 1];
                let found = block_on(db.get(key(last))).unwrap();
                assert_eq!(found.as_deref(), Some(&value(last)[..]));
            });
        });
        block_on(db.close()).unwrap();
    }
    group.finish();
}

fn gets(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let db = open(&directory, Durability::Relaxed);
    fill(&db);
    // Everything is read once, so that it is cached.
    block_on(db.scan(..).try_for_each(|_| async { Ok(()) })).unwrap();
    let rows = Rows::new();
    let mut group = criterion.benchmark_group("get, cached");
    group.throughput(Throughput::Elements(1));
    group.bench_function("one at a time", |bencher| {
        bencher.iter(|| {
            let row = rows.next();
            let found = block_on(db.get(key(row))).unwrap();
            assert_eq!(found.as_deref(), Some(&value(row)[..]));
        });
    });
    group.bench_function("an absent key", |bencher| {
        bencher.iter(|| {
            let key = key(rows.next()) + "-absent";
            assert_eq!(block_on(db.get(key)).unwrap(), None);
        });
    });
    group.throughput(Throughput::Elements(IN_FLIGHT));
    group.bench_function("64 in flight", |bencher| {
        bencher.iter(|| {
            let rows: Vec<u64> = (0..IN_FLIGHT).map(|_| rows.next()).collect();
            let gets = rows.iter().map(|&row| db.get(key(row)));
            let found = block_on(try_join_all(gets)).unwrap();
            check_values(&rows, &found);
        });
    });
    group.bench_function("get_many of 64", |bencher| {
        bencher.iter(|| {
            let rows: Vec<u64> = (0..IN_FLIGHT).map(|_| rows.next()).collect();
            let keys = rows.iter().map(|&row| key(row));
            let found = block_on(db.get_many(keys)).unwrap();
            check_values(&rows, &found);
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("scan");
    group.throughput(Throughput::Elements(SCAN_ROWS));
    group.bench_function("100 rows", |bencher| {
        bencher.iter(|| {
            let first = rows.next().min(ROWS - SCAN_ROWS);
            let limit = usize::try_from(SCAN_ROWS).unwrap();
            assert_eq!(count(db.scan(key(first)..).limit(limit), first), SCAN_ROWS);
        });
    });
    group.sample_size(10);
    group.throughput(Throughput::Elements(ROWS));
    group.bench_function("all rows", |bencher| {
        bencher.iter(|| assert_eq!(count(db.scan(..), 0), ROWS));
    });
    group.finish();
    block_on(db.close()).unwrap();
}

fn check_values(rows: &[u64], found: &[Option<bytes::Bytes>]) {
    assert_eq!(rows.len(), found.len());
    for (&row, found) in rows.iter().zip(found) {
        assert_eq!(found.as_deref(), Some(&value(row)[..]));
    }
}

/// Reads a scan to its end; its rows have to be `first` and those that follow.
fn count(mut scan: lightning_db::Scan, first: u64) -> u64 {
    let mut row = first;
    block_on(async {
        while let Some((_, found)) = black_box(scan.try_next().await.unwrap()) {
            assert_eq!(found[..8], row.to_le_bytes());
            row += 1;
        }
    });
    row - first
}

fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .sample_size(40)
}

criterion_group! {
    name = api;
    config = short();
    targets = puts, gets
}
criterion_main!(api);
