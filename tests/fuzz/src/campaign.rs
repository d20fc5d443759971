//! A run over targets: time divided among them, inputs tried, crashes saved.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "these lists are for shards; a fuzzer has a clock and threads"
)]

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lightning_io::sim::Rng;

use crate::corpus::{self, CRASH, Saved};
use crate::coverage::{self, Coverage};
use crate::mutate::mutate;
use crate::target::{Target, Verdict};
use crate::{NAMES, memory, panics, targets};

/// The longest that one input may take: a thousand times what is usual.
const INPUT_TIME_MAX: Duration = Duration::from_secs(10);

/// Inputs that a target keeps in memory to mutate.
const POOL_MAX: usize = 4_000;

/// Sound inputs that are made before anything is mutated.
const MADE_AT_START: usize = 64;

/// The most tries to make one input shorter.
const SHRINKS_MAX: usize = 200;

/// Crashes after which a target is given up: more of them are the same.
const CRASHES_MAX: usize = 5;

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long in all, divided among the targets by their shares.
    pub duration: Duration,
    /// What chance begins with.
    pub seed: u64,
    /// Targets at a time; one in a build that counts coverage.
    pub jobs: usize,
    /// Which targets; empty for all.
    pub targets: Vec<String>,
    /// Where inputs that do something new are kept from run to run.
    pub keep: Option<PathBuf>,
    /// Where crashes are saved.
    pub crashes: PathBuf,
    /// The most executions of one target, for a run that has to be short whatever the machine.
    pub executions_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            duration: Duration::from_mins(1),
            seed: 1,
            jobs: 1,
            targets: Vec::new(),
            keep: None,
            crashes: corpus::directory(),
            executions_max: u64::MAX,
        }
    }
}

/// One input that broke a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    /// What happened.
    pub what: String,
    /// Where the input was saved.
    pub input: PathBuf,
}

/// What was done with one target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetReport {
    /// Its name.
    pub name: String,
    /// Inputs tried.
    pub executions: u64,
    /// Those that came past the first checks.
    pub accepted: u64,
    /// Inputs that were read from files.
    pub corpus: usize,
    /// Inputs that fared as none before, or took new edges.
    pub new: usize,
    /// Edges of the program that were taken; 0 where nobody counts.
    pub edges: usize,
    /// The most memory that one input made it hold; 0 where nobody counts.
    pub heap_bytes_peak: usize,
    /// The longest that one input took.
    pub slowest: Duration,
    /// What was found.
    pub crashes: Vec<Crash>,
}

impl fmt::Display for TargetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "fuzz target={} executions={} accepted={} corpus={} new={} edges={} \
             heap_bytes_peak={} slowest_us={} crashes={}",
            self.name,
            self.executions,
            self.accepted,
            self.corpus,
            self.new,
            self.edges,
            self.heap_bytes_peak,
            self.slowest.as_micros(),
            self.crashes.len()
        )
    }
}

/// What was done with all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order of [`NAMES`].
    pub targets: Vec<TargetReport>,
    /// The time that passed.
    pub duration: Duration,
}

impl Report {
    /// Inputs tried.
    pub fn executions(&self) -> u64 {
        self.targets.iter().map(|target| target.executions).sum()
    }

    /// Inputs that broke a promise.
    pub fn crashes(&self) -> usize {
        self.targets.iter().map(|target| target.crashes.len()).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for target in &self.targets {
            writeln!(f, "{target}")?;
            for crash in &target.crashes {
                let input = crash.input.display();
                writeln!(
                    f,
                    "CRASH target={} input={input}: {}",
                    target.name, crash.what
                )?;
            }
        }
        let corpus: usize = self.targets.iter().map(|target| target.corpus).sum();
        let new: usize = self.targets.iter().map(|target| target.new).sum();
        write!(
            f,
            "fuzz total targets={} executions={} corpus={corpus} new={new} crashes={} seconds={}",
            self.targets.len(),
            self.executions(),
            self.crashes(),
            self.duration.as_secs()
        )
    }
}

/// Runs targets.
///
/// # Errors
/// Those of reading and writing inputs.
///
/// # Panics
/// When a target cannot be made; what it does with an input is caught.
pub fn run(settings: &Settings) -> io::Result<Report> {
    let began = Instant::now();
    let is_asked = |name: &&&str| {
        settings.targets.is_empty() || settings.targets.iter().any(|asked| asked == **name)
    };
    let names: Vec<&str> = NAMES.iter().filter(is_asked).copied().collect();
    let jobs = if coverage::is_there() {
        1
    } else {
        settings.jobs
    };
    let saved = saved_inputs(settings)?;
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::new());
    let work = || -> io::Result<()> {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(name) = names.get(at) else {
                return Ok(());
            };
            let report = run_target(settings, name, &saved, part(settings, &names, name, jobs))?;
            reports.lock().expect("no holder panics").push((at, report));
        }
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..jobs).map(|_| scope.spawn(work)).collect();
        let own = work();
        others
            .into_iter()
            .map(|other| other.join().expect("panics of a target are caught"))
            .fold(own, io::Result::and)
    })?;
    let mut reports = reports.into_inner().expect("no holder panics");
    reports.sort_by_key(|(at, _)| *at);
    Ok(Report {
        targets: reports.into_iter().map(|(_, report)| report).collect(),
        duration: began.elapsed(),
    })
}

/// What is begun with: the corpus, and what other runs kept.
fn saved_inputs(settings: &Settings) -> io::Result<Vec<Saved>> {
    let mut saved = corpus::load(&corpus::directory())?;
    if let Some(kept) = settings
        .keep
        .as_ref()
        .filter(|kept| **kept != corpus::directory())
    {
        saved.extend(corpus::load(kept)?);
    }
    Ok(saved)
}

/// A target's part of the time.
fn part(settings: &Settings, names: &[&str], name: &str, jobs: usize) -> Duration {
    let total: u32 = names.iter().map(|name| targets::share(name)).sum();
    let jobs = u32::try_from(jobs.min(names.len())).expect("few threads");
    settings.duration * jobs * targets::share(name) / total
}

/// The state of one target's run.
struct Run<'a> {
    settings: &'a Settings,
    target: Box<dyn Target>,
    report: TargetReport,
    rng: Rng,
    /// Inputs to mutate.
    pool: Vec<Vec<u8>>,
    coverage: Coverage,
    /// The outcomes that were met.
    outcomes: BTreeSet<String>,
    /// The input that is tried, for whoever finds the process dead.
    last: File,
    /// What is written there.
    note: Vec<u8>,
}

fn run_target(
    settings: &Settings,
    name: &str,
    saved: &[Saved],
    time: Duration,
) -> io::Result<TargetReport> {
    let began = Instant::now();
    let target = targets::target(name).expect("the name is on the list");
    let stream = u64::from(crc32fast::hash(name.as_bytes()));
    let mut run = Run {
        settings,
        target,
        report: TargetReport {
            name: name.to_owned(),
            ..TargetReport::default()
        },
        rng: Rng::stream(settings.seed, stream),
        pool: Vec::new(),
        coverage: Coverage::new(),
        outcomes: BTreeSet::new(),
        last: File::create(last_input(name))?,
        note: Vec::new(),
    };
    run.begin(saved)?;
    while run.report.executions < settings.executions_max
        && run.report.crashes.len() < CRASHES_MAX
        && began.elapsed() < time
    {
        let input = run.next_input();
        run.try_input(&input)?;
    }
    run.report.edges = run.coverage.edges();
    drop(run.last);
    std::fs::remove_file(last_input(name))?;
    Ok(run.report)
}

/// Where the input that is tried at the moment is, so that one that kills the process is not lost:
/// its length in eight bytes, then itself.
fn last_input(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("lightning-fuzz-{}-{name}", std::process::id()))
}

/// Ends the process when a run does not end: `grace` after its time, the inputs that are still
/// tried are saved as crashes.
pub fn end_hangs(settings: &Settings, grace: Duration) {
    let (deadline, directory) = (settings.duration + grace, settings.crashes.clone());
    std::thread::spawn(move || {
        std::thread::sleep(deadline);
        for name in NAMES {
            let Ok(last) = std::fs::read(last_input(name)) else {
                continue;
            };
            let (len, bytes) = last.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
            let len = lightning_io::to_usize(u64::from_le_bytes(*len)).min(bytes.len());
            let saved = corpus::save(&directory, name, "hang", &bytes[..len]);
            let place =
                saved.map_or_else(|error| error.to_string(), |path| path.display().to_string());
            let mut err = io::stderr();
            drop(writeln!(err, "CRASH target={name} input={place}: no end"));
        }
        std::process::exit(1);
    });
}

impl Run<'_> {
    /// Tries what was saved, and some inputs that are sound.
    fn begin(&mut self, saved: &[Saved]) -> io::Result<()> {
        let name = self.report.name.clone();
        for input in saved.iter().filter(|saved| saved.target == name) {
            self.report.corpus += 1;
            self.try_saved(input)?;
            self.keep(input.bytes.clone());
        }
        for _ in 0..MADE_AT_START {
            let input = self.target.make(&mut self.rng);
            self.try_input(&input)?;
            self.keep(input);
        }
        Ok(())
    }

    /// Tries an input whose name says how it fares.
    fn try_saved(&mut self, input: &Saved) -> io::Result<()> {
        let (tried, _) = self.attempt(&input.bytes)?;
        let found = match tried {
            Ok(verdict) => verdict.outcome(),
            Err(what) => {
                let input = input.path.clone();
                self.report.crashes.push(Crash { what, input });
                return Ok(());
            }
        };
        if let Some(expected) = &input.outcome
            && self.target.has_lasting_outcomes()
            && found != *expected
        {
            let what = format!("the outcome is {found}, not as the name says");
            let input = input.path.clone();
            self.report.crashes.push(Crash { what, input });
        }
        self.outcomes.insert(found);
        Ok(())
    }

    fn keep(&mut self, input: Vec<u8>) {
        if self.pool.len() < POOL_MAX {
            self.pool.push(input);
        } else {
            let at = self.rng.index(POOL_MAX);
            self.pool[at] = input;
        }
    }

    fn next_input(&mut self) -> Vec<u8> {
        match self.rng.below(16) {
            0 => self.target.make(&mut self.rng),
            1 => {
                let mut noise = vec![0; 1 << self.rng.below(9)];
                self.rng.fill(&mut noise);
                noise
            }
            _ => {
                let mut input = self.pool[self.rng.index(self.pool.len())].clone();
                let other = self.rng.index(self.pool.len());
                let len = input.len();
                mutate(&mut input, &self.pool[other], &mut self.rng);
                if self.target.is_fixed_length() && self.rng.below(8) > 0 {
                    input.resize(len, 0);
                }
                if self.rng.below(4) > 0 {
                    self.target.repair(&mut input);
                }
                input
            }
        }
    }

    /// Tries an input; keeps it if it does something new, saves it if it breaks something.
    fn try_input(&mut self, input: &[u8]) -> io::Result<()> {
        let (tried, takes_new_edges) = self.attempt(input)?;
        let outcome = match tried {
            Ok(verdict) => verdict.outcome(),
            Err(what) => return self.crashed(input, &what),
        };
        let is_new = self.outcomes.insert(outcome.clone());
        if !is_new && !takes_new_edges {
            return Ok(());
        }
        self.report.new += 1;
        let mut input = input.to_vec();
        if let Some(directory) = &self.settings.keep {
            if is_new {
                input = self.shrink(&input, |tried| {
                    tried.is_ok_and(|verdict| verdict.outcome() == outcome)
                })?;
            }
            corpus::save(directory, &self.report.name, &outcome, &input)?;
        }
        self.keep(input);
        Ok(())
    }

    /// What a target makes of an input, or the promise that was broken; and whether it took edges
    /// that none took before.
    fn attempt(&mut self, input: &[u8]) -> io::Result<(Result<Verdict, String>, bool)> {
        self.note.clear();
        let len = lightning_io::to_u64(input.len());
        self.note.extend_from_slice(&len.to_le_bytes());
        self.note.extend_from_slice(input);
        self.last.write_all_at(&self.note, 0)?;
        coverage::reset();
        let began = Instant::now();
        memory::reset();
        let target = &mut self.target;
        let (outcome, panics) = panics::recorded(|| target.run(input));
        let heap_bytes = memory::peak_bytes();
        let took = began.elapsed();
        let takes_new_edges = self.coverage.take();
        let report = &mut self.report;
        report.executions += 1;
        report.slowest = report.slowest.max(took);
        report.heap_bytes_peak = report.heap_bytes_peak.max(heap_bytes);
        report.accepted += u64::from(matches!(outcome, Some(Ok(Verdict::Accepted(_)))));
        let heap_bytes_max = self.target.heap_bytes_max(input.len());
        let tried = match outcome {
            Some(outcome) if panics.is_empty() => outcome.and_then(|verdict| {
                if heap_bytes > heap_bytes_max {
                    let len = input.len();
                    Err(format!(
                        "{heap_bytes} bytes of heap for an input of {len}, at most {heap_bytes_max}"
                    ))
                } else if took > INPUT_TIME_MAX {
                    Err(format!("{took:?} for one input"))
                } else {
                    Ok(verdict)
                }
            }),
            _ => Err(panics.join("; ")),
        };
        Ok((tried, takes_new_edges))
    }

    /// Takes pieces out of an input as long as it `fares` the same, each time shorter ones.
    fn shrink(
        &mut self,
        input: &[u8],
        fares: impl Fn(Result<Verdict, String>) -> bool,
    ) -> io::Result<Vec<u8>> {
        let (mut best, mut tries) = (input.to_vec(), 0);
        let mut piece = best.len().div_ceil(2);
        while piece > 0 {
            let mut at = 0;
            while at < best.len() && tries < SHRINKS_MAX {
                tries += 1;
                let mut shorter = best.clone();
                shorter.drain(at..best.len().min(at + piece));
                if fares(self.attempt(&shorter)?.0) {
                    best = shorter;
                } else {
                    at += piece;
                }
            }
            piece /= 2;
        }
        Ok(best)
    }

    fn crashed(&mut self, input: &[u8], what: &str) -> io::Result<()> {
        // Numbers differ between inputs that break the same.
        let same = |what: &str| Verdict::Refused(what.to_owned()).outcome();
        let known = same(what);
        let mut crashes = self.report.crashes.iter();
        if crashes.any(|crash| same(&crash.what) == known) {
            return Ok(());
        }
        let input = self.shrink(input, |tried| tried.is_err_and(|what| same(&what) == known))?;
        let directory = &self.settings.crashes;
        let input = corpus::save(directory, &self.report.name, CRASH, &input)?;
        let what = what.to_owned();
        self.report.crashes.push(Crash { what, input });
        Ok(())
    }
}
