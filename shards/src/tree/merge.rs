//! Merging runs into the base, or into one larger run, a step at a time.
//!
//! # Algorithm
//! A step goes on where the last one ended, at the `merged_to` of the inputs:
//! 1. Take the next entries of all inputs in key order, of each key the newest version, until they
//!    come to the bound of a step. What an older version refers to is freed; what the newest refers
//!    to stays where it is, and the target takes it over.
//! 2. Apply them to the target. The base is older than everything, so deletions end there; in a run
//!    they stay.
//! 3. Write the list of runs with `merged_to` behind the last key that was taken. After the last
//!    entry the inputs leave the list, and their pages, which were of use until then, are freed; a
//!    target that grew is whole and gets its filter.
//!
//! The target of a merge of runs lies right before its inputs in the list, from the first step on:
//! what is newer than the inputs is newer than the target, and it is newer than what they are newer
//! than.
//!
//! # Crash argument
//! A step is an edit: see `edit.rs`. Which runs are merged, where to and how far is in the list, so
//! whoever opens the file goes on. The filter of a target that grows is the one thing that is not:
//! it is made again from the keys that are there.

use std::ops::Range;
use std::rc::Rc;

use lightning_io::{Env, to_u64};

use super::address::{PageRef, UNIT_BYTES};
use super::blob::BlobRef;
use super::cursor::TreeCursor;
use super::edit::{Edit, Outcome, TreeUpdate};
use super::filter::{Filter, hash_of};
use super::filters::GrowingFilter;
use super::leaf::ENTRY_OVERHEAD_BYTES;
use super::leaf::reference_in;
use super::root::Root;
use super::run::{Phase, Run};
use super::store::Caching;
use super::tree::Tree;
use super::update::Update;
use crate::{Direction, Entry, EntryFlags, EntrySource, Result, Timestamp};

/// Entries taken between two chances for other tasks: about 20 us.
const GATHER_STRIDE: usize = 64;

/// Where the entries of a merge go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum MergeTarget {
    /// The oldest runs go into the base.
    Base,
    /// Neighbours become one run of the second tier.
    Run,
}

/// A step of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MergeStep {
    pub(crate) target: MergeTarget,
    /// The inputs by their places in the list of runs: those of the merge under way, or of one that
    /// begins.
    pub(crate) inputs: Range<usize>,
    /// Bytes of entries to take; one entry is taken at the least.
    pub(crate) bytes_max: usize,
}

impl<E: Env> Tree<E> {
    /// Takes a merge one step further.
    ///
    /// The base takes entries as of `now`: what has expired by then is a deletion. A run takes them as
    /// they are, as the tombstone would have to stay for what they hide in the base.
    ///
    /// # Panics
    /// When the inputs are not runs that can be merged there, and as [`Self::apply`].
    ///
    /// # Errors, Cancel safety
    /// As [`Self::apply`].
    pub(crate) async fn merge_step(&self, step: &MergeStep, now: Timestamp) -> Result<TreeUpdate> {
        let mut edit = self.begin();
        let outcome = Box::pin(edit.merge(self, step, now)).await;
        edit.end(outcome).await
    }
}

/// What a step took from one input.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    entries: u64,
    value_bytes: u64,
}

/// An entry whose key and value lie in the bytes of the batch.
#[derive(Debug)]
struct Copied {
    key: Range<usize>,
    timestamp: Timestamp,
    flags: EntryFlags,
    value: Range<usize>,
}

/// The entries of a step, in memory.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    entries: Vec<Copied>,
    position: usize,
    /// The time as of which the entries are; zero for as they were written.
    now: Timestamp,
    /// Bytes of all entries that were looked at.
    taken_bytes: usize,
    shares: Vec<Share>,
    /// Large values of versions that are not the newest, or that have expired.
    dropped: Vec<BlobRef>,
    /// The first key that was not taken; `None` when the inputs have no more.
    next_key: Option<Vec<u8>>,
}

impl EntrySource for Batch {
    fn peek(&self) -> Option<Entry<'_>> {
        let copied = self.entries.get(self.position)?;
        Some(Entry {
            key: &self.bytes[copied.key.clone()],
            timestamp: copied.timestamp,
            flags: copied.flags,
            value: &self.bytes[copied.value.clone()],
        })
    }

    fn advance(&mut self) {
        self.position += 1;
    }

    fn now(&self) -> Timestamp {
        self.now
    }
}

impl Batch {
    fn append(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    /// Whether the inputs have no more.
    fn is_last(&self) -> bool {
        self.next_key.is_none()
    }

    fn last_key(&self) -> Option<&[u8]> {
        let last = self.entries.last()?;
        Some(&self.bytes[last.key.clone()])
    }

    /// Takes entries until a cursor has to go to its next leaf; `false` when there are no more.
    fn take_some<E: Env>(&mut self, cursors: &mut [TreeCursor<E>], bytes_max: usize) -> bool {
        for _ in 0..GATHER_STRIDE {
            if self.taken_bytes >= bytes_max {
                return true;
            }
            let at_leaf_end = |cursor: &TreeCursor<E>| cursor.peek().is_none() && !cursor.is_end();
            if cursors.iter().any(at_leaf_end) {
                return true;
            }
            let newest = cursors.iter().enumerate().filter_map(|(at, cursor)| {
                let entry = cursor.peek()?;
                Some((entry.key, std::cmp::Reverse((entry.timestamp, at))))
            });
            let Some((_, std::cmp::Reverse((_, newest)))) = newest.min() else {
                return false;
            };
            let key_start = self.bytes.len();
            if let Some(entry) = cursors[newest].peek() {
                let entry = entry.at(self.now);
                let key = self.append(entry.key);
                let value = self.append(entry.value);
                self.entries.push(Copied {
                    key,
                    timestamp: entry.timestamp,
                    flags: entry.flags,
                    value,
                });
            }
            self.step_over(cursors, key_start, newest);
        }
        true
    }

    /// Steps over all versions of the key that was taken last.
    fn step_over<E: Env>(
        &mut self,
        cursors: &mut [TreeCursor<E>],
        key_start: usize,
        newest: usize,
    ) {
        let key_end = self.entries.last().map_or(key_start, |last| last.key.end);
        for (at, cursor) in cursors.iter_mut().enumerate() {
            let Some(entry) = cursor
                .peek()
                .filter(|entry| entry.key == &self.bytes[key_start..key_end])
            else {
                continue;
            };
            let share = &mut self.shares[at];
            share.entries += 1;
            self.taken_bytes += entry.key.len() + entry.value.len() + ENTRY_OVERHEAD_BYTES;
            if entry.flags.contains(EntryFlags::OVERFLOW) {
                let value = reference_in(entry.value);
                share.value_bytes += value.extent().bytes();
                let is_over = at != newest || entry.is_expired(self.now);
                if is_over || planted!("merge_frees_moved_value") {
                    self.dropped.push(value);
                }
            }
            cursor.advance();
        }
    }
}

impl<E: Env> Edit<'_, E> {
    async fn merge(&mut self, tree: &Tree<E>, step: &MergeStep, now: Timestamp) -> Result<Outcome> {
        let inputs = self.list.runs[step.inputs.clone()].to_vec();
        let phase = match step.target {
            MergeTarget::Base => Phase::IntoBase,
            MergeTarget::Run => Phase::IntoRun,
        };
        let fits = |run: &Rc<Run>| run.phase == phase || run.phase == Phase::Whole;
        assert!(
            !inputs.is_empty()
                && inputs.iter().all(fits)
                && inputs.iter().all(|run| run.phase == inputs[0].phase),
            "the inputs are those of one merge"
        );
        let now = match step.target {
            MergeTarget::Base => now,
            MergeTarget::Run => Timestamp::ZERO,
        };
        let mut batch = gather(tree, &inputs, step.bytes_max, now).await?;
        for value in std::mem::take(&mut batch.dropped) {
            self.writer.free_blob(value)?;
        }
        let left = left_over(&inputs, phase, &batch);
        let mut list = self.list.clone();
        let mut base = self.state.base;
        match step.target {
            MergeTarget::Base => {
                let update = Update::new(self.shared, &mut self.writer, base);
                base = update.adopting().run(&mut batch).await?.root;
                list.runs.splice(step.inputs.clone(), left);
            }
            MergeTarget::Run => {
                let growing = self.growing_before(step);
                let target = self
                    .grow(tree, growing.as_deref(), &inputs, &mut batch)
                    .await?;
                list.next_id = list.next_id.max(target.id + 1);
                let start = step.inputs.start - usize::from(growing.is_some());
                let target = std::iter::once(Rc::new(target));
                list.runs.splice(start..step.inputs.end, target.chain(left));
            }
        }
        if batch.is_last() {
            for input in &inputs {
                self.free_run(input).await?;
            }
        }
        Ok(Outcome {
            base,
            list,
            is_flush: false,
        })
    }

    /// The target of a merge of runs that has begun.
    fn growing_before(&self, step: &MergeStep) -> Option<Rc<Run>> {
        let is_begun = self.list.runs[step.inputs.start].phase == Phase::IntoRun;
        let before = step.inputs.start.checked_sub(1).filter(|_| is_begun)?;
        let target = Rc::clone(&self.list.runs[before]);
        assert_eq!(
            target.phase,
            Phase::Growing,
            "the target lies before its inputs"
        );
        Some(target)
    }

    /// Puts the batch into the run that grows, or into a new one.
    async fn grow(
        &mut self,
        tree: &Tree<E>,
        growing: Option<&Run>,
        inputs: &[Rc<Run>],
        batch: &mut Batch,
    ) -> Result<Run> {
        let smallest = match (growing, batch.peek()) {
            (Some(growing), _) => growing.smallest.clone(),
            (None, Some(first)) => first.key.to_vec(),
            (None, None) => {
                let unit = inputs[0].root.page.unit;
                return Err(self.shared.store.damage(unit, "a run without entries"));
            }
        };
        let mut filter = filter_of(tree, growing, inputs).await?;
        let root = growing.map_or(Root::EMPTY, |growing| growing.root);
        let update = Update::new(self.shared, &mut self.writer, root);
        let updated = update.of_run(&mut filter).adopting().run(batch).await?;
        let before = growing.map(|growing| (growing.newest, growing.largest.clone()));
        let (newest, largest) = before.unwrap_or_default();
        let mut target = Run {
            id: growing.map_or(self.list.next_id, |growing| growing.id),
            root: updated.root,
            filter: BlobRef::NONE,
            newest: newest.max(updated.newest),
            left: updated.root.entries,
            tier: 1,
            phase: Phase::Growing,
            smallest,
            largest: updated.last_key.unwrap_or(largest),
            merged_to: Vec::new(),
            resident: Rc::default(),
        };
        if batch.is_last() {
            target.phase = Phase::Whole;
            target.filter = self.write_filter(&filter).await?;
            target.resident = Rc::new(Some(filter).into());
        } else {
            let page = target.root.page;
            let growing = GrowingFilter { page, filter };
            self.shared.growing_filter.replace(Some(growing));
        }
        Ok(target)
    }

    /// Frees the pages and the filter of a run all of whose entries were merged. Leaves are not
    /// read: the pages above them say where they are.
    async fn free_run(&mut self, run: &Run) -> Result<()> {
        let store = &self.shared.store;
        if !planted!("leak_run_filter") {
            self.writer.free_blob(run.filter)?;
        }
        let mut pages: Vec<(PageRef, u8)> = vec![(run.root.page, run.root.height - 1)];
        let counted = run.root.pages.total().stored_bytes;
        let most = counted.min(store.space.borrow().file_units() * to_u64(UNIT_BYTES));
        let mut freed_bytes = 0;
        while let Some((reference, level)) = pages.pop() {
            if freed_bytes > most {
                // Pages that lead to one another would have no end.
                break;
            }
            self.writer.free_unread(reference)?;
            if planted!("runs_freed_early") {
                store.space.borrow_mut().release(reference.extent());
            }
            freed_bytes += reference.extent().bytes();
            if level > 0 {
                let page = store.page(reference, level, Caching::Pass).await?;
                let inner = page.inner();
                pages.extend((0..inner.count()).map(|at| (inner.child(at), level - 1)));
                store.env.yield_if_needed().await;
            }
        }
        if freed_bytes != counted {
            let what = format!("a run of {freed_bytes} bytes of pages; {counted} were counted");
            return Err(store.damage(run.root.page.unit, what));
        }
        Ok(())
    }
}

/// The inputs as they are after the step: none after the last.
fn left_over(inputs: &[Rc<Run>], phase: Phase, batch: &Batch) -> Vec<Rc<Run>> {
    let Some(last_key) = batch.last_key().filter(|_| !batch.is_last()) else {
        return Vec::new();
    };
    let passed = batch.next_key.as_deref();
    let passed = passed.filter(|_| planted!("merged_to_too_far"));
    let mut merged_to = passed.unwrap_or(last_key).to_vec();
    merged_to.push(0);
    let pairs = inputs.iter().zip(&batch.shares);
    let advance = |(run, share): (&Rc<Run>, &Share)| {
        let mut root = run.root;
        root.live_bytes = root.live_bytes.saturating_sub(share.value_bytes);
        Rc::new(Run {
            root,
            left: run.left.saturating_sub(share.entries),
            phase,
            merged_to: merged_to.clone(),
            ..(**run).clone()
        })
    };
    pairs.map(advance).collect()
}

/// Step 1.
async fn gather<E: Env>(
    tree: &Tree<E>,
    inputs: &[Rc<Run>],
    bytes_max: usize,
    now: Timestamp,
) -> Result<Batch> {
    let view = tree.view();
    let mut cursors = Vec::with_capacity(inputs.len());
    for run in inputs {
        let mut cursor = tree.cursor_over(&view, run.root, Direction::Forward, Caching::Pass);
        let from = if planted!("merge_restarts") {
            &[][..]
        } else {
            &run.merged_to
        };
        cursor.seek(from).await?;
        cursors.push(cursor);
    }
    let mut batch = Batch {
        shares: vec![Share::default(); inputs.len()],
        now,
        ..Batch::default()
    };
    while batch.take_some(&mut cursors, bytes_max) && batch.taken_bytes < bytes_max {
        for cursor in &mut cursors {
            cursor.fill().await?;
        }
        tree.shared.store.env.yield_if_needed().await;
    }
    // Whether this was all of it decides whether the inputs are given up.
    for cursor in &mut cursors {
        cursor.fill().await?;
    }
    let keys = cursors.iter().filter_map(TreeCursor::peek);
    batch.next_key = keys.map(|entry| entry.key).min().map(<[u8]>::to_vec);
    Ok(batch)
}

/// The filter of the run that grows: the one in memory, or one made from the keys that it has.
async fn filter_of<E: Env>(
    tree: &Tree<E>,
    growing: Option<&Run>,
    inputs: &[Rc<Run>],
) -> Result<Filter> {
    let known = tree.shared.growing_filter.take();
    // A list that claims more keys than the file has bytes is not to cost memory.
    let most = tree.shared.store.space.borrow().file_units() * to_u64(UNIT_BYTES);
    let for_keys = |count: u64| Filter::for_keys(count.min(most));
    let to_come = inputs.iter().map(|run| run.left);
    let to_come = to_come.fold(0, u64::saturating_add);
    let Some(growing) = growing else {
        return Ok(for_keys(to_come));
    };
    if let Some(known) = known.filter(|known| known.page == growing.root.page) {
        return Ok(known.filter);
    }
    let mut filter = for_keys(growing.root.entries.saturating_add(to_come));
    let view = tree.view();
    let mut cursor = tree.cursor_over(&view, growing.root, Direction::Forward, Caching::Pass);
    cursor.seek(b"").await?;
    while !cursor.is_end() {
        while let Some(entry) = cursor.peek() {
            filter.insert(hash_of(entry.key));
            cursor.advance();
        }
        cursor.fill().await?;
        tree.shared.store.env.yield_if_needed().await;
    }
    Ok(filter)
}
