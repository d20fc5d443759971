//! Scans of callers and the numbers of rows that they count, and the check of what came.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, RangeBounds, RangeInclusive};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;
use lightning_io::Env;
use lightning_shards::client::Scanner;
use lightning_shards::{Direction, Error};

use crate::keys::{KEYSPACE, KeyId};
use crate::model::{Known, Moment, Shown};
use crate::spy::Spy;
use crate::workload::{Caller, Patience};

/// What a scan is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// The limit that the scan is told.
    pub limit: Option<usize>,
    /// Rows after which the caller loses interest.
    pub rows_max: usize,
    /// Whether values are left out.
    pub keys_only: bool,
    /// Whether the order is turned around.
    pub reverse: bool,
    /// Whether the caller takes its time.
    pub slow: bool,
}

impl Wanted {
    /// Everything, at once.
    pub(crate) const ALL: Self = Self {
        limit: None,
        rows_max: usize::MAX,
        keys_only: false,
        reverse: false,
        slow: false,
    };

    fn direction(self) -> Direction {
        if self.reverse {
            Direction::Reverse
        } else {
            Direction::Forward
        }
    }
}

impl Caller {
    pub(crate) async fn scan(&mut self, step: &str) {
        let range = self.draw_range();
        let limit = (self.rng.below(3) == 0).then(|| crate::plan::small(&mut self.rng, 50));
        let (keys_only, reverse) = (self.rng.below(4) == 0, self.rng.coin());
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
                reverse,
                slow,
            },
        )
        .await;
    }

    fn draw_range(&mut self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        if self.rng.coin() {
            return (Bound::Unbounded, Bound::Unbounded);
        }
        let ends = (self.draw_end(), self.draw_end());
        match (&ends.0, &ends.1) {
            // The other way round they are refused.
            (
                Bound::Included(from) | Bound::Excluded(from),
                Bound::Included(to) | Bound::Excluded(to),
            ) if from > to => (ends.1, ends.0),
            _ => ends,
        }
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
        if wanted.reverse {
            scanner.reverse();
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
        let ended = ended.unwrap_or_else(|| self.scene.model.borrow().submitted_until());
        let seen = ScanSeen {
            range: (from, to),
            rows: &rows,
            complete,
            wanted,
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

    fn check_scan(&self, began: &Moment, ended: &Known, seen: &ScanSeen<'_>) -> Result<(), String> {
        let keys = &self.scene.keys;
        self.scene.figures.borrow_mut().reads += lightning_io::to_u64(seen.rows.len());
        let direction = seen.wanted.direction();
        let follows = |pair: &[(Bytes, Bytes)]| direction.compare(&pair[0].0, &pair[1].0).is_lt();
        if let Some(pair) = seen.rows.windows(2).find(|pair| !follows(pair)) {
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
            let cuts = (began.cut(shard), Some(model.cut_until(shard, ended)));
            model.check_read(shard, cuts, all, |id| match shown.get(&id) {
                Some(_) if seen.wanted.keys_only => Shown::Present,
                value => Shown::of(value.copied()),
            })?;
        }
        Ok(())
    }

    /// Counts a range: each shard has as many of its keys as at some moment in between.
    pub(crate) async fn count_range(&mut self, step: &str) {
        let range = self.draw_range();
        self.count_in(step, &range).await;
    }

    /// Counts a key while it comes or goes, so that the number says whether it has.
    pub(crate) async fn count_key(&mut self, step: &str) {
        let key = self.draw_key();
        let shard = self.scene.keys.shard(self.router(), key);
        let is_there = self.scene.model.borrow().newest(shard, key).is_some();
        let bytes = self.scene.keys.bytes(key).to_vec();
        let range = (Bound::Included(bytes.clone()), Bound::Included(bytes));
        let time = Duration::from_micros(self.rng.below(100));
        let mut other = self.beside(0);
        let write = other.write(step, vec![(key, (!is_there).then_some(100))]);
        let count = async {
            self.env.sleep(time).await;
            self.count_in(step, &range).await;
        };
        join(Box::pin(write), Box::pin(count)).await;
    }

    async fn count_in(&mut self, step: &str, range: &(Bound<Vec<u8>>, Bound<Vec<u8>>)) {
        let patience = self.draw_patience();
        let (from, to) = (as_slice(&range.0), as_slice(&range.1));
        let began = self.scene.model.borrow().visible();
        let counted = self.database.client.scan(KEYSPACE, from, to).count();
        let counted = match self.wait(counted, patience).await {
            Some(Ok(counted)) => counted,
            Some(Err(error)) => return self.scene.note_error(step, error),
            None => return,
        };
        self.scene.figures.borrow_mut().reads += 1;
        let covers = |id| self.lies_within(id, (from, to));
        let Some(parts) = self.counts_since(&began, covers) else {
            return;
        };
        let mut totals = BTreeSet::from([0]);
        for (_, counts) in &parts {
            let sums = totals
                .iter()
                .flat_map(|sum| counts.iter().map(move |count| sum + count));
            totals = sums.collect();
        }
        if !totals.contains(&counted) {
            let what = format!("{counted} keys were counted, expected one of {totals:?}");
            return self.scene.violate(step, what);
        }
        // A refusal that nobody has heard of would be taken for a change that was counted.
        let open = parts.iter().filter(|(_, counts)| counts.len() > 1);
        if self.scene.faulty || open.count() > 1 {
            return;
        }
        let known = |counts: &BTreeSet<u64>| counts.first().copied().filter(|_| counts.len() == 1);
        let all_known: u64 = parts.iter().filter_map(|(_, counts)| known(counts)).sum();
        let mut model = self.scene.model.borrow_mut();
        for (shard, (cuts, counts)) in parts.into_iter().enumerate() {
            let count = known(&counts).unwrap_or(counted - all_known);
            model.counted(shard, cuts, covers, count);
        }
    }

    /// Asks how much about lies in a range: never more than there can be, nor less than there is in
    /// the whole.
    pub(crate) async fn estimate(&mut self, step: &str) {
        /// A key counts for itself in the base, in every run, and in each of two memtables.
        const COPIES: usize = 3 + 64;
        let (range, patience) = (self.draw_range(), self.draw_patience());
        let (from, to) = (as_slice(&range.0), as_slice(&range.1));
        let began = self.scene.model.borrow().visible();
        let estimated = self.database.client.estimate(KEYSPACE, from, to);
        let estimated = match self.wait(estimated, patience).await {
            Some(Ok(estimated)) => estimated.entries,
            Some(Err(error)) => return self.scene.note_error(step, error),
            None => return,
        };
        let most = lightning_io::to_u64(COPIES * self.scene.keys.len());
        let mut least = 0;
        if (from, to) == (Bound::Unbounded, Bound::Unbounded)
            && let Some(parts) = self.counts_since(&began, |_| true)
        {
            let fewest = parts.iter().filter_map(|(_, counts)| counts.first());
            least = fewest.sum();
        }
        if !(least..=most).contains(&estimated) {
            let what = format!("{estimated} keys were guessed, expected {least} to {most}");
            self.scene.violate(step, what);
        }
    }

    fn lies_within(&self, id: KeyId, range: (Bound<&[u8]>, Bound<&[u8]>)) -> bool {
        RangeBounds::<[u8]>::contains(&range, self.scene.keys.bytes(id))
    }

    /// For each shard the cuts that an answer may show which was asked for at a moment and came just
    /// now, and the numbers of keys there; none when some are in doubt.
    fn counts_since(
        &self,
        began: &Moment,
        covers: impl Fn(KeyId) -> bool,
    ) -> Option<Vec<(RangeInclusive<usize>, BTreeSet<u64>)>> {
        let model = self.scene.model.borrow();
        let ended = model.submitted_until();
        let counts_of = |shard| {
            let cuts = began.cut(shard)..=model.cut_until(shard, &ended);
            let counts = model.counts(shard, cuts.clone(), &covers)?;
            Some((cuts, counts))
        };
        (0..usize::from(self.router().shards()))
            .map(counts_of)
            .collect()
    }
}

/// What a scan showed.
struct ScanSeen<'a> {
    range: (Bound<&'a [u8]>, Bound<&'a [u8]>),
    rows: &'a [(Bytes, Bytes)],
    /// Whether it came to its end.
    complete: bool,
    wanted: Wanted,
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
        let direction = self.wanted.direction();
        let reached = |last| direction.compare(key, last).is_le();
        from && to && (self.complete || last.is_some_and(reached))
    }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key.as_slice()),
        Bound::Excluded(key) => Bound::Excluded(key.as_slice()),
        Bound::Unbounded => Bound::Unbounded,
    }
}
