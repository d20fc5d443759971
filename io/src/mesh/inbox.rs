//! The bounded queue through which any thread reaches a shard.

use std::fmt;

use super::sync::ArrayQueue;

/// A bounded queue of many producers.
///
/// Taking a message is safe from any thread too, which is how a sender that finds the receiver
/// gone clears away what it had just left there.
pub(super) struct Inbox<M>(ArrayQueue<M>);

impl<M> Inbox<M> {
    /// Makes an inbox for `slots` messages, one at the least.
    pub(super) fn new(slots: usize) -> Self {
        Self(ArrayQueue::new(slots.max(1)))
    }

    /// Appends a message, or hands it back when the inbox is full.
    #[inline]
    pub(super) fn push(&self, message: M) -> Result<(), M> {
        self.0.push(message)
    }

    /// Takes the oldest message.
    #[inline]
    pub(super) fn pop(&self) -> Option<M> {
        // A look costs two loads; an attempt to take from an empty queue costs a fence.
        if self.0.is_empty() {
            None
        } else {
            self.0.pop()
        }
    }

    /// Whether nothing is there now.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<M> fmt::Debug for Inbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inbox({} of {} slots)", self.0.len(), self.0.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_keeps_order_and_its_bound() {
        let inbox = Inbox::new(2);
        assert_eq!(inbox.push(1), Ok(()));
        assert_eq!(inbox.push(2), Ok(()));
        assert_eq!(inbox.push(3), Err(3));
        assert_eq!(inbox.pop(), Some(1));
        assert_eq!(inbox.push(4), Ok(()));
        assert_eq!(
            (inbox.pop(), inbox.pop(), inbox.pop()),
            (Some(2), Some(4), None)
        );
        assert!(inbox.is_empty());
    }
}
