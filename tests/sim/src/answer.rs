//! An answer on its way to a caller, at which the oracle may look before it is heard.

use std::fmt::Debug;
use std::task::{Context, Poll};

use futures_channel::oneshot;
use futures_util::FutureExt;
use lightning_shards::{Error, Result, Timestamp, Updated};

/// What the oracle asks of an answer.
pub(crate) trait Answer: Debug {
    /// What was answered so far: the time of the commit, if there was one.
    fn peek(&mut self) -> Option<Result<Option<Timestamp>>>;
}

/// An answer that nothing is lost of by looking at it.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    receiver: oneshot::Receiver<Result<T>>,
    /// What was answered and not heard yet.
    given: Option<Result<T>>,
}

impl<T: Clone> Watched<T> {
    pub(crate) fn new(receiver: oneshot::Receiver<Result<T>>) -> Self {
        Self {
            receiver,
            given: None,
        }
    }

    /// Hears the answer.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T>> {
        if let Some(given) = self.given.take() {
            return Poll::Ready(given);
        }
        let heard = self.receiver.poll_unpin(cx);
        heard.map(|heard| heard.unwrap_or(Err(Error::Closed)))
    }

    fn look(&mut self) -> Option<Result<T>> {
        if self.given.is_none()
            && let Ok(given) = self.receiver.try_recv()
        {
            self.given = given;
        }
        self.given.clone()
    }
}

impl Answer for Watched<Timestamp> {
    fn peek(&mut self) -> Option<Result<Option<Timestamp>>> {
        Some(self.look()?.map(Some))
    }
}

impl Answer for Watched<Updated> {
    fn peek(&mut self) -> Option<Result<Option<Timestamp>>> {
        Some(self.look()?.map(|updated| updated.at))
    }
}
