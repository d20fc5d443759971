//! What a run found out: a violation, or figures that say how much was tried.

use std::fmt;
use std::ops::AddAssign;

use lightning_io::sim::Fault;

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

macro_rules! figures {
    ($($(#[$doc:meta])* $name:ident: $label:literal,)*) => {
        /// How much a run, or many, tried.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Figures {
            $($(#[$doc])* pub $name: u64,)*
            /// How often each fault struck, and in how many runs.
            pub faults: Vec<(Fault, u64, u64)>,
        }

        impl AddAssign<&Self> for Figures {
            fn add_assign(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
                for (fault, strikes, runs) in &other.faults {
                    self.note_fault(*fault, *strikes, *runs);
                }
            }
        }

        impl fmt::Display for Figures {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(writeln!(f, "  {:<44} {:>12}", $label, self.$name)?;)*
                for (fault, strikes, runs) in &self.faults {
                    let name = format!("{fault:?}");
                    writeln!(f, "  fault {name:<38} {strikes:>12} in {runs} runs")?;
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
    /// Of these, crashes while recovering.
    nested_crashes: "crashes inside recovery",
    /// Recoveries that were repeated from one image with another seed and compared.
    recoveries_repeated: "recoveries repeated and compared",
    /// Processes killed without a power failure.
    kills: "processes killed",
    /// Databases closed well.
    closes: "clean closes",
    /// Shards' logs that were cut in one crash, each at its own place.
    tails_cut: "independent shard tails cut",
    /// Shards whose recovery lost writes that nobody was promised.
    tails_lost: "shard tails that lost unpromised writes",
    /// Writes that survived without having been acknowledged.
    unanswered_kept: "unanswered parts of writes that survived",
    /// Operations of callers.
    operations: "operations",
    /// Parts of writes: a batch has one on each shard that it touches.
    parts: "parts of writes",
    /// Reads and rows of scans that were compared.
    reads: "values read and compared",
    /// Scans that were compared.
    scans: "scans compared",
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
    /// Checks of everything stored.
    verifies: "verifications",
    /// Memtables flushed.
    flushes: "flushes",
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
    /// Counts strikes of a fault in a number of runs.
    pub fn note_fault(&mut self, fault: Fault, strikes: u64, runs: u64) {
        if let Some(entry) = self.faults.iter_mut().find(|entry| entry.0 == fault) {
            entry.1 += strikes;
            entry.2 += runs;
        } else {
            self.faults.push((fault, strikes, runs));
            self.faults.sort_by_key(|entry| entry.0);
        }
    }
}
