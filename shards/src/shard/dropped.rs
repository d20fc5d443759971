//! Which keyspaces were dropped, as far as a shard has to know: so that nothing of theirs is shown
//! or written any more, whoever still holds a handle.
//!
//! # Invariants
//! * What was dropped stays so: numbers are not given twice, so none is ever taken out. The next
//!   opening begins with none, as no handle outlives its database.
//!
//! # Bounds
//! Numbers that follow each other are one range: there are never more ranges than keyspaces in use,
//! and numbers that were taken and not used, and one.

use std::collections::BTreeMap;

use lightning_io::Env;

use super::Shard;
use crate::{Error, KeyspaceId, Result};

/// A set of numbers.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    /// The last number of each range, by its first.
    ranges: BTreeMap<KeyspaceId, KeyspaceId>,
}

impl Dropped {
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(super) fn contains(&self, id: KeyspaceId) -> bool {
        let before = self.ranges.range(..=id).next_back();
        before.is_some_and(|(_, &last)| id <= last)
    }

    pub(super) fn insert(&mut self, id: KeyspaceId) {
        if self.contains(id) {
            return;
        }
        let last = self.ranges.remove(&id.next()).unwrap_or(id);
        match self.ranges.range_mut(..id).next_back() {
            Some((_, end)) if end.next() == id => *end = last,
            _ => drop(self.ranges.insert(id, last)),
        }
    }
}

impl<E: Env> Shard<E> {
    /// Refuses what concerns a keyspace that was dropped.
    pub(super) fn check_in_use(&self, id: KeyspaceId) -> Result<()> {
        let dropped = self.0.dropped.borrow();
        if dropped.is_empty() || !dropped.contains(id) || planted!("handle_outlives_drop") {
            return Ok(());
        }
        Err(Error::KeyspaceDropped { id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_follow_each_other_are_one_range() {
        let mut dropped = Dropped::default();
        let mut known = std::collections::BTreeSet::new();
        for id in [5, 9, 7, 7, 6, 2, 8, 4, 20, 3] {
            dropped.insert(KeyspaceId(id));
            known.insert(id);
            for id in 0..25 {
                let id = KeyspaceId(id);
                assert_eq!(
                    dropped.contains(id),
                    known.contains(&id.0),
                    "{id} of {known:?}"
                );
            }
        }
        assert_eq!(dropped.ranges.len(), 2);
        assert!(!dropped.is_empty() && Dropped::default().is_empty());
    }
}
