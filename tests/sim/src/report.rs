//! What a run found out: a violation, or figures that say how much was tried.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use lightning_io::sim::Fault;

use crate::faults::{FaultSet, number_of};

/// Something that must never happen, and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The seed that shows it again.
    pub seed: u64,
    /// Where in the run: generation, phase, client and operation.
    pub step: String,
    /// What was expected and what was there.
    pub what: String,
    /// Which faults had struck by then.
    pub faults: Vec<(Fault, u64)>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}: {}", self.seed, self.step, self.what)?;
        if !self.faults.is_empty() {
            f.write_str(" [")?;
            write_faults(f, &self.faults)?;
            f.write_str("]")?;
        }
        Ok(())
    }
}

fn write_faults(f: &mut fmt::Formatter<'_>, faults: &[(Fault, u64)]) -> fmt::Result {
    for (at, (fault, count)) in faults.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        write!(f, "{comma}{fault:?} x{count}")?;
    }
    Ok(())
}

/// Something that goes wrong in a run that has it switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hazard {
    /// F1: a crash tore a write.
    TornWrite,
    /// F2: a crash lost a write.
    LostWrite,
    /// F2: a crash lost a change of a file's length.
    LostLength,
    /// F3: a crash lost a change of a directory entry.
    LostEntry,
    /// F4: a crash came while the database was being opened.
    NestedCrash,
    /// F19: a caller dropped a future.
    DroppedFuture,
    /// F5 to F18: a fault of the disk, the tasks or the clock.
    Fault(Fault),
}

impl Hazard {
    /// Everything that can go wrong where all faults are asked for.
    pub fn all() -> impl Iterator<Item = Self> {
        let always = [
            Self::TornWrite,
            Self::LostWrite,
            Self::LostLength,
            Self::LostEntry,
            Self::NestedCrash,
            Self::DroppedFuture,
        ];
        let faults = FaultSet::all();
        let faults: Vec<Self> = faults.iter().map(Self::Fault).collect();
        always.into_iter().chain(faults)
    }
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::TornWrite => "F1 TornWrite".to_owned(),
            Self::LostWrite => "F2 LostWrite".to_owned(),
            Self::LostLength => "F2 LostLength".to_owned(),
            Self::LostEntry => "F3 LostEntry".to_owned(),
            Self::NestedCrash => "F4 NestedCrash".to_owned(),
            Self::DroppedFuture => "F19 DroppedFuture".to_owned(),
            Self::Fault(fault) => format!("{} {fault:?}", number_of(*fault)),
        };
        f.pad(&text)
    }
}

/// How often a hazard was met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Activation {
    /// Runs that had it switched on.
    pub enabled: u64,
    /// Of these, runs in which it struck.
    pub fired: u64,
    /// How often it struck in all.
    pub strikes: u64,
}

/// The share of the runs that have a hazard switched on in which it has to strike.
pub const FIRED_PERCENT_MIN: u64 = 40;

/// Runs with a hazard switched on from which on their share says something.
const ENABLED_MIN: u64 = 200;

impl Activation {
    /// The percentage of runs with it in which it struck.
    pub fn percent(&self) -> u64 {
        self.fired * 100 / self.enabled.max(1)
    }

    /// Whether many runs had it, and it struck in enough of them.
    pub fn is_enough(&self) -> bool {
        self.enabled >= ENABLED_MIN && self.percent() >= FIRED_PERCENT_MIN
    }

    /// A knob that hardly ever strikes tests nothing.
    pub fn is_idle(&self) -> bool {
        self.enabled >= ENABLED_MIN && self.percent() < FIRED_PERCENT_MIN
    }
}

macro_rules! figures {
    ($($(#[$doc:meta])* $name:ident: $label:literal,)*) => {
        /// How much a run, or many, tried.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Figures {
            $($(#[$doc])* pub $name: u64,)*
            /// How often each hazard struck, and in how many runs.
            pub hazards: BTreeMap<Hazard, Activation>,
        }

        impl AddAssign<&Self> for Figures {
            fn add_assign(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
                for (hazard, more) in &other.hazards {
                    let sum = self.hazards.entry(*hazard).or_default();
                    sum.enabled += more.enabled;
                    sum.fired += more.fired;
                    sum.strikes += more.strikes;
                }
            }
        }

        impl fmt::Display for Figures {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(writeln!(f, "  {:<44} {:>12}", $label, self.$name)?;)*
                for (hazard, met) in &self.hazards {
                    let Activation { enabled, fired, strikes } = met;
                    let percent = met.percent();
                    writeln!(
                        f,
                        "  {hazard:<44} {strikes:>12} in {fired} of {enabled} runs, {percent} %"
                    )?;
                }
                Ok(())
            }
        }
    };
}

figures! {
    /// Seeds.
    runs: "runs",
    /// Worlds: each is one life of a process.
    worlds: "worlds",
    /// Images of power failures that were recovered from and checked.
    crash_images: "crash images checked, exact contents",
    /// Openings whose content was checked, after a power failure or not.
    recoveries: "openings checked, exact contents",
    /// Power failures.
    crashes: "power failures",
    /// Of these, crashes while recovering.
    nested_crashes: "crashes inside recovery",
    /// Of these, the second in a row.
    nested_twice: "of these, in the recovery from one",
    /// Of these, the third in a row.
    nested_thrice: "of these, in the recovery from two",
    /// Writes that a power failure tore.
    writes_torn: "writes torn",
    /// Writes that a power failure lost.
    writes_lost: "writes lost",
    /// Changes of length that a power failure lost.
    lengths_lost: "changes of length lost",
    /// Changes of directory entries that a power failure lost.
    entries_lost: "changes of directory entries lost",
    /// Recoveries that were repeated from one image with another seed and compared.
    recoveries_repeated: "recoveries repeated and compared",
    /// Processes killed without a power failure.
    kills: "processes killed",
    /// Databases closed well.
    closes: "clean closes",
    /// Power failures that cut more than one shard, each at its own place.
    cuts_combined: "power failures that cut several shards",
    /// Shards that were cut in these.
    tails_cut: "independent shard tails cut",
    /// Shards whose recovery lost writes that nobody was promised.
    tails_lost: "shard tails that lost unpromised writes",
    /// Writes that survived without having been acknowledged.
    unanswered_kept: "unanswered parts of writes that survived",
    /// Operations of callers.
    operations: "operations",
    /// Parts of writes: a batch has one on each shard that it touches.
    parts: "parts of writes",
    /// Updates whose function ran.
    updates: "updates taken",
    /// Of these, before a write that was submitted by then.
    updates_overtaking: "of these, before writes submitted earlier",
    /// Reads and rows of scans that were compared.
    reads: "values read and compared",
    /// Scans that were compared.
    scans: "scans compared",
    /// Of these, slow ones over several pages with flushes on the way.
    snapshots: "of these, over pages and flushes",
    /// Futures dropped before they were done.
    dropped: "futures dropped half-way",
    /// Requests refused as busy.
    busy: "requests refused as busy",
    /// Requests that failed with a typed error because of a fault.
    errors: "requests failed by faults",
    /// Openings that failed with a typed error because of a fault.
    open_errors: "openings failed by faults",
    /// Databases that refused to open because of lasting damage.
    refused: "databases given up as damaged",
    /// Shards whose log lost its end to damage above every durable mark.
    undecidable: "tails lost to damage above every mark",
    /// Keys that damage made unreadable when a database was checked.
    unread: "keys unreadable for damage",
    /// Keys beside those that were read and were right.
    contained: "keys readable beside them",
    /// Lives in which a shard failed, that were checked to take no more writes.
    poisoned: "shards that failed, checked",
    /// Times that a shard found no space.
    shortages: "shortages of space",
    /// Deletions that a shard took after it had given up its reserve.
    reserve_deletes: "deletions taken from a reserve",
    /// Lives on a full disk that took writes again once it was not.
    space_returned: "full disks that took writes again",
    /// Of these, those filled until puts were refused, that took a deletion then.
    filled_again: "of these, filled again, took a deletion",
    /// Checks of everything stored.
    verifies: "verifications",
    /// Memtables flushed.
    flushes: "flushes",
    /// Steps of merges.
    merge_steps: "steps of merges",
    /// Records that recoveries replayed.
    replayed: "records replayed",
    /// Segments taken into use again.
    segments_recycled: "segments recycled",
    /// Files that logs created.
    segments_created: "segment files created",
    /// I/O operations.
    ios: "I/O operations",
    /// Polls of tasks.
    polls: "polls of tasks",
}

impl Figures {
    /// Enters how often a hazard struck in one run that has it switched on.
    pub fn note_hazard(&mut self, hazard: Hazard, strikes: u64) {
        let met = self.hazards.entry(hazard).or_default();
        met.enabled += 1;
        met.fired += u64::from(strikes > 0);
        met.strikes += strikes;
    }

    /// Hazards that strike in too few of the runs that have them.
    pub fn idle(&self) -> impl Iterator<Item = (Hazard, Activation)> {
        let all = self.hazards.iter();
        all.filter(|(_, met)| met.is_idle())
            .map(|(hazard, met)| (*hazard, *met))
    }
}
