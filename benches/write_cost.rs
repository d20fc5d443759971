//! What uniform writes cost the device, with runs and without.
//!
//! `cargo bench --bench write_cost -- MEGABYTES`, by default 64. Puts that many megabytes of keys
//! of 16 bytes and values of 100 bytes at random to a new database of two shards with 64 MB of
//! memory, relaxed; waits until they are on disk; gets keys at random. The settings take turns,
//! twice each. The database lies in the directory that `TMPDIR` names.
//!
//! Bytes to the device are what Linux counts for the process (`/proc/self/io`), so the superblocks
//! and the zeros of new log segments are among them.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a benchmark takes times and prints its figures, and ends with the first failure"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use futures_util::future::try_join_all;
use lightning_db::{Batch, Database, Durability};

const ROW_BYTES: u64 = 116;
/// Puts of one batch, and batches under way at once.
const BATCH: u64 = 64;
const IN_FLIGHT: u64 = 4;
const GETS: u64 = 100_000;

fn key(row: u64) -> [u8; 16] {
    // Any mapping that is one to one and spreads: the rows arrive in no order of their keys.
    let spread = row.wrapping_mul(0x9e37_79b9_7f4a_7c15).swap_bytes();
    let mut key = [0; 16];
    key[..8].copy_from_slice(&spread.to_be_bytes());
    key[8..].copy_from_slice(&row.to_be_bytes());
    key
}

fn value(row: u64) -> [u8; 100] {
    let mut value = [0; 100];
    let mut state = row | 1;
    for chunk in value.chunks_mut(8) {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    value
}

fn device_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = io.lines().find(|line| line.starts_with("write_bytes"));
    line.and_then(|line| line.split(": ").nth(1))
        .unwrap()
        .parse()
        .unwrap()
}

fn directory_bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap();
    let sizes = entries.map(|entry| {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            directory_bytes(&entry.path())
        } else {
            metadata.len()
        }
    });
    sizes.sum()
}

async fn put_all(db: &Database, rows: u64) {
    let groups = (0..rows).step_by(usize::try_from(BATCH * IN_FLIGHT).unwrap());
    for first in groups {
        let batches = (0..IN_FLIGHT).map(|at| {
            let from = (first + at * BATCH).min(rows);
            let mut batch = Batch::new();
            for row in from..(from + BATCH).min(rows) {
                batch.put(key(row), value(row));
            }
            db.write_with(batch, Durability::Relaxed)
        });
        try_join_all(batches).await.unwrap();
    }
}

async fn get_some(db: &Database, rows: u64) {
    let mut row = 1_u128;
    for _ in 0..GETS / BATCH {
        let gets = (0..BATCH).map(|_| {
            row = (row * 6_364_136_223_846_793_005 + 1) % (1 << 64);
            let row = u64::try_from((row >> 20) % u128::from(rows)).unwrap();
            async move {
                let found = db.get(key(row)).await?;
                assert_eq!(found.as_deref(), Some(&value(row)[..]));
                Ok::<_, lightning_db::Error>(())
            }
        });
        let gets: Vec<_> = gets.collect();
        try_join_all(gets).await.unwrap();
    }
}

/// Waits until the merges have nothing to do; returns how many runs are left.
async fn settle(db: &Database) -> u64 {
    let mut steps = None;
    loop {
        let stats = db.stats().await.unwrap();
        let now = stats.total(|shard| shard.merge_steps);
        if steps == Some(now) {
            return stats.total(|shard| shard.runs);
        }
        steps = Some(now);
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn rate(count: u64, time: Duration) -> u64 {
    let micros = u64::try_from(time.as_micros()).unwrap().max(1);
    count * 1_000_000 / micros
}

/// A ratio with two digits behind the point.
fn ratio(a: u64, b: u64) -> String {
    format!("{}.{:02}", a / b, a * 100 / b % 100)
}

async fn measure(runs: usize, rows: u64) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let builder = Database::builder(&path).shards(2).runs(runs);
    let db = builder.memory_budget(64 << 20).create().await.unwrap();
    let (before, start) = (device_bytes(), Instant::now());
    put_all(&db, rows).await;
    let putting = start.elapsed();
    db.flush().await.unwrap();
    let put_bytes = rows * ROW_BYTES;
    let device = device_bytes() - before;
    let stats = db.stats().await.unwrap();
    let start = Instant::now();
    get_some(&db, rows).await;
    let getting = start.elapsed();
    let left = settle(&db).await;
    let settled = device_bytes() - before;
    let start = Instant::now();
    get_some(&db, rows).await;
    let getting_settled = start.elapsed();
    println!(
        "runs {runs}: {} puts/s, device {}, log {}, flushes {}, merges {}, live {}, files {}, runs \
         now {}, pauses {}; {} gets/s",
        rate(rows, putting),
        ratio(device, put_bytes),
        ratio(stats.total(|shard| shard.wal_bytes_written), put_bytes),
        ratio(stats.total(|shard| shard.flush_bytes_written), put_bytes),
        ratio(stats.total(|shard| shard.merge_bytes_written), put_bytes),
        ratio(stats.total(|shard| shard.tree_live_bytes), put_bytes),
        ratio(directory_bytes(&path), put_bytes),
        stats.total(|shard| shard.runs),
        stats.total(|shard| shard.write_pauses),
        rate(GETS, getting),
    );
    println!(
        "    merged: device {}, files {}, runs {left}; {} gets/s",
        ratio(settled, put_bytes),
        ratio(directory_bytes(&path), put_bytes),
        rate(GETS, getting_settled),
    );
    db.close().await.unwrap();
}

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let megabytes: u64 = numbers.next_back().unwrap_or(64);
    let rows = megabytes * 1_000_000 / ROW_BYTES;
    println!("{rows} rows; all but rates are multiples of their {megabytes} MB");
    for runs in [8, 0, 8, 0] {
        block_on(measure(runs, rows));
    }
}
