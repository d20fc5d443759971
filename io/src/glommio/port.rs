//! A shard's end of the mesh on an executor.
//!
//! # How a receive waits
//! It polls first, for the configured time, because a wake-up costs both sides many times what a
//! message costs. Each turn lets every other task queue run. The executor submits I/O and sees its
//! completions only when no task is runnable (or every preempt timer), so while an operation is in
//! flight the port parks at once: the executor then spins on its rings itself, and a sender pays
//! for a wake-up.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::rc::Rc;

#[expect(
    clippy::disallowed_types,
    reason = "this is the world that the clock comes from"
)]
use std::time::Instant;

use super::activity::Activity;
use super::executors::Spin;
use crate::mesh::Endpoint;
use crate::{Message, Port, SendError};

/// Turns between two looks at the clock: a look costs 25 ns, a turn 150 to 300, so it adds under
/// 1 % and misses the end of the spin by less than 5 us.
const TURNS_PER_CLOCK: u32 = 16;

/// The production [`Port`].
#[derive(Debug)]
pub struct GlommioPort<M> {
    endpoint: Rc<Endpoint<M>>,
    spin: Spin,
    activity: Rc<Activity>,
    /// Whether a receive is waiting: two would steal each other's wake-ups.
    receiving: Cell<bool>,
}

impl<M> GlommioPort<M> {
    pub(super) fn new(endpoint: Rc<Endpoint<M>>, spin: Spin, activity: Rc<Activity>) -> Self {
        Self {
            endpoint,
            spin,
            activity,
            receiving: Cell::new(false),
        }
    }

    /// Polls until something arrives, the time is over, or an operation is in flight.
    async fn spin(&self, into: &mut Vec<M>, limit: usize) -> usize {
        #[expect(
            clippy::disallowed_types,
            reason = "this is the world that the clock comes from"
        )]
        let mut started: Option<Instant> = None;
        let mut turn = 0_u32;
        while !self.activity.waits_for_io() && !self.endpoint.is_closed() {
            if let Spin::For(time) = self.spin
                && turn.is_multiple_of(TURNS_PER_CLOCK)
            {
                #[expect(
                    clippy::disallowed_types,
                    reason = "this is the world that the clock comes from"
                )]
                let start = *started.get_or_insert_with(Instant::now);
                if time.is_zero() || (turn > 0 && start.elapsed() >= time) {
                    break;
                }
            }
            turn = turn.wrapping_add(1);
            ::glommio::executor().yield_task_queue_now().await;
            let count = self.endpoint.try_recv(into, limit);
            if count > 0 {
                return count;
            }
        }
        0
    }
}

impl<M: Message> Port<M> for GlommioPort<M> {
    fn peers(&self) -> usize {
        self.endpoint.peers()
    }

    #[inline]
    fn send(&self, to: usize, message: M) -> Result<(), SendError<M>> {
        self.endpoint.send(to, message)
    }

    async fn recv(&self, into: &mut Vec<M>, limit: usize) {
        debug_assert!(limit > 0, "a receive of nothing never ends");
        let limit = limit.max(1);
        let receiving = Receiving::begin(&self.receiving);
        // A shard that always finds messages must still let its I/O through.
        ::glommio::yield_if_needed().await;
        if self.endpoint.try_recv(into, limit) > 0 {
            return;
        }
        loop {
            if self.spin(into, limit).await > 0 {
                return;
            }
            poll_fn(|cx| self.endpoint.poll_recv(cx)).await;
            if self.endpoint.try_recv(into, limit) > 0 {
                return;
            }
            if self.endpoint.is_closed() {
                // The shard ends; its tasks are dropped from outside.
                drop(receiving);
                pending::<()>().await;
                return;
            }
        }
    }
}

/// Marks the one receive that may wait.
struct Receiving<'a>(&'a Cell<bool>);

impl<'a> Receiving<'a> {
    fn begin(flag: &'a Cell<bool>) -> Self {
        debug_assert!(!flag.get(), "one task receives from a port at a time");
        flag.set(true);
        Self(flag)
    }
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
