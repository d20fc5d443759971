//! The ring: order, no loss, no duplicate, its bound, the reuse of slots, and its end. Loom's cells
//! find a slot that two threads touch without an order between them.

use ::loom::thread;

use super::super::spsc::{Consumer, ring_at};
use super::{Ledger, Message, explore};

/// Just below the largest count, so that a model of a few messages wraps around.
const START: usize = usize::MAX - 1;

/// Sends `messages` as room is found and receives all of them, on a thread each.
fn passes_all(slots: usize, messages: usize) {
    let ledger = Ledger::default();
    let (producer, consumer) = ring_at::<Message>(slots, START);
    let sender = thread::spawn({
        let ledger = ledger.clone();
        move || {
            for number in 0..messages {
                let mut message = ledger.message(number);
                while let Err(back) = producer.push(message) {
                    message = back;
                    thread::yield_now();
                }
            }
        }
    });
    for number in 0..messages {
        let message = loop {
            match consumer.pop() {
                Some(message) => break message,
                None => thread::yield_now(),
            }
        };
        assert_eq!(message.number, number, "in order");
    }
    sender.join().unwrap();
    assert!(consumer.is_empty() && consumer.pop().is_none());
    ledger.assert_settled();
}

#[test]
fn a_ring_of_one_slot_passes_three_messages_in_order() {
    explore(Some(3), || passes_all(1, 3));
}

#[test]
fn a_ring_of_two_slots_passes_four_messages_in_order() {
    explore(Some(2), || passes_all(2, 4));
}

#[test]
fn a_full_ring_hands_back_and_keeps_what_it_accepted() {
    explore(Some(3), || {
        let ledger = Ledger::default();
        let (producer, consumer) = ring_at::<Message>(2, START);
        let sender = thread::spawn({
            let ledger = ledger.clone();
            move || {
                let pushed = |number| producer.push(ledger.message(number)).is_ok();
                (0..3).filter(|&number| pushed(number)).collect::<Vec<_>>()
            }
        });
        let mut received = take(&consumer, 2);
        let accepted = sender.join().unwrap();
        assert!(accepted.len() >= 2, "there is room for two");
        received.extend(take(&consumer, 4));
        assert_eq!(received, accepted);
        ledger.assert_settled();
    });
}

/// The numbers of the messages that `attempts` pops give.
fn take(consumer: &Consumer<Message>, attempts: usize) -> Vec<usize> {
    let popped = (0..attempts).filter_map(|_| consumer.pop());
    popped.map(|message| message.number).collect()
}

#[test]
fn what_is_left_in_a_ring_is_dropped_with_its_last_end() {
    explore(None, || {
        let ledger = Ledger::default();
        let (producer, consumer) = ring_at::<Message>(2, START);
        let sender = thread::spawn({
            let ledger = ledger.clone();
            move || {
                for number in 0..3 {
                    drop(producer.push(ledger.message(number)));
                }
            }
        });
        drop(consumer.pop());
        drop(consumer);
        sender.join().unwrap();
        ledger.assert_settled();
    });
}
