//! Every call that a program makes of the disk fails in turn, alone or with all that follow it, and
//! the disk is full at every size.
//!
//! # Algorithm
//! 1. A life without faults tells how many calls of each kind there are. The world is deterministic,
//!    so the n-th call of a life with a fault is the same one.
//! 2. The life runs with one fault. It goes on after errors. Then the fault is healed.
//! 3. The contract is checked: whether writes are taken again or refused for good, and what can be
//!    read.
//! 4. The life ends by a power failure or by a kill. What is left is opened without faults, must
//!    hold exactly what was promised, and must be of use.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use lightning_io::sim::{Image, World};
use lightning_io::{Env, to_u64, to_usize};
use lightning_shards::{Error, OpenMode};

use super::contract::{
    Poisoning, check_acknowledged, check_errors, check_full, check_poisoned_reads,
};
use super::program::{Life, Program, SHARDS};
use super::trouble::{Baseline, Case, Trouble, Which, world};
use super::{Extent, jobs};
use crate::model::Model;
use crate::panics;

/// How long a life is left alone after its fault was healed: a flush is tried again each 0.1 s.
const RECOVERY: Duration = Duration::from_secs(1);

/// Attempts at a write after that; one may be told of the last failure that nobody heard of yet.
const ATTEMPTS: usize = 3;

/// Violations that are told one by one; all are counted.
const VIOLATIONS_TOLD: usize = 20;

/// What a sweep over calls found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallFigures {
    /// Lives with a fault.
    pub cases: u64,
    /// Of these, lives in which it struck, by kind of call.
    pub struck: BTreeMap<String, u64>,
    /// Lives in which the database could not be opened.
    pub refused: u64,
    /// Lives in which it stopped taking writes.
    pub poisoned: u64,
    /// Lives in which the fault came while it was closed.
    pub closed: u64,
    /// Lives in which it took writes again, or went on all the while.
    pub went_on: u64,
    /// Deletions that a full disk kept from being taken.
    pub deletions_refused: u64,
    /// Images recovered and compared.
    pub recovered: u64,
    /// What must not happen and did.
    pub violation_count: u64,
    /// The first of them.
    pub violations: Vec<String>,
}

impl AddAssign<&Self> for CallFigures {
    fn add_assign(&mut self, other: &Self) {
        self.cases += other.cases;
        for (op, count) in &other.struck {
            *self.struck.entry(op.clone()).or_default() += count;
        }
        self.refused += other.refused;
        self.poisoned += other.poisoned;
        self.closed += other.closed;
        self.went_on += other.went_on;
        self.deletions_refused += other.deletions_refused;
        self.recovered += other.recovered;
        self.violation_count += other.violation_count;
        self.violations.extend_from_slice(&other.violations);
        self.violations.truncate(VIOLATIONS_TOLD);
    }
}

impl fmt::Display for CallFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cases, recovered) = (self.cases, self.recovered);
        writeln!(
            f,
            "  {cases} lives with a fault, {recovered} images recovered"
        )?;
        for (op, count) in &self.struck {
            writeln!(f, "  struck {op:<8} {count:>8}")?;
        }
        writeln!(
            f,
            "  not opened {}, poisoned {}, went on {}, while closing {}, nothing struck {}",
            self.refused,
            self.poisoned,
            self.went_on,
            self.closed,
            self.cases - self.struck.values().sum::<u64>()
        )?;
        if self.deletions_refused > 0 {
            writeln!(
                f,
                "  refused {} deletions on a full disk",
                self.deletions_refused
            )?;
        }
        writeln!(f, "  {} violations", self.violation_count)?;
        self.violations
            .iter()
            .try_for_each(|violation| writeln!(f, "  VIOLATION {violation}"))
    }
}

/// Makes every call of the program fail in turn, once and for good, with every error that it can
/// have, and gives the disk every size; with both ends of each life.
///
/// # Errors
/// When the program fails without any fault.
pub fn sweep_calls(seed: u64, extent: Extent, jobs: usize) -> Result<CallFigures, String> {
    sweep(seed, extent, jobs, Baseline::all_cases)
}

/// Makes every sync of any kind, and every write of the log, fail once, and succeed when it is
/// tried again; with both ends of each life.
///
/// # Errors
/// When the program fails without any fault.
pub fn sweep_syncs(seed: u64, extent: Extent, jobs: usize) -> Result<CallFigures, String> {
    sweep(seed, extent, jobs, Baseline::sync_cases)
}

fn sweep(
    seed: u64,
    extent: Extent,
    jobs: usize,
    cases: impl Fn(&Baseline) -> Vec<Case>,
) -> Result<CallFigures, String> {
    let cases = cases(&Baseline::build(seed)?);
    let all = to_u64(cases.len());
    let count = match extent {
        Extent::Sampled(count) => count.min(all),
        Extent::Whole => all,
    };
    let run = |baseline: &mut Baseline, number: u64, figures: &mut CallFigures| {
        // Evenly spaced, and another one of each stretch with each seed.
        let (from, to) = (number * all / count, (number + 1) * all / count);
        let case = &cases[to_usize(from + seed % (to - from))];
        figures.cases += 1;
        if let Err(what) = run_case(baseline, case, figures) {
            figures.violation_count += 1;
            let text = format!("seed {seed}: {case}: {what}");
            figures.violations.push(text);
            figures.violations.truncate(VIOLATIONS_TOLD);
        }
    };
    let begin = || Baseline::build(seed).expect("it was built before");
    Ok(jobs::run(jobs, count, begin, run))
}

fn run_case(baseline: &Baseline, case: &Case, figures: &mut CallFigures) -> Result<(), String> {
    let recording = panics::record();
    let outcome = live_and_recover(baseline, case, figures);
    match recording.take().first() {
        Some(panic) => Err(format!("panicked: {panic}")),
        None => outcome,
    }
}

fn live_and_recover(
    baseline: &Baseline,
    case: &Case,
    figures: &mut CallFigures,
) -> Result<(), String> {
    let program = &baseline.program;
    let seed = program.seed;
    let creating = case.which == Which::Creating;
    let (world, model, mode) = if creating {
        (world(seed, None), program.model(), OpenMode::OpenOrCreate)
    } else {
        let world = world(seed, Some(&baseline.image));
        (world, baseline.model.clone(), OpenMode::Open)
    };
    let mut life = Life::new(program, &world, model, u64::from(!creating));
    match &case.trouble {
        Trouble::Call { script, lasting } if *lasting => world.add_lasting_script(script.clone()),
        Trouble::Call { script, .. } => world.add_script(script.clone()),
        Trouble::Full { capacity_bytes } => world.set_capacity(Some(*capacity_bytes)),
    }
    let judged = world.run(live(&world, &mut life, case, mode, figures));
    let judged = judged.map_err(|failure| failure.to_string())?;
    let end = judged?;
    if let Some(what) = life.violation.take() {
        return Err(what);
    }
    for strike in world.strikes().iter().take(1) {
        *figures
            .struck
            .entry(format!("{:?}", strike.op))
            .or_default() += 1;
    }
    if world.strikes().is_empty() && !world.faults_fired().is_empty() {
        *figures.struck.entry("full".to_owned()).or_default() += 1;
    }
    match end {
        End::NotOpened => figures.refused += 1,
        End::Poisoned => figures.poisoned += 1,
        End::Closed => figures.closed += 1,
        End::WentOn => figures.went_on += 1,
    }
    let now = world.now();
    life.model.borrow_mut().take_last_answers(now);
    let model = life.model.borrow().clone();
    drop(life);
    let image = if case.power_fails {
        world.crash()
    } else {
        world.shutdown()
    };
    recover(program, &image, model, creating)?;
    figures.recovered += 1;
    Ok(())
}

/// How a life with a fault ended.
enum End {
    NotOpened,
    Closed,
    Poisoned,
    WentOn,
}

async fn live(
    world: &World,
    life: &mut Life,
    case: &Case,
    mode: OpenMode,
    figures: &mut CallFigures,
) -> Result<End, String> {
    let opened = life.open(world, mode).await;
    if opened {
        life.work().await;
        if let Trouble::Full { .. } = case.trouble {
            figures.deletions_refused += check_full(life).await?;
        }
    }
    // The fault is one of closing, then.
    let closes = opened && world.faults_fired().is_empty();
    let closed = closes && life.close().await;
    let strikes = world.strikes();
    world.clear_scripts();
    world.set_capacity(None);
    check_errors(life, world, case)?;
    let poisoning = Poisoning::of(&strikes, case);
    check_acknowledged(life, &strikes, case)?;
    if closed && poisoning == Poisoning::Always {
        return Err(format!("closed well after {strikes:?}"));
    }
    if !opened {
        return Ok(End::NotOpened);
    }
    if closes {
        return Ok(End::Closed);
    }
    world.client().sleep(RECOVERY).await;
    use_again(life, poisoning).await
}

/// Uses a database whose fault was healed: it takes writes and is sound, or takes none and shows
/// what it has.
async fn use_again(life: &mut Life, poisoning: Poisoning) -> Result<End, String> {
    let outcomes = life.probe(ATTEMPTS).await;
    let refused: Vec<&Error> = outcomes.iter().filter_map(|o| o.as_ref().err()).collect();
    let told = || refused.iter().map(ToString::to_string).collect::<Vec<_>>();
    match (refused.len(), poisoning) {
        (0, Poisoning::Never | Poisoning::Perhaps) => {
            life.check_sound().await;
            Ok(End::WentOn)
        }
        (SHARDS, Poisoning::Always | Poisoning::Perhaps) => {
            let poisoned = |error: &&Error| matches!(error, Error::Poisoned { .. });
            if !refused.iter().all(poisoned) {
                return Err(format!("a poisoned database says {:?}", told()));
            }
            check_poisoned_reads(life).await?;
            Ok(End::Poisoned)
        }
        (count, _) => Err(format!(
            "{count} of {SHARDS} shards refuse writes, where they do so {poisoning:?}: {:?}",
            told()
        )),
    }
}

/// Opens what a life left, without faults, and compares it with what was promised.
fn recover(
    program: &Program,
    image: &Image,
    model: Model,
    may_be_missing: bool,
) -> Result<(), String> {
    let world = world(program.seed ^ 1, Some(image));
    let mut life = Life::new(program, &world, model, 2);
    let mode = if may_be_missing {
        OpenMode::OpenOrCreate
    } else {
        OpenMode::Open
    };
    let closed = world.run(async {
        if !life.open(&world, mode).await {
            return false;
        }
        life.check_recovery().await;
        life.close().await
    });
    let closed = closed.map_err(|failure| format!("recovery: {failure}"))?;
    if let Some(what) = life.violation {
        return Err(what);
    }
    match life.errors.first() {
        Some((step, error)) => Err(format!("recovery: {step}: {error}")),
        None if closed => Ok(()),
        None => Err("recovery: not closed".to_owned()),
    }
}
