//! Fuzzes every target for a while and reports.
//!
//! Exit status 0 when nothing was found, 1 when something was, 2 when the command line is wrong.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use lightning_fuzz::args::{Command, USAGE, parse};
use lightning_fuzz::campaign::end_hangs;
use lightning_fuzz::memory::Counting;
use lightning_fuzz::{NAMES, Settings, run};

/// How long a run may take beyond its time: each target makes its databases and tries what was
/// saved first.
const GRACE: Duration = Duration::from_mins(2);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let mut out = io::stdout();
    let status = match parse(std::env::args().skip(1)) {
        Ok(Command::Run(settings)) => fuzz(&settings, &mut out),
        Ok(Command::List) => writeln!(out, "{}", NAMES.join("\n")).map(|()| ExitCode::SUCCESS),
        Ok(Command::Help) => writeln!(out, "{USAGE}").map(|()| ExitCode::SUCCESS),
        Err(what) => {
            let told = writeln!(io::stderr(), "lightning-fuzz: {what}\n{USAGE}");
            told.map(|()| ExitCode::from(2))
        }
    };
    status.unwrap_or(ExitCode::FAILURE)
}

fn fuzz(settings: &Settings, out: &mut impl Write) -> io::Result<ExitCode> {
    end_hangs(settings, GRACE);
    let report = run(settings)?;
    writeln!(out, "{report}")?;
    Ok(if report.crashes() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
