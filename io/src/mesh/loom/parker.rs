//! The parker: a wake-up that is lost leaves a thread asleep for ever, which loom reports as a
//! deadlock. Its `block_on` also wakes without a cause now and then, as an executor may.

use std::future::poll_fn;
use std::task::{Context, Waker};

use ::loom::future::block_on;
use ::loom::thread;

use super::super::park::Parker;
use super::super::sync::{Arc, AtomicUsize, Ordering, fence};
use super::explore;

/// A queue reduced to what parking is about: how much was appended. Nothing but the parker's own
/// steps orders it against `parked`, as its accesses are relaxed.
#[derive(Debug)]
struct Site {
    parker: Parker,
    appended: AtomicUsize,
}

impl Site {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            parker: Parker::default(),
            appended: AtomicUsize::new(0),
        })
    }

    /// What a sender does: append, fence, unpark.
    fn send(&self) {
        self.appended.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.parker.unpark();
    }

    /// What a receiver does: look, park, look again, until everything was seen.
    fn receive(&self, messages: usize) {
        let mut taken = 0;
        while taken < messages {
            let has_work = || self.appended.load(Ordering::Relaxed) > taken;
            block_on(poll_fn(|cx| self.parker.poll_park(cx, has_work)));
            taken = self.appended.load(Ordering::Relaxed).max(taken);
        }
    }
}

fn spawn_sender(site: &Arc<Site>, messages: usize) -> thread::JoinHandle<()> {
    let site = Arc::clone(site);
    thread::spawn(move || (0..messages).for_each(|_| site.send()))
}

#[test]
fn a_message_that_crosses_a_park_wakes() {
    explore(None, || {
        let site = Site::new();
        let sender = spawn_sender(&site, 1);
        site.receive(1);
        sender.join().unwrap();
    });
}

#[test]
fn every_park_is_covered_anew() {
    explore(Some(3), || {
        let site = Site::new();
        let sender = spawn_sender(&site, 2);
        site.receive(2);
        sender.join().unwrap();
    });
}

#[test]
fn two_senders_never_leave_it_to_each_other() {
    explore(Some(2), || {
        let site = Site::new();
        let senders = [spawn_sender(&site, 1), spawn_sender(&site, 1)];
        site.receive(2);
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

#[test]
fn a_dropped_receive_does_not_use_up_the_next_ones_wake() {
    explore(Some(3), || {
        let site = Site::new();
        let sender = spawn_sender(&site, 1);
        // Parks a task that is then gone, with `parked` set.
        let gone = Context::from_waker(Waker::noop());
        let nothing = || site.appended.load(Ordering::Relaxed) > 0;
        let _looked = site.parker.poll_park(&gone, nothing);
        site.receive(1);
        sender.join().unwrap();
    });
}

/// The two tasks of one shard, one after the other: what the first was woken for is not forgotten.
#[test]
fn a_later_receive_on_another_task_is_woken() {
    explore(Some(3), || {
        let site = Site::new();
        let sender = spawn_sender(&site, 2);
        site.receive(1);
        site.receive(2);
        sender.join().unwrap();
    });
}
