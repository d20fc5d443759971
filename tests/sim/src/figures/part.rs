//! The parts of the table, and how much of each is required.

use crate::sweep::Extent;

/// A part of the table, which can be asked for alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Seeds with all faults: what was violated, what was counted, and which faults struck.
    Seeds,
    /// Seeds that run twice.
    Twice,
    /// Every sync and every log write fails.
    Syncs,
    /// Every call fails in every way.
    Calls,
    /// Bytes are damaged.
    Bytes,
    /// Blocks are replaced by others.
    Swaps,
    /// Planted bugs are looked for.
    Planted,
    /// Hostile bytes are read.
    Fuzz,
}

/// How much is required.
#[derive(Debug, Clone, Copy)]
pub(super) struct Required {
    pub(super) seeds: u64,
    pub(super) crash_images: u64,
    pub(super) nested: u64,
    pub(super) tails: u64,
    pub(super) repeated: u64,
    /// Seeds of the program in which every call fails in turn.
    pub(super) programs: u64,
    pub(super) bytes: Extent,
    /// Of a sample, cases that change nothing are not counted: the byte was all zeros or ones.
    pub(super) bytes_least: u64,
    pub(super) swaps: u64,
    /// Of the draws, some find nothing to swap.
    pub(super) swaps_least: u64,
    pub(super) fuzz_seconds: u64,
}

const SHORT: Required = Required {
    seeds: 2_000,
    crash_images: 20_000,
    nested: 2_000,
    tails: 2_000,
    repeated: 100,
    programs: 1,
    bytes: Extent::Sampled(230_000),
    bytes_least: 200_000,
    swaps: 10_000,
    swaps_least: 5_000,
    fuzz_seconds: 60,
};

const LONG: Required = Required {
    seeds: 100_000,
    crash_images: 1_000_000,
    nested: 100_000,
    tails: 100_000,
    repeated: 5_000,
    programs: 100,
    bytes: Extent::Whole,
    bytes_least: 200_000,
    swaps: 100_000,
    swaps_least: 50_000,
    fuzz_seconds: 30 * 60,
};

impl Required {
    pub(super) fn of(long: bool) -> &'static Self {
        if long { &LONG } else { &SHORT }
    }
}

impl Part {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 8] = [
        Self::Seeds,
        Self::Twice,
        Self::Syncs,
        Self::Calls,
        Self::Bytes,
        Self::Swaps,
        Self::Planted,
        Self::Fuzz,
    ];

    /// How it is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seeds => "seeds",
            Self::Twice => "twice",
            Self::Syncs => "syncs",
            Self::Calls => "calls",
            Self::Bytes => "bytes",
            Self::Swaps => "swaps",
            Self::Planted => "planted",
            Self::Fuzz => "fuzz",
        }
    }

    /// The part of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }

    /// What is counted.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Seeds => "seeds with all faults, violations 0",
            Self::Twice => "seeds run twice, the same hash",
            Self::Syncs => "the n-th sync or log write fails, violations 0",
            Self::Calls => "EIO, no space, short I/O at the n-th call, violations 0",
            Self::Bytes => "bytes damaged, undetected 0",
            Self::Swaps => "pages, values, records, blocks swapped, undetected 0",
            Self::Planted => "planted bugs caught",
            Self::Fuzz => "seconds of fuzzing, crashes 0",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_found_by_its_name() {
        for part in Part::ALL {
            assert_eq!(Part::named(part.name()), Some(part));
        }
        assert_eq!(Part::named("all"), None);
    }
}
