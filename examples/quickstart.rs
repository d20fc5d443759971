//! The first twenty lines: open, put, get, scan, close, from a tokio program.
//!
//! `cargo run --example quickstart`

#![expect(clippy::print_stdout, reason = "an example shows what it read")]

use futures_util::TryStreamExt;
use lightning_db::Database;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let db = Database::create(dir.path().join("fruit.db")).await?;

    db.put("fruit/apple", "red").await?;
    db.put("fruit/banana", "yellow").await?;
    assert_eq!(db.get("fruit/apple").await?.as_deref(), Some(&b"red"[..]));

    // A handle is cheap to clone and goes wherever a task goes.
    let handle = db.clone();
    tokio::spawn(async move { handle.put("fruit/cherry", "dark red").await }).await??;

    let mut fruit = db.scan_prefix("fruit/");
    while let Some((key, value)) = fruit.try_next().await? {
        println!("{}: {}", str::from_utf8(&key)?, str::from_utf8(&value)?);
    }
    db.close().await?;
    Ok(())
}
