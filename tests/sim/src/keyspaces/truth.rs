//! What the keyspaces of a run may hold: the oracle.
//!
//! A key has one writer, who waits for its answers. So it has the last value that was acknowledged,
//! or one that was submitted later and has no answer: those that a crash cut off, and those of
//! calls that failed in part. What a recovery shows settles which.

use std::collections::{BTreeMap, BTreeSet};

use lightning_shards::{DEFAULT_KEYSPACE_NAME, KeyspaceId};

use super::Figures;
use crate::keys::{Value, describe};

/// What a key may hold.
#[derive(Debug, Clone, Default)]
pub(super) struct KeyTruth {
    settled: Option<Value>,
    /// Without an answer, oldest first.
    open: Vec<Option<Value>>,
}

impl KeyTruth {
    /// A write is submitted.
    pub(super) fn begin(&mut self, value: Option<Value>) {
        self.open.push(value);
    }

    /// The write that was submitted last is done: all before it are as if they were not.
    pub(super) fn acknowledge(&mut self) {
        if let Some(value) = self.open.pop() {
            self.settled = value;
            self.open.clear();
        }
    }

    /// The write that was submitted last was refused.
    pub(super) fn refuse(&mut self) {
        self.open.pop();
    }

    /// Takes note of what was read; why it cannot be, if it cannot.
    pub(super) fn read(&mut self, shown: Option<&[u8]>) -> Result<(), String> {
        let is = |value: Option<Value>| match (value, shown) {
            (None, None) => true,
            (Some(value), Some(bytes)) => value.is(bytes),
            _ => false,
        };
        let all = self.open.iter().copied().chain([self.settled]);
        let Some(found) = all.into_iter().find(|&value| is(value)) else {
            let shown = shown.map_or_else(|| "nothing".to_owned(), describe);
            return Err(format!("expected {self:?}, found {shown}"));
        };
        self.settled = found;
        // One that is still open was not in force when this was read, and its caller is gone.
        self.open.clear();
        Ok(())
    }

    /// Whether it has a value, if that is known.
    pub(super) fn is_there(&self) -> Option<bool> {
        let there = self.settled.is_some();
        let open = self.open.iter().all(|value| value.is_some() == there);
        open.then_some(there)
    }
}

/// What became of a keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    pub(super) keys: BTreeMap<Vec<u8>, KeyTruth>,
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
    next_write: u64,
    violation: Option<String>,
}

impl Default for Truth {
    fn default() -> Self {
        let default = Space {
            id: KeyspaceId::DEFAULT,
            fate: Fate::Live,
            keys: BTreeMap::new(),
        };
        Self {
            spaces: vec![default],
            names: BTreeMap::new(),
            handles: vec![DEFAULT],
            figures: Figures::default(),
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
    pub(super) fn created(&mut self, name: &str, id: KeyspaceId) -> SpaceId {
        if self.spaces.iter().any(|space| space.id == id) {
            self.violate(format!(
                "the keyspace {name:?} has the number {id} of another"
            ));
        }
        let space = self.spaces.len();
        self.spaces.push(Space {
            id,
            fate: Fate::Live,
            keys: BTreeMap::new(),
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

    /// The handles are gone with the life.
    pub(super) fn end_life(&mut self) {
        self.handles.clear();
        self.handles.push(DEFAULT);
    }

    /// Compares a list of all keyspaces after a recovery with what may be, and settles what is.
    pub(super) fn recovered(&mut self, listed: &BTreeMap<String, KeyspaceId>) {
        let mut listed = listed.clone();
        if listed.remove(DEFAULT_KEYSPACE_NAME) != Some(KeyspaceId::DEFAULT) {
            self.violate("the default keyspace is not listed");
        }
        let names: BTreeSet<String> = self
            .names
            .keys()
            .cloned()
            .chain(listed.keys().cloned())
            .collect();
        for name in names {
            let found = listed.get(&name).copied();
            let known = self.names.entry(name.clone()).or_default();
            let creating = std::mem::take(&mut known.creating);
            let space = known.space;
            match (space.map(|space| &mut self.spaces[space]), found) {
                (Some(known), Some(found)) if known.id == found && known.fate != Fate::Gone => {
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
