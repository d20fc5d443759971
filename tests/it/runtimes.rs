//! One database used from tokio, from futures' executor and from a thread without any runtime, all
//! at once.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use futures_util::TryStreamExt;
use lightning_db::{Batch, Database, Durability};

use crate::scratch;
use crate::support::run;

/// Rounds of every user.
const ROUNDS: u32 = 40;
/// Rows that a round writes.
const ROWS: u32 = 16;
/// Users of each kind.
const USERS: u32 = 3;

/// Wakes a thread that waits for a future without a runtime.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

fn key(user: &str, row: u32) -> String {
    format!("{user}/{row:06}")
}

/// Writes, reads its own writes, and scans what it has so far.
async fn use_it(db: Database, user: String) {
    for round in 0..ROUNDS {
        let rows = round * ROWS..(round + 1) * ROWS;
        let mut batch = Batch::new();
        for row in rows.clone() {
            batch.put(key(&user, row), row.to_le_bytes());
        }
        let durability = if round % 8 == 0 {
            Durability::Sync
        } else {
            Durability::Relaxed
        };
        db.write_with(batch, durability).await.unwrap();
        let last = db.get(key(&user, rows.end - 1)).await.unwrap();
        assert_eq!(last.as_deref(), Some(&(rows.end - 1).to_le_bytes()[..]));
        let keys: Vec<_> = rows.clone().map(|row| key(&user, row)).collect();
        let values = db.get_many(&keys).await.unwrap();
        for (row, value) in rows.clone().zip(values) {
            assert_eq!(value.as_deref(), Some(&row.to_le_bytes()[..]));
        }
        if round % 10 == 9 {
            let found: Vec<_> = db
                .scan_prefix(format!("{user}/"))
                .try_collect()
                .await
                .unwrap();
            let expected = (0..rows.end).map(|row| {
                (
                    key(&user, row).into_bytes().into(),
                    row.to_le_bytes().to_vec().into(),
                )
            });
            assert!(expected.eq(found), "what {user} scanned");
        }
    }
}

#[test]
fn every_runtime_works_and_all_at_once() {
    let directory = scratch();
    let path = directory.path().join("db");
    let db = wait(Database::builder(&path).shards(3).create()).unwrap();
    let begin = Arc::new(Barrier::new(3));

    let (clone, gate) = (db.clone(), Arc::clone(&begin));
    let tokio = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .unwrap();
        gate.wait();
        runtime.block_on(async {
            let users: Vec<_> = (0..USERS)
                .map(|user| tokio::spawn(use_it(clone.clone(), format!("tokio-{user}"))))
                .collect();
            for user in users {
                user.await.unwrap();
            }
        });
    });
    let (clone, gate) = (db.clone(), Arc::clone(&begin));
    let executor = thread::spawn(move || {
        gate.wait();
        let users = (0..USERS).map(|user| use_it(clone.clone(), format!("executor-{user}")));
        futures_executor::block_on(futures_util::future::join_all(users));
    });
    begin.wait();
    let threads: Vec<_> = (0..USERS)
        .map(|user| {
            let clone = db.clone();
            thread::spawn(move || wait(use_it(clone, format!("thread-{user}"))))
        })
        .collect();
    for thread in threads.into_iter().chain([tokio, executor]) {
        thread.join().unwrap();
    }

    run("the end", async move {
        let rows: Vec<_> = db.scan(..).keys_only().try_collect().await.unwrap();
        assert_eq!(
            rows.len(),
            usize::try_from(3 * USERS * ROUNDS * ROWS).unwrap()
        );
        assert!(rows.is_sorted());
        db.close().await.unwrap();
    });
}

#[test]
fn a_database_may_move_between_runtimes() {
    let directory = scratch();
    let path = directory.path().join("db");
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    };
    let db = runtime().block_on(Database::create(&path)).unwrap();
    // The runtime that opened it is gone.
    futures_executor::block_on(db.put("key", "value")).unwrap();
    let value = runtime().block_on(db.get("key")).unwrap();
    assert_eq!(value.as_deref(), Some(&b"value"[..]));
    wait(db.close()).unwrap();
}
