//! What the keyspaces of a run may hold: the oracle.
//!
//! A key has one writer, who waits for its answers. So it has the last value that was acknowledged,
//! or one that was submitted later and has no answer: those that a crash cut off, and those of
//! calls that failed in part. What a recovery shows settles which.

use std::collections::{BTreeMap, BTreeSet};

use lightning_io::sim::SimEnv;
use lightning_shards::{DEFAULT_KEYSPACE_NAME, KeyspaceId, KeyspaceRecord, Shard, ShardId};

use super::Figures;
use crate::keys::{Value, describe};

/// A value that was written, and between which times it was committed, on the clock of its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) value: Value,
    pub(super) ttl_us: Option<u64>,
    from_us: u64,
    to_us: u64,
}

impl Written {
    /// A value that is submitted at a time, and not answered yet.
    pub(super) fn new(value: Value, ttl_us: Option<u64>, from_us: u64) -> Self {
        Self {
            value,
            ttl_us,
            from_us,
            to_us: u64::MAX,
        }
    }

    /// Whether it may have expired by a time.
    fn may_be_over(&self, at: u64) -> bool {
        self.ttl_us
            .is_some_and(|ttl| self.from_us.saturating_add(ttl) <= at)
    }

    /// Whether it must have expired by a time.
    fn is_over(&self, at: u64) -> bool {
        self.ttl_us
            .is_some_and(|ttl| self.to_us.saturating_add(ttl) <= at)
    }
}

/// When a read happened: no earlier and no later than this, on the clock of its shard. The end is
/// the latest time that was ever seen, as a flush may have taken away what had expired then.
#[derive(Debug, Clone, Copy)]
pub(super) struct When {
    pub(super) from_us: u64,
    pub(super) to_us: u64,
}

/// What a key may hold.
#[derive(Debug, Clone, Default)]
pub(super) struct KeyTruth {
    settled: Option<Written>,
    /// Without an answer, oldest first.
    open: Vec<Option<Written>>,
}

impl KeyTruth {
    /// A write is submitted.
    pub(super) fn begin(&mut self, written: Option<Written>) {
        self.open.push(written);
    }

    /// The write that was submitted last is done, at this time at the latest: all before it are as
    /// if they were not.
    pub(super) fn acknowledge(&mut self, to_us: u64) {
        if let Some(written) = self.open.pop() {
            self.settled = written.map(|written| Written { to_us, ..written });
            self.open.clear();
        }
    }

    /// The deletion that was submitted last is done, which is none of what had expired: that comes
    /// back if the clock does.
    pub(super) fn acknowledge_if_there(&mut self, to_us: u64) {
        let (_, before) = self.open.split_last().unwrap_or((&None, &[]));
        let known = [self.settled].into_iter().chain(before.iter().copied());
        let expired = |written: &Option<Written>| written.is_some_and(|it| it.may_be_over(to_us));
        let left: Vec<_> = known.filter(expired).collect();
        self.acknowledge(to_us);
        self.open = left;
    }

    /// The write that was submitted last was refused.
    pub(super) fn refuse(&mut self) {
        self.open.pop();
    }

    /// Takes note of what was read; why it cannot be, if it cannot.
    pub(super) fn read(&mut self, shown: Option<&[u8]>, when: When) -> Result<(), String> {
        let is = |written: Option<Written>| match (written, shown) {
            (None, None) => true,
            (Some(written), None) => written.may_be_over(when.to_us),
            (Some(written), Some(bytes)) => {
                written.value.is(bytes) && !written.is_over(when.from_us)
            }
            (None, Some(_)) => false,
        };
        let all = [self.settled].into_iter().chain(self.open.iter().copied());
        let fitting: Vec<_> = all.filter(|&written| is(written)).collect();
        let Some(&found) = fitting.first() else {
            let shown = shown.map_or_else(|| "nothing".to_owned(), describe);
            return Err(format!("expected {self:?}, found {shown} at {when:?}"));
        };
        // Of several that explain it, each stays possible.
        self.settled = found;
        self.open = fitting[1..].to_vec();
        Ok(())
    }

    /// Whether it has a value, if that is known and does not change with time.
    pub(super) fn is_there(&self) -> Option<bool> {
        let there = self.settled.is_some();
        let lasts = |written: &Option<Written>| {
            written.is_some() == there && written.is_none_or(|written| written.ttl_us.is_none())
        };
        let all = [self.settled].into_iter().chain(self.open.iter().copied());
        all.into_iter()
            .all(|written| lasts(&written))
            .then_some(there)
    }
}

/// What a counter may be at, to which everybody adds one.
#[derive(Debug, Clone, Default)]
pub(super) struct Counter {
    acknowledged: u64,
    submitted: u64,
    /// The sums that were answered: each addition made one of its own.
    sums: BTreeSet<u64>,
}

impl Counter {
    /// An addition is submitted; returns what its sum is above.
    pub(super) fn begin(&mut self) -> u64 {
        self.submitted += 1;
        self.acknowledged
    }

    /// An addition was refused.
    pub(super) fn refuse(&mut self) {
        self.submitted -= 1;
    }

    /// An addition is done.
    pub(super) fn acknowledge(&mut self, above: u64, sum: u64) -> Result<(), String> {
        self.acknowledged += 1;
        if sum <= above || sum > self.submitted || !self.sums.insert(sum) {
            return Err(format!("an addition made {sum}, behind {above}: {self:?}"));
        }
        Ok(())
    }

    /// Takes note of what was read while nobody added.
    pub(super) fn read(&mut self, shown: Option<&[u8]>) -> Result<(), String> {
        let sum = match shown {
            None => Some(0),
            Some(bytes) => bytes.try_into().ok().map(u64::from_le_bytes),
        };
        let Some(sum) = sum.filter(|sum| (self.acknowledged..=self.submitted).contains(sum)) else {
            return Err(format!("expected {self:?}, found {shown:?}"));
        };
        // What a crash took was not added.
        *self = Self {
            acknowledged: sum,
            submitted: sum,
            sums: BTreeSet::new(),
        };
        Ok(())
    }

    /// Whether there is a value.
    pub(super) fn is_there(&self) -> bool {
        self.acknowledged > 0
    }
}

/// What became of a keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    Live,
    /// Its drop was submitted.
    Doomed,
    /// Its drop was answered, or somebody was refused because of it.
    Gone,
}

/// A keyspace.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) id: KeyspaceId,
    pub(super) fate: Fate,
    /// How long what is written lives by default.
    pub(super) ttl_us: Option<u64>,
    pub(super) keys: BTreeMap<Vec<u8>, KeyTruth>,
    pub(super) counters: BTreeMap<Vec<u8>, Counter>,
}

/// Which keyspace of a run.
pub(super) type SpaceId = usize;

/// The keyspace that is always there.
pub(super) const DEFAULT: SpaceId = 0;

/// What is known of a name.
#[derive(Debug, Default)]
pub(super) struct NameTruth {
    /// Its keyspace.
    pub(super) space: Option<SpaceId>,
    /// Whether a creation was submitted and not answered.
    pub(super) creating: bool,
    /// Whether a drop was cut short, so that its record may still be there.
    pub(super) is_left: bool,
}

#[derive(Debug)]
pub(super) struct Truth {
    pub(super) spaces: Vec<Space>,
    pub(super) names: BTreeMap<String, NameTruth>,
    /// Keyspaces that a handle of this life is for.
    pub(super) handles: Vec<SpaceId>,
    pub(super) figures: Figures,
    /// The shards of this life, for their time.
    pub(super) shards: Vec<Shard<SimEnv>>,
    /// The latest time that any shard ever had.
    latest_us: u64,
    next_write: u64,
    violation: Option<String>,
}

impl Default for Truth {
    fn default() -> Self {
        let default = Space {
            id: KeyspaceId::DEFAULT,
            fate: Fate::Live,
            ttl_us: None,
            keys: BTreeMap::new(),
            counters: BTreeMap::new(),
        };
        Self {
            spaces: vec![default],
            names: BTreeMap::new(),
            handles: vec![DEFAULT],
            figures: Figures::default(),
            shards: Vec::new(),
            latest_us: 0,
            next_write: 1,
            violation: None,
        }
    }
}

impl Truth {
    pub(super) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// Reports a violation; the first one counts.
    pub(super) fn violate(&mut self, what: impl Into<String>) {
        self.violation.get_or_insert_with(|| what.into());
    }

    /// A value that no other write puts.
    pub(super) fn new_value(&mut self, len: usize) -> Value {
        self.next_write += 1;
        // Long enough that it cannot be taken for another.
        Value::new(self.next_write, 0, len.max(crate::keys::TAG_BYTES))
    }

    pub(super) fn key(&mut self, space: SpaceId, key: &[u8]) -> &mut KeyTruth {
        self.spaces[space].keys.entry(key.to_vec()).or_default()
    }

    /// Enters a keyspace that a creation made, whose number nobody had before.
    pub(super) fn created(&mut self, name: &str, record: &KeyspaceRecord) -> SpaceId {
        let id = record.id;
        let ttl = record.options.ttl;
        if self.spaces.iter().any(|space| space.id == id) {
            self.violate(format!(
                "the keyspace {name:?} has the number {id} of another"
            ));
        }
        let space = self.spaces.len();
        self.spaces.push(Space {
            id,
            fate: Fate::Live,
            ttl_us: ttl.map(|ttl| u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX)),
            keys: BTreeMap::new(),
            counters: BTreeMap::new(),
        });
        self.figures.created += 1;
        self.handles.push(space);
        let known = self.names.entry(name.to_owned()).or_default();
        known.space = Some(space);
        known.creating = false;
        known.is_left = false;
        space
    }

    /// A call on a handle was refused because its keyspace was dropped.
    pub(super) fn refused(&mut self, space: SpaceId, id: KeyspaceId) {
        self.figures.refused += 1;
        let known = &mut self.spaces[space];
        if known.id != id || known.fate == Fate::Live {
            let what = format!("a call on {known:?} was refused: keyspace {id} was dropped");
            return self.violate(what);
        }
        known.fate = Fate::Gone;
    }

    /// The time of a shard.
    pub(super) fn now_us(&self, shard: ShardId) -> u64 {
        self.shards[shard.index()].now().micros()
    }

    /// The earliest of the shards' times.
    pub(super) fn now_least_us(&self) -> u64 {
        let times = self.shards.iter().map(|shard| shard.now().micros());
        times.min().unwrap_or(0)
    }

    /// The latest time that any shard ever had.
    pub(super) fn latest_us(&mut self) -> u64 {
        let times = self.shards.iter().map(|shard| shard.now().micros());
        self.latest_us = times.fold(self.latest_us, u64::max);
        self.latest_us
    }

    pub(super) fn counter(&mut self, space: SpaceId, key: &[u8]) -> &mut Counter {
        let counters = &mut self.spaces[space].counters;
        counters.entry(key.to_vec()).or_default()
    }

    /// Compares what a read showed, which began when its shard had this time and ends now.
    pub(super) fn read(
        &mut self,
        (space, key): (SpaceId, &[u8]),
        shown: Option<&[u8]>,
        from_us: u64,
    ) -> Result<(), String> {
        let to_us = self.latest_us();
        self.key(space, key).read(shown, When { from_us, to_us })
    }

    /// The handles are gone with the life.
    pub(super) fn end_life(&mut self) {
        self.latest_us();
        self.shards.clear();
        self.handles.clear();
        self.handles.push(DEFAULT);
    }

    /// Compares a list of all keyspaces after a recovery with what may be, and settles what is.
    pub(super) fn recovered(&mut self, listed: &BTreeMap<String, KeyspaceRecord>) {
        let mut listed = listed.clone();
        let default = listed.remove(DEFAULT_KEYSPACE_NAME);
        if default.is_none_or(|record| record.id != KeyspaceId::DEFAULT) {
            self.violate("the default keyspace is not listed");
        }
        let names: BTreeSet<String> = self
            .names
            .keys()
            .cloned()
            .chain(listed.keys().cloned())
            .collect();
        for name in names {
            let found = listed.get(&name);
            let known = self.names.entry(name.clone()).or_default();
            let creating = std::mem::take(&mut known.creating);
            let space = known.space;
            match (space.map(|space| &mut self.spaces[space]), found) {
                (Some(known), Some(found)) if known.id == found.id && known.fate != Fate::Gone => {
                    known.fate = Fate::Live;
                    self.handles.extend(space);
                }
                (Some(known), None) if known.fate != Fate::Live => {
                    self.is_gone(&name);
                    self.names.entry(name).or_default().is_left = true;
                }
                // Its drop ended, or was never begun, and its name was used again.
                (known, Some(found))
                    if creating && known.as_ref().is_none_or(|k| k.fate != Fate::Live) =>
                {
                    self.is_gone(&name);
                    self.created(&name, found);
                }
                (None, None) => {}
                (known, found) => {
                    let what = format!(
                        "the keyspace {name:?} is {found:?} after a recovery, expected {known:?}"
                    );
                    self.violate(what);
                }
            }
        }
    }

    /// A name stands for nothing any more.
    pub(super) fn is_gone(&mut self, name: &str) {
        if let Some(space) = self
            .names
            .get_mut(name)
            .and_then(|known| known.space.take())
        {
            self.spaces[space].fate = Fate::Gone;
        }
    }

    /// Keyspaces that are in use, with their names.
    pub(super) fn live(&self) -> Vec<SpaceId> {
        let live = |space: &SpaceId| self.spaces[*space].fate == Fate::Live;
        (0..self.spaces.len()).filter(live).collect()
    }
}
