//! Proof that the simulation notices what it claims to notice: every planted bug of the engine is
//! switched on by itself, and looked for.
//!
//! # Algorithm
//! 1. Each bug runs seed after seed until one violates, at most [`SEEDS_MAX`], with the faults that
//!    it needs to show at all: without a bit that rots, a checksum that is not compared harms
//!    nobody.
//! 2. A catch counts only if the same seed with the same faults is clean without the bug.
//! 3. For control, [`CONTROL_SEEDS`] seeds run without any bug, for every set of faults that was
//!    used. Without faults none may violate.
//!
//! Bugs are chosen by thread, so they are looked for on all cores at once.

use std::fmt;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use lightning_io::planted::{self, BUGS, Bug};

use crate::faults::FaultSet;
use crate::{Options, run};

/// Seeds that a bug has to be caught within.
pub const SEEDS_MAX: u64 = 1_000;

/// Seeds of the control, for each set of faults.
pub const CONTROL_SEEDS: u64 = 200;

/// How to build the program that can look for planted bugs, and run it.
pub const HOW: &str = "cargo planted";

/// Faults that a bug needs to show. All others show in crashes, kills and ordinary work.
const NEEDS: &[(&str, &str)] = &[
    ("discard_failed_flush", "F11"),
    ("ignore_blob_checksum", "F5"),
    ("ignore_page_checksum", "F5"),
    ("ignore_page_identity", "F6"),
    ("ignore_page_version", "F7"),
    ("ignore_wal_write_error", "F10"),
    ("puts_take_the_reserve", "F11"),
    ("reserve_kept", "F11"),
    ("reserve_not_refilled", "F11"),
    ("retry_failed_sync", "SyncError"),
    ("rot_is_torn_tail", "F5"),
    ("write_after_poison", "F10"),
];

/// The faults that every other bug is looked for with.
const CALM: &str = "none";

fn faults_for(bug: &str) -> &'static str {
    let need = NEEDS.iter().find(|need| need.0 == bug);
    need.map_or(CALM, |need| need.1)
}

/// What the search for one bug came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hunt {
    /// The bug.
    pub bug: Bug,
    /// The faults it was looked for with.
    pub faults: &'static str,
    /// Seeds that it took, the catching one included, and what that one saw.
    pub catch: Option<(u64, String)>,
    /// Seeds that also violate without the bug, and so say nothing.
    pub spoiled: u64,
    /// How often its site was reached in the last seed.
    pub reached: u64,
}

/// Seeds without a bug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// The faults.
    pub faults: &'static str,
    /// Those that violated, with what they saw.
    pub violations: Vec<String>,
}

/// What became of all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// One entry a bug.
    pub hunts: Vec<Hunt>,
    /// One entry for each set of faults.
    pub controls: Vec<Control>,
}

impl Report {
    /// How many bugs were caught.
    pub fn caught(&self) -> usize {
        self.seeds_to_catch().len()
    }

    /// The median of the seeds that a catch took; 0 when nothing was caught.
    pub fn median_seeds(&self) -> u64 {
        let mut seeds = self.seeds_to_catch();
        seeds.sort_unstable();
        seeds.get(seeds.len() / 2).copied().unwrap_or(0)
    }

    /// Whether every bug was caught, and nothing where there is no bug and no fault.
    pub fn is_proof(&self) -> bool {
        let calm = |control: &Control| control.faults != CALM || control.violations.is_empty();
        self.caught() == self.hunts.len() && self.controls.iter().all(calm)
    }

    fn seeds_to_catch(&self) -> Vec<u64> {
        let catches = self.hunts.iter().filter_map(|hunt| hunt.catch.as_ref());
        catches.map(|catch| catch.0).collect()
    }
}

/// Columns of a table's last cell.
const TEXT_CHARS: usize = 90;

/// A text as a cell of a Markdown table.
fn cell(text: &str) -> String {
    let text = text.replace('|', "/");
    if text.chars().count() <= TEXT_CHARS {
        return text;
    }
    text.chars().take(TEXT_CHARS).chain("..".chars()).collect()
}

impl fmt::Display for Hunt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bug { name, mistake } = self.bug;
        write!(f, "| `{name}` | {mistake} | {} | ", self.faults)?;
        match &self.catch {
            Some((seeds, what)) => write!(f, "{seeds} | {} |", cell(what)),
            None => write!(
                f,
                "- | not caught; site reached {} times in the last seed, {} seeds spoiled |",
                self.reached, self.spoiled
            ),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| bug | the engine's mistake | faults | seeds | caught by |"
        )?;
        writeln!(f, "|---|---|---|---:|---|")?;
        for hunt in &self.hunts {
            writeln!(f, "{hunt}")?;
        }
        writeln!(
            f,
            "\ncaught {} of {} planted bugs, within {SEEDS_MAX} seeds each; median {} seeds",
            self.caught(),
            self.hunts.len(),
            self.median_seeds()
        )?;
        for control in &self.controls {
            let (faults, violations) = (control.faults, &control.violations);
            let count = violations.len();
            writeln!(
                f,
                "control without a bug, faults {faults}: {count} of {CONTROL_SEEDS} seeds violate"
            )?;
            if let Some(first) = violations.first() {
                writeln!(f, "  {}", cell(first))?;
            }
        }
        Ok(())
    }
}

/// One thing to do on one thread.
#[derive(Debug, Clone, Copy)]
enum Job {
    Hunt(Bug),
    Control(&'static str),
}

#[derive(Debug)]
enum Done {
    Hunt(Hunt),
    Control(Control),
}

/// Looks for the bugs whose names are given, or for all when none is.
///
/// # Errors
/// What is wrong with the names, or with the way in which the program was built.
pub fn hunt(names: &[String]) -> Result<Report, String> {
    if !planted::CAN_CHOOSE {
        return Err(format!("planted bugs are not built in; call it as: {HOW}"));
    }
    let known = |name: &&String| BUGS.iter().any(|bug| bug.name == **name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        return Err(format!("there is no planted bug {name:?}"));
    }
    let wanted = |bug: &&Bug| names.is_empty() || names.iter().any(|name| name == bug.name);
    let bugs: Vec<Bug> = BUGS.iter().filter(wanted).copied().collect();
    let mut sets: Vec<&str> = bugs.iter().map(|bug| faults_for(bug.name)).collect();
    sets.push(CALM);
    sets.sort_unstable();
    sets.dedup();
    let hunts = bugs.into_iter().map(Job::Hunt);
    let jobs: Vec<Job> = sets.into_iter().map(Job::Control).chain(hunts).collect();
    let (mut hunts, mut controls) = (Vec::new(), Vec::new());
    for done in on_all_cores(&jobs) {
        match done {
            Done::Hunt(hunt) => hunts.push(hunt),
            Done::Control(control) => controls.push(control),
        }
    }
    Ok(Report { hunts, controls })
}

/// Does the jobs side by side; the results come in their order.
fn on_all_cores(jobs: &[Job]) -> Vec<Done> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(at) else {
                return done;
            };
            let result = match *job {
                Job::Hunt(bug) => Done::Hunt(hunt_one(bug)),
                Job::Control(faults) => Done::Control(control(faults)),
            };
            done.push((at, result));
        }
    };
    let mut done = thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let results = workers.into_iter().map(thread::ScopedJoinHandle::join);
        let results = results.map(|done| done.expect("a run catches the panics of its world"));
        results.flatten().collect::<Vec<_>>()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, done)| done).collect()
}

fn options(faults: &str) -> Options {
    let faults = FaultSet::parse(faults).expect("the list names faults that there are");
    Options {
        faults,
        ..Options::default()
    }
}

/// The violation of a seed with or without a bug, if it has one, and how often its site was reached.
fn violation(seed: u64, options: &Options, bug: Option<&'static str>) -> (Option<String>, u64) {
    planted::choose(bug);
    let violation = run(seed, options).violation;
    let reached = planted::reached();
    planted::choose(None);
    (violation.map(|violation| violation.what), reached)
}

fn hunt_one(bug: Bug) -> Hunt {
    let faults = faults_for(bug.name);
    let options = options(faults);
    let mut hunt = Hunt {
        bug,
        faults,
        catch: None,
        spoiled: 0,
        reached: 0,
    };
    for seed in 0..SEEDS_MAX {
        let (seen, reached) = violation(seed, &options, Some(bug.name));
        hunt.reached = reached;
        let Some(what) = seen else {
            continue;
        };
        if violation(seed, &options, None).0.is_some() {
            hunt.spoiled += 1;
            continue;
        }
        hunt.catch = Some((seed + 1, what));
        break;
    }
    hunt
}

fn control(faults: &'static str) -> Control {
    let options = options(faults);
    let seeds = 0..CONTROL_SEEDS;
    let violations = seeds.filter_map(|seed| violation(seed, &options, None).0);
    Control {
        faults,
        violations: violations.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bugs_need_is_said_of_bugs_and_faults_that_there_are() {
        for (name, faults) in NEEDS {
            assert!(BUGS.iter().any(|bug| bug.name == *name), "{name}");
            assert!(FaultSet::parse(faults).is_ok(), "{faults}");
        }
    }

    #[test]
    fn a_program_without_bugs_says_how_to_get_them() {
        if !planted::CAN_CHOOSE {
            assert!(hunt(&[]).is_err_and(|what| what.contains(HOW)));
        }
    }

    #[test]
    fn an_uncaught_bug_and_an_alarm_without_a_bug_are_no_proof() {
        let hunt = |seeds: Option<u64>| Hunt {
            bug: BUGS[0],
            faults: CALM,
            catch: seeds.map(|seeds| (seeds, "a | b".to_owned())),
            spoiled: 0,
            reached: 1,
        };
        let control = |faults, count| Control {
            faults,
            violations: vec!["wrong".to_owned(); count],
        };
        let mut report = Report {
            hunts: vec![hunt(Some(3)), hunt(Some(1)), hunt(Some(40))],
            controls: vec![control("F5", 1), control(CALM, 0)],
        };
        assert!(report.is_proof());
        assert_eq!((report.caught(), report.median_seeds()), (3, 3));
        assert!(report.to_string().contains("| none | 3 | a / b |"));
        report.hunts.push(hunt(None));
        assert!(!report.is_proof() && report.to_string().contains("caught 3 of 4"));
        report.hunts.pop();
        report.controls.push(control(CALM, 1));
        assert!(!report.is_proof());
    }
}
