//! What a seed decides before anything runs: the size of everything, and what goes wrong when.

use std::time::Duration;

use lightning_io::sim::{
    CrashModel, CrashPoint, FaultConfig, Image, Pending, Rng, SimConfig, Space,
};
use lightning_io::to_usize;
use lightning_shards::{Compression, ShardConfig};

use crate::faults::{FaultSet, Swarm};
use crate::keys::KeyShape;

/// What each stream of chance of a run is for; the world has its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    /// The plan.
    Plan = 1_000,
    /// The keys.
    Keys,
    /// The course of the run: crash points, what is repeated.
    Course,
    /// Seeds of worlds.
    Worlds,
    /// Which faults the run has.
    Faults,
    /// How much space each world has.
    Space,
    /// One stream a client from here on.
    Clients,
}

impl Purpose {
    /// The stream of this purpose.
    pub(crate) fn stream(self, seed: u64) -> Rng {
        Rng::stream(seed, self as u64)
    }
}

/// Bounds on what a seed may draw: how a failing run is made smaller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The most shards.
    pub shards_max: usize,
    /// The most clients at once.
    pub clients_max: usize,
    /// The most operations of one client in one generation.
    pub operations_max: u64,
    /// The most generations.
    pub generations_max: usize,
    /// Which faults may strike.
    pub faults: FaultSet,
    /// How often each strikes, in parts of a hundred of what the seed drew.
    pub rate_percent: u32,
    /// The most strikes of one fault in one world.
    pub strikes_max: u64,
    /// How many of the last events to keep for a report.
    pub trace_last: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shards_max: 8,
            clients_max: 6,
            operations_max: 90,
            generations_max: 6,
            faults: FaultSet::none(),
            rate_percent: 100,
            strikes_max: u64::MAX,
            trace_last: 0,
        }
    }
}

/// How callers behave, in parts of a hundred.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    /// Writes that are durable when answered.
    pub sync: u64,
    /// Operations whose future is dropped before it is done.
    pub dropped: u64,
    /// Operations on the few hot keys.
    pub hot: u64,
    /// Of single writes, those that delete.
    pub deletes: u64,
    /// Whether values of more than 4 KiB are among them.
    pub big: bool,
    /// Scans whose caller takes its time, page after page, while others write and flush.
    pub slow_scans: u64,
    /// Whether there are long pauses, in which timers fire.
    pub pauses: bool,
}

/// The plan of one run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The seed.
    pub seed: u64,
    /// The number of shards.
    pub shards: usize,
    /// Messages that a queue of the mesh holds.
    pub slots: usize,
    /// The keys.
    pub keys: KeyShape,
    /// The callers.
    pub habits: Habits,
    /// Lives of the process.
    pub generations: usize,
    /// Clients at once.
    pub clients: usize,
    /// Operations of one client in one generation.
    pub operations: u64,
    /// What a crash does.
    pub crash: CrashModel,
    /// What else goes wrong.
    pub swarm: Swarm,
    /// What each shard holds back for a full disk, most times that the database is opened.
    pub reserve_bytes: u64,
    io_latency: Duration,
}

const KIB: usize = 1 << 10;

impl Plan {
    /// Draws the plan of a seed.
    pub(crate) fn draw(seed: u64, options: &Options) -> Self {
        let rng = &mut Purpose::Plan.stream(seed);
        let shards = rng.pick(&[1, 2, 2, 3, 3, 4, 5, 8]).min(options.shards_max);
        let long = rng.below(3) > 0;
        let count = rng.pick(&[6, 20, 60, 60, 150, 400]);
        let keys = KeyShape {
            count,
            long,
            giant: long && rng.below(8) == 0,
        };
        let habits = Habits {
            sync: rng.pick(&[0, 20, 50, 50, 80, 100]),
            dropped: rng.pick(&[0, 2, 10, 30]),
            hot: rng.pick(&[0, 30, 70]),
            deletes: rng.pick(&[5, 20, 40]),
            big: rng.below(3) > 0,
            slow_scans: rng.pick(&[5, 20, 20, 60]),
            pauses: rng.coin(),
        };
        let crash = match rng.below(8) {
            0 => CrashModel::NOTHING_SURVIVES,
            1 => CrashModel::EVERYTHING_SURVIVES,
            _ => CrashModel::default(),
        };
        let swarm = Swarm::draw(
            &options.faults,
            options.rate_percent,
            options.strikes_max,
            &mut Purpose::Faults.stream(seed),
        );
        Self {
            seed,
            shards,
            swarm,
            slots: rng.pick(&[2, 8, 64, 64, 1024]),
            keys,
            habits,
            generations: (3 + rng.index(4)).min(options.generations_max),
            clients: (1 + rng.index(6)).min(options.clients_max),
            operations: (10 + rng.below(80)).min(options.operations_max),
            crash,
            io_latency: rng.pick(&[
                Duration::from_micros(1),
                Duration::from_micros(40),
                Duration::from_micros(40),
                Duration::from_millis(2),
            ]),
            reserve_bytes: draw_reserve_bytes(rng),
        }
    }

    /// The settings of the shards; they may differ each time that the database is opened.
    pub(crate) fn shard_config(rng: &mut Rng) -> ShardConfig {
        let memory_bytes = rng.pick(&[256 * KIB, 256 * KIB, 300 * KIB, 1_024 * KIB, 16_384 * KIB]);
        let page_bytes = rng.pick(&[4 * KIB, 4 * KIB, 8 * KIB, 16 * KIB, 64 * KIB]);
        let first = rng.pick(&[12 * KIB, 12 * KIB, 16 * KIB, 64 * KIB, 1_024 * KIB]);
        let growth = rng.pick(&[1, 1, 2, 16]);
        let mut config = ShardConfig {
            memory_bytes,
            page_bytes,
            segment_bytes_first: lightning_io::to_u64(first),
            segment_bytes_max: lightning_io::to_u64(first * growth),
            relaxed_interval: rng.pick(&[
                Duration::from_micros(200),
                Duration::from_millis(5),
                Duration::from_millis(50),
            ]),
            mark_interval: rng.pick(&[Duration::from_micros(100), Duration::from_millis(10)]),
            compression: Compression::None,
            runs: 0,
            reserve_bytes: draw_reserve_bytes(rng),
        };
        config.compression = rng.pick(&[
            Compression::None,
            Compression::Lz4,
            Compression::Zstd { level: 1 },
            Compression::Snappy,
            Compression::Adaptive,
            Compression::Adaptive,
        ]);
        config.runs = rng.pick(&[0, 2, 2, 2, 3, 8]);
        config
    }

    /// The settings of a world.
    pub(crate) fn world(
        &self,
        options: &Options,
        faulty: bool,
        image: Option<&Image>,
        rng: &mut Rng,
    ) -> SimConfig {
        let free = rng.below(1 << self.swarm.space_bits.unwrap_or_default());
        let returns_at = Duration::from_micros(log_uniform(rng, SPACE_RETURNS_BITS));
        let mut faults = self.swarm.config();
        if self.swarm.space_bits.is_some() {
            faults = faults.with_space(Space {
                capacity_bytes: image.map_or(0, Image::used_bytes) + free,
                returns_at: Some(returns_at),
            });
        }
        SimConfig {
            crash: self.crash,
            io_latency: self.io_latency,
            faults: if faulty {
                faults
            } else {
                FaultConfig::default()
            },
            trace_last: options.trace_last,
            // A run of this size takes some ten thousand.
            polls_max: 2_000_000,
            ..SimConfig::default()
        }
    }

    /// Whether a crash may tear a write.
    pub(crate) fn tears(&self) -> bool {
        self.crash.torn_ppm != Some(0)
    }

    /// Whether a crash may lose anything.
    pub(crate) fn loses(&self) -> bool {
        self.crash != CrashModel::EVERYTHING_SURVIVES
    }

    /// Draws where a life ends; `None` is when its work is done.
    pub(crate) fn crash_point(rng: &mut Rng) -> Option<CrashPoint> {
        match rng.below(18) {
            0..2 => Some(CrashPoint::AfterIos(log_uniform(rng, 12))),
            2..6 => Some(CrashPoint::DuringWrite(log_uniform(rng, 8))),
            6..10 => Some(CrashPoint::AfterPending(
                Pending::Write,
                log_uniform(rng, 5),
            )),
            10..13 => Some(CrashPoint::AfterPending(
                Pending::Length,
                log_uniform(rng, 3),
            )),
            13 => Some(CrashPoint::AfterPending(
                Pending::Entry,
                log_uniform(rng, 5),
            )),
            14 => Some(CrashPoint::AfterPolls(log_uniform(rng, 15))),
            15 => {
                let micros = log_uniform(rng, 18);
                Some(CrashPoint::AtTime(Duration::from_micros(micros)))
            }
            _ => None,
        }
    }
}

fn draw_reserve_bytes(rng: &mut Rng) -> u64 {
    lightning_io::to_u64(rng.pick(&[0, 64 * KIB, 64 * KIB, 256 * KIB, 2_048 * KIB]))
}

/// Space comes back after up to two seconds: some writes come before, and some after.
const SPACE_RETURNS_BITS: u64 = 20;

/// A number from 1 on whose order of magnitude is uniform.
pub(crate) fn log_uniform(rng: &mut Rng, bits: u64) -> u64 {
    let scale = 1 << rng.below(bits);
    scale + rng.below(scale)
}

/// A number of the given order that few draws exceed.
pub(crate) fn small(rng: &mut Rng, bound: usize) -> usize {
    to_usize(log_uniform(rng, 64 - u64::from(bound.leading_zeros()))).min(bound)
}
