//! Scans beside other work: one moment, key order, and nothing left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;

use futures_executor::block_on;
use futures_util::{TryStreamExt, poll};
use lightning_db::{Batch, Builder, Database, Durability, ErrorKind};

use crate::scratch;
use crate::support::run;

/// Rows of the tests: several pages of a scan on each shard.
const ROWS: u32 = 5_000;
const SHARDS: usize = 3;

fn key(row: u32) -> String {
    format!("row-{row:06}")
}

fn small(directory: &tempfile::TempDir) -> Builder {
    Database::builder(directory.path().join("db"))
        .shards(SHARDS)
        .memory_budget(SHARDS * (256 << 10))
        .durability(Durability::Relaxed)
}

/// Puts `ROWS` rows whose value tells the round, in batches.
async fn fill(db: &Database, round: u32) {
    let rows: Vec<u32> = (0..ROWS).collect();
    for rows in rows.chunks(250) {
        let mut batch = Batch::new();
        for &row in rows {
            batch.put(key(row), value(round, row));
        }
        db.write(batch).await.unwrap();
    }
}

fn value(round: u32, row: u32) -> Vec<u8> {
    let mut value = round.to_le_bytes().to_vec();
    value.resize(60, u8::try_from(row % 256).unwrap());
    value
}

async fn scans_open(db: &Database) -> u64 {
    db.stats().await.unwrap().total(|shard| shard.scans_open)
}

#[test]
fn a_scan_shows_one_moment_while_writers_go_on() {
    let directory = scratch();
    let builder = small(&directory);
    run("scans beside a writer", async move {
        let db = builder.create().await.unwrap();
        fill(&db, 0).await;
        let stop = Arc::new(AtomicBool::new(false));
        let writer = {
            let (db, stop) = (db.clone(), Arc::clone(&stop));
            thread::spawn(move || {
                let mut round = 1;
                while !stop.load(Ordering::Relaxed) {
                    block_on(fill(&db, round));
                    // Rows that come and go are no scan's that began before.
                    block_on(db.put(format!("row-000001-{round}"), "")).unwrap();
                    block_on(db.delete(format!("row-000001-{round}"))).unwrap();
                    round += 1;
                }
                round
            })
        };
        for _ in 0..6 {
            let rows: Vec<_> = db.scan(..).try_collect().await.unwrap();
            let mut rounds = Vec::new();
            let mut expected = 0;
            for (found, content) in &rows {
                if found.len() > key(0).len() {
                    continue;
                }
                assert_eq!(found, key(expected).as_bytes());
                let round = u32::from_le_bytes(content[..4].try_into().unwrap());
                assert!(content == &value(round, expected));
                rounds.push(round);
                expected += 1;
            }
            assert_eq!(expected, ROWS);
            // The writer goes through the rows in order: at one moment the rows before some place
            // are of one round and those behind it of the round before. Batches are not atomic
            // between shards, so within one batch both may be mixed.
            let chunks: Vec<_> = rounds.chunks(250).collect();
            let newest = *rounds.iter().max().unwrap();
            let mixed = chunks
                .iter()
                .filter(|chunk| !chunk.iter().all(|r| *r == chunk[0]));
            assert!(mixed.count() <= 1, "more than one batch was under way");
            assert!(rounds.iter().all(|&round| round + 1 >= newest));
            let firsts: Vec<_> = chunks.iter().map(|chunk| chunk[0]).collect();
            let first_old = firsts.iter().position(|&round| round < newest);
            if let Some(at) = first_old {
                let rest = &chunks[(at + 1).min(chunks.len())..];
                assert!(
                    rest.iter()
                        .all(|chunk| chunk.iter().all(|&round| round < newest))
                );
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(writer.join().unwrap() > 1);
        db.close().await.unwrap();
    });
}

#[test]
fn a_scan_that_has_begun_shows_no_later_write() {
    let directory = scratch();
    let builder = small(&directory);
    run("a slow reader", async move {
        let db = builder.create().await.unwrap();
        fill(&db, 0).await;
        let mut scan = db.scan(..);
        let first = scan.try_next().await.unwrap().unwrap();
        assert_eq!(first.0, key(0).as_bytes());
        // Several memtables' worth: everything that the scan still has to show is replaced in the
        // trees below it, and the last rows are deleted.
        for round in 1..6 {
            fill(&db, round).await;
            db.flush().await.unwrap();
            let next = scan.try_next().await.unwrap().unwrap();
            assert_eq!(next, (key(round).into(), value(0, round).into()));
        }
        for row in ROWS - 10..ROWS {
            db.delete(key(row)).await.unwrap();
        }
        db.put("row-999999", "new").await.unwrap();
        db.flush().await.unwrap();
        let mut row = 6;
        while let Some((found, content)) = scan.try_next().await.unwrap() {
            assert_eq!(found, key(row).as_bytes());
            assert!(content == value(0, row), "row {row}");
            row += 1;
        }
        assert_eq!(row, ROWS);
        assert_eq!(scans_open(&db).await, 0);
        // With the scan gone the space of old pages is free for use again, and nothing is broken.
        fill(&db, 7).await;
        db.flush().await.unwrap();
        let report = db.verify().await.unwrap();
        assert_eq!(
            (report.entries, report.damages),
            (u64::from(ROWS) + 1, vec![])
        );
        db.close().await.unwrap();
    });
}

#[test]
fn a_dropped_scan_is_forgotten() {
    let directory = scratch();
    let builder = small(&directory);
    run("scans that are dropped", async move {
        let db = builder.create().await.unwrap();
        fill(&db, 0).await;
        drop(db.scan(..));
        assert_eq!(scans_open(&db).await, 0);
        for taken in [1, 10, 2_000] {
            let mut scan = db.scan(..);
            for _ in 0..taken {
                scan.try_next().await.unwrap().unwrap();
            }
            assert!(scans_open(&db).await > 0);
            drop(scan);
            assert_eq!(scans_open(&db).await, 0, "after {taken} rows");
        }
        // Many at once, dropped while their first rows are on the way.
        let mut polled = Vec::new();
        for _ in 0..100 {
            let mut scan = db.scan(..);
            // Mostly pending; the shards may be faster where this thread loses its core.
            if let Poll::Ready(row) = poll!(scan.try_next()) {
                assert!(row.unwrap().is_some());
            }
            polled.push(scan);
        }
        drop(polled);
        // Whatever was under way for them ends.
        let mut looks = 0;
        while scans_open(&db).await > 0 {
            looks += 1;
            assert!(looks < 100_000, "scans whose readers are gone stay open");
            thread::yield_now();
        }
        let rows: Vec<_> = db.scan(..).try_collect().await.unwrap();
        assert_eq!(rows.len(), usize::try_from(ROWS).unwrap());
        db.close().await.unwrap();
    });
}

#[test]
fn scans_over_many_shards_are_in_key_order() {
    let directory = scratch();
    let path = directory.path().join("db");
    run("a scan over many shards", async move {
        let db = Database::builder(&path)
            .shards(16)
            .memory_budget(16 * (256 << 10))
            .durability(Durability::Relaxed)
            .create()
            .await
            .unwrap();
        fill(&db, 0).await;
        let rows: Vec<_> = db.scan(..).try_collect().await.unwrap();
        assert!(
            (0..ROWS).map(key).eq(rows
                .iter()
                .map(|(key, _)| { std::str::from_utf8(key).unwrap().to_owned() }))
        );
        let part: Vec<_> = db
            .scan(key(100)..=key(200))
            .keys_only()
            .try_collect()
            .await
            .unwrap();
        assert_eq!(part.len(), 101);
        assert!(part.iter().all(|(_, value)| value.is_empty()));
        let used = db.stats().await.unwrap();
        assert!(
            used.shards.iter().all(|shard| shard.puts > 0),
            "every shard has rows"
        );
        db.close().await.unwrap();
    });
}

#[test]
fn an_open_scan_ends_when_the_database_closes() {
    let directory = scratch();
    let builder = small(&directory);
    run("closing below a scan", async move {
        let db = builder.create().await.unwrap();
        fill(&db, 0).await;
        let mut scan = db.scan(..);
        scan.try_next().await.unwrap().unwrap();
        db.close().await.unwrap();
        // What was fetched may still be shown; then comes an error, and not an early end.
        let mut shown = 1;
        let error = loop {
            match scan.try_next().await {
                Ok(Some(_)) => shown += 1,
                Ok(None) => panic!("the scan ends after {shown} rows as if that were all"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(shown < ROWS);
    });
}

#[test]
fn a_range_that_ends_before_it_starts_is_refused_and_an_empty_one_is_empty() {
    let directory = scratch();
    let builder = small(&directory);
    run("ranges without a key", async move {
        let db = builder.create().await.unwrap();
        db.put("m", "").await.unwrap();
        for scan in [db.scan("z".."a"), db.scan("z"..="a").reverse()] {
            let error = scan.try_collect::<Vec<_>>().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            let text = error.to_string();
            assert!(text.contains("\"a\"") && text.contains("\"z\""), "{text}");
        }
        for scan in [db.scan("m".."m"), db.scan("m".."m").reverse()] {
            assert_eq!(scan.try_collect::<Vec<_>>().await.unwrap(), []);
        }
        let rows: Vec<_> = db.scan("m"..="m").try_collect().await.unwrap();
        assert_eq!(rows.len(), 1);
        db.close().await.unwrap();
    });
}

#[test]
fn a_scan_in_reverse_shows_one_moment_and_no_later_write() {
    let directory = scratch();
    let builder = small(&directory);
    run("a slow reader in reverse", async move {
        let db = builder.create().await.unwrap();
        fill(&db, 0).await;
        let mut scan = db.scan(..).reverse();
        let first = scan.try_next().await.unwrap().unwrap();
        assert_eq!(first, (key(ROWS - 1).into(), value(0, ROWS - 1).into()));
        for round in 1..4 {
            fill(&db, round).await;
            db.flush().await.unwrap();
        }
        for row in 0..10 {
            db.delete(key(row)).await.unwrap();
        }
        let mut row = ROWS - 1;
        while let Some((found, content)) = scan.try_next().await.unwrap() {
            row -= 1;
            assert_eq!(found, key(row).as_bytes());
            assert!(content == value(0, row), "row {row}");
        }
        assert_eq!(row, 0);
        assert_eq!(scans_open(&db).await, 0);
        db.close().await.unwrap();
    });
}
