//! The moment at which a shard takes an update, as the oracle learns of it.
//!
//! The function of an update runs on its shard and may go to any thread, so it cannot hold on to
//! the oracle. A run has one thread, and what watches it is found through that.

use std::cell::RefCell;
use std::rc::Rc;

use lightning_io::sim::SimEnv;
use lightning_shards::{Change, Decide, Shard};

use crate::model::{Model, Taken, Ticket};

/// What is told of updates.
struct Watch {
    model: Rc<RefCell<Model>>,
    env: SimEnv,
    shards: Vec<Shard<SimEnv>>,
}

thread_local! {
    static WATCH: RefCell<Option<Rc<Watch>>> = const { RefCell::new(None) };
}

/// Watches the updates of this thread's database until it is dropped.
pub(crate) struct Watching(Rc<Watch>);

impl Watching {
    /// Begins to watch open shards, which are in order.
    pub(crate) fn begin(
        model: &Rc<RefCell<Model>>,
        env: &SimEnv,
        shards: Vec<Shard<SimEnv>>,
    ) -> Self {
        let watch = Rc::new(Watch {
            model: Rc::clone(model),
            env: env.clone(),
            shards,
        });
        WATCH.set(Some(Rc::clone(&watch)));
        Self(watch)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        WATCH.with_borrow_mut(|watch| {
            if watch
                .as_ref()
                .is_some_and(|watch| Rc::ptr_eq(watch, &self.0))
            {
                *watch = None;
            }
        });
    }
}

/// The same function, which tells the oracle what it saw and decided, and when.
pub(crate) fn watched(decide: Decide, shard: usize, ticket: Ticket) -> Decide {
    Decide::new(move |found| {
        let change = decide.on(found);
        tell(shard, ticket, found, &change);
        change
    })
}

fn tell(shard: usize, ticket: Ticket, found: Option<&[u8]>, change: &Change) {
    let Some(watch) = WATCH.with_borrow(Clone::clone) else {
        return;
    };
    // Every part of a write that the shard has taken is one commit in its log.
    let before = lightning_io::to_usize(watch.shards[shard].stats().wal_commits);
    let taken = Taken {
        before,
        found,
        change,
        now: lightning_io::Env::now(&watch.env),
    };
    watch.model.borrow_mut().taken(ticket, &taken);
}
