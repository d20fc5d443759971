//! What one shard was asked to do, in its order, and what it may show of that.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures_channel::oneshot;
use lightning_shards::{Durability, Result, Timestamp};

use crate::keys::{KeyId, TAG_BYTES, Value, describe};

/// A position in the history of a shard: the number of parts that are in force; 0 is the empty
/// database.
pub(crate) type Cut = usize;

/// What a shard answers to its part of a write.
pub(crate) type Answer = oneshot::Receiver<Result<Timestamp>>;

/// What became of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
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
pub(crate) type PartOps = Vec<(KeyId, Option<Value>)>;

/// One shard's part of a write.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// When it counts as done.
    pub durability: Durability,
    /// What became of it.
    pub outcome: Outcome,
    /// Whether a read has shown it.
    pub seen: bool,
    /// Where its answer comes, as long as nobody has heard it.
    pub answer: Option<Rc<RefCell<Answer>>>,
    /// When it was handed to the shard.
    pub submitted_at: Duration,
    /// When it was acknowledged.
    pub at: Duration,
}

/// One shard's history.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// Every part, in the order in which it took them.
    pub parts: Vec<Part>,
    /// Where the last recovery stood.
    pub base: Cut,
    /// For each key the cuts from which on it has a value, or none, oldest first.
    pub versions: BTreeMap<KeyId, Vec<(Cut, Option<Value>)>>,
    /// No read may show an older state.
    pub visible: Cut,
    /// No recovery may bring an older state.
    pub durable: Cut,
    /// Everything up to here is in the tree: no damage to the log may take it.
    pub flushed: Cut,
    /// What keys that could not be read at the last recovery may hold: a value, or nothing.
    pub doubts: BTreeMap<KeyId, Vec<Option<Value>>>,
}

impl History {
    /// Whether a part may be in force.
    pub(crate) fn may_hold(&self, cut: Cut) -> bool {
        cut == 0 || self.parts[cut - 1].is_in_force()
    }

    /// The parts since the last recovery, each with its cut.
    pub(crate) fn recent(&self) -> impl DoubleEndedIterator<Item = (Cut, &Part)> {
        let numbered = self.parts.iter().enumerate().skip(self.base);
        numbered.map(|(at, part)| (at + 1, part))
    }

    /// Whether a key may have shown this at a cut.
    pub(crate) fn shows(&self, key: KeyId, cut: Cut, shown: Shown<'_>) -> bool {
        shown.is(self.value_at(key, cut)) || self.doubts_show(key, cut, shown)
    }

    /// A key was read: what it may hold is what it showed.
    pub(crate) fn settle_doubt(&mut self, key: KeyId, cut: Cut, shown: Shown<'_>) {
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

    /// What a key holds at a cut.
    pub(crate) fn value_at(&self, key: KeyId, cut: Cut) -> Option<Value> {
        let versions = self.versions.get(&key)?;
        let newest = versions
            .iter()
            .rev()
            .find(|version| version.0 <= cut && self.may_hold(version.0));
        newest.and_then(|version| version.1)
    }

    /// The part that gave a key its value at a cut, if that part was to be durable and no other
    /// could have been taken for it.
    pub(crate) fn durable_version(&self, key: KeyId, cut: Cut) -> Option<Cut> {
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
    /// Whether it may be in force.
    pub(crate) fn is_in_force(&self) -> bool {
        !matches!(self.outcome, Outcome::Refused | Outcome::Lost)
    }

    /// Whether it is open what became of it.
    pub(crate) fn is_unsettled(&self) -> bool {
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

    /// Whether a value, or none, looks like this.
    pub(crate) fn is(self, value: Option<Value>) -> bool {
        match (self, value) {
            (Self::Absent, None) | (Self::Present, Some(_)) => true,
            (Self::Value(bytes), Some(value)) => value.is(bytes),
            _ => false,
        }
    }

    /// Says what it is.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Absent => "nothing".to_owned(),
            Self::Present => "something".to_owned(),
            Self::Value(bytes) => describe(bytes),
        }
    }
}
