//! The faults beyond crashes: which a run may have, and which stay off until the engine answers
//! them.

use lightning_io::sim::{Fault, FaultConfig, Knob, Rng};

/// Faults that `all` leaves out, with the reason. Naming one switches it on all the same.
pub const LEFT_OUT: [(Fault, &str); 0] = [];

/// The names of the table of faults, and what each stands for.
const NAMES: [(&str, &[Fault]); 11] = [
    ("F5", &[Fault::BitRot]),
    ("F6", &[Fault::MisdirectedWrite, Fault::MisdirectedRead]),
    ("F7", &[Fault::PhantomWrite, Fault::StaleRead]),
    ("F8", &[Fault::ReadError, Fault::StickyReadError]),
    ("F9", &[Fault::WriteError, Fault::StickyWriteError]),
    ("F10", &[Fault::DurableWriteError, Fault::SyncError]),
    ("F11", &[Fault::NoSpace]),
    ("F12", &[Fault::ShortRead, Fault::ShortWrite]),
    ("F13", &[Fault::LatencySpike, Fault::ShardStall]),
    ("F14", &[Fault::LyingSync]),
    ("F15", &[Fault::TaskStall]),
];

/// Faults that every run has without being asked: crashes (F1 to F4) and dropped futures (F19).
const ALWAYS_ON: [&str; 5] = ["F1", "F2", "F3", "F4", "F19"];

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
            match (numbered, named, name) {
                (Some((_, several)), _, _) => faults.extend_from_slice(several),
                (None, _, "F18") => faults.push(Fault::ClockJump),
                (None, Some(fault), _) if *fault != Fault::Scripted => faults.push(*fault),
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

    /// Draws the faults of one world: some of the set, each with a rate and a bound of its own.
    pub fn draw(&self, rng: &mut Rng) -> FaultConfig {
        let mut config = FaultConfig::default();
        for fault in self.iter() {
            // All are drawn for every fault, so that one choice does not move the next.
            let on = rng.below(3) == 0 || self.0.len() == 1;
            let rate_ppm = rng.pick(&[300, 1_000, 3_000, 10_000, 30_000]);
            let bound = 1 + rng.below(6);
            if on {
                config = config.with(fault, Knob::new(rate_ppm, bound));
            }
        }
        config
    }
}
