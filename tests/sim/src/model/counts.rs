//! Numbers of keys, which say of a shard only how many it has and not which.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::{Cut, History, Model};
use crate::keys::KeyId;

impl Model {
    /// The numbers of keys that a shard may have counted between two cuts, of those that `covers`
    /// picks; none when some are in doubt.
    pub(crate) fn counts(
        &self,
        shard: usize,
        cuts: RangeInclusive<Cut>,
        covers: impl Fn(KeyId) -> bool,
    ) -> Option<BTreeSet<u64>> {
        let history = &self.shards[shard];
        let keys = history.keys(covers);
        let counts = cuts.map(|cut| history.count_at(&keys, cut)).collect();
        (!self.has_doubts(shard)).then_some(counts)
    }

    /// A shard is known to have counted so many keys at one of these cuts.
    pub(crate) fn counted(
        &mut self,
        shard: usize,
        cuts: RangeInclusive<Cut>,
        covers: impl Fn(KeyId) -> bool,
        count: u64,
    ) {
        let history = &mut self.shards[shard];
        let keys = history.keys(covers);
        let mut fits = cuts.filter(|&cut| history.count_at(&keys, cut) == count);
        let Some(first) = fits.next() else {
            return;
        };
        let last = fits.next_back().unwrap_or(first);
        history.visible = history.visible.max(first);
        // Which of two versions was counted cannot be told, so only keys with one of them say more.
        let changed = |key: &KeyId| {
            let versions = history.versions.get(key).map_or(&[][..], Vec::as_slice);
            versions
                .iter()
                .any(|(cut, _)| (first + 1..=last).contains(cut))
        };
        let unchanged = keys.iter().filter(|key| !changed(key));
        let durable = unchanged.filter_map(|&key| history.durable_version(key, first));
        let durable = durable.max().unwrap_or(0);
        history.durable = history.durable.max(durable);
    }
}

impl History {
    fn keys(&self, covers: impl Fn(KeyId) -> bool) -> Vec<KeyId> {
        let known = self.versions.keys().copied();
        known.filter(|&key| covers(key)).collect()
    }

    fn count_at(&self, keys: &[KeyId], cut: Cut) -> u64 {
        let there = keys
            .iter()
            .filter(|&&key| self.value_at(key, cut).is_some());
        lightning_io::to_u64(there.count())
    }
}
