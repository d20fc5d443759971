//! The faults beyond crashes: which a run may have, and how each is drawn for a seed.
//!
//! # Algorithm
//! A swarm: each seed switches on a random subset, each fault of it with a rate and a bound of its
//! own, for every life of the run. With all of them at once no run would get far enough to meet the
//! interesting ones. A rate is drawn around what makes the fault strike in most of the runs that
//! have it: operations of some kinds are a thousand times as frequent as those of others.

use lightning_io::sim::{Fault, FaultConfig, Knob, PPM, Rng};

/// Faults that `all` leaves out, with the reason. Naming one switches it on all the same.
pub const LEFT_OUT: [(Fault, &str); 0] = [];

/// The names of the table of faults, and what each stands for.
const NAMES: [(&str, &[Fault]); 12] = [
    ("F5", &[Fault::BitRot]),
    (
        "F6",
        &[
            Fault::MisdirectedWrite,
            Fault::MisdirectedRead,
            Fault::StickyMisdirectedRead,
        ],
    ),
    (
        "F7",
        &[
            Fault::PhantomWrite,
            Fault::StaleRead,
            Fault::StickyStaleRead,
        ],
    ),
    ("F8", &[Fault::ReadError, Fault::StickyReadError]),
    ("F9", &[Fault::WriteError, Fault::StickyWriteError]),
    ("F10", &[Fault::DurableWriteError, Fault::SyncError]),
    ("F11", &[Fault::NoSpace]),
    ("F12", &[Fault::ShortRead, Fault::ShortWrite]),
    ("F13", &[Fault::LatencySpike, Fault::ShardStall]),
    ("F14", &[Fault::LyingSync]),
    ("F15", &[Fault::TaskStall]),
    ("F18", &[Fault::ClockJump]),
];

/// Faults that every run has without being asked: crashes (F1 to F4) and dropped futures (F19).
const ALWAYS_ON: [&str; 5] = ["F1", "F2", "F3", "F4", "F19"];

/// The name of a fault in the table.
pub(crate) fn number_of(fault: Fault) -> &'static str {
    let entry = NAMES.iter().find(|entry| entry.1.contains(&fault));
    entry.map_or("-", |entry| entry.0)
}

/// The usual odds of a fault per opportunity.
fn usual_ppm(fault: Fault) -> u32 {
    match fault {
        // At every turn of a task.
        Fault::TaskStall => 2_000,
        // At every operation.
        Fault::BitRot | Fault::ShardStall | Fault::LatencySpike => 3_000,
        // At every write.
        Fault::MisdirectedWrite | Fault::PhantomWrite | Fault::ShortWrite => 6_000,
        // At every read, and most are answered by the cache.
        Fault::ReadError
        | Fault::StickyReadError
        | Fault::ShortRead
        | Fault::MisdirectedRead
        | Fault::StickyMisdirectedRead => 8_000,
        // At every write to the log or a superblock.
        Fault::DurableWriteError => 9_000,
        // At every sync, and at every look at the wall clock.
        Fault::SyncError | Fault::LyingSync | Fault::ClockJump => 25_000,
        // At every operation that makes a file longer.
        Fault::NoSpace => 20_000,
        // At every read of a place that held something else before.
        Fault::StaleRead | Fault::StickyStaleRead => 30_000,
        // At every write to the tree.
        Fault::WriteError | Fault::StickyWriteError => 50_000,
        Fault::Scripted => 0,
    }
}

/// A set of faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultSet(Vec<Fault>);

impl FaultSet {
    /// Crashes alone.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Everything that is not in [`LEFT_OUT`].
    pub fn all() -> Self {
        let left_out = |fault: &Fault| LEFT_OUT.iter().any(|entry| entry.0 == *fault);
        let all = Fault::ALL.into_iter();
        Self(
            all.filter(|fault| *fault != Fault::Scripted && !left_out(fault))
                .collect(),
        )
    }

    /// Reads `none`, `all` or a list such as `F5,F10` or `BitRot,ClockJump`.
    ///
    /// # Errors
    /// The name that is not known.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "none" => return Ok(Self::none()),
            "all" => return Ok(Self::all()),
            _ => {}
        }
        let mut faults = Vec::new();
        for name in text.split(',') {
            if ALWAYS_ON.contains(&name) {
                continue;
            }
            let numbered = NAMES.iter().find(|entry| entry.0 == name);
            let named = Fault::ALL.iter().find(|fault| format!("{fault:?}") == name);
            match (numbered, named) {
                (Some((_, several)), _) => faults.extend_from_slice(several),
                (None, Some(fault)) if *fault != Fault::Scripted => faults.push(*fault),
                _ => return Err(name.to_owned()),
            }
        }
        faults.sort();
        faults.dedup();
        Ok(Self(faults))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The faults in it.
    pub fn iter(&self) -> impl Iterator<Item = Fault> {
        self.0.iter().copied()
    }

    /// The set without one of them.
    #[must_use]
    pub fn without(&self, fault: Fault) -> Self {
        Self(self.iter().filter(|other| *other != fault).collect())
    }
}

/// The faults that one seed has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Swarm {
    knobs: Vec<(Fault, Knob)>,
    /// How much of the disk is left at the start of a life, if that is limited: as a power of two
    /// that the bytes are drawn below.
    pub(crate) space_bits: Option<u64>,
}

/// Free space is drawn up to 1 MiB: less than what most lives write.
const SPACE_BITS_MAX: u64 = 20;

/// How much more often a fault strikes that is the only one.
const ALONE_FACTOR: u64 = 4;

impl Swarm {
    /// Draws the faults of a seed from those that it may have.
    ///
    /// `rate_percent` and `strikes_max` make a failing run smaller.
    pub(crate) fn draw(set: &FaultSet, rate_percent: u32, strikes_max: u64, rng: &mut Rng) -> Self {
        let mut swarm = Self::default();
        // One run in eight has none; the others have few or many.
        let odds = rng.pick(&[0, 12, 8, 8, 5, 5, 3, 3]);
        let asked_for_one = set.0.len() == 1;
        // All are drawn for every fault, so that one choice does not move the next.
        for fault in Fault::ALL {
            let on = rng.below(odds.max(1)) == 0 && odds > 0;
            let scale = rng.pick(&[50, 100, 100, 200, 400]);
            let bound = (1 + rng.below(6)).min(strikes_max);
            let full = rng.coin();
            let bits = 12 + rng.below(SPACE_BITS_MAX - 11);
            if !set.0.contains(&fault) || !(on || asked_for_one) {
                continue;
            }
            if fault == Fault::NoSpace && full {
                swarm.space_bits = Some(bits);
                swarm.knobs.push((fault, Knob::default()));
                continue;
            }
            // One that is alone may strike more often: nothing else hides what it does.
            let more = if asked_for_one { ALONE_FACTOR } else { 1 };
            let scale = scale * more;
            let rate = u64::from(usual_ppm(fault)) * scale * u64::from(rate_percent) / 10_000;
            let rate = u32::try_from(rate).map_or(PPM, |rate| rate.min(PPM));
            let bound = bound.saturating_mul(more).min(strikes_max);
            swarm.knobs.push((fault, Knob::new(rate, bound)));
        }
        swarm
    }

    /// Whether nothing goes wrong but crashes.
    pub(crate) fn is_empty(&self) -> bool {
        self.knobs.is_empty()
    }

    /// The faults that are on.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Fault> {
        self.knobs.iter().map(|(fault, _)| *fault)
    }

    /// The settings of one world.
    pub(crate) fn config(&self) -> FaultConfig {
        let knobs = self.knobs.iter().cloned();
        knobs.fold(FaultConfig::default(), |config, (fault, knob)| {
            config.with(fault, knob)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_name_and_odds_and_is_drawn() {
        let mut rng = Rng::new(1);
        let swarms: Vec<Swarm> = (0..400)
            .map(|_| Swarm::draw(&FaultSet::all(), 100, u64::MAX, &mut rng))
            .collect();
        for fault in FaultSet::all().iter() {
            assert_ne!(number_of(fault), "-", "{fault:?}");
            assert!(usual_ppm(fault) > 0, "{fault:?}");
            let with = swarms
                .iter()
                .filter(|swarm| swarm.iter().any(|on| on == fault));
            assert!(with.count() > 20, "{fault:?}");
        }
        assert!(swarms.iter().filter(|swarm| swarm.is_empty()).count() > 20);
    }

    #[test]
    fn one_fault_taken_out_leaves_the_others_as_they_were() {
        let (all, without) = (
            FaultSet::all(),
            FaultSet::all().without(Fault::PhantomWrite),
        );
        for seed in 0..50 {
            let mut many = Swarm::draw(&all, 100, u64::MAX, &mut Rng::new(seed));
            let few = Swarm::draw(&without, 100, u64::MAX, &mut Rng::new(seed));
            many.knobs
                .retain(|(fault, _)| *fault != Fault::PhantomWrite);
            assert_eq!(many, few);
        }
    }
}
