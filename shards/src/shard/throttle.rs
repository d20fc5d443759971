//! Slowing writers down when merging does not keep up with them.
//!
//! # Algorithm
//! Up to a debt of 35 % of the base nothing happens. From there to twice that much, each byte that
//! is written costs time in proportion to the debt beyond; when the costs come to [`PAUSE_MIN`],
//! writes wait that long in their queue. So writers are slowed a little at first, and by no more
//! than the merges need.
//!
//! # Bounds
//! The most that a byte costs is [`BYTE_COST_NS_MAX`], so a shard goes on taking 8 MiB a second of
//! keys and values however far behind its merges are, and one pause is [`PAUSE_MAX`] at the most.
//! Merges never stop a write.

use std::cell::Cell;
use std::time::Duration;

use lightning_io::{Env, to_u64};

use super::{Shard, count, policy};

/// What a byte costs at the highest pressure: 8 MiB a second, which is well below what merges take
/// from their inputs when they have the device to themselves.
const BYTE_COST_NS_MAX: u64 = 119;

/// Costs that are waited for at once: a timer is not exact below.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// The longest that a single write makes others wait, however large it is.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// What writers owe.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// In thousandths: see `policy::pressure`.
    pressure: Cell<u64>,
    owed_ns: Cell<u64>,
    is_pausing: Cell<bool>,
}

impl Throttle {
    /// Whether writes wait.
    pub(super) fn is_pausing(&self) -> bool {
        self.is_pausing.get()
    }

    fn set_pressure(&self, pressure: u64) {
        self.pressure.set(pressure);
    }

    /// Notes a write; the pause that is to be made now, if one is.
    fn note(&self, bytes: usize) -> Option<Duration> {
        let cost = to_u64(bytes) * BYTE_COST_NS_MAX * self.pressure.get() / 1000;
        let owed = Duration::from_nanos(self.owed_ns.get() + cost).min(PAUSE_MAX);
        if owed < PAUSE_MIN {
            let owed = u64::try_from(owed.as_nanos()).expect("it is below a pause");
            self.owed_ns.set(owed);
            return None;
        }
        self.owed_ns.set(0);
        Some(owed)
    }
}

impl<E: Env> Shard<E> {
    /// Looks at the debt again, after an edit.
    pub(super) fn update_pressure(&self) {
        let tree = &self.0.tree;
        let pressure = policy::pressure(&tree.runs(), tree.base_bytes(), &self.merge_settings());
        self.0.throttle.set_pressure(pressure);
    }

    /// Has the writes that follow wait, if this one costs time.
    pub(super) fn charge(&self, bytes: usize) {
        let throttle = &self.0.throttle;
        let Some(pause) = throttle.note(bytes).filter(|_| !throttle.is_pausing()) else {
            return;
        };
        throttle.is_pausing.set(true);
        count(&self.0.counters.pauses, 1);
        let shard = self.clone();
        self.spawn_counted(async move {
            shard.0.env.sleep(pause).await;
            shard.0.throttle.is_pausing.set(false);
            shard.resume_deferred();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_costs_in_proportion_to_the_pressure() {
        let pauses = |pressure| {
            let throttle = Throttle::default();
            throttle.set_pressure(pressure);
            let written = (0..10_000).filter_map(|_| throttle.note(1000));
            written.sum::<Duration>().as_millis()
        };
        assert_eq!(pauses(0), 0);
        // 10 MB at 8 MiB a second, and half of that.
        assert!((1150..1200).contains(&pauses(1000)), "{}", pauses(1000));
        assert!((570..600).contains(&pauses(500)), "{}", pauses(500));
    }

    #[test]
    fn a_large_write_costs_no_more_than_the_longest_pause() {
        let throttle = Throttle::default();
        throttle.set_pressure(1000);
        assert_eq!(throttle.note(64 << 20), Some(PAUSE_MAX));
        assert_eq!(throttle.note(1), None);
    }
}
