//! A full disk: what is still taken then, and how the shard comes back from it.
//!
//! # Algorithm
//! 1. A flush or a new segment of the log finds no space. Writes wait from then on until steps 2 and
//!    3 have shown what can be done about it.
//! 2. The reserve is given up. A segment of the log is made from it first, as that is what deletions
//!    need, then the flush is tried again.
//! 3. While the log has no segment to go on in, what is in memory is flushed, however little: that
//!    frees the log's old segments, and a tree with free units needs no space for it.
//!    And all runs are merged, so that what was deleted leaves free units behind.
//! 4. When flush and log have what they need, the reserve is made again. Where the disk has no space
//!    for it, as much free room in the tree stands in for it. With either all is as before. Without
//!    both the shard is short of space: it refuses writes that put, and takes deletions and reads.
//! 5. As long as the reserve is not there, the steps are repeated as often as [`RETRY_INTERVAL`],
//!    and for a deletion that finds no room. So a shortage ends by itself, without reopening, and
//!    one that the tree's room ended comes back before puts have used that up.
//!
//! # Bounds
//! Deletions are taken as far as the log's segments reach, and while the memtables are below
//! [`MEMTABLES_MAX`] budgets: what a flush cannot move is in memory and in the log.
//!
//! # Crash argument
//! The reserve is no part of what is durable. A shard that is opened on a full disk keeps in memory
//! what it cannot flush, begins without a segment if it must, and is short of space from the start.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::select;
use lightning_io::{Env, IoError};

use super::reserve::{Held, Reserve};
use super::{Shard, count};
use crate::signal::Signal;
use crate::wal::Ops;
use crate::{Error, Result};

/// How often a shard that is short of space looks whether there is some again: soon enough for
/// callers who wait, and seldom enough to be nothing beside the work of a shard.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Budgets that the memtables may take together while deletions come in that no flush can move: one
/// more than they have otherwise.
pub(super) const MEMTABLES_MAX: usize = 3;

/// How much space there is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Enough,
    /// There was none a moment ago, and steps 2 and 3 are under way.
    Looking(IoError),
    /// There is none, but for what the reserve gave.
    Short(IoError),
}

/// What a shard knows of the space on its disk.
#[derive(Debug)]
pub(super) struct Space {
    state: RefCell<State>,
    reserve: Reserve,
    /// Whether the reserve is there; a shortage that is looked into gives it up.
    held: Cell<bool>,
    /// Whether there was one to give up when the shortage began.
    given_up: Cell<bool>,
    /// Whether a task looks for space, or for the reserve: always, but while it is `held` and there
    /// is enough.
    watched: Cell<bool>,
    /// Raised when that task is to look at once: for what found none, or to end.
    wake: Signal,
}

impl Space {
    pub(super) fn new(directory: &Path, reserve_bytes: u64) -> Self {
        Self {
            state: RefCell::new(State::Enough),
            reserve: Reserve::new(directory, reserve_bytes),
            held: Cell::new(false),
            given_up: Cell::new(false),
            watched: Cell::new(false),
            wake: Signal::default(),
        }
    }

    /// Notes that the reserve of the run before may be there, to be given up at once.
    pub(super) fn found_at_opening(&self) {
        self.held.set(true);
    }

    /// What found no space, while there is none.
    pub(super) fn shortage(&self) -> Option<IoError> {
        match &*self.state.borrow() {
            State::Enough => None,
            State::Looking(cause) | State::Short(cause) => Some(cause.clone()),
        }
    }

    /// Whether what is taken now is taken thanks to the reserve.
    pub(super) fn is_on_reserve(&self) -> bool {
        self.given_up.get() && matches!(*self.state.borrow(), State::Short(_))
    }

    /// Has the task that waits for space end, as the shard closes.
    pub(super) fn end(&self) {
        self.wake.raise();
    }
}

impl<E: Env> Shard<E> {
    /// Makes the reserve when the shard is opened; a full disk is a shortage from the start.
    pub(super) async fn hold_reserve(&self) {
        if let Some(cause) = self.make_reserve().await {
            self.note_shortage(cause);
        }
    }

    /// Notes that something found no space, and has the shard look for some: from now on, or, when
    /// it does that already and a deletion waits, at once.
    pub(super) fn note_shortage(&self, cause: IoError) {
        let space = &self.0.space;
        let known = space.shortage().is_some();
        if self.0.closing.get() || known && self.0.deferred.borrow().is_empty() {
            return;
        }
        if !known {
            count(&self.0.counters.shortages, 1);
            tracing::warn!(
                shard = %self.id(), %cause,
                "no space: the reserve is given up; where that does not help, only deletions and \
                 reads are taken"
            );
        }
        *space.state.borrow_mut() = State::Looking(cause);
        if space.watched.replace(true) {
            return space.wake.raise();
        }
        let shard = self.clone();
        self.spawn_counted(async move { shard.watch_space().await });
    }

    /// As [`Self::note_shortage`], for whatever says so in an error of the log or of a flush.
    pub(super) fn note_no_space(&self, error: &Error) {
        if let Error::Io(cause) | Error::NoSpace { cause, .. } = error {
            self.note_shortage(cause.clone());
        }
    }

    /// Steps 2 to 5, until the reserve is there, the shard is poisoned or closes.
    async fn watch_space(&self) {
        let (inner, space) = (&self.0, &self.0.space);
        loop {
            let looks = space.shortage().is_some();
            if looks {
                self.look_for_space().await;
            }
            if inner.closing.get() || inner.wal.poisoned().is_some() {
                return;
            }
            // What the log and a flush need comes before the reserve.
            let missing = if looks && self.needs_space() {
                None
            } else {
                self.make_reserve().await.filter(|_| !self.tree_has_room())
            };
            let noted = space.shortage();
            if !looks && noted.is_some() {
                continue;
            }
            let lacking = missing.or_else(|| noted.filter(|_| self.needs_space()));
            if let Some(cause) = lacking {
                // What the log has to say about it is no news any more: who waits may be refused.
                drop(inner.wal.take_shortage());
                *space.state.borrow_mut() = State::Short(cause);
            } else if looks {
                tracing::info!(shard = %self.id(), "there is space again");
                *space.state.borrow_mut() = State::Enough;
            }
            let done = space.shortage().is_none() && space.held.get();
            space.watched.set(!done);
            self.resume_deferred();
            if done {
                return;
            }
            select(
                pin!(inner.env.sleep(RETRY_INTERVAL)),
                pin!(space.wake.wait()),
            )
            .await;
        }
    }

    /// Steps 2 and 3: gives the reserve to whatever found no space.
    async fn look_for_space(&self) {
        let (inner, space) = (&self.0, &self.0.space);
        if space.held.replace(false) && !planted!("reserve_kept") {
            space.given_up.set(space.reserve.give_up(&inner.env).await);
        }
        inner.wal.ensure_spare().await;
        self.flush_for_space().await;
        inner.wal.ensure_spare().await;
        self.merge_for_space();
    }

    /// Whether the log or a flush cannot go on.
    fn needs_space(&self) -> bool {
        let flush = self.0.flush_error.borrow();
        flush.as_ref().is_some_and(Error::is_no_space) || self.0.wal.lacks_room()
    }

    /// Tries the flush again that found no space, and one that frees segments of the log.
    async fn flush_for_space(&self) {
        let outcome = if self.0.wal.lacks_room() {
            self.flush_all().await
        } else if self.needs_space() {
            self.wait_for_flush().await
        } else {
            Ok(())
        };
        if let Err(error) = outcome {
            tracing::debug!(shard = %self.id(), %error, "still no space for a flush");
        }
    }

    /// Makes the reserve, unless it is there; says why not when there is no space for it.
    async fn make_reserve(&self) -> Option<IoError> {
        let space = &self.0.space;
        let held = if planted!("reserve_not_refilled") && space.given_up.get() {
            Held::Yes
        } else {
            space.reserve.hold(&self.0.env).await
        };
        space.held.set(held == Held::Yes);
        match held {
            Held::Yes => {
                space.given_up.set(false);
                None
            }
            Held::NoSpace(cause) => Some(cause),
        }
    }

    /// Whether the tree's file has as much free room as the reserve takes.
    fn tree_has_room(&self) -> bool {
        let tree = self.0.tree.stats();
        tree.file_bytes.saturating_sub(tree.used_bytes) >= self.0.space.reserve.bytes()
    }

    /// Whether a write is taken as far as space is concerned, or has to wait for what is known of it
    /// in a moment.
    ///
    /// # Errors
    /// [`Error::NoSpace`] for one that does more than delete, when there is none.
    pub(super) fn check_space(&self, ops: &Ops) -> Result<bool> {
        match &*self.0.space.state.borrow() {
            State::Enough => Ok(true),
            State::Looking(_) => Ok(false),
            State::Short(_) if ops.only_delete() || planted!("puts_take_the_reserve") => Ok(true),
            State::Short(cause) => Err(Error::NoSpace {
                shard: self.id(),
                cause: cause.clone(),
            }),
        }
    }
}
