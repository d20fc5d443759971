//! Figures of programs that are built on their own: the planted bugs, and the fuzzer.
//!
//! Cargo builds and runs them. What they say on the way is let through, what they report last is
//! read. A program that is not there, or that ends badly, is a row that is not reached.

use std::env;
use std::process::{Command, Stdio};

use lightning_io::planted::BUGS;
use lightning_io::to_u64;

use super::Settings;
use super::part::{Part, Required};
use super::table::{Row, Stopwatch, Table};

/// What a program came to.
struct Run {
    succeeded: bool,
    stdout: String,
}

/// Runs cargo, the one that runs this program if there is one.
fn cargo(args: &[&str]) -> Result<Run, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = command.output();
    let output = output.map_err(|error| format!("cargo {}: {error}", args.join(" ")))?;
    Ok(Run {
        succeeded: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
    })
}

/// The number that follows a word, as in `crashes=0` or `caught 46 of 46`.
fn number_after(text: &str, word: &str) -> Option<u64> {
    let rest = &text[text.rfind(word)? + word.len()..];
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Builds all planted bugs in, and looks for each.
pub(super) fn planted(table: &mut Table) {
    let watch = Stopwatch::start();
    let run = cargo(&["planted"]);
    let all = to_u64(BUGS.len());
    let stdout = run.as_ref().map_or("", |run| &run.stdout);
    let caught = number_after(stdout, "\ncaught ").unwrap_or(0);
    let median = number_after(stdout, "; median ");
    let note = median.map_or("no report".to_owned(), |median| {
        format!("bugs; half of them within {median} seeds")
    });
    if let Some(what) = failure(&run, "cargo planted") {
        let told = stdout.lines().filter(|line| line.contains("not caught"));
        told.for_each(|line| table.violate(line.to_owned()));
        table.violate(what);
    }
    table.rows.push(Row {
        what: Part::Planted.what().to_owned(),
        required: all,
        reached: caught,
        note,
        took: watch.elapsed(),
    });
}

/// Fuzzes everything that reads bytes of others.
pub(super) fn fuzz(settings: &Settings, table: &mut Table) {
    let watch = Stopwatch::start();
    let required = Required::of(settings.long).fuzz_seconds;
    let (seconds, jobs) = (required.to_string(), settings.jobs.to_string());
    let program = ["run", "--release", "--locked", "-p", "lightning-fuzz", "--"];
    let args = ["--seconds", &seconds, "--jobs", &jobs];
    let run = cargo(&[&program[..], &args].concat());
    let stdout = run.as_ref().map_or("", |run| &run.stdout);
    let total = stdout.lines().find(|line| line.starts_with("fuzz total "));
    let executions = total.and_then(|line| number_after(line, "executions="));
    let crashes = total.and_then(|line| number_after(line, "crashes="));
    let executions = executions.unwrap_or(0);
    if let Some(what) = failure(&run, "lightning-fuzz") {
        let told = stdout.lines().filter(|line| line.starts_with("CRASH "));
        told.for_each(|line| table.violate(line.to_owned()));
        table.violate(what);
    }
    // Time that is divided among targets is spent when all of them were run to its end.
    let is_spent = executions > 0 && crashes == Some(0);
    table.rows.push(Row {
        what: Part::Fuzz.what().to_owned(),
        required,
        reached: if is_spent { required } else { 0 },
        note: format!("{} executions", super::table::grouped(executions)),
        took: watch.elapsed(),
    });
}

/// What to say of a program that did not end well.
fn failure(run: &Result<Run, String>, program: &str) -> Option<String> {
    match run {
        Ok(run) if run.succeeded => None,
        Ok(_) => Some(format!(
            "{program} did not end well; it said why on its way"
        )),
        Err(what) => Some(what.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_out_of_reports() {
        let text =
            "| x | 3 |\n\ncaught 45 of 46 planted bugs, within 1000 seeds each; median 3 seeds";
        assert_eq!(number_after(text, "\ncaught "), Some(45));
        assert_eq!(number_after(text, "; median "), Some(3));
        assert_eq!(
            number_after("fuzz total crashes=0 seconds=60", "crashes="),
            Some(0)
        );
        assert_eq!(number_after(text, "crashes="), None);
        assert_eq!(number_after("crashes=none", "crashes="), None);
    }

    #[test]
    fn a_program_that_is_not_there_has_failed() {
        let run = cargo(&["run", "--quiet", "--offline", "-p", "no-such-package"]);
        assert!(failure(&run, "it").is_some());
    }
}
