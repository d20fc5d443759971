//! A scan over all shards, in key order or in its reverse.
//!
//! # Algorithm
//! 1. Each shard opens a scan and tells its time; the latest becomes the snapshot for all. What was
//!    acknowledged anywhere before the scan began is at or below it.
//! 2. Each shard sends pages as they are used up; a heap of the shards' next keys merges them.
//!    From its third page on, a shard's next page is asked for while the current one is read.
//!
//! # Bounds
//! At most two pages a shard are held, whatever the reader's pace.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Bound;

use bytes::Bytes;
use lightning_io::Submit;

use super::{Client, Question};
use crate::message::{Lease, OpenScan, Request, ScanId, ScanPage, ScanSpec};
use crate::{Direction, KeyspaceId, Result, ShardId, StoredRange, Timestamp};

/// Pages after which a scan is taken to be a long one, and read ahead.
const PAGES_BEFORE_READ_AHEAD: usize = 2;

/// A scan that is under way.
///
/// Dropping it lets every shard forget it.
#[derive(Debug)]
pub struct Scanner<S> {
    client: Client<S>,
    /// What to show; the error of a range that cannot be, until it is told.
    range: Result<StoredRange>,
    direction: Direction,
    keys_only: bool,
    /// Rows that are still wanted.
    remaining: usize,
    /// The snapshot; none before the first row was asked for.
    at: Timestamp,
    shards: Vec<ShardRows>,
    /// The next key of each shard that has one at hand.
    heap: BinaryHeap<Head>,
    /// Shards whose next rows have to be fetched before the merge can go on.
    hungry: Vec<usize>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Open,
    Ended,
}

/// The next key of a shard; of several, the greatest is the one that comes first.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    key: Bytes,
    /// The shard's position in the list.
    index: usize,
    direction: Direction,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        // No key is on two shards, so the keys alone decide.
        self.direction.compare(&other.key, &self.key)
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What one shard has sent.
#[derive(Debug)]
struct ShardRows {
    shard: ShardId,
    id: ScanId,
    /// Dropped with the scan; the shard holds the other half.
    _lease: Lease,
    rows: std::vec::IntoIter<(Bytes, Bytes)>,
    /// The value that belongs to the shard's key in the heap.
    value: Bytes,
    pages: usize,
    done: bool,
    ahead: Option<Question<ScanPage>>,
}

impl<S: Submit<Request>> Client<S> {
    /// Prepares a scan of a range of keys; nothing happens before its first row is asked for. A
    /// range that ends before it starts is the error of that first row.
    pub fn scan(&self, keyspace: KeyspaceId, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Scanner<S> {
        Scanner {
            client: self.clone(),
            range: StoredRange::new(keyspace, from, to),
            direction: Direction::Forward,
            keys_only: false,
            remaining: usize::MAX,
            at: Timestamp::ZERO,
            shards: Vec::new(),
            heap: BinaryHeap::new(),
            hungry: Vec::new(),
            state: State::New,
        }
    }
}

impl<S: Submit<Request>> Scanner<S> {
    /// Leaves the values out; for a scan that has not begun.
    pub fn set_keys_only(&mut self) {
        self.keys_only = true;
    }

    /// Turns the order around; for a scan that has not begun.
    pub fn reverse(&mut self) {
        self.direction = match self.direction {
            Direction::Forward => Direction::Reverse,
            Direction::Reverse => Direction::Forward,
        };
    }

    /// Ends the scan after this many rows.
    pub fn set_limit(&mut self, rows: usize) {
        self.remaining = rows;
    }

    /// The next row, if it is at hand: no message is needed for it.
    pub fn next_ready(&mut self) -> Option<(Bytes, Bytes)> {
        let ready = self.state == State::Open && self.hungry.is_empty() && self.remaining > 0;
        if ready { self.pop() } else { None }
    }

    /// The next row, in the scan's order; `None` after the last. An error ends the scan.
    ///
    /// # Cancel safety
    /// A future that is dropped before it completes ends the scan with its next call.
    pub async fn next(&mut self) -> Result<Option<(Bytes, Bytes)>> {
        if self.remaining == 0 || self.state == State::Ended {
            return Ok(None);
        }
        // Only a call that completes well leaves the scan open.
        let state = std::mem::replace(&mut self.state, State::Ended);
        if state == State::New {
            self.open().await?;
        }
        self.feed().await?;
        let row = self.pop();
        if row.is_some() {
            self.state = State::Open;
        }
        Ok(row)
    }

    /// Counts the rows, as of one moment over all shards; none of them is sent. For a scan that has
    /// not begun; a limit is not regarded.
    ///
    /// # Cancel safety
    /// Dropping the future ends the counting.
    pub async fn count(mut self) -> Result<u64> {
        self.keys_only = true;
        self.open().await?;
        let at = self.at;
        let mut asked = Vec::with_capacity(self.shards.len());
        for rows in &self.shards {
            let scan = rows.id;
            asked.push(self.client.ask(rows.shard, |reply| Request::CountRows {
                scan,
                at,
                reply,
            })?);
        }
        let mut total = 0;
        for question in asked {
            total += question.answer().await?;
        }
        Ok(total)
    }

    /// Takes the key at hand that comes first; every shard has to have one, or to be done.
    fn pop(&mut self) -> Option<(Bytes, Bytes)> {
        let Head { key, index, .. } = self.heap.pop()?;
        let value = std::mem::take(&mut self.shards[index].value);
        self.advance(index);
        self.remaining -= 1;
        Some((key, value))
    }

    async fn open(&mut self) -> Result<()> {
        let spec = ScanSpec {
            range: self.range.clone()?,
            direction: self.direction,
            keys_only: self.keys_only,
        };
        if spec.range.is_empty() {
            return Ok(());
        }
        let mut asked = Vec::new();
        for shard in self.client.router().all() {
            let lease = Lease::default();
            let (spec, kept) = (spec.clone(), lease.clone());
            let question = self.client.ask(shard, |reply| Request::OpenScan {
                spec,
                lease: kept,
                reply,
            })?;
            asked.push((shard, lease, question));
        }
        for (shard, lease, question) in asked {
            let OpenScan { id, now } = question.answer().await?;
            self.at = self.at.max(now);
            if planted!("scan_takes_last_time") {
                self.at = now;
            }
            self.hungry.push(self.shards.len());
            self.shards.push(ShardRows {
                shard,
                id,
                _lease: lease,
                rows: Vec::new().into_iter(),
                value: Bytes::new(),
                pages: 0,
                done: false,
                ahead: None,
            });
        }
        Ok(())
    }

    /// Fetches rows for every shard that has none at hand, from all of them at once.
    async fn feed(&mut self) -> Result<()> {
        while !self.hungry.is_empty() {
            let hungry = std::mem::take(&mut self.hungry);
            for &index in &hungry {
                self.ask_ahead(index)?;
            }
            for index in hungry {
                let Some(question) = self.shards[index].ahead.take() else {
                    continue;
                };
                let page = question.answer().await?;
                let rows = &mut self.shards[index];
                rows.pages += 1;
                rows.done = page.done;
                rows.rows = page.rows.into_iter();
                if rows.pages > PAGES_BEFORE_READ_AHEAD {
                    self.ask_ahead(index)?;
                }
                self.advance(index);
            }
        }
        Ok(())
    }

    /// Asks for a shard's next page, unless that was done or there is none.
    fn ask_ahead(&mut self, index: usize) -> Result<()> {
        let (at, rows_max) = (self.at, self.remaining);
        let rows = &mut self.shards[index];
        if rows.done || rows.ahead.is_some() {
            return Ok(());
        }
        let scan = rows.id;
        let question = self.client.ask(rows.shard, |reply| Request::NextPage {
            scan,
            at,
            rows_max,
            reply,
        })?;
        rows.ahead = Some(question);
        Ok(())
    }

    /// Puts a shard's next row into the merge, or marks the shard as hungry.
    fn advance(&mut self, index: usize) {
        let rows = &mut self.shards[index];
        match rows.rows.next() {
            Some((key, value)) => {
                rows.value = value;
                let direction = self.direction;
                self.heap.push(Head {
                    key,
                    index,
                    direction,
                });
            }
            None if rows.done => {}
            None => self.hungry.push(index),
        }
    }
}
