//! Figures that are counted in seeds with all faults.

#![expect(
    clippy::disallowed_types,
    reason = "how far it is is told every few seconds, and is nothing that is simulated"
)]

use std::ops::{AddAssign, Range};
use std::time::{Duration, Instant};

use super::Settings;
use super::part::{Part, Required};
use super::table::{Row, Stopwatch, Table, grouped};
use crate::faults::FaultSet;
use crate::report::{Figures, Violation};
use crate::sweep::jobs;
use crate::{Options, run};

/// Seeds that run before the counts are looked at.
const PORTION: u64 = 500;

/// Portions, as a multiple of the required seeds, after which a count that is still too low counts
/// as not reached.
const PATIENCE: u64 = 10;

/// How often to say how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// Tells now and then how far it is.
pub(super) struct Progress<'a> {
    tell: &'a mut dyn FnMut(&str),
    told: Instant,
}

impl<'a> Progress<'a> {
    pub(super) fn new(tell: &'a mut dyn FnMut(&str)) -> Self {
        Self {
            tell,
            told: Instant::now(),
        }
    }

    pub(super) fn tell(&mut self, text: impl FnOnce() -> String) {
        if self.told.elapsed() >= PROGRESS_INTERVAL {
            self.told = Instant::now();
            (self.tell)(&text());
        }
    }
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

fn all_faults() -> Options {
    Options {
        faults: FaultSet::all(),
        ..Options::default()
    }
}

/// Runs seeds until every count is reached.
pub(super) fn simulate(settings: &Settings, table: &mut Table, progress: &mut dyn FnMut(&str)) {
    let required = Required::of(settings.long);
    let (first, options) = (settings.first_seed, all_faults());
    let (watch, mut progress) = (Stopwatch::start(), Progress::new(progress));
    let (mut figures, mut violations, mut done) = (Figures::default(), 0, 0);
    let mut rows = Vec::new();
    while done < required.seeds * PATIENCE {
        let seeds = first + done..first + done + PORTION;
        let (more, found) = run_seeds(&seeds, &options, settings.jobs);
        done += PORTION;
        figures += &more;
        violations += found.len();
        for violation in &found {
            table.violate(violation.to_string());
        }
        rows = count(&figures, required, &(first..first + done), &watch);
        let open = rows.iter().filter(|row| !row.is_reached()).count();
        progress.tell(|| {
            format!("{done} seeds, {violations} violations, {open} counts not reached yet")
        });
        if open == 0 {
            break;
        }
    }
    table.rows.append(&mut rows);
    table.figures = Some(figures);
}

/// The rows that are counted in the seeds.
fn count(
    figures: &Figures,
    required: &Required,
    seeds: &Range<u64>,
    watch: &Stopwatch,
) -> Vec<Row> {
    let rows = [
        (
            Part::Seeds.what(),
            required.seeds,
            figures.runs,
            format!("seeds {}..{}", seeds.start, seeds.end),
        ),
        (
            "crash images recovered, exact contents",
            required.crash_images,
            figures.crash_images,
            format!("images; {} values compared", grouped(figures.reads)),
        ),
        (
            "nested crashes, two deep",
            required.nested,
            figures.nested_twice,
            format!("crashes; {} one deep", grouped(figures.nested_crashes)),
        ),
        (
            "nested crashes, three deep",
            required.nested,
            figures.nested_thrice,
            "crashes".to_owned(),
        ),
        (
            "shard tails cut independently",
            required.tails,
            figures.tails_cut,
            format!(
                "tails in {} power failures that cut several",
                grouped(figures.cuts_combined)
            ),
        ),
    ];
    let row = |(what, required, reached, note): (&str, u64, u64, String)| Row {
        what: what.to_owned(),
        required,
        reached,
        note,
        took: watch.elapsed(),
    };
    rows.into_iter().map(row).collect()
}

/// Runs seeds twice: the same I/O, messages and turns, which the hash covers, and the same figures.
pub(super) fn repeat(settings: &Settings, table: &mut Table) {
    let watch = Stopwatch::start();
    let required = Required::of(settings.long).repeated;
    let (first, options) = (settings.first_seed, all_faults());
    let twice = |(): &mut (), number: u64, differing: &mut Differing| {
        let seed = first + number;
        let (once, again) = (run(seed, &options), run(seed, &options));
        if once.hash != again.hash || once.figures != again.figures {
            differing.0.push(seed);
        }
    };
    let mut differing: Differing = jobs::run(settings.jobs, required, || (), twice);
    differing.0.sort_unstable();
    let same = required - lightning_io::to_u64(differing.0.len());
    for seed in differing.0 {
        table.violate(format!("seed {seed} does not do the same twice"));
    }
    table.rows.push(Row {
        what: Part::Twice.what().to_owned(),
        required,
        reached: same,
        note: format!("seeds {first}..{}", first + required),
        took: watch.elapsed(),
    });
}

/// Seeds that did not do the same twice.
#[derive(Debug, Default)]
struct Differing(Vec<u64>);

impl AddAssign<&Self> for Differing {
    fn add_assign(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_come_to_the_same_on_any_number_of_threads() {
        let options = all_faults();
        let one = run_seeds(&(0..6), &options, 1);
        assert_eq!(run_seeds(&(0..6), &options, 3), one);
        assert_eq!(one.0.runs, 6);
    }
}
