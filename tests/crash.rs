//! A process that writes is killed again and again, at random moments, on one database.
//!
//! The test starts itself as the writer. The writer keeps several lanes of batches under way and
//! tells on its standard output which batches were acknowledged. After each kill the database has
//! to open, to hold every acknowledged batch with its exact content, to hold of a batch that was
//! under way on each shard all or nothing, and nothing else; and the check has to find it sound.
//!
//! A killed process loses what it has in memory. What a machine loses that stops is the business of
//! the simulated disk.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "these lists are for shards; a test starts and kills processes"
)]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests"
)]

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_executor::block_on;
use futures_util::TryStreamExt;
use futures_util::future::join_all;
use lightning_db::{Batch, Builder, Database};

/// Kills of one run.
const KILLS: usize = 24;
/// Writers that have a batch under way at any time.
const LANES: usize = 4;
/// Rows of a batch, which spread over all shards.
const ROWS: usize = 8;
/// A batch deletes the rows of the one that came so many before it.
const KEPT: u64 = 40;
const SHARDS: usize = 3;
/// As little as works, so that kills fall into flushes too.
const MEMORY_BYTES: usize = SHARDS * (256 << 10);
/// After this long without a word a writer is taken to hang.
const HANG: Duration = Duration::from_mins(2);

/// Tells the writer, which is this same binary, where to write.
const PLACE: &str = "LIGHTNING_CRASH_PLACE";
/// And with which batch each lane begins.
const BEGIN: &str = "LIGHTNING_CRASH_BEGIN";

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    match env::var_os(PLACE) {
        Some(place) => block_on(write_until_killed(Path::new(&place))),
        None => kill_again_and_again(),
    }
}

fn builder(path: &Path) -> Builder {
    Database::builder(path)
        .shards(SHARDS)
        .memory_budget(MEMORY_BYTES)
}

fn key(lane: usize, batch: u64, row: usize) -> Vec<u8> {
    format!("lane-{lane}/{batch:08}/{row}").into_bytes()
}

/// Lengths from nothing to several pages, so that flushes and large values happen too.
fn value(lane: usize, batch: u64, row: usize) -> Vec<u8> {
    let seed = crc32fast::hash(&key(lane, batch, row));
    let len = match seed % 32 {
        0 => 0,
        1 => 20_000,
        _ => usize::try_from(seed % 900).unwrap(),
    };
    seed.to_le_bytes()
        .iter()
        .copied()
        .cycle()
        .take(len)
        .collect()
}

/// A key that every batch of a lane overwrites.
fn counter(lane: usize, row: usize) -> Vec<u8> {
    format!("counter-{lane}/{row}").into_bytes()
}

/// The shard of a key. The mapping is part of the format, so it is written out here once more.
fn shard_of(key: &[u8]) -> usize {
    let stored = [&[0, 0, 0, 1], key].concat();
    let shards = u64::try_from(SHARDS).unwrap();
    usize::try_from((u64::from(crc32fast::hash(&stored)) * shards) >> 32).unwrap()
}

async fn write_until_killed(path: &Path) {
    let begin: Vec<u64> = env::var(BEGIN)
        .unwrap()
        .split(',')
        .map(|number| number.parse().unwrap())
        .collect();
    let db = builder(path).open_or_create().await.unwrap();
    println!("opened");
    let lanes = begin.into_iter().enumerate().map(|(lane, begin)| {
        let db = db.clone();
        async move {
            for number in begin.. {
                let mut batch = Batch::new();
                for row in 0..ROWS {
                    batch.put(key(lane, number, row), value(lane, number, row));
                    batch.put(counter(lane, row), number.to_le_bytes());
                    if let Some(old) = number.checked_sub(KEPT) {
                        batch.delete(key(lane, old, row));
                    }
                }
                db.write(batch).await.unwrap();
                println!("acked {lane} {number}");
            }
        }
    });
    join_all(lanes).await;
}

/// The writer's process, killed when it is dropped.
struct Writer {
    child: Child,
    lines: Receiver<String>,
}

impl Writer {
    fn start(place: &Path, next: &[u64; LANES]) -> Self {
        let begin: Vec<_> = next.iter().map(ToString::to_string).collect();
        let test = "a_killed_process_loses_nothing_that_it_acknowledged";
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(PLACE, place)
            .env(BEGIN, begin.join(","))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            // A line that the kill cut short is no acknowledgement.
            while out.read_line(&mut line).is_ok() && line.ends_with('\n') {
                if sender.send(line.trim_end().to_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Self { child, lines }
    }

    /// Waits until the writer has said something that begins with `word`.
    fn wait_for(&self, word: &str, acked: &mut [u64; LANES]) {
        loop {
            let line = self.lines.recv_timeout(HANG).expect("the writer goes on");
            note(&line, acked);
            if line.starts_with(word) {
                return;
            }
        }
    }

    /// Kills the writer, and takes what it said before.
    fn kill(mut self, acked: &mut [u64; LANES]) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        loop {
            match self.lines.recv_timeout(HANG) {
                Ok(line) => note(&line, acked),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => panic!("a killed process keeps its output open"),
            }
        }
    }
}

/// Takes down which batch of which lane comes next.
fn note(line: &str, next: &mut [u64; LANES]) {
    let Some(acked) = line.strip_prefix("acked ") else {
        return;
    };
    let (lane, number) = acked.split_once(' ').unwrap();
    next[lane.parse::<usize>().unwrap()] = number.parse::<u64>().unwrap() + 1;
}

fn kill_again_and_again() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = seed;
    let mut below = move |end: u64| {
        // A linear congruential generator (Knuth's MMIX), of which the upper bits are used.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % end
    };
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("db");
    let mut next = [0; LANES];
    let mut flushed = 0;
    let began = Instant::now();
    for round in 0..KILLS {
        let writer = Writer::start(&place, &next);
        // Some kills fall into the opening, or the creation; most into the writing.
        let delay = if below(4) == 0 {
            Duration::from_micros(below(60_000))
        } else {
            writer.wait_for("acked", &mut next);
            Duration::from_micros(below(300_000))
        };
        thread::sleep(delay);
        writer.kill(&mut next);
        flushed += block_on(check(&place, &next, round, seed));
    }
    println!(
        "{next:?} batches, {flushed} shards in trees, {:?}",
        began.elapsed()
    );
    assert!(
        next.iter().all(|&batches| batches > KEPT),
        "too little was written: {next:?}"
    );
}

/// Opens what the kill left, and compares; returns on how many shards something was flushed.
async fn check(path: &Path, next: &[u64; LANES], round: usize, seed: u64) -> u64 {
    let case = format!("seed {seed}, kill {round}");
    let db = builder(path).open_or_create().await.expect(&case);
    let rows: Vec<(Bytes, Bytes)> = db.scan(..).try_collect().await.expect(&case);
    let mut rows: BTreeMap<Vec<u8>, Bytes> = rows
        .into_iter()
        .map(|(key, value)| (key.to_vec(), value))
        .collect();
    for (lane, &next) in next.iter().enumerate() {
        for shard in 0..SHARDS {
            take_lane(&mut rows, lane, shard, next, &case);
        }
    }
    assert!(
        rows.is_empty(),
        "{case}: rows that nobody wrote: {:?}",
        rows.keys()
    );
    let stats = db.stats().await.unwrap();
    db.flush().await.expect(&case);
    let report = db.verify().await.expect(&case);
    assert_eq!(report.damages, [], "{case}");
    db.close().await.expect(&case);
    stats.total(|shard| u64::from(shard.entries > 0))
}

/// Takes one lane's rows on one shard out of `rows`: those of the state after batch `next - 1`, or
/// of the state after batch `next`, which was under way.
fn take_lane(
    rows: &mut BTreeMap<Vec<u8>, Bytes>,
    lane: usize,
    shard: usize,
    next: u64,
    case: &str,
) {
    let on_shard = |key: &Vec<u8>| shard_of(key) == shard;
    let state = |batches: u64| {
        let mut state = BTreeMap::new();
        for number in batches.saturating_sub(KEPT)..batches {
            for row in 0..ROWS {
                state.insert(key(lane, number, row), value(lane, number, row));
                state.insert(counter(lane, row), number.to_le_bytes().to_vec());
            }
        }
        state.retain(|key, _| on_shard(key));
        state
    };
    let prefixes = [format!("lane-{lane}/"), format!("counter-{lane}/")];
    let mut found = BTreeMap::new();
    rows.retain(|key, value| {
        let ours = prefixes
            .iter()
            .any(|prefix| key.starts_with(prefix.as_bytes()));
        if ours && on_shard(key) {
            found.insert(key.clone(), value.to_vec());
            return false;
        }
        true
    });
    if found == state(next) || found == state(next + 1) {
        return;
    }
    let expected = state(next);
    let missing: Vec<_> = expected
        .keys()
        .filter(|key| !found.contains_key(*key))
        .collect();
    let surplus: Vec<_> = found
        .keys()
        .filter(|key| !expected.contains_key(*key))
        .collect();
    let show = |keys: &[&Vec<u8>]| {
        let keys: Vec<_> = keys
            .iter()
            .map(|key| key.escape_ascii().to_string())
            .collect();
        keys.join(" ")
    };
    panic!(
        "{case}: lane {lane} on shard {shard} is neither as of batch {next} nor of the one before; \
         against the one before, missing: {}; too much: {}",
        show(&missing),
        show(&surplus)
    );
}
