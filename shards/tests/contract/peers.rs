//! The peers of a shard that failed hear of it, however full their queues are.

use std::cell::Cell;
use std::rc::Rc;

use lightning_io::sim::{Script, SimPort};
use lightning_io::{IoErrorKind, IoOp, Port, SendError};
use lightning_shards::{Request, ShardId};

use crate::site::{Site, is_poisoned, small, world};

/// A port whose queues to peers are full for a number of attempts.
struct FullPort {
    inner: SimPort<Request>,
    refusals: Rc<Cell<u32>>,
}

impl Port<Request> for FullPort {
    fn peers(&self) -> usize {
        self.inner.peers()
    }

    fn send(&self, to: usize, message: Request) -> Result<(), SendError<Request>> {
        let left = self.refusals.get();
        self.refusals.set(left.saturating_sub(1));
        if left > 0 {
            return Err(SendError::Full(message));
        }
        self.inner.send(to, message)
    }

    async fn recv(&self, into: &mut Vec<Request>, limit: usize) {
        self.inner.recv(into, limit).await;
    }
}

fn run(refusals: u32, hears: bool) {
    let world = world(u64::from(refusals));
    let refusals = Rc::new(Cell::new(refusals));
    let site = Site::new(&world, 3).with_ports(|inner| FullPort {
        inner,
        refusals: Rc::clone(&refusals),
    });
    world
        .run(async {
            let db = site.open(small()).await.unwrap();
            world.add_script(Script {
                op: IoOp::Write,
                path: "shard-001/wal-".to_owned(),
                nth: 0,
                error: IoErrorKind::NoSpace,
            });
            let own = |shard| db.keys_of(shard, "key").next().unwrap();
            let (first, failing, last) = (own(0), own(1), own(2));
            db.put(&failing, b"1").await.unwrap_err();
            assert!(is_poisoned(&db.put(&failing, b"1").await));
            for key in [first, last] {
                assert_ne!(db.shard_of(&key), ShardId(1));
                while hears && db.put(&key, b"1").await.is_ok() {}
                assert_eq!(is_poisoned(&db.put(&key, b"2").await), hears);
            }
            // Closing ends, whether or not everybody was told.
            assert!(is_poisoned(&db.close().await));
        })
        .unwrap();
}

#[test]
fn a_peer_whose_queue_was_full_hears_of_it_later() {
    for refusals in [0, 1, 2, 5, 100] {
        run(refusals, true);
    }
}

#[test]
fn a_peer_whose_queue_stays_full_does_not_keep_the_database_open() {
    run(u32::MAX, false);
}
