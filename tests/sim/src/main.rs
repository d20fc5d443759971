//! Runs seeds and reports: a line for each that violates, then the figures of all.
//!
//! Exit status 0 when nothing was violated, 1 when something was, 2 when the command line is wrong.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use lightning_io::planted::BUILT_IN;
use lightning_sim::args::{Args, USAGE, parse};
use lightning_sim::faults::LEFT_OUT;
use lightning_sim::report::Figures;
use lightning_sim::{Options, planted, run, shrink};

/// Events of a failing run that `--trace` prints.
const TRACE_EVENTS: usize = 400;

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
        Ok(Some(args)) => simulate(&args, out),
        Ok(None) => writeln!(out, "{USAGE}").map(|()| ExitCode::SUCCESS),
        Err(what) => writeln!(err, "lightning-sim: {what}\n{USAGE}").map(|()| ExitCode::from(2)),
    }
}

/// Looks for planted bugs; see [`lightning_sim::planted`].
fn hunt(names: &[String], out: &mut impl Write, err: &mut impl Write) -> io::Result<ExitCode> {
    match planted::hunt(names) {
        Ok(report) => {
            write!(out, "{report}")?;
            Ok(if report.is_proof() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Err(what) => writeln!(err, "lightning-sim: {what}").map(|()| ExitCode::from(2)),
    }
}

fn simulate(args: &Args, out: &mut impl Write) -> io::Result<ExitCode> {
    let options = Options {
        faults: args.faults.clone(),
        trace_last: if args.trace { TRACE_EVENTS } else { 0 },
        ..Options::default()
    };
    if let Some(name) = BUILT_IN {
        writeln!(out, "planted bug: {name}")?;
    }
    let (mut figures, mut violations) = (Figures::default(), 0_u64);
    for seed in args.seeds.clone() {
        let outcome = run(seed, &options);
        figures += &outcome.figures;
        let Some(violation) = outcome.violation else {
            continue;
        };
        violations += 1;
        writeln!(out, "VIOLATION {violation}")?;
        if args.trace {
            writeln!(out, "{}", outcome.trace)?;
        }
        if args.shrink
            && let Some(small) = shrink(seed, &options)
        {
            let bounds = &small.options;
            writeln!(
                out,
                "  smallest of {} runs: shards <= {}, clients <= {}, operations <= {}, \
                 generations <= {}, faults {:?}: {}",
                small.attempts,
                bounds.shards_max,
                bounds.clients_max,
                bounds.operations_max,
                bounds.generations_max,
                bounds.faults.iter().collect::<Vec<_>>(),
                small.violation
            )?;
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
    Ok(if violations == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
