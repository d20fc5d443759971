//! The mailbox as endpoints and submitters use it: messages that cross the end of their receiver,
//! and receivers that park before two kinds of queue.

use std::future::poll_fn;

use ::loom::future::block_on;
use ::loom::sync::Condvar;
use ::loom::thread;

use super::super::sync::{Arc, Mutex};
use super::super::{Endpoint, MeshConfig, Submitter, mesh};
use super::{Ledger, Message, explore};
use crate::{SendError, Submit};

const CONFIG: MeshConfig = MeshConfig {
    ring_slots: 2,
    inbox_slots: 2,
};

/// Receives until `messages` have come, parking in between, and returns their numbers.
fn receive(endpoint: &Endpoint<Message>, messages: usize) -> Vec<usize> {
    let mut received = Vec::new();
    let mut numbers = Vec::new();
    while numbers.len() < messages {
        block_on(poll_fn(|cx| endpoint.poll_recv(cx)));
        endpoint.try_recv(&mut received, 4);
        numbers.extend(received.drain(..).map(|message| message.number));
    }
    numbers
}

/// Sends one message, which must not be refused for lack of room.
fn submit(submitter: &Submitter<Message>, message: Message) {
    let outcome = submitter.try_submit(message);
    assert!(matches!(outcome, Ok(()) | Err(SendError::Closed(_))));
}

#[test]
fn a_parked_receiver_is_woken_through_its_inbox() {
    explore(Some(3), || {
        let ledger = Ledger::default();
        let (endpoints, mut submitters) = mesh::<Message>(1, CONFIG);
        let submitter = submitters.remove(0);
        let message = [ledger.message(0), ledger.message(1)];
        let caller = thread::spawn(move || {
            message
                .into_iter()
                .for_each(|message| submit(&submitter, message));
        });
        assert_eq!(receive(&endpoints[0], 2), [0, 1]);
        caller.join().unwrap();
        ledger.assert_settled();
    });
}

#[test]
fn a_parked_receiver_is_woken_by_a_peer_and_a_caller() {
    explore(Some(2), || {
        let ledger = Ledger::default();
        let (mut endpoints, submitters) = mesh::<Message>(2, CONFIG);
        let (peer, endpoint) = (endpoints.remove(1), endpoints.remove(0));
        let submitter = submitters[0].clone();
        let messages = (ledger.message(0), ledger.message(1));
        let caller = thread::spawn(move || submit(&submitter, messages.1));
        let sender = thread::spawn(move || {
            assert!(peer.send(0, messages.0).is_ok());
        });
        let mut numbers = receive(&endpoint, 2);
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1]);
        caller.join().unwrap();
        sender.join().unwrap();
        ledger.assert_settled();
    });
}

/// The invariant of `mod.rs`: when the send has returned and the receiver has closed, the message
/// is gone, although its mailbox and its rings live on.
#[test]
fn a_peers_message_that_crosses_the_end_is_dropped() {
    explore(None, || {
        let ledger = Ledger::default();
        let (mut endpoints, submitters) = mesh::<Message>(2, CONFIG);
        let (peer, endpoint) = (endpoints.remove(1), endpoints.remove(0));
        let message = ledger.message(0);
        let sender = thread::spawn(move || {
            drop(peer.send(0, message));
            peer
        });
        endpoint.close();
        let peer = sender.join().unwrap();
        ledger.assert_settled();
        assert!(matches!(
            peer.send(0, ledger.message(1)),
            Err(SendError::Closed(_))
        ));
        drop((peer, endpoint, submitters));
    });
}

#[test]
fn a_callers_message_that_crosses_the_end_is_dropped() {
    explore(Some(4), || {
        let ledger = Ledger::default();
        let (endpoints, submitters) = mesh::<Message>(1, CONFIG);
        let submitter = submitters[0].clone();
        let message = ledger.message(0);
        let caller = thread::spawn(move || submit(&submitter, message));
        endpoints[0].close();
        caller.join().unwrap();
        ledger.assert_settled();
    });
}

/// Both clear the same queues at once, beside the receiver.
#[test]
fn two_messages_that_cross_the_end_are_dropped() {
    explore(Some(2), || {
        let ledger = Ledger::default();
        let (mut endpoints, submitters) = mesh::<Message>(2, CONFIG);
        let (peer, endpoint) = (endpoints.remove(1), endpoints.remove(0));
        let submitter = submitters[0].clone();
        let (from_peer, from_caller) = (ledger.message(0), ledger.message(1));
        let sender = thread::spawn(move || {
            drop(peer.send(0, from_peer));
            peer
        });
        let caller = thread::spawn(move || submit(&submitter, from_caller));
        endpoint.close();
        let peer = sender.join().unwrap();
        caller.join().unwrap();
        ledger.assert_settled();
        drop((peer, endpoint, submitters));
    });
}

#[test]
fn what_was_received_before_the_end_is_not_dropped_twice() {
    explore(Some(3), || {
        let ledger = Ledger::default();
        let (mut endpoints, submitters) = mesh::<Message>(2, CONFIG);
        let (peer, endpoint) = (endpoints.remove(1), endpoints.remove(0));
        let messages = [ledger.message(0), ledger.message(1)];
        let sender = thread::spawn(move || {
            let sent = messages.map(|message| peer.send(0, message).is_ok());
            (peer, sent)
        });
        let mut received = Vec::new();
        endpoint.try_recv(&mut received, 1);
        endpoint.close();
        assert_eq!(
            endpoint.try_recv(&mut received, 4),
            0,
            "nothing after the end"
        );
        let (peer, sent) = sender.join().unwrap();
        assert!(received.len() <= sent.iter().filter(|sent| **sent).count());
        assert!(received.first().is_none_or(|message| message.number == 0));
        drop(received);
        ledger.assert_settled();
        drop((peer, endpoint, submitters));
    });
}

/// A caller that waits for a reply, whose sender travels in the message and says something when it
/// is dropped.
struct ReplySender(Arc<Reply>);

#[derive(Default)]
struct Reply {
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Reply {
    fn wait(&self) {
        let mut ended = self.ended.lock().unwrap();
        while !*ended {
            ended = self.changed.wait(ended).unwrap();
        }
    }
}

impl Drop for ReplySender {
    fn drop(&mut self) {
        *self.0.ended.lock().unwrap() = true;
        self.0.changed.notify_all();
    }
}

#[test]
fn nobody_waits_for_the_reply_of_a_receiver_that_ended() {
    explore(Some(3), || {
        let (mut endpoints, submitters) = mesh::<ReplySender>(2, CONFIG);
        let (peer, endpoint) = (endpoints.remove(1), endpoints.remove(0));
        let receiver = thread::spawn(move || {
            endpoint.try_recv(&mut Vec::new(), 4);
            endpoint.close();
            endpoint
        });
        let replies = [Arc::new(Reply::default()), Arc::new(Reply::default())];
        drop(peer.send(0, ReplySender(Arc::clone(&replies[0]))));
        drop(submitters[0].try_submit(ReplySender(Arc::clone(&replies[1]))));
        for reply in &replies {
            reply.wait();
        }
        drop((peer, receiver.join().unwrap()));
    });
}

/// A receive of one task that is parked while another task of the shard closes: it must not sleep
/// on. The waker travels to a thread here; the endpoint itself never does.
#[test]
fn a_close_ends_a_parked_receive() {
    explore(Some(3), || {
        let (endpoints, submitters) = mesh::<Message>(1, CONFIG);
        let ledger = Ledger::default();
        let message = ledger.message(0);
        let submitter = submitters[0].clone();
        let caller = thread::spawn(move || submit(&submitter, message));
        let endpoint = &endpoints[0];
        let mut polls = 0;
        block_on(poll_fn(|cx| {
            let poll = endpoint.poll_recv(cx);
            polls += 1;
            if polls == 1 {
                endpoint.close();
            }
            poll
        }));
        assert!(endpoint.is_closed());
        caller.join().unwrap();
        ledger.assert_settled();
    });
}
