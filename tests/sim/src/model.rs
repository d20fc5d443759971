//! What the database must hold: the oracle.
//!
//! # Algorithm
//! A shard takes the parts of writes in the order in which they reach it, and that is the order in
//! which they are submitted: there is one lane into each shard. So the state of a shard is always a
//! *cut*: all parts up to some number are in force and none behind it, but for those that were
//! refused. Everything that can be asked of a shard is a question about cuts:
//!
//! * A read sees the state at one cut, no earlier than what was answered or seen before it began,
//!   and no later than what was submitted before it ended.
//! * A recovery brings the state at one cut, no earlier than what was promised to be durable.
//!
//! Atomicity, order, no lost and no invented write follow from there being one such cut. An update is
//! a part whose place and effect are known when it is taken: see `updates`.
//!
//! The history is kept over all lives: what a recovery lost is never in force again, and a disk whose
//! syncs lied may bring back a state from before the last recovery, which has to be a cut all the
//! same. A key that damage made unreadable leaves doubt about its value, as long as nobody writes it.

mod counts;
mod updates;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use lightning_shards::{Durability, Error, Result, Timestamp};

use crate::answer::Answer;
use crate::keys::{KeyId, Keys, TAG_BYTES, Value, describe};

pub(crate) use updates::{PendingUpdate, Rule, Taken, Ticket};

use updates::{Update, UpdateCounts};

/// Why writing to a string cannot fail.
const WRITES: &str = "a string takes what is written to it";

/// A position in the history of a shard: the number of parts that are in force; 0 is the empty
/// database.
pub(crate) type Cut = usize;

/// Which part of a shard's history, in the order in which they became known.
pub(crate) type PartId = u64;

/// What became of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// There is no answer.
    Open,
    /// It is in force.
    Done(Timestamp),
    /// It is not.
    Refused,
    /// The shard failed on the way.
    Unknown,
    /// A recovery did not bring it.
    Lost,
}

/// A write's operations on one shard, the last one of each key.
type PartOps = Vec<(KeyId, Option<Value>)>;

#[derive(Debug, Clone)]
struct Part {
    id: PartId,
    durability: Durability,
    outcome: Outcome,
    /// Whether a read has shown it.
    seen: bool,
    answer: Option<Rc<RefCell<dyn Answer>>>,
    /// When it was handed to the shard.
    submitted_at: Duration,
    /// When it was acknowledged.
    at: Duration,
}

/// One shard's history.
#[derive(Debug, Clone, Default)]
struct History {
    parts: Vec<Part>,
    /// The number of parts that ever became known.
    known: PartId,
    /// Where the last recovery stood.
    base: Cut,
    /// For each key the cuts from which on it has a value, or none, oldest first.
    versions: BTreeMap<KeyId, Vec<(Cut, Option<Value>)>>,
    /// No read may show an older state.
    visible: Cut,
    /// No recovery may bring an older state.
    durable: Cut,
    /// Everything up to here is in the tree: no damage to the log may take it.
    flushed: Cut,
    /// What keys that could not be read at the last recovery may hold: a value, or nothing.
    doubts: BTreeMap<KeyId, Vec<Option<Value>>>,
}

impl History {
    /// Whether a part may be in force.
    fn may_hold(&self, cut: Cut) -> bool {
        cut == 0 || self.parts[cut - 1].is_in_force()
    }

    /// The parts since the last recovery, each with its cut.
    fn recent(&self) -> impl DoubleEndedIterator<Item = (Cut, &Part)> {
        let numbered = self.parts.iter().enumerate().skip(self.base);
        numbered.map(|(at, part)| (at + 1, part))
    }

    fn next_id(&mut self) -> PartId {
        self.known += 1;
        self.known
    }

    /// The cut of a part.
    fn cut_of(&self, id: PartId) -> Cut {
        let at = self.parts.iter().rposition(|part| part.id == id);
        at.expect("parts stay in the history") + 1
    }

    /// The last cut that has nothing that became known after a part. What became known later at an
    /// earlier place was taken later, and so was everything behind it.
    fn known_until(&self, id: PartId) -> Cut {
        let later = self.parts.iter().position(|part| part.id > id);
        later.unwrap_or(self.parts.len())
    }

    /// Whether a key may have shown this at a cut.
    fn shows(&self, key: KeyId, cut: Cut, shown: Shown<'_>) -> bool {
        shown.is(self.value_at(key, cut)) || self.doubts_show(key, cut, shown)
    }

    /// A key was read: what it may hold is what it showed.
    fn settle_doubt(&mut self, key: KeyId, cut: Cut, shown: Shown<'_>) {
        if self.doubts_show(key, cut, shown)
            && let Some(candidates) = self.doubts.get_mut(&key)
        {
            candidates.retain(|&value| shown.is(value));
        }
    }

    /// Whether a key that could not be read at the last recovery, and was not written since, may
    /// hold this.
    fn doubts_show(&self, key: KeyId, cut: Cut, shown: Shown<'_>) -> bool {
        let Some(candidates) = self.doubts.get(&key).filter(|_| cut >= self.base) else {
            return false;
        };
        let versions = self.versions.get(&key).map_or(&[][..], Vec::as_slice);
        let later = versions.partition_point(|version| version.0 <= self.base);
        let mut since = versions[later..].iter().map(|version| version.0);
        let written = since.any(|version| version <= cut && self.may_hold(version));
        !written && candidates.iter().any(|&value| shown.is(value))
    }

    fn value_at(&self, key: KeyId, cut: Cut) -> Option<Value> {
        let versions = self.versions.get(&key)?;
        let newest = versions
            .iter()
            .rev()
            .find(|version| version.0 <= cut && self.may_hold(version.0));
        newest.and_then(|version| version.1)
    }
}

impl History {
    /// The part that gave a key its value at a cut, if that part was to be durable and no other
    /// could have been taken for it.
    fn durable_version(&self, key: KeyId, cut: Cut) -> Option<Cut> {
        let versions = self.versions.get(&key)?;
        let at = versions
            .iter()
            .rposition(|version| version.0 <= cut && self.may_hold(version.0))?;
        let (since, value) = versions[at];
        let unmistakable = match value {
            Some(value) => value.len >= TAG_BYTES,
            // Another deletion looks the same, and so does a key that was never there.
            None => versions[at + 1..].iter().all(|version| version.1.is_some()),
        };
        let part = &self.parts[since.checked_sub(1)?];
        (unmistakable && part.durability == Durability::Sync).then_some(since)
    }
}

impl Part {
    fn is_in_force(&self) -> bool {
        !matches!(self.outcome, Outcome::Refused | Outcome::Lost)
    }

    fn is_unsettled(&self) -> bool {
        matches!(self.outcome, Outcome::Open | Outcome::Unknown)
    }
}

/// What was seen of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown<'a> {
    /// It is not there.
    Absent,
    /// It is there; its value was not asked for.
    Present,
    /// It is there with this value.
    Value(&'a [u8]),
}

impl<'a> Shown<'a> {
    /// A value, or its absence.
    pub(crate) fn of(value: Option<&'a [u8]>) -> Self {
        value.map_or(Self::Absent, Self::Value)
    }

    fn is(self, value: Option<Value>) -> bool {
        match (self, value) {
            (Self::Absent, None) | (Self::Present, Some(_)) => true,
            (Self::Value(bytes), Some(value)) => value.is(bytes),
            _ => false,
        }
    }

    fn describe(self) -> String {
        match self {
            Self::Absent => "nothing".to_owned(),
            Self::Present => "something".to_owned(),
            Self::Value(bytes) => describe(bytes),
        }
    }
}

/// What a write is about to do, until its parts are submitted.
#[derive(Debug, Clone)]
pub(crate) struct PendingWrite {
    /// Its operations by shard.
    pub parts: BTreeMap<usize, PartOps>,
    /// When it counts as done.
    pub durability: Durability,
}

/// A place in the histories of all shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment(Vec<Cut>);

impl Moment {
    /// One shard's cut.
    pub(crate) fn cut(&self, shard: usize) -> Cut {
        self.0[shard]
    }
}

/// The last part that was known of each shard at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known(Vec<PartId>);

/// A recovered shard's place in the history before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// The first cut that fits.
    pub cut: Cut,
    /// All others that fit: only what could not be read may differ between them.
    pub others: Vec<Cut>,
    /// Parts behind it that nobody was promised.
    pub lost: usize,
    /// Parts that survived without an answer.
    pub unanswered_kept: usize,
}

/// Durable writes that a recovery did not bring. Damage to the log above its last durable mark may
/// take them, as nothing can tell that from a torn write; and so may syncs that lied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The shard.
    pub shard: usize,
    /// Records that must each have been damaged.
    pub records: usize,
    /// Whether the tree lost something, too.
    pub from_tree: bool,
    /// What was expected and what was there.
    pub what: String,
}

/// The oracle of one run.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    keys: Rc<Keys>,
    shards: Vec<History>,
    pending: Option<PendingWrite>,
    pending_update: Option<PendingUpdate>,
    /// Updates that were submitted and not answered.
    updates: BTreeMap<Ticket, Update>,
    next_ticket: Ticket,
    update_counts: UpdateCounts,
    /// The first thing that went wrong where nobody could be told.
    violation: Option<String>,
}

impl Model {
    /// An empty database of so many shards.
    pub(crate) fn new(keys: Rc<Keys>, shards: usize) -> Self {
        Self {
            keys,
            shards: (0..shards).map(|_| History::default()).collect(),
            pending: None,
            pending_update: None,
            updates: BTreeMap::new(),
            next_ticket: 0,
            update_counts: UpdateCounts::default(),
            violation: None,
        }
    }

    /// The first thing that went wrong outside of an operation.
    pub(crate) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    fn violate(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// Says what the write that is submitted next does.
    pub(crate) fn expect_write(&mut self, write: PendingWrite) {
        self.pending = Some(write);
    }

    /// Ends the submission of a write; whatever was not submitted never will be.
    pub(crate) fn end_write(&mut self) {
        self.pending = None;
        self.pending_update = None;
    }

    /// A part of the expected write was handed to a shard.
    pub(crate) fn submitted(
        &mut self,
        shard: usize,
        answer: Option<Rc<RefCell<dyn Answer>>>,
        now: Duration,
    ) -> PartId {
        let pending = self.pending.as_mut();
        let part = pending.and_then(|write| Some((write.parts.remove(&shard)?, write.durability)));
        let Some((ops, durability)) = part else {
            self.violate(format!("shard {shard} was sent a write that nobody made"));
            return 0;
        };
        let history = &mut self.shards[shard];
        let id = history.next_id();
        history.parts.push(Part {
            id,
            durability,
            outcome: Outcome::Open,
            seen: false,
            answer,
            submitted_at: now,
            at: Duration::ZERO,
        });
        let cut = history.parts.len();
        for (key, value) in ops {
            history.versions.entry(key).or_default().push((cut, value));
        }
        id
    }

    /// A shard answered a part.
    pub(crate) fn answered(
        &mut self,
        shard: usize,
        id: PartId,
        answer: &Result<Timestamp>,
        at: Duration,
    ) {
        let history = &mut self.shards[shard];
        let cut = history.cut_of(id);
        let part = &mut history.parts[cut - 1];
        part.answer = None;
        part.at = at;
        match answer {
            Ok(timestamp) => {
                part.outcome = Outcome::Done(*timestamp);
                history.visible = history.visible.max(cut);
                if part.durability == Durability::Sync {
                    history.durable = history.durable.max(cut);
                }
                self.check_order(shard, cut, *timestamp);
            }
            Err(Error::MaybeCommitted { .. } | Error::Closed) => part.outcome = Outcome::Unknown,
            Err(error) => {
                part.outcome = Outcome::Refused;
                if part.seen {
                    let what =
                        format!("shard {shard} refused part {cut} ({error}) after showing it");
                    self.violate(what);
                }
            }
        }
    }

    /// Commit timestamps follow the order of submission.
    fn check_order(&mut self, shard: usize, cut: Cut, timestamp: Timestamp) {
        let history = &self.shards[shard];
        let parts = &history.parts;
        let done = |part: &Part| match part.outcome {
            Outcome::Done(timestamp) => Some(timestamp),
            _ => None,
        };
        let before = parts[history.base..cut - 1].iter().rev().find_map(done);
        let after = parts[cut..].iter().find_map(done);
        if before.is_some_and(|before| before >= timestamp)
            || after.is_some_and(|after| after <= timestamp)
        {
            let what = format!(
                "shard {shard} committed part {cut} at {timestamp}, between {before:?} and {after:?}"
            );
            self.violate(what);
        }
    }

    /// Takes the answers that were given and not heard before the process ended.
    pub(crate) fn take_last_answers(&mut self, at: Duration) {
        for shard in 0..self.shards.len() {
            for cut in self.shards[shard].base + 1..=self.shards[shard].parts.len() {
                let part = &mut self.shards[shard].parts[cut - 1];
                let (id, answer) = (part.id, part.answer.take());
                let given = answer.and_then(|answer| answer.borrow_mut().peek());
                if let Some(given) = given {
                    // A part changes something, so it has a time if it was committed.
                    let given = given.map(Option::unwrap_or_default);
                    self.answered(shard, id, &given, at);
                }
            }
        }
    }

    /// Relaxed writes acknowledged before this moment were promised to be on disk by now.
    pub(crate) fn relaxed_until(&mut self, moment: Duration) {
        for history in &mut self.shards {
            let old = |part: &Part| matches!(part.outcome, Outcome::Done(_)) && part.at < moment;
            let newest = history.recent().rev().find(|(_, part)| old(part));
            if let Some(cut) = newest.map(|(cut, _)| cut) {
                history.durable = history.durable.max(cut);
            }
        }
    }

    /// What was answered or seen so far: what begins now must not show less.
    pub(crate) fn visible(&self) -> Moment {
        Moment(self.shards.iter().map(|history| history.visible).collect())
    }

    /// What was submitted so far: what ended now cannot show more.
    pub(crate) fn submitted_until(&self) -> Known {
        Known(self.shards.iter().map(|history| history.known).collect())
    }

    /// The last cut of a shard that has nothing behind what was known.
    pub(crate) fn cut_until(&self, shard: usize, known: &Known) -> Cut {
        self.shards[shard].known_until(known.0[shard])
    }

    /// Everything up to the moment is durable.
    pub(crate) fn made_durable(&mut self, moment: &Moment) {
        for (history, &cut) in self.shards.iter_mut().zip(&moment.0) {
            history.durable = history.durable.max(cut);
        }
    }

    /// Everything up to the moment is durable, and in the tree.
    pub(crate) fn flushed(&mut self, moment: &Moment) {
        self.made_durable(moment);
        for (history, &cut) in self.shards.iter_mut().zip(&moment.0) {
            history.flushed = history.flushed.max(cut);
        }
    }

    /// Checks what a read of one shard showed against every state that it may show.
    ///
    /// `from` and `to` bound the states that it may show (`to` is now when left out), `keys` are
    /// the keys that it covers, and `shown` is what it showed of each.
    pub(crate) fn check_read<'a>(
        &mut self,
        shard: usize,
        (from, to): (Cut, Option<Cut>),
        keys: impl IntoIterator<Item = KeyId>,
        shown: impl Fn(KeyId) -> Shown<'a>,
    ) -> std::result::Result<(), String> {
        let keys: Vec<KeyId> = keys.into_iter().collect();
        let cuts = from..=to.unwrap_or(self.shards[shard].parts.len());
        let fits = self.fit(shard, cuts, keys.iter().copied(), &shown)?;
        let cut = fits[0];
        let history = &mut self.shards[shard];
        for &key in &keys {
            history.settle_doubt(key, cut, shown(key));
        }
        history.visible = history.visible.max(cut);
        if cut > from {
            history.parts[cut - 1].seen = true;
        }
        // A read shows a durable write only once it is on disk.
        // Keys without their values tell too little of which version they are.
        let values = keys.iter().filter(|&&key| shown(key) != Shown::Present);
        let shown_durable = values.filter_map(|&key| history.durable_version(key, cut));
        let durable = shown_durable.max().unwrap_or(0);
        history.durable = history.durable.max(durable);
        Ok(())
    }

    /// The cuts at which every key has the value that was shown: at least one.
    fn fit<'a>(
        &self,
        shard: usize,
        cuts: RangeInclusive<Cut>,
        keys: impl IntoIterator<Item = KeyId>,
        shown: impl Fn(KeyId) -> Shown<'a>,
    ) -> std::result::Result<Vec<Cut>, String> {
        let history = &self.shards[shard];
        let (from, to) = (*cuts.start(), *cuts.end());
        let mut misfits = vec![0_usize; to + 1 - from];
        let mut examples: Vec<KeyId> = Vec::new();
        for key in keys {
            let shown = shown(key);
            let mut fits = history.shows(key, from, shown);
            let mut fitted = fits;
            let mut at = from;
            let later = history.versions.get(&key).map_or(&[][..], Vec::as_slice);
            let first = later.partition_point(|version| version.0 <= from);
            for &(cut, value) in later[first..].iter().take_while(|version| version.0 <= to) {
                if !history.may_hold(cut) {
                    continue;
                }
                if !fits {
                    misfits[at - from..cut - from]
                        .iter_mut()
                        .for_each(|count| *count += 1);
                }
                at = cut;
                fits = shown.is(value);
                fitted |= fits;
            }
            if !fits {
                misfits[at - from..]
                    .iter_mut()
                    .for_each(|count| *count += 1);
            }
            if !fitted {
                examples.push(key);
            }
        }
        // The state at a refused part is the state before it.
        let fits = (from..=to).filter(|cut| misfits[cut - from] == 0);
        let fits: Vec<Cut> = fits.collect();
        if fits.is_empty() {
            let best = (0..misfits.len())
                .min_by_key(|&at| misfits[at])
                .unwrap_or(0);
            return Err(self.explain(shard, from, from + best, misfits[best], &examples, shown));
        }
        Ok(fits)
    }

    fn explain<'a>(
        &self,
        shard: usize,
        from: Cut,
        best: Cut,
        misfits: usize,
        examples: &[KeyId],
        shown: impl Fn(KeyId) -> Shown<'a>,
    ) -> String {
        let history = &self.shards[shard];
        let of = history.parts.len();
        let mut text = format!(
            "shard {shard} is at no state between part {from} and part {of}; \
             part {best} fits best, with {misfits} keys wrong"
        );
        for &key in examples.iter().take(3) {
            let expected = history
                .value_at(key, best)
                .map_or_else(|| "nothing".to_owned(), |value| value.to_string());
            let found = shown(key).describe();
            let name = self.keys.name(key);
            write!(text, "; {name}: expected {expected}, found {found}").expect(WRITES);
            if let Some(versions) = history.versions.get(&key) {
                let last: Vec<_> = versions.iter().rev().take(4).collect();
                write!(text, " (last versions {last:?})").expect(WRITES);
            }
        }
        if examples.is_empty() {
            text += "; each key alone would fit: the shard is torn";
        }
        text
    }

    /// Checks a recovered shard: `shown` is everything that it holds. The history stays.
    pub(crate) fn check_recovery<'a>(
        &self,
        shard: usize,
        floor: Cut,
        keys: impl IntoIterator<Item = KeyId>,
        shown: impl Fn(KeyId) -> Shown<'a>,
    ) -> std::result::Result<Recovered, String> {
        let history = &self.shards[shard];
        let mut fits = self.fit(shard, floor..=history.parts.len(), keys, shown)?;
        let cut = fits.remove(0);
        let (base, behind) = (history.base.min(cut), history.parts[cut..].iter());
        let kept = history.parts[base..cut].iter();
        Ok(Recovered {
            cut,
            others: fits,
            lost: behind.filter(|part| part.is_in_force()).count(),
            unanswered_kept: kept.filter(|part| part.is_unsettled()).count(),
        })
    }

    /// How many records of the log must each have been damaged by itself for a recovery to lose
    /// what lies behind a cut without knowing it; 0 when nothing durable is lost.
    ///
    /// A record says that all before it were durable. So a write that was handed over after another
    /// one's acknowledgement is in a record that bears witness to it, and must be gone as well.
    fn records_lost(&self, shard: usize, cut: Cut) -> usize {
        let history = &self.shards[shard];
        let promised = history.parts.get(cut..history.durable).unwrap_or_default();
        let mut lost = promised.iter().filter(|part| part.is_in_force());
        let Some(first) = lost.next() else {
            return 0;
        };
        let is_durable = |part: &&Part| {
            part.durability == Durability::Sync && matches!(part.outcome, Outcome::Done(_))
        };
        let mut records = 1;
        let mut since = is_durable(&first).then_some(first.at);
        for part in lost.filter(is_durable) {
            if since.is_some_and(|at| part.submitted_at > at) {
                records += 1;
                since = Some(part.at);
            } else if since.is_none() {
                since = Some(part.at);
            }
        }
        records
    }

    /// Checks a recovered shard that is at no state that was promised: at an older one, perhaps.
    pub(crate) fn check_loss<'a>(
        &self,
        shard: usize,
        keys: impl IntoIterator<Item = KeyId>,
        shown: impl Fn(KeyId) -> Shown<'a>,
        what: String,
    ) -> std::result::Result<(Recovered, Claim), String> {
        let history = &self.shards[shard];
        let Some(newest) = history.durable.checked_sub(1) else {
            return Err(what);
        };
        let Ok(mut fits) = self.fit(shard, 0..=newest, keys, shown) else {
            return Err(what);
        };
        let Some(cut) = fits.pop() else {
            return Err(what);
        };
        let claim = Claim {
            shard,
            records: self.records_lost(shard, cut),
            from_tree: cut < history.flushed,
            what,
        };
        let behind = history.parts[cut..].iter();
        let recovered = Recovered {
            cut,
            others: fits,
            lost: behind.filter(|part| part.is_in_force()).count(),
            unanswered_kept: 0,
        };
        Ok((recovered, claim))
    }

    /// What a shard's recovery must bring at least.
    pub(crate) fn durable(&self, shard: usize) -> Cut {
        self.shards[shard].durable
    }

    /// The history of a shard goes on from where a recovery stands; what it did not bring is lost.
    /// `unread` are the keys about which it left a doubt.
    pub(crate) fn rebase(
        &mut self,
        shard: usize,
        recovered: &Recovered,
        unread: impl IntoIterator<Item = KeyId>,
    ) {
        self.forget_updates(shard);
        let cut = recovered.cut;
        let mut doubts = BTreeMap::new();
        for key in unread {
            let history = &self.shards[shard];
            let cuts = [cut].into_iter().chain(recovered.others.iter().copied());
            let mut candidates: Vec<_> = cuts.map(|cut| history.value_at(key, cut)).collect();
            candidates.extend(history.doubts.get(&key).into_iter().flatten());
            candidates.dedup();
            doubts.insert(key, candidates);
        }
        let history = &mut self.shards[shard];
        for part in &mut history.parts[cut..] {
            part.answer = None;
            if part.is_in_force() {
                part.outcome = Outcome::Lost;
            }
        }
        for part in &mut history.parts[..cut] {
            part.answer = None;
        }
        history.base = cut;
        history.visible = cut;
        history.durable = cut;
        history.flushed = history.flushed.min(cut);
        history.doubts = doubts;
    }

    /// The keys that a shard may hold.
    pub(crate) fn live_keys(&self, shard: usize) -> Vec<KeyId> {
        self.shards[shard].versions.keys().copied().collect()
    }

    /// Whether there are keys whose value is in doubt.
    pub(crate) fn has_doubts(&self, shard: usize) -> bool {
        !self.shards[shard].doubts.is_empty()
    }

    /// How many keys a shard holds when nothing is under way.
    pub(crate) fn live_count(&self, shard: usize) -> u64 {
        let history = &self.shards[shard];
        let now = history.parts.len();
        let live = |key: &&KeyId| history.value_at(**key, now).is_some();
        lightning_io::to_u64(history.versions.keys().filter(live).count())
    }

    /// Whether the shard has parts whose outcome is open.
    pub(crate) fn is_settled(&self, shard: usize) -> bool {
        let mut recent = self.shards[shard].recent();
        !recent.any(|(_, part)| part.is_unsettled())
    }
}
