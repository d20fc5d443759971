//! The figures of the project that the simulation brings: each with what is required beside what was
//! reached, in one table.
//!
//! # Algorithm
//! 1. Seeds run with all faults, in portions, until the required number is reached and every count
//!    of what happened in them is as high as it has to be.
//! 2. Some of these seeds run twice, and have to do the same.
//! 3. The sweeps run.
//!
//! A seed depends on its number alone, and a portion counts whole, so the table depends on neither
//! the number of threads nor their luck.

#![expect(
    clippy::disallowed_types,
    reason = "how long it took is part of the report, and of nothing that is simulated"
)]

use std::fmt;
use std::ops::{AddAssign, Range};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::faults::FaultSet;
use crate::report::{Activation, FIRED_PERCENT_MIN, Figures, Violation};
use crate::sweep::{Extent, jobs, sweep_bytes, sweep_calls, sweep_swaps, sweep_syncs};
use crate::{Options, run};

/// What the table is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Whether to run for hours.
    pub long: bool,
    /// Threads.
    pub jobs: usize,
    /// The first seed.
    pub first_seed: u64,
}

/// What has to be reached.
#[derive(Debug, Clone, Copy)]
struct Required {
    seeds: u64,
    crash_images: u64,
    nested: u64,
    tails: u64,
    repeated: u64,
    bytes: Extent,
    swaps: u64,
    calls: Extent,
}

const SHORT: Required = Required {
    seeds: 2_000,
    crash_images: 20_000,
    nested: 2_000,
    tails: 2_000,
    repeated: 100,
    bytes: Extent::Sampled(200_000),
    swaps: 10_000,
    calls: Extent::Sampled(10_000),
};

const LONG: Required = Required {
    seeds: 100_000,
    crash_images: 1_000_000,
    nested: 100_000,
    tails: 100_000,
    repeated: 5_000,
    bytes: Extent::Whole,
    swaps: 1_000_000,
    calls: Extent::Whole,
};

/// Seeds that run before the counts are looked at.
const PORTION: u64 = 500;

/// Portions, as a multiple of the required seeds, after which a count that is still too low counts
/// as not reached.
const PATIENCE: u64 = 10;

/// How often to say how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// Violations that are told one by one; all are counted.
const VIOLATIONS_TOLD: usize = 20;

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What is counted.
    pub what: String,
    /// How much is required.
    pub required: u64,
    /// How much there was.
    pub reached: u64,
    /// What else there is to say.
    pub note: String,
}

/// The table.
#[derive(Debug, Default)]
pub struct Table {
    /// The seeds that ran.
    pub seeds: Range<u64>,
    /// Counts.
    pub rows: Vec<Row>,
    /// What the seeds came to.
    pub figures: Figures,
    /// What must never happen, and did: the first of it.
    pub violations: Vec<String>,
    /// How much of that there was.
    pub violation_count: u64,
    took: Duration,
}

/// What some seeds came to.
#[derive(Debug, Default)]
struct Portion {
    figures: Figures,
    violations: Vec<Violation>,
}

impl AddAssign<&Self> for Portion {
    fn add_assign(&mut self, other: &Self) {
        self.figures += &other.figures;
        self.violations.extend_from_slice(&other.violations);
    }
}

/// Runs seeds on several threads; the violations come in the order of the seeds.
pub fn run_seeds(seeds: &Range<u64>, options: &Options, jobs: usize) -> (Figures, Vec<Violation>) {
    let count = seeds.end.saturating_sub(seeds.start);
    let one = |(): &mut (), number: u64, portion: &mut Portion| {
        let outcome = run(seeds.start + number, options);
        portion.figures += &outcome.figures;
        portion.violations.extend(outcome.violation);
    };
    let Portion {
        figures,
        mut violations,
    } = jobs::run(jobs, count, || (), one);
    violations.sort_by_key(|violation| violation.seed);
    (figures, violations)
}

/// Fills the table; `progress` is told every few seconds how far it is.
pub fn measure(settings: Settings, progress: &mut dyn FnMut(&str)) -> Table {
    let began = Instant::now();
    let required = if settings.long { LONG } else { SHORT };
    let mut table = Table::default();
    simulate(settings, &required, &mut table, progress);
    repeat(settings, &required, &mut table, progress);
    sweep(settings, &required, &mut table, progress);
    table.took = began.elapsed();
    table
}

fn all_faults() -> Options {
    Options {
        faults: FaultSet::all(),
        ..Options::default()
    }
}

/// Runs seeds until every count is reached.
fn simulate(
    settings: Settings,
    required: &Required,
    table: &mut Table,
    progress: &mut dyn FnMut(&str),
) {
    let (first, options) = (settings.first_seed, all_faults());
    let mut told = Instant::now();
    let mut done = 0;
    while done < required.seeds * PATIENCE {
        let seeds = first + done..first + done + PORTION;
        let (figures, violations) = run_seeds(&seeds, &options, settings.jobs);
        done += PORTION;
        table.figures += &figures;
        for violation in &violations {
            table.violate(violation.to_string());
        }
        table.rows = count(&table.figures, required, table.violation_count);
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            let open = table.rows.iter().filter(|row| !row.is_reached()).count();
            progress(&format!("{done} seeds, {open} counts not reached yet"));
        }
        if table.rows.iter().all(Row::is_reached) {
            break;
        }
    }
    table.seeds = first..first + done;
}

/// The rows that are counted in the seeds.
fn count(figures: &Figures, required: &Required, violations: u64) -> Vec<Row> {
    let cuts = format!(
        "in {} power failures that found several shards with something pending",
        grouped(figures.cuts_combined)
    );
    let row = |what: &str, required, reached, note: String| Row {
        what: what.to_owned(),
        required,
        reached,
        note,
    };
    vec![
        row(
            "seeds with all faults",
            required.seeds,
            figures.runs,
            format!("{violations} violations"),
        ),
        row(
            "crash images recovered, contents exact",
            required.crash_images,
            figures.crash_images,
            format!("{} values compared", grouped(figures.reads)),
        ),
        row(
            "crashes in recovery, two deep",
            required.nested,
            figures.nested_twice,
            format!("{} one deep", grouped(figures.nested_crashes)),
        ),
        row(
            "crashes in recovery, three deep",
            required.nested,
            figures.nested_thrice,
            String::new(),
        ),
        row(
            "shard tails cut independently",
            required.tails,
            figures.tails_cut,
            cuts,
        ),
    ]
}

/// Runs seeds twice: the same I/O, messages and turns, which the hash covers, and the same figures.
fn repeat(
    settings: Settings,
    required: &Required,
    table: &mut Table,
    progress: &mut dyn FnMut(&str),
) {
    progress("running seeds twice");
    let options = all_faults();
    let twice = |(): &mut (), number: u64, differing: &mut Differing| {
        let seed = settings.first_seed + number;
        let (first, second) = (run(seed, &options), run(seed, &options));
        if first.hash != second.hash || first.figures != second.figures {
            differing.0.push(seed);
        }
    };
    let mut differing: Differing = jobs::run(settings.jobs, required.repeated, || (), twice);
    differing.0.sort_unstable();
    let same = required.repeated - lightning_io::to_u64(differing.0.len());
    table.rows.push(Row {
        what: "seeds run twice, the same hash".to_owned(),
        required: required.repeated,
        reached: same,
        note: "over I/O, messages and turns of tasks".to_owned(),
    });
    for seed in differing.0 {
        table.violate(format!("seed {seed} does not do the same twice"));
    }
}

/// Seeds that did not do the same twice.
#[derive(Debug, Default)]
struct Differing(Vec<u64>);

impl AddAssign<&Self> for Differing {
    fn add_assign(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }
}

/// The sweeps: one row each.
fn sweep(
    settings: Settings,
    required: &Required,
    table: &mut Table,
    progress: &mut dyn FnMut(&str),
) {
    let (seed, jobs) = (settings.first_seed, settings.jobs);
    progress("sweep: every sync and every log write fails");
    let syncs = sweep_syncs(seed, Extent::Whole, jobs);
    let found = syncs.map(|found| (found.cases, found.violation_count, found.violations));
    table.sweep("failed syncs and log writes", 1, found);

    progress("sweep: every call fails");
    let calls = sweep_calls(seed, required.calls, jobs);
    let found = calls.map(|found| (found.cases, found.violation_count, found.violations));
    table.sweep("calls that failed", least(required.calls), found);

    progress("sweep: every byte is damaged");
    let bytes = sweep_bytes(seed, required.bytes, jobs);
    let found = bytes.map(|found| (found.cases, found.violation_count, found.violations));
    table.sweep("bytes damaged", least(required.bytes), found);

    progress("sweep: blocks are replaced by others");
    let swaps = sweep_swaps(seed, required.swaps, jobs);
    let found = swaps.map(|found| (found.cases, found.violation_count, found.violations));
    table.sweep(
        "pages, values, records and blocks swapped",
        required.swaps / 2,
        found,
    );
}

/// What a sweep has to reach at least: a sample is spread over what there is, and a little of it is
/// lost in that.
fn least(extent: Extent) -> u64 {
    match extent {
        Extent::Sampled(cases) => cases / 2,
        Extent::Whole => 1,
    }
}

impl Row {
    /// Whether it is as much as required.
    pub fn is_reached(&self) -> bool {
        self.reached >= self.required
    }
}

impl Table {
    fn violate(&mut self, what: String) {
        self.violation_count += 1;
        if self.violations.len() < VIOLATIONS_TOLD {
            self.violations.push(what);
        }
    }

    fn sweep(&mut self, what: &str, required: u64, found: Result<(u64, u64, Vec<String>), String>) {
        let (cases, count, violations) = match found {
            Ok(found) => found,
            Err(error) => (0, 1, vec![error]),
        };
        self.rows.push(Row {
            what: format!("sweep: {what}"),
            required,
            reached: cases,
            note: format!("{count} violations"),
        });
        self.violation_count += count;
        let room = VIOLATIONS_TOLD.saturating_sub(self.violations.len());
        let told = violations.into_iter().take(room);
        self.violations
            .extend(told.map(|told| format!("sweep: {what}: {told}")));
    }

    /// Whether every row is reached, every fault strikes, and nothing was violated.
    pub fn is_proof(&self) -> bool {
        self.violation_count == 0
            && self.rows.iter().all(Row::is_reached)
            && self.figures.idle().next().is_none()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { start, end } = self.seeds;
        let (commit, seconds) = (commit(), self.took.as_secs());
        writeln!(f, "commit {commit}, seeds {start}..{end}, {seconds} s\n")?;
        writeln!(
            f,
            "| what | required | reached | | |\n|---|---:|---:|---|---|"
        )?;
        for row in &self.rows {
            let mark = if row.is_reached() { "yes" } else { "NO" };
            writeln!(
                f,
                "| {} | {} | {} | {mark} | {} |",
                row.what,
                grouped(row.required),
                grouped(row.reached),
                row.note
            )?;
        }
        let least = FIRED_PERCENT_MIN;
        writeln!(
            f,
            "\n| fault | seeds that have it | of these, it struck in | share, {least} % required | | strikes |\n\
             |---|---:|---:|---:|---|---:|"
        )?;
        for (hazard, met) in &self.figures.hazards {
            let Activation {
                enabled,
                fired,
                strikes,
            } = *met;
            writeln!(
                f,
                "| {hazard} | {} | {} | {} % | {} | {} |",
                grouped(enabled),
                grouped(fired),
                met.percent(),
                if met.is_idle() { "NO" } else { "yes" },
                grouped(strikes)
            )?;
        }
        writeln!(f, "\n{} violations", self.violation_count)?;
        for violation in &self.violations {
            writeln!(f, "VIOLATION {violation}")?;
        }
        Ok(())
    }
}

/// The commit that was built, if git tells.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else {
        return "unknown".to_owned();
    };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit} with changes"),
    }
}

/// A number with its digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Hazard;

    fn table(reached: u64, violation_count: u64, fired: u64) -> Table {
        let mut table = Table {
            violation_count,
            rows: vec![Row {
                what: "seeds".to_owned(),
                required: 10,
                reached,
                note: String::new(),
            }],
            ..Table::default()
        };
        for seed in 0..200 {
            let strikes = u64::from(seed < fired);
            table.figures.note_hazard(Hazard::TornWrite, strikes);
        }
        table
    }

    #[test]
    fn a_row_that_is_not_reached_a_violation_and_an_idle_fault_are_no_proof() {
        assert!(table(10, 0, 80).is_proof());
        assert!(!table(9, 0, 80).is_proof());
        assert!(!table(10, 1, 80).is_proof());
        assert!(!table(10, 0, 79).is_proof());
    }

    #[test]
    fn seeds_come_to_the_same_on_any_number_of_threads() {
        let options = all_faults();
        let one = run_seeds(&(0..6), &options, 1);
        assert_eq!(run_seeds(&(0..6), &options, 3), one);
        assert_eq!(one.0.runs, 6);
    }

    #[test]
    fn digits_come_in_groups() {
        let texts = [0, 999, 1_000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }
}
