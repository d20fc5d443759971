//! Rows in key order, as a stream.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use lightning_io::mesh::Submitter;
use lightning_shards::Request;
use lightning_shards::client::Scanner;

use crate::Error;

type Row = (Bytes, Bytes);
type Next = Pin<Box<dyn Future<Output = (Walk, Result<Option<Row>, Error>)> + Send>>;
type Walk = Box<Scanner<Submitter<Request>>>;

/// A scan: a stream of keys and values, in key order over all shards or in its reverse.
///
/// It shows the database as of the moment when its first row is asked for: everything acknowledged
/// before that, nothing written later. An error ends it; the first row of a range whose end lies
/// before its start is [`crate::ErrorKind::Invalid`]. Reading slowly costs the database no
/// memory beyond two pages a shard, but keeps the space of what the scan may still show; dropping
/// it lets that go.
pub struct Scan(State);

enum State {
    Idle(Walk),
    Fetching(Next),
    Ended,
}

impl Scan {
    pub(crate) fn new(scanner: Scanner<Submitter<Request>>) -> Self {
        Self(State::Idle(Box::new(scanner)))
    }

    /// Leaves the values out: they come as empty.
    #[must_use]
    pub fn keys_only(mut self) -> Self {
        if let State::Idle(scanner) = &mut self.0 {
            scanner.set_keys_only();
        }
        self
    }

    /// Turns the order around: from the largest key to the smallest. With a limit it gives the last
    /// rows of the range.
    ///
    /// ```
    /// # fn main() -> Result<(), lightning_db::Error> {
    /// # futures_executor::block_on(async {
    /// # let directory = tempfile::tempdir().expect("a temporary directory");
    /// # let db = lightning_db::Database::create(directory.path().join("db")).await?;
    /// use futures_util::TryStreamExt;
    ///
    /// for day in ["event/1", "event/2", "event/3"] {
    ///     db.put(day, "").await?;
    /// }
    /// let newest = db.scan_prefix("event/").reverse().limit(2);
    /// let rows: Vec<_> = newest.try_collect().await?;
    /// assert_eq!(rows[0].0, "event/3");
    /// assert_eq!(rows[1].0, "event/2");
    /// # db.close().await
    /// # })
    /// # }
    /// ```
    #[must_use]
    pub fn reverse(mut self) -> Self {
        if let State::Idle(scanner) = &mut self.0 {
            scanner.reverse();
        }
        self
    }

    /// Ends after this many rows.
    #[must_use]
    pub fn limit(mut self, rows: usize) -> Self {
        if let State::Idle(scanner) = &mut self.0 {
            scanner.set_limit(rows);
        }
        self
    }
}

impl Stream for Scan {
    type Item = Result<Row, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match &mut self.0 {
                State::Ended => return Poll::Ready(None),
                State::Idle(scanner) => {
                    if let Some(row) = scanner.next_ready() {
                        return Poll::Ready(Some(Ok(row)));
                    }
                    let State::Idle(mut scanner) = std::mem::replace(&mut self.0, State::Ended)
                    else {
                        return Poll::Ready(None);
                    };
                    self.0 = State::Fetching(Box::pin(async move {
                        let next = scanner.next().await.map_err(Error::from);
                        (scanner, next)
                    }));
                }
                State::Fetching(next) => {
                    let (scanner, next) = std::task::ready!(next.as_mut().poll(cx));
                    let ended = !matches!(next, Ok(Some(_)));
                    self.0 = if ended {
                        State::Ended
                    } else {
                        State::Idle(scanner)
                    };
                    return Poll::Ready(next.transpose());
                }
            }
        }
    }
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.0 {
            State::Idle(_) => "ready",
            State::Fetching(_) => "waiting",
            State::Ended => "ended",
        };
        write!(f, "Scan({state})")
    }
}
