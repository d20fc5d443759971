//! Which types may move between threads, and that every future may: checked by compiling.

use std::future::Future;

use futures_core::Stream;
use lightning_db::{
    Batch, Builder, Change, Corruption, Database, Durability, Error, ErrorKind, Estimate, Mismatch,
    Place, Scan, ShardId, ShardStats, Stats, VerifyReport,
};

use crate::scratch;
use crate::support::run;

/// A type that can be shared, moved and polled anywhere.
fn free<T: Send + Sync + Unpin + 'static>() {}

fn send_static<T: Send + 'static>(_: &T) {}

fn future<F: Future + Send + 'static>(_: F) {}

fn rows<S: Stream + Send + Unpin + 'static>(_: S) {}

#[test]
fn public_types_are_send_sync_and_unpin() {
    free::<Batch>();
    free::<Builder>();
    free::<Corruption>();
    free::<Database>();
    free::<Durability>();
    free::<Error>();
    free::<ErrorKind>();
    free::<Estimate>();
    free::<Change>();
    free::<Mismatch>();
    free::<Place>();
    free::<ShardId>();
    free::<ShardStats>();
    free::<Stats>();
    free::<VerifyReport>();
    // A scan has one reader at a time, so it need not be `Sync`.
    rows_of::<Scan>();
}

fn rows_of<S: Stream + Send + Unpin + 'static>() {}

#[test]
fn every_future_is_send_and_owns_what_it_needs() {
    let directory = scratch();
    let path = directory.path().join("db");
    let builder = Database::builder(&path).shards(1);
    run("a database that is opened and closed", async move {
        let db = builder.clone().create().await.unwrap();
        futures_of_a_builder("never opened", &builder);
        futures_of_a_database(&db);
        db.close().await.unwrap();
    });
}

fn futures_of_a_builder(path: &'static str, builder: &Builder) {
    future(builder.clone().open());
    future(builder.clone().create());
    future(builder.clone().open_or_create());
    future(Database::open(path));
    future(Database::create(path));
}

/// Makes each future and drops it: a future that is not polled does nothing.
fn futures_of_a_database(db: &Database) {
    macro_rules! owned {
        ($($call:ident($($argument:expr),*)),* $(,)?) => {$(
            let clone = db.clone();
            future(async move { clone.$call($($argument),*).await });
        )*};
    }
    owned! {
        put("key", "value"),
        get("key"),
        delete("key"),
        exists("key"),
        delete_many(["key"]),
        compare_and_swap("key", None, Some(b"value")),
        update("key", |_| None),
        update_with("key", Durability::Relaxed, |_| Change::Keep),
        first(..),
        last("a".."b"),
        count("a"..),
        estimate(.."b"),
        write(Batch::new()),
        write_with(Batch::new(), Durability::Relaxed),
        get_many(["key"]),
        get_many(vec![b"key".to_vec()]),
        flush(),
        verify(),
        stats(),
        close(),
    }
    rows(db.scan(..));
    rows(db.scan("a".."b").keys_only().reverse().limit(1));
    rows(db.scan_prefix("a"));
    send_static(db);
}
