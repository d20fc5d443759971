//! Scans, fast and slow, and the check of what they show: a scan is a read of one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use lightning_io::Env;
use lightning_shards::Error;
use lightning_shards::client::Scanner;

use crate::history::Shown;
use crate::keys::{KEYSPACE, KeyId};
use crate::model::Moment;
use crate::spy::Spy;
use crate::workload::{Caller, Patience};

impl Caller {
    /// Scans some range in some way.
    pub(crate) async fn scan(&mut self, step: &str) {
        let range = self.draw_range();
        let limit = (self.rng.below(3) == 0).then(|| crate::plan::small(&mut self.rng, 50));
        let keys_only = self.rng.below(4) == 0;
        // Some are abandoned after a few rows.
        let rows_max = if self.rng.below(4) == 0 {
            crate::plan::small(&mut self.rng, 50)
        } else {
            usize::MAX
        };
        let slow = self.rng.below(100) < self.scene.habits.slow_scans;
        self.scan_range(
            step,
            &range,
            Wanted {
                limit,
                rows_max,
                keys_only,
                slow,
            },
        )
        .await;
    }

    fn draw_range(&mut self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        if self.rng.coin() {
            return (Bound::Unbounded, Bound::Unbounded);
        }
        (self.draw_end(), self.draw_end())
    }

    fn draw_end(&mut self) -> Bound<Vec<u8>> {
        let key = self.draw_key();
        let key = self.scene.keys.bytes(key).to_vec();
        match self.rng.below(3) {
            0 => Bound::Included(key),
            1 => Bound::Excluded(key),
            _ => Bound::Unbounded,
        }
    }

    /// Scans and checks order, bounds and contents of what came.
    pub(crate) async fn scan_range(
        &mut self,
        step: &str,
        range: &(Bound<Vec<u8>>, Bound<Vec<u8>>),
        wanted: Wanted,
    ) {
        let (from, to) = (as_slice(&range.0), as_slice(&range.1));
        let mut scanner = self.database.client.scan(KEYSPACE, from, to);
        if wanted.keys_only {
            scanner.set_keys_only();
        }
        if let Some(limit) = wanted.limit {
            scanner.set_limit(limit);
        }
        let mut flushes = None;
        if wanted.slow {
            flushes = self.flush_count().await;
        }
        let began = self.scene.model.borrow().visible();
        // The snapshot is bound once the first row is there: nothing submitted later is in it.
        let mut ended = None;
        let mut rows: Vec<(Bytes, Bytes)> = Vec::new();
        let mut complete = false;
        while rows.len() < wanted.rows_max {
            let patience = self.draw_patience();
            let next = self.next_row(&mut scanner, patience).await;
            ended.get_or_insert_with(|| self.scene.model.borrow().submitted_until());
            match next {
                Some(Ok(Some(row))) => rows.push(row),
                Some(Ok(None)) => {
                    complete = wanted.limit.is_none_or(|limit| rows.len() < limit);
                    break;
                }
                Some(Err(error)) => {
                    self.scene.note_error(step, error);
                    break;
                }
                None => break,
            }
            if wanted.slow {
                let time = Duration::from_micros(self.rng.below(2_000));
                self.env.sleep(time).await;
            }
        }
        drop(scanner);
        if wanted.slow && flushes < self.flush_count().await && self.fills_a_page(&rows) {
            self.scene.figures.borrow_mut().snapshots += 1;
        }
        if wanted.limit.is_some_and(|limit| rows.len() > limit) {
            return self
                .scene
                .violate(step, "a scan gave more rows than its limit");
        }
        self.scene.figures.borrow_mut().scans += 1;
        let ended = ended.unwrap_or_else(|| began.clone());
        let seen = ScanSeen {
            range: (from, to),
            rows: &rows,
            complete,
            keys_only: wanted.keys_only,
        };
        if let Err(what) = self.check_scan(&began, &ended, &seen) {
            self.scene.violate(step, format!("scan: {what}"));
        }
    }

    /// Memtables flushed so far, on all shards.
    async fn flush_count(&self) -> Option<u64> {
        let stats = self.database.client.stats().await.ok()?;
        Some(stats.iter().map(|shard| shard.flushes).sum())
    }

    /// Whether the rows of some shard are more than what one page of a scan holds.
    fn fills_a_page(&self, rows: &[(Bytes, Bytes)]) -> bool {
        /// What a shard answers at once.
        const PAGE_BYTES: usize = 64 << 10;
        let mut bytes: BTreeMap<usize, usize> = BTreeMap::new();
        for (key, value) in rows {
            if let Some(id) = self.scene.keys.id(key) {
                let shard = self.scene.keys.shard(self.router(), id);
                *bytes.entry(shard).or_default() += key.len() + value.len();
            }
        }
        bytes.values().any(|&bytes| bytes > PAGE_BYTES)
    }

    async fn next_row(
        &self,
        scanner: &mut Scanner<Spy>,
        patience: Patience,
    ) -> Option<Result<Option<(Bytes, Bytes)>, Error>> {
        if let Some(row) = scanner.next_ready() {
            return Some(Ok(Some(row)));
        }
        self.wait(scanner.next(), patience).await
    }

    fn check_scan(
        &self,
        began: &Moment,
        ended: &Moment,
        seen: &ScanSeen<'_>,
    ) -> Result<(), String> {
        let keys = &self.scene.keys;
        self.scene.figures.borrow_mut().reads += lightning_io::to_u64(seen.rows.len());
        if let Some(pair) = seen.rows.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            let (first, second) = (pair[0].0.escape_ascii(), pair[1].0.escape_ascii());
            return Err(format!("{first} comes before {second}"));
        }
        let mut shown: BTreeMap<KeyId, &[u8]> = BTreeMap::new();
        for (key, value) in seen.rows {
            let Some(id) = keys.id(key) else {
                return Err(format!("the key {} was never written", key.escape_ascii()));
            };
            if !seen.covers(key) {
                return Err(format!("{} is outside of the range", keys.name(id)));
            }
            shown.insert(id, value);
        }
        let mut model = self.scene.model.borrow_mut();
        for shard in 0..self.router().shards() {
            let shard = usize::from(shard);
            let known: BTreeSet<KeyId> = model.live_keys(shard).into_iter().collect();
            let covered = known.into_iter().filter(|&id| seen.covers(keys.bytes(id)));
            let here = shown.keys().copied();
            let here = here.filter(|&id| keys.shard(self.router(), id) == shard);
            let all: BTreeSet<KeyId> = covered.chain(here).collect();
            let cuts = (began.cut(shard), Some(ended.cut(shard)));
            model.check_read(shard, cuts, all, |id| match shown.get(&id) {
                Some(_) if seen.keys_only => Shown::Present,
                value => Shown::of(value.copied()),
            })?;
        }
        Ok(())
    }
}

/// What a scan is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// The limit that the scan is told.
    pub limit: Option<usize>,
    /// Rows after which the caller loses interest.
    pub rows_max: usize,
    /// Whether values are left out.
    pub keys_only: bool,
    /// Whether the caller takes its time.
    pub slow: bool,
}

impl Wanted {
    /// Everything, at once.
    pub(crate) const ALL: Self = Self {
        limit: None,
        rows_max: usize::MAX,
        keys_only: false,
        slow: false,
    };
}

/// What a scan showed.
struct ScanSeen<'a> {
    range: (Bound<&'a [u8]>, Bound<&'a [u8]>),
    rows: &'a [(Bytes, Bytes)],
    /// Whether it came to its end.
    complete: bool,
    keys_only: bool,
}

impl ScanSeen<'_> {
    /// Whether the rows say something about a key.
    fn covers(&self, key: &[u8]) -> bool {
        let last = self.rows.last().map(|row| row.0.as_ref());
        let from = match self.range.0 {
            Bound::Included(from) => key >= from,
            Bound::Excluded(from) => key > from,
            Bound::Unbounded => true,
        };
        let to = match self.range.1 {
            Bound::Included(to) => key <= to,
            Bound::Excluded(to) => key < to,
            Bound::Unbounded => true,
        };
        from && to && (self.complete || last.is_some_and(|last| key <= last))
    }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key.as_slice()),
        Bound::Excluded(key) => Bound::Excluded(key.as_slice()),
        Bound::Unbounded => Bound::Unbounded,
    }
}
