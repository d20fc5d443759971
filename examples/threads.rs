//! Plain threads without a runtime: each drives its own futures with `block_on`.
//!
//! `cargo run --example threads`

#![expect(clippy::print_stdout, reason = "an example shows what it read")]

use std::error::Error;
use std::thread;

use futures_executor::block_on;
use futures_util::TryStreamExt;
use lightning_db::{Batch, Database};

const WRITERS: usize = 4;
const BATCHES: usize = 20;
const ROWS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let db = block_on(Database::create(dir.path().join("readings.db")))?;

    // Writers on different threads share syncs, because the log of a shard commits in groups.
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|sensor| {
                scope.spawn({
                    let db = db.clone();
                    move || block_on(record(&db, sensor))
                })
            })
            .collect();
        writers.into_iter().try_for_each(|writer| {
            writer
                .join()
                .map_err(|_| "a writer panicked")?
                .map_err(Box::<dyn Error>::from)
        })
    })?;

    for sensor in 0..WRITERS {
        let count = block_on(count(&db, &format!("{sensor}/")))?;
        assert_eq!(count, BATCHES * ROWS);
        println!("sensor {sensor}: {count} readings");
    }
    block_on(db.close())?;
    Ok(())
}

/// Stores readings under `SENSOR/TIME`, with the time as digits of one width, so that the order
/// of keys is the order of time.
async fn record(db: &Database, sensor: usize) -> Result<(), lightning_db::Error> {
    for batch_index in 0..BATCHES {
        let mut batch = Batch::new();
        for row in 0..ROWS {
            let time = batch_index * ROWS + row;
            batch.put(format!("{sensor}/{time:08}"), format!("{}", time % 37));
        }
        db.write(batch).await?;
    }
    Ok(())
}

async fn count(db: &Database, prefix: &str) -> Result<usize, lightning_db::Error> {
    let keys = db.scan_prefix(prefix).keys_only();
    keys.try_fold(0, async |count, _| Ok(count + 1)).await
}
