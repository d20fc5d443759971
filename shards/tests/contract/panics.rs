//! A panic anywhere in a shard is contained: the shard is poisoned at once, no caller hangs, no
//! other shard is concerned, closing ends, and nothing acknowledged is lost.
//!
//! The world panics at the n-th call of a kind, wherever in the shard that call is made: in its
//! loop, the log's writer, a timer, the preparation of a segment, a flush, a watch or a read.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Bound::Unbounded;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use lightning_io::Env;
use lightning_io::sim::{SimConfig, World};
use lightning_shards::{Durability, Error, KeyspaceId, Result, ShardConfig};

use crate::hooks::{Call, Hook, HookedEnv};
use crate::site::{Running, Site, small, world_on};

/// Which call of which kind panics.
#[derive(Debug, Default)]
struct Plan {
    armed: Cell<Option<(Call, u64)>>,
    fired: Cell<bool>,
}

impl Hook for Plan {
    fn before(&self, call: Call) {
        let Some((kind, left)) = self.armed.get() else {
            return;
        };
        if kind != call {
            return;
        }
        if left > 0 {
            return self.armed.set(Some((kind, left - 1)));
        }
        self.armed.set(None);
        self.fired.set(true);
        panic!("planned panic at {call:?}");
    }
}

const SHARDS: usize = 2;
/// Writers at once, each with keys of its own.
const WRITERS: usize = 3;

/// Every page is read from disk, and every log record may end its segment.
fn config() -> ShardConfig {
    ShardConfig {
        segment_bytes_first: 16 << 10,
        segment_bytes_max: 16 << 10,
        relaxed_interval: Duration::from_micros(200),
        mark_interval: Duration::from_micros(100),
        ..small()
    }
}

fn assert_typed<T>(outcome: &Result<T>) {
    if let Err(error) = outcome {
        let typed = matches!(
            error,
            Error::Poisoned { .. } | Error::MaybeCommitted { .. } | Error::Closed
        );
        assert!(typed, "{error}");
    }
}

/// One writer's share of the work; returns what it knows to be durable.
async fn write(db: &Running, writer: usize) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut durable = BTreeMap::new();
    for round in 0..24_u8 {
        let (key, value) = (format!("{writer}-{}", round % 10), vec![round; 2000]);
        let how = if round % 4 == 3 {
            Durability::Relaxed
        } else {
            Durability::Sync
        };
        let written = db.put_with(&key, &value, how).await;
        assert_typed(&written);
        match written {
            Ok(()) if how == Durability::Sync => drop(durable.insert(key.clone(), Some(value))),
            Err(Error::Poisoned { .. }) => {}
            _ => drop(durable.insert(key.clone(), None)),
        }
        assert_typed(&db.get(&key).await);
        if round == 12 {
            assert_typed(&db.client.flush().await);
            let mut scan = db.client.scan(KeyspaceId::DEFAULT, Unbounded, Unbounded);
            while let Ok(Some(_)) = scan.next().await {}
            assert_typed(&db.client.verify().await);
        }
        if round % 8 == 0 {
            // Long enough for the timers of the log.
            db.clients.sleep(Duration::from_millis(1)).await;
        }
    }
    durable
}

/// One run in which the `nth` call of a kind panics; false when there are not so many.
fn run(call: Call, nth: u64) -> bool {
    let settings = SimConfig {
        polls_max: 1_000_000,
        ..SimConfig::default()
    };
    let world = World::new(nth, settings);
    let plan = Rc::new(Plan::default());
    let mut first = true;
    let site = Site::new(&world, SHARDS).with_envs(|env| {
        let armed = std::mem::take(&mut first);
        let plan = if armed {
            Rc::clone(&plan)
        } else {
            Rc::default()
        };
        HookedEnv::new(env, plan)
    });
    let finished = world.run(async {
        let db = site.open(config()).await.unwrap();
        plan.armed.set(Some((call, nth)));
        let durable = join_all((0..WRITERS).map(|writer| write(&db, writer))).await;
        let durable: BTreeMap<_, _> = durable.into_iter().flatten().collect();
        if plan.fired.get() {
            db.clients.sleep(Duration::from_millis(5)).await;
            for shard in 0..2 {
                let key = db.keys_of(shard, "late").next().unwrap();
                let late = db.put(&key, b"1").await;
                assert!(
                    matches!(late, Err(Error::Poisoned { .. })),
                    "{shard}: {late:?}"
                );
            }
            // The other shard goes on reading.
            let others = durable.iter().filter(|(key, _)| db.shard_of(key).0 == 1);
            for (key, value) in others {
                let found = db.get(key).await.unwrap();
                assert!(value.is_none() || *value == found, "{key}");
            }
        }
        let closed = db.close().await;
        assert_typed(&closed);
        assert_eq!(closed.is_err(), plan.fired.get());
        durable
    });
    let durable = finished.unwrap_or_else(|failure| panic!("{call:?} {nth}: {failure}"));
    let fired = plan.fired.get();
    if fired {
        let world = world_on(nth, world.crash());
        let site = Site::new(&world, SHARDS);
        let reopened = world.run(async {
            let db = site.open(config()).await.unwrap();
            for (key, value) in durable {
                let found = db.get(&key).await.unwrap();
                assert!(value.is_none() || value == found, "{call:?} {nth}: {key}");
            }
            db.close().await.unwrap();
        });
        reopened.unwrap();
    }
    fired
}

#[track_caller]
fn sweep(call: Call, least: u64) {
    let mut nth = 0;
    while run(call, nth) {
        // Every one of the first calls, then fewer and fewer.
        nth += 1 + nth / 60;
    }
    assert!(nth >= least, "{nth} calls of {call:?}");
}

#[test]
fn a_panic_in_a_write_is_contained() {
    sweep(Call::Write, 50);
    sweep(Call::Allocate, 50);
}

#[test]
fn a_panic_while_a_segment_is_prepared_is_contained() {
    sweep(Call::Open, 3);
    sweep(Call::Preallocate, 3);
    sweep(Call::SyncDir, 3);
    sweep(Call::Random, 3);
    sweep(Call::Remove, 1);
}

#[test]
fn a_panic_in_a_flush_or_a_read_is_contained() {
    sweep(Call::Sync, 4);
    sweep(Call::Read, 10);
    sweep(Call::Yield, 50);
}

#[test]
fn a_panic_in_a_timer_or_in_the_loop_is_contained() {
    sweep(Call::Sleep, 5);
    sweep(Call::WallClock, 50);
}

#[test]
fn a_panic_where_a_task_is_started_is_contained() {
    sweep(Call::Spawn, 20);
}
