//! Runs seeds and reports: a line for each that violates, then the figures of all. Or prints the
//! table of the project's figures.
//!
//! Exit status 0 when nothing was violated and every fault strikes often enough, 1 when not, 2 when
//! the command line is wrong.

#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_types,
    reason = "a long run says every few seconds how far it is"
)]

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lightning_io::planted::BUILT_IN;
use lightning_sim::args::{Args, Request, USAGE, parse};
use lightning_sim::faults::LEFT_OUT;
use lightning_sim::figures::{Settings, measure, run_seeds};
use lightning_sim::report::{FIRED_PERCENT_MIN, Figures, Violation};
use lightning_sim::{Options, planted, run, shrink};

/// Events of a failing run that `--trace` prints.
const TRACE_EVENTS: usize = 400;

/// Seeds that run before their violations are printed.
const PORTION: u64 = 256;

/// How often a long run says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    let mut args = std::env::args().skip(1).peekable();
    let status = if args.next_if_eq("planted").is_some() {
        hunt(&args.collect::<Vec<_>>(), &mut out, &mut err)
    } else {
        command(args, &mut out, &mut err)
    };
    // A reader that closed the pipe has seen what it wanted, and not the end.
    status.unwrap_or(ExitCode::FAILURE)
}

fn command(
    args: impl Iterator<Item = String>,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<ExitCode> {
    match parse(args) {
        Ok(Request::Seeds(args)) => simulate(&args, out, err),
        Ok(Request::Figures(settings)) => figures(&settings, out, err),
        Ok(Request::Help) => writeln!(out, "{USAGE}").map(|()| ExitCode::SUCCESS),
        Err(what) => writeln!(err, "lightning-sim: {what}\n{USAGE}").map(|()| ExitCode::from(2)),
    }
}

fn status(is_good: bool) -> ExitCode {
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Prints the figures of the project; see [`lightning_sim::figures`].
fn figures(
    settings: &Settings,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<ExitCode> {
    let table = measure(settings, &mut |text| {
        // Nobody may be there to read how far it is.
        drop(writeln!(err, "lightning-sim: {text}"));
    });
    write!(out, "{table}")?;
    Ok(status(table.is_proof()))
}

/// Looks for planted bugs; see [`lightning_sim::planted`].
fn hunt(names: &[String], out: &mut impl Write, err: &mut impl Write) -> io::Result<ExitCode> {
    match planted::hunt(names) {
        Ok(report) => {
            write!(out, "{report}")?;
            Ok(status(report.is_proof()))
        }
        Err(what) => writeln!(err, "lightning-sim: {what}").map(|()| ExitCode::from(2)),
    }
}

fn simulate(args: &Args, out: &mut impl Write, err: &mut impl Write) -> io::Result<ExitCode> {
    let options = Options {
        faults: args.faults.clone(),
        ..Options::default()
    };
    if let Some(name) = BUILT_IN {
        writeln!(out, "planted bug: {name}")?;
    }
    let (mut figures, mut violations) = (Figures::default(), 0);
    let (mut told, mut next) = (Instant::now(), args.seeds.start);
    while next < args.seeds.end {
        let portion = next..args.seeds.end.min(next.saturating_add(PORTION));
        next = portion.end;
        let (more, found) = run_seeds(&portion, &options, args.jobs);
        figures += &more;
        violations += found.len();
        for violation in &found {
            tell(violation, args, &options, out)?;
        }
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            let done = next - args.seeds.start;
            writeln!(err, "lightning-sim: {done} seeds, {violations} violations")?;
        }
    }
    let seeds = &args.seeds;
    writeln!(
        out,
        "seeds {}..{}: {violations} violations",
        seeds.start, seeds.end
    )?;
    write!(out, "{figures}")?;
    for (fault, why) in LEFT_OUT {
        writeln!(out, "  not part of --faults all: {fault:?}, {why}")?;
    }
    let mut idle = 0;
    for (hazard, met) in figures.idle() {
        idle += 1;
        let percent = met.percent();
        writeln!(
            out,
            "IDLE {hazard}: it strikes in {percent} % of the seeds that have it, \
             {FIRED_PERCENT_MIN} % are required"
        )?;
    }
    Ok(status(violations == 0 && idle == 0))
}

/// Prints a violation, and what was asked for with it.
fn tell(
    violation: &Violation,
    args: &Args,
    options: &Options,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "VIOLATION {violation}")?;
    if args.trace {
        let traced = Options {
            trace_last: TRACE_EVENTS,
            ..options.clone()
        };
        writeln!(out, "{}", run(violation.seed, &traced).trace)?;
    }
    if args.shrink
        && let Some(small) = shrink(violation.seed, options)
    {
        writeln!(out, "  {small}")?;
    }
    Ok(())
}
