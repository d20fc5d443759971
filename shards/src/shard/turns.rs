//! Whose turn it is to change the tree's file: a flush and the steps of merges take turns.
//!
//! # Invariants
//! * One holds the turn at a time, and those who wait get it in the order in which they asked. So a
//!   flush waits for one step of a merge at most, and a merge for one flush.
//! * Who is dropped, waiting or at work, is out of the queue.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::signal::Event;

/// A queue for the turn.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The one whose turn it is, then those who wait.
    queue: RefCell<VecDeque<u64>>,
    next: Cell<u64>,
    ended: Event,
}

/// A place in the queue; ends the turn when it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    number: u64,
}

impl Turns {
    /// Waits for the turn.
    pub(super) async fn take(&self) -> Turn<'_> {
        let number = self.next.get();
        self.next.set(number + 1);
        self.queue.borrow_mut().push_back(number);
        let turn = Turn {
            turns: self,
            number,
        };
        while !turn.has_come() {
            self.ended.next().await;
        }
        turn
    }
}

impl Turn<'_> {
    fn has_come(&self) -> bool {
        self.turns.queue.borrow().front() == Some(&self.number)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut queue = self.turns.queue.borrow_mut();
        queue.retain(|&number| number != self.number);
        drop(queue);
        self.turns.ended.occur();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn turns_go_round_in_order_and_who_gave_up_is_passed_over() {
        let turns = Turns::default();
        let first = turns.take().now_or_never().expect("nobody has the turn");
        let mut second = Box::pin(turns.take());
        let mut third = Box::pin(turns.take());
        let mut fourth = Box::pin(turns.take());
        assert!(fourth.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        // The fourth was asked first, so it is before the third.
        assert!(third.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        drop(fourth);
        let turn = third.as_mut().now_or_never().expect("it is next");
        assert!(second.as_mut().now_or_never().is_none());
        drop(turn);
        assert!(second.as_mut().now_or_never().is_some());
    }
}
