//! Which faults a run has, how often each may strike, and how often each did.
//!
//! # Invariants
//! * Every fault draws from a stream of its own, and one that is off draws nothing: switching one
//!   on does not move the others.
//! * Every fault has a bound on how often it strikes and a count of how often it did. A fault that
//!   never fired has tested nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::image::NodeId;
use super::rng::Rng;
use crate::{IoErrorKind, IoOp};

/// What can be made to go wrong. The names F5 to F18 are those of the project's table of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// F5: a bit, a byte or a sector changes at rest, and stays so.
    BitRot,
    /// F6: a whole write lands elsewhere and is acknowledged; at most one such damage is live.
    MisdirectedWrite,
    /// F6: a read returns another place's bytes; the next may not.
    MisdirectedRead,
    /// F6: reads of a place return another place's bytes until it is written again.
    StickyMisdirectedRead,
    /// F7: a write is acknowledged and lost; the length it implies is kept.
    PhantomWrite,
    /// F7: a read returns what the place held before the last write; the next may not.
    StaleRead,
    /// F7: reads of a block return what it held before the last write, until it is written again.
    StickyStaleRead,
    /// F8: a read fails; the next may not.
    ReadError,
    /// F8: a block cannot be read until it is written again.
    StickyReadError,
    /// F9: a write that is not durable at once fails, with any part of it applied.
    WriteError,
    /// F9: a block cannot be written any more.
    StickyWriteError,
    /// F10: a durable write fails, with any part of it applied.
    DurableWriteError,
    /// F10: a sync fails once; what it should have saved may be lost although later syncs succeed.
    SyncError,
    /// F11: an operation that needs space is refused although there may be some.
    NoSpace,
    /// F12: fewer bytes are read than asked for.
    ShortRead,
    /// F12: fewer bytes are written than handed over; a prefix is there.
    ShortWrite,
    /// F13: one operation takes 10 to 1000 times as long.
    LatencySpike,
    /// F13: all files of one shard stand still for 0.1 to 30 s.
    ShardStall,
    /// F14: a sync succeeds and makes nothing durable.
    LyingSync,
    /// F15: all tasks of one group stand still for 1 ms to 1 s.
    TaskStall,
    /// F18: the wall clock jumps by up to an hour, either way.
    ClockJump,
    /// A fault that a test asked for by its place; see [`Script`].
    Scripted,
}

impl Fault {
    /// Every fault, in the order of the table.
    pub const ALL: [Self; 22] = [
        Self::BitRot,
        Self::MisdirectedWrite,
        Self::MisdirectedRead,
        Self::StickyMisdirectedRead,
        Self::PhantomWrite,
        Self::StaleRead,
        Self::StickyStaleRead,
        Self::ReadError,
        Self::StickyReadError,
        Self::WriteError,
        Self::StickyWriteError,
        Self::DurableWriteError,
        Self::SyncError,
        Self::NoSpace,
        Self::ShortRead,
        Self::ShortWrite,
        Self::LatencySpike,
        Self::ShardStall,
        Self::LyingSync,
        Self::TaskStall,
        Self::ClockJump,
        Self::Scripted,
    ];

    const COUNT: usize = Self::ALL.len();

    fn index(self) -> usize {
        self as usize
    }

    /// True for faults whose damage stays on the disk.
    pub fn is_lasting(self) -> bool {
        matches!(
            self,
            Self::BitRot
                | Self::MisdirectedWrite
                | Self::StickyMisdirectedRead
                | Self::PhantomWrite
                | Self::StickyStaleRead
                | Self::StickyReadError
                | Self::WriteError
                | Self::StickyWriteError
                | Self::DurableWriteError
                | Self::SyncError
                | Self::ShortWrite
                | Self::LyingSync
                | Self::Scripted
        )
    }
}

const _: () = {
    let mut index = 0;
    while index < Fault::COUNT {
        assert!(Fault::ALL[index] as usize == index, "ALL follows the enum");
        index += 1;
    }
};

/// How often one fault strikes, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Knob {
    /// Odds per opportunity, in parts of a million; zero is off.
    pub rate_ppm: u32,
    /// How often it may strike in one world.
    pub bound: u64,
    /// If set, it strikes only paths that contain this text.
    pub only: Option<String>,
}

impl Knob {
    /// Strikes with these odds, at most `bound` times.
    pub fn new(rate_ppm: u32, bound: u64) -> Self {
        Self {
            rate_ppm,
            bound,
            only: None,
        }
    }

    /// Strikes only paths that contain `text`.
    #[must_use]
    pub fn only(mut self, text: &str) -> Self {
        self.only = Some(text.to_owned());
        self
    }
}

/// The size of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What fits; see [`super::Image::used_bytes`].
    pub capacity_bytes: u64,
    /// The virtual time from which there is no limit any more.
    pub returns_at: Option<Duration>,
}

/// The faults of one world; by default none.
#[derive(Debug, Clone, Default)]
pub struct FaultConfig {
    knobs: [Knob; Fault::COUNT],
    /// The size of the disk; without it there is no limit.
    pub space: Option<Space>,
}

impl FaultConfig {
    /// Sets one knob.
    #[must_use]
    pub fn with(mut self, fault: Fault, knob: Knob) -> Self {
        self.knobs[fault.index()] = knob;
        self
    }

    /// Switches one fault off.
    #[must_use]
    pub fn without(self, fault: Fault) -> Self {
        self.with(fault, Knob::default())
    }

    /// Sets the size of the disk.
    #[must_use]
    pub fn with_space(mut self, space: Space) -> Self {
        self.space = Some(space);
        self
    }

    /// The knob of one fault.
    pub fn knob(&self, fault: Fault) -> &Knob {
        &self.knobs[fault.index()]
    }

    /// Switches on a random third of the faults, each with its own random rate and bound: a run
    /// with all of them at once would never get far enough to meet the interesting ones.
    pub fn swarm(rng: &mut Rng) -> Self {
        let mut config = Self::default();
        for knob in &mut config.knobs {
            // Drawn for all, so that one fault's choice does not move the next one's.
            let on = rng.below(3) == 0;
            let rate_ppm = rng.pick(&[300, 1_000, 3_000, 10_000, 30_000]);
            let bound = 1 + rng.below(8);
            if on {
                *knob = Knob::new(rate_ppm, bound);
            }
        }
        config
    }
}

/// A fault at one call: the `nth` one, from zero, of a kind on paths that contain a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The kind of call.
    pub op: IoOp,
    /// What the path must contain; empty matches all.
    pub path: String,
    /// Which of the matching calls, counted from zero, fails.
    pub nth: u64,
    /// What it fails with. A write leaves any part applied; a sync may lose what it should have
    /// saved.
    pub error: IoErrorKind,
}

/// A call that a script made fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// The kind of call.
    pub op: IoOp,
    /// The file or directory.
    pub path: PathBuf,
    /// First byte and byte count, for reads and writes.
    pub range: Option<(u64, usize)>,
    /// When it failed.
    pub at: Duration,
}

/// Strikes that are remembered: the first ones say what went wrong, and a program that tries again
/// for hours must not fill the memory.
const STRIKES_KEPT: usize = 1 << 10;

/// A script under way.
#[derive(Debug)]
struct Running {
    script: Script,
    /// Matching calls so far.
    seen: u64,
    /// Whether the calls after the `nth` fail as well.
    lasting: bool,
}

/// One damage done on purpose, or one operation that was made to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What did it.
    pub fault: Fault,
    /// The file as it was named then.
    pub path: PathBuf,
    /// The first byte that is not what was written.
    pub offset: u64,
    /// How many bytes may differ.
    pub len: u64,
    /// When it happened.
    pub at: Duration,
    /// False once the place was written again, and for what never was on the disk. A crash sets it
    /// again when it may have undone that.
    pub live: bool,
    /// The file, which may be renamed later.
    pub(super) node: NodeId,
    /// Whether nothing can bring it back: what covers it is durable, or its file is gone.
    pub(super) buried: bool,
    /// Whether a crash has taken what a sync should have saved: no later sync mends that.
    pub(super) taken: bool,
}

impl Damage {
    /// The damage is covered for good.
    pub(super) fn bury(&mut self) {
        self.live = false;
        self.buried = true;
    }
}

/// The chances and counts of a running world.
#[derive(Debug)]
pub(super) struct Faults {
    pub(super) config: FaultConfig,
    streams: Vec<Rng>,
    fired: [u64; Fault::COUNT],
    scripts: Vec<Running>,
    strikes: Vec<Strike>,
}

impl Faults {
    /// `purpose` is the first of as many stream numbers as there are faults.
    pub(super) fn new(seed: u64, purpose: u64, config: FaultConfig) -> Self {
        let stream = |fault: &Fault| Rng::stream(seed, purpose + *fault as u64);
        Self {
            config,
            streams: Fault::ALL.iter().map(stream).collect(),
            fired: [0; Fault::COUNT],
            scripts: Vec::new(),
            strikes: Vec::new(),
        }
    }

    /// True when a fault is to strike here; the caller calls [`Faults::fire`] when it did.
    #[inline]
    pub(super) fn draw(&mut self, fault: Fault, path: &Path) -> bool {
        self.is_due(fault) && self.allows(fault, path) && self.chance(fault)
    }

    /// As [`Faults::draw`], for a fault that chooses its own victim: ask [`Faults::allows`] then.
    #[inline]
    pub(super) fn draw_anywhere(&mut self, fault: Fault) -> bool {
        self.is_due(fault) && self.chance(fault)
    }

    /// True when the fault may strike this path.
    pub(super) fn allows(&self, fault: Fault, path: &Path) -> bool {
        let only = self.config.knobs[fault.index()].only.as_deref();
        only.is_none_or(|text| path.to_string_lossy().contains(text))
    }

    fn is_due(&self, fault: Fault) -> bool {
        let knob = &self.config.knobs[fault.index()];
        knob.rate_ppm > 0 && self.fired[fault.index()] < knob.bound
    }

    fn chance(&mut self, fault: Fault) -> bool {
        self.streams[fault.index()].chance(self.config.knobs[fault.index()].rate_ppm)
    }

    /// As [`Faults::draw`], for a fault that cannot fail to strike.
    pub(super) fn strike(&mut self, fault: Fault, path: &Path) -> bool {
        let strikes = self.draw(fault, path);
        if strikes {
            self.fire(fault);
        }
        strikes
    }

    pub(super) fn fire(&mut self, fault: Fault) {
        self.fired[fault.index()] += 1;
    }

    /// The stream of one fault, for where and how it strikes.
    pub(super) fn rng(&mut self, fault: Fault) -> &mut Rng {
        &mut self.streams[fault.index()]
    }

    pub(super) fn is_on(&self, fault: Fault) -> bool {
        self.config.knob(fault).rate_ppm > 0
    }

    /// How often each fault struck; faults that did not are left out.
    pub(super) fn fired(&self) -> Vec<(Fault, u64)> {
        let counts = Fault::ALL.into_iter().zip(self.fired);
        counts.filter(|&(_, count)| count > 0).collect()
    }

    pub(super) fn add_script(&mut self, script: Script, lasting: bool) {
        self.scripts.push(Running {
            script,
            seen: 0,
            lasting,
        });
    }

    pub(super) fn clear_scripts(&mut self) {
        self.scripts.clear();
    }

    /// The first calls that scripts made fail.
    pub(super) fn strikes(&self) -> &[Strike] {
        &self.strikes
    }

    /// Counts a call for every script that it matches and returns the error of one whose turn it
    /// is.
    pub(super) fn scripted(
        &mut self,
        op: IoOp,
        path: &Path,
        range: Option<(u64, usize)>,
        now: u64,
    ) -> Option<IoErrorKind> {
        if self.scripts.is_empty() {
            return None;
        }
        let text = path.to_string_lossy();
        let mut error = None;
        for running in &mut self.scripts {
            let script = &running.script;
            if script.op == op && text.contains(script.path.as_str()) {
                if running.seen == script.nth || running.lasting && running.seen > script.nth {
                    error = Some(script.error.clone());
                }
                running.seen += 1;
            }
        }
        if error.is_some() {
            self.fire(Fault::Scripted);
            if self.strikes.len() < STRIKES_KEPT {
                self.strikes.push(Strike {
                    op,
                    path: path.to_path_buf(),
                    range,
                    at: Duration::from_nanos(now),
                });
            }
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_stops_at_its_bound_and_keeps_to_its_paths() {
        let knob = Knob::new(super::super::rng::PPM, 2).only("tree");
        let config = FaultConfig::default().with(Fault::ReadError, knob);
        let mut faults = Faults::new(1, 0, config);
        assert!(!faults.strike(Fault::ReadError, Path::new("wal")));
        let struck = (0..5).filter(|_| faults.strike(Fault::ReadError, Path::new("a/tree")));
        assert_eq!(struck.count(), 2);
        assert_eq!(faults.fired(), [(Fault::ReadError, 2)]);
    }

    #[test]
    fn one_fault_switched_on_leaves_the_draws_of_another() {
        let drawn = |config: FaultConfig| -> Vec<bool> {
            let mut faults = Faults::new(9, 0, config);
            let mut drawn = Vec::new();
            for _ in 0..64 {
                faults.strike(Fault::BitRot, Path::new("a"));
                drawn.push(faults.strike(Fault::ReadError, Path::new("a")));
            }
            drawn
        };
        let one = FaultConfig::default().with(Fault::ReadError, Knob::new(500_000, 64));
        let two = one.clone().with(Fault::BitRot, Knob::new(500_000, 64));
        assert_eq!(drawn(one), drawn(two));
    }

    #[test]
    fn swarms_differ_and_switch_on_some_faults_only() {
        let on = |seed| {
            let config = FaultConfig::swarm(&mut Rng::new(seed));
            Fault::ALL.map(|fault| config.knob(fault).rate_ppm > 0)
        };
        assert_ne!(on(1), on(2));
        let every: Vec<_> = (0..100).map(on).collect();
        for fault in Fault::ALL {
            assert!(every.iter().any(|on| on[fault.index()]));
            assert!(every.iter().any(|on| !on[fault.index()]));
        }
    }
}
