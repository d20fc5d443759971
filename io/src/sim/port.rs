//! Messages between the shards of a simulated world.
//!
//! # Invariants
//! * First in, first out per ordered pair: a message is never due before the one sent before it.
//! * Between pairs there is no order: each message has its own delay, and what is due is received
//!   from the senders in an order that the seed decides.
//! * A pair holds at most the given number of messages; a sender is told when that is reached.
//! * A dropped port drops what was queued for it and answers `Closed` from then on.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::executor::{Shared, State};
use super::trace::Mark;
use crate::env::Message;
use crate::{Port, SendError, Submit, to_u64};

/// What is queued for one port.
struct Mailbox<M> {
    /// Per sender, the due time of each message; the last sender is everybody outside of the mesh.
    lanes: Vec<VecDeque<(u64, M)>>,
    receiver: Option<Waker>,
    is_open: bool,
}

type SharedMailbox<M> = Rc<RefCell<Mailbox<M>>>;

/// One shard's end of a simulated mesh.
pub struct SimPort<M> {
    shared: Rc<Shared>,
    index: usize,
    slots: usize,
    mailboxes: Rc<Vec<SharedMailbox<M>>>,
}

/// Sends to one shard from outside of the mesh; all clones together are one sender.
pub struct SimSubmitter<M> {
    shared: Rc<Shared>,
    index: usize,
    slots: usize,
    mailbox: SharedMailbox<M>,
}

impl<M> Clone for SimSubmitter<M> {
    fn clone(&self) -> Self {
        Self {
            shared: Rc::clone(&self.shared),
            index: self.index,
            slots: self.slots,
            mailbox: Rc::clone(&self.mailbox),
        }
    }
}

impl<M> fmt::Debug for SimPort<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimPort({} of {})", self.index, self.mailboxes.len())
    }
}

impl<M> fmt::Debug for SimSubmitter<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimSubmitter({})", self.index)
    }
}

/// Makes the ports of `count` shards, and a submitter for each.
pub(super) fn mesh<M: Message>(
    shared: &Rc<Shared>,
    count: usize,
    slots: usize,
) -> (Vec<SimPort<M>>, Vec<SimSubmitter<M>>) {
    let mailbox = |_| {
        Rc::new(RefCell::new(Mailbox {
            lanes: (0..=count).map(|_| VecDeque::new()).collect(),
            receiver: None,
            is_open: true,
        }))
    };
    let mailboxes: Rc<Vec<SharedMailbox<M>>> = Rc::new((0..count).map(mailbox).collect());
    let port = |index| SimPort {
        shared: Rc::clone(shared),
        index,
        slots,
        mailboxes: Rc::clone(&mailboxes),
    };
    let submitter = |index: usize| SimSubmitter {
        shared: Rc::clone(shared),
        index,
        slots,
        mailbox: Rc::clone(&mailboxes[index]),
    };
    (
        (0..count).map(port).collect(),
        (0..count).map(submitter).collect(),
    )
}

/// Queues a message, due after a seeded delay.
fn push<M>(
    shared: &Shared,
    mailbox: &RefCell<Mailbox<M>>,
    (from, to): (usize, usize),
    slots: usize,
    message: M,
) -> Result<(), SendError<M>> {
    let mailbox = &mut *mailbox.borrow_mut();
    if !mailbox.is_open || shared.is_stopped() {
        return Err(SendError::Closed(message));
    }
    let lane = &mut mailbox.lanes[from];
    if lane.len() >= slots {
        return Err(SendError::Full(message));
    }
    let state = &mut *shared.state.borrow_mut();
    let delay = draw_delay(state, shared.limits.message_ns_max);
    let behind = lane.back().map_or(0, |&(due, _)| due);
    let due = (state.now + delay).max(behind);
    lane.push_back((due, message));
    let words = [to_u64(from), to_u64(to), due];
    state.trace.mark(Mark::Send, state.now, &words);
    state
        .trace
        .note(state.now, || format!("message {from} -> {to}"));
    if let Some(waker) = mailbox.receiver.take() {
        state.wake_at(due, waker);
    }
    Ok(())
}

/// Mostly short, sometimes as long as the bound allows.
fn draw_delay(state: &mut State, ns_max: u64) -> u64 {
    let rng = &mut state.streams.messages;
    let bound = if rng.below(16) == 0 {
        ns_max
    } else {
        ns_max / 16
    };
    rng.below(bound)
}

impl<M> Mailbox<M> {
    /// Takes up to `limit` due messages, or leaves a waker for the first that will be due.
    fn poll(
        &mut self,
        shared: &Shared,
        to: usize,
        into: &mut Vec<M>,
        limit: usize,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let state = &mut *shared.state.borrow_mut();
        let before = into.len();
        while into.len() - before < limit {
            let due = |lane: &VecDeque<(u64, M)>| lane.front().is_some_and(|m| m.0 <= state.now);
            let count = self.lanes.iter().filter(|lane| due(lane)).count();
            if count == 0 {
                break;
            }
            let chosen = state.streams.messages.index(count);
            let lane = self.lanes.iter_mut().filter(|lane| due(lane)).nth(chosen);
            into.extend(lane.and_then(VecDeque::pop_front).map(|entry| entry.1));
        }
        let taken = into.len() - before;
        if taken > 0 || limit == 0 {
            let words = [to_u64(to), to_u64(taken)];
            state.trace.mark(Mark::Receive, state.now, &words);
            return Poll::Ready(());
        }
        let heads = self.lanes.iter().filter_map(VecDeque::front);
        match heads.map(|&(due, _)| due).min() {
            Some(due) => drop(state.wake_at(due, cx.waker().clone())),
            None => self.receiver = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl<M: Message> Port<M> for SimPort<M> {
    fn peers(&self) -> usize {
        self.mailboxes.len()
    }

    fn send(&self, to: usize, message: M) -> Result<(), SendError<M>> {
        let Some(mailbox) = self.mailboxes.get(to) else {
            return Err(SendError::Closed(message));
        };
        push(&self.shared, mailbox, (self.index, to), self.slots, message)
    }

    async fn recv(&self, into: &mut Vec<M>, limit: usize) {
        let mailbox = &self.mailboxes[self.index];
        poll_fn(|cx| {
            let mut mailbox = mailbox.borrow_mut();
            mailbox.poll(&self.shared, self.index, into, limit, cx)
        })
        .await;
    }
}

impl<M> Drop for SimPort<M> {
    fn drop(&mut self) {
        let queued = {
            let mut mailbox = self.mailboxes[self.index].borrow_mut();
            mailbox.is_open = false;
            (std::mem::take(&mut mailbox.lanes), mailbox.receiver.take())
        };
        // Dropped outside of the borrow: a message may hold anything.
        drop(queued);
    }
}

impl<M: Message> Submit<M> for SimSubmitter<M> {
    fn try_submit(&self, message: M) -> Result<(), SendError<M>> {
        let outside = self.mailbox.borrow().lanes.len().saturating_sub(1);
        let pair = (outside, self.index);
        push(&self.shared, &self.mailbox, pair, self.slots, message)
    }
}
