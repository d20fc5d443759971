//! The mesh under loom: every order in which threads can take their steps, and every value that a
//! load may return under the memory model, up to stated bounds.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p lightning-io --lib mesh::loom --target-dir
//! target/loom` runs the models; `-- --nocapture` prints how many executions each took.
//!
//! # Bounds
//! Two or three threads, one to four messages, and where `explore` is given a number, at most so
//! many preemptions an execution; without one, all. `sync/model.rs` says what stands in for what.
//! Replies travel in `futures-channel`'s own slots, which are not modelled.
//!
//! # What the models catch
//! Each of these was planted once, alone; the models named turned red, and others often too.
//!
//! | planted | caught by |
//! |---|---|
//! | ring: `tail` published, or read by the consumer, relaxed | all of `rings` |
//! | ring: `head` published, or read by the producer, relaxed | all of `rings` |
//! | ring: an index published before its slot is used | all of `rings` |
//! | ring: one message more than there are slots | all of `rings` |
//! | ring: a full ring never looks at `head` again | `a_ring_of_one_..`, `.._two_slots_..` |
//! | ring: its end forgets what is left | `what_is_left_in_a_ring_..` |
//! | parker: no fence in `poll_park`, or an acquire-release one | all of `parker` |
//! | parker: no second look | all of `parker` |
//! | parker: the second look before the fence | `a_message_that_crosses_a_park_wakes` |
//! | parker: `parked` set before the waker is registered | `every_park_is_covered_anew` |
//! | parker: a sender clears `parked` and does not wake | all of `parker` |
//! | mailbox: no fence in `announce`, or an acquire-release one | all of `mailbox` |
//! | mailbox: `announce` looks at `closed` before its fence | `a_callers_..`, `a_peers_..` |
//! | mailbox: `announce` at a closed mailbox clears nothing | `a_callers_..`, `a_peers_..` |
//! | mailbox: `close` without a fence | `a_callers_..`, `a_peers_..` |
//! | mailbox: `close` clears before it sets `closed` | `a_callers_..`, `a_peers_..` |
//! | mailbox: rings handed over after clearing, or never | `a_peers_message_..` |
//! | mailbox: `close` leaves what is in the inbox | `a_callers_message_..`, `nobody_waits_..` |
//! | mailbox: `close` does not unpark | `a_close_ends_a_parked_receive` |
//! | endpoint: announced before it is pushed, by a peer or a caller | `a_parked_receiver_..` |
//! | endpoint: parks on a look at the inbox alone | `.._woken_by_a_peer_and_a_caller` |
//!
//! What no model caught when it was weakened turned out to be superfluous, and is relaxed now:
//! release and acquire on `parked` (`park.rs` says what orders it) and the order of the store of
//! `closed`, which a fence follows.

mod mailbox;
mod parker;
mod rings;

use std::sync::Arc as Counter;
use std::sync::atomic::{AtomicUsize as Count, Ordering::Relaxed};

use ::loom::model::Builder;

/// Explores a model exhaustively, with at most so many preemptions an execution if a number is
/// given.
fn explore(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    let executions = Counter::new(Count::new(0));
    let counted = Counter::clone(&executions);
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        model();
    });
    println!("{} executions", executions.load(Relaxed));
}

/// How many of a model's messages were made and dropped. Not part of what is explored.
#[derive(Debug, Clone, Default)]
struct Ledger {
    made: Counter<Count>,
    dropped: Counter<Count>,
}

impl Ledger {
    fn message(&self, number: usize) -> Message {
        self.made.fetch_add(1, Relaxed);
        Message {
            number,
            ledger: self.clone(),
        }
    }

    /// Every message is gone, and none went twice.
    #[track_caller]
    fn assert_settled(&self) {
        let (made, dropped) = (self.made.load(Relaxed), self.dropped.load(Relaxed));
        assert_eq!(dropped, made, "messages dropped and made");
    }
}

#[derive(Debug)]
struct Message {
    number: usize,
    ledger: Ledger,
}

impl Drop for Message {
    fn drop(&mut self) {
        self.ledger.dropped.fetch_add(1, Relaxed);
    }
}
