//! Updates in the history of a shard: parts whose effect is known, and whose place is found, when
//! the shard takes them.
//!
//! # Algorithm
//! 1. An update that was submitted is in no history yet: its value may have to be read from disk,
//!    and writes that were submitted later may be taken before it.
//! 2. When its function runs, the shard tells how many parts it has taken. The update belongs behind
//!    exactly these, so what the function saw is checked against exactly that cut, and what it
//!    decided becomes a part at that place. Parts behind it were not taken yet: nobody has seen
//!    them, and they move by one.
//! 3. Its answer is that of its part, or a read of that cut if it changed nothing. Whether it had to
//!    change anything follows from its rule and from what its function saw.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use lightning_shards::{Change, Durability, Error, Result, Updated};

use super::{Cut, History, Model, Outcome, Part, PartId, Shown};
use crate::answer::Answer;
use crate::keys::{KeyId, Value};

/// Which update of a run.
pub(crate) type Ticket = u64;

/// When an update changes its key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rule {
    /// Whatever it finds.
    Always,
    /// When it finds none.
    IfAbsent,
    /// When it finds any.
    IfPresent,
    /// When it finds this value, or none.
    IfEqual(Option<Value>),
}

impl Rule {
    /// Whether what was found has to be changed.
    pub(crate) fn is_met(self, found: Option<&[u8]>) -> bool {
        match self {
            Self::Always => true,
            Self::IfAbsent => found.is_none(),
            Self::IfPresent => found.is_some(),
            Self::IfEqual(expected) => Shown::of(found).is(expected),
        }
    }
}

/// What an update is about to be, until it is submitted.
#[derive(Debug, Clone)]
pub(crate) struct PendingUpdate {
    /// Its key.
    pub key: KeyId,
    /// When it changes it.
    pub rule: Rule,
    /// The value that it puts then, or none to delete.
    pub value: Option<Value>,
    /// When it counts as done.
    pub durability: Durability,
    /// Whether the rule was met, once its function has run.
    pub met: Rc<Cell<Option<bool>>>,
}

/// What a shard told when it ran a function.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken<'a> {
    /// The parts that it had taken since it was opened.
    pub before: usize,
    /// What the function saw.
    pub found: Option<&'a [u8]>,
    /// What it decided.
    pub change: &'a Change,
    /// When.
    pub now: Duration,
}

/// An update between its submission and its answer.
#[derive(Debug, Clone)]
pub(super) struct Update {
    shard: usize,
    pending: PendingUpdate,
    answer: Rc<RefCell<dyn Answer>>,
    effect: Option<Effect>,
}

#[derive(Debug, Clone, Copy)]
struct Effect {
    /// The cut that the function saw.
    cut: Cut,
    /// The part that it became, unless it changed nothing.
    part: Option<PartId>,
    /// The value that the key has then; none of those that stay is known by name.
    value: Option<Value>,
}

/// How often updates were taken.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UpdateCounts {
    /// Functions that ran.
    pub taken: u64,
    /// Of these, before a write that was submitted by then.
    pub overtaking: u64,
}

impl Model {
    /// Says what the update that is submitted next may do.
    pub(crate) fn expect_update(&mut self, update: PendingUpdate) {
        self.pending_update = Some(update);
    }

    /// A number for an update.
    pub(crate) fn next_ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        self.next_ticket
    }

    /// The expected update was handed to a shard.
    pub(crate) fn update_submitted(
        &mut self,
        shard: usize,
        ticket: Ticket,
        answer: Rc<RefCell<dyn Answer>>,
    ) {
        let Some(pending) = self.pending_update.take() else {
            return self.violate(format!("shard {shard} was sent an update that nobody made"));
        };
        let update = Update {
            shard,
            pending,
            answer,
            effect: None,
        };
        self.updates.insert(ticket, update);
    }

    /// A shard ran the function of an update.
    pub(crate) fn taken(&mut self, ticket: Ticket, taken: &Taken<'_>) {
        let Some(update) = self.updates.get_mut(&ticket) else {
            return self.violate(format!("update {ticket} was taken, which nobody made"));
        };
        if update.effect.is_some() {
            return self.violate(format!("the function of update {ticket} ran twice"));
        }
        let (shard, key) = (update.shard, update.pending.key);
        let history = &mut self.shards[shard];
        history.note_refusals();
        let cut = history.cut_behind(taken.before);
        let shown = Shown::of(taken.found);
        let (met, value) = (
            update.pending.rule.is_met(taken.found),
            update.pending.value,
        );
        update.pending.met.set(Some(met));
        let right = match taken.change {
            Change::Keep => !met,
            Change::Delete => met && value.is_none(),
            Change::Put(bytes) => met && value.is_some_and(|value| value.is(bytes)),
        };
        // To delete what is not there changes nothing.
        let changes = met && (value.is_some() || taken.found.is_some());
        self.update_counts.taken += 1;
        self.update_counts.overtaking += u64::from(cut < history.parts.len());
        let expected = (!history.shows(key, cut, shown)).then(|| history.value_at(key, cut));
        history.settle_doubt(key, cut, shown);
        let value = value.filter(|_| changes);
        let part = changes.then(|| {
            let part = Part {
                id: history.next_id(),
                durability: update.pending.durability,
                outcome: Outcome::Open,
                seen: false,
                answer: Some(Rc::clone(&update.answer)),
                submitted_at: taken.now,
                at: Duration::ZERO,
            };
            history.insert(cut, part, (key, value))
        });
        update.effect = Some(Effect { cut, part, value });
        if !right {
            let what = format!("update {ticket} decided otherwise than by its rule");
            return self.violate(what);
        }
        if let Some(expected) = expected {
            let (name, found) = (self.keys.name(key), shown.describe());
            let what = format!(
                "shard {shard} showed update {ticket} {found} for {name} behind part {cut}, \
                 expected {expected:?}"
            );
            self.violate(what);
        }
    }

    /// A shard answered an update.
    pub(crate) fn update_answered(
        &mut self,
        ticket: Ticket,
        answer: &Result<Updated>,
        at: Duration,
    ) {
        let Some(update) = self.updates.remove(&ticket) else {
            return;
        };
        let shard = update.shard;
        let Some(effect) = update.effect else {
            if answer.is_ok() {
                self.violate(format!("update {ticket} was done and never taken"));
            }
            return;
        };
        let committed = match (answer, effect.part) {
            (Err(Error::Panicked { .. } | Error::Invalid { .. }), _) => {
                return self.violate(format!("update {ticket}: {answer:?}"));
            }
            (Ok(Updated { at: Some(at), .. }), Some(_)) => Ok(*at),
            (Ok(Updated { at: None, value }), None) => {
                return self.check_kept(&update, effect, value.as_deref());
            }
            (Ok(_), _) => {
                let what = "was committed and had changed nothing, or the other way round";
                return self.violate(format!("update {ticket} {what}"));
            }
            (Err(error), _) => Err(error.clone()),
        };
        if let Some(part) = effect.part {
            self.answered(shard, part, &committed, at);
        }
        let Ok(Updated { value, .. }) = answer else {
            return;
        };
        if !Shown::of(value.as_deref()).is(effect.value) {
            let value = Shown::of(value.as_deref()).describe();
            self.violate(format!("update {ticket} left {value}, expected {effect:?}"));
        }
        // What it was made of had to be durable before it was told.
        let history = &mut self.shards[shard];
        let seen = history.durable_version(update.pending.key, effect.cut);
        history.durable = history.durable.max(seen.unwrap_or(0));
    }

    /// An update that changed nothing is a read of one cut.
    fn check_kept(&mut self, update: &Update, effect: Effect, value: Option<&[u8]>) {
        let (key, cut) = (update.pending.key, effect.cut);
        let checked = self.check_read(update.shard, (cut, Some(cut)), [key], |_| Shown::of(value));
        if let Err(what) = checked {
            self.violate(format!("an update that changed nothing: {what}"));
        }
    }

    /// Forgets updates of a life that has ended; those that were taken are parts by now.
    pub(super) fn forget_updates(&mut self, shard: usize) {
        self.updates.retain(|_, update| update.shard != shard);
    }

    /// What a key was last to hold, whether or not it was taken yet.
    pub(crate) fn newest(&self, shard: usize, key: KeyId) -> Option<Value> {
        let history = &self.shards[shard];
        history.value_at(key, history.parts.len())
    }

    /// The counts since they were last taken.
    pub(crate) fn take_update_counts(&mut self) -> UpdateCounts {
        std::mem::take(&mut self.update_counts)
    }
}

impl History {
    /// Takes note of parts that the shard has refused, although nobody has heard of it yet.
    fn note_refusals(&mut self) {
        for part in &mut self.parts[self.base..] {
            let given = part.answer.as_ref();
            let given = given.and_then(|answer| answer.borrow_mut().peek());
            if let Some(Err(error)) = given
                && !matches!(error, Error::MaybeCommitted { .. })
            {
                part.outcome = Outcome::Refused;
            }
        }
    }

    /// The cut behind the first parts that were taken in this life, so many.
    fn cut_behind(&self, taken: usize) -> Cut {
        let in_force = self.recent().filter(|(_, part)| part.is_in_force());
        in_force
            .map(|(cut, _)| cut - 1)
            .nth(taken)
            .unwrap_or(self.parts.len())
    }

    /// Puts a part behind a cut; nobody has seen what lies behind that.
    fn insert(&mut self, cut: Cut, part: Part, (key, value): (KeyId, Option<Value>)) -> PartId {
        debug_assert!(self.visible <= cut && self.durable <= cut && self.flushed <= cut);
        for versions in self.versions.values_mut() {
            let behind = versions.partition_point(|version| version.0 <= cut);
            versions[behind..]
                .iter_mut()
                .for_each(|version| version.0 += 1);
        }
        let id = part.id;
        self.parts.insert(cut, part);
        let versions = self.versions.entry(key).or_default();
        let behind = versions.partition_point(|version| version.0 <= cut);
        versions.insert(behind, (cut + 1, value));
        id
    }
}
