//! The table of figures.

#![expect(
    clippy::disallowed_types,
    reason = "how long it took is part of the report, and of nothing that is simulated"
)]

use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::report::{Activation, FIRED_PERCENT_MIN, Figures, Hazard};

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
    /// In which seeds or units, and what else there is to say.
    pub note: String,
    /// How long it took; what is counted in the same runs took the same time.
    pub took: Duration,
}

impl Row {
    /// Whether it is as much as required.
    pub fn is_reached(&self) -> bool {
        self.reached >= self.required
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.is_reached() { "yes" } else { "NO" };
        let (required, reached) = (grouped(self.required), grouped(self.reached));
        let (what, note, seconds) = (&self.what, &self.note, self.took.as_secs());
        write!(
            f,
            "| {what} | {required} | {reached} | {mark} | {note} | {seconds} |"
        )
    }
}

/// The table.
#[derive(Debug, Default)]
pub struct Table {
    /// Counts.
    pub rows: Vec<Row>,
    /// What the seeds came to, where they were asked for.
    pub figures: Option<Figures>,
    /// What must never happen, and did: the first of it.
    pub violations: Vec<String>,
    /// How much of that there was.
    pub violation_count: u64,
    pub(super) took: Duration,
}

impl Table {
    pub(super) fn violate(&mut self, what: String) {
        self.violation_count += 1;
        if self.violations.len() < VIOLATIONS_TOLD {
            self.violations.push(what);
        }
    }

    /// Enters so many violations, of which some are told.
    pub(super) fn violate_often(&mut self, part: &str, count: u64, told: &[String]) {
        self.violation_count += count;
        let room = VIOLATIONS_TOLD.saturating_sub(self.violations.len());
        let told = told.iter().take(room);
        self.violations
            .extend(told.map(|told| format!("{part}: {told}")));
    }

    /// Whether every row is reached, every fault strikes, and nothing was violated.
    pub fn is_proof(&self) -> bool {
        self.violation_count == 0
            && self.rows.iter().all(Row::is_reached)
            && self.activations().all(|(_, met)| met.is_enough())
    }

    /// Every hazard of the seeds, also one that no seed ever had.
    fn activations(&self) -> impl Iterator<Item = (Hazard, Activation)> {
        self.figures.iter().flat_map(|figures| {
            let met = |hazard| figures.hazards.get(&hazard).copied().unwrap_or_default();
            Hazard::all().map(move |hazard| (hazard, met(hazard)))
        })
    }

    fn write_activations(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n| fault | seeds that have it | it struck in | share, {FIRED_PERCENT_MIN} % required \
             | | strikes |\n|---|---:|---:|---:|---|---:|"
        )?;
        for (hazard, met) in self.activations() {
            let mark = if met.is_enough() { "yes" } else { "NO" };
            let (enabled, fired) = (grouped(met.enabled), grouped(met.fired));
            let (percent, strikes) = (met.percent(), grouped(met.strikes));
            writeln!(
                f,
                "| {hazard} | {enabled} | {fired} | {percent} % | {mark} | {strikes} |"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "commit {}, {} s\n", commit(), self.took.as_secs())?;
        writeln!(
            f,
            "| figure | required | reached | | seeds or unit | seconds |"
        )?;
        writeln!(f, "|---|---:|---:|---|---|---:|")?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        if self.figures.is_some() {
            self.write_activations(f)?;
        }
        writeln!(f, "\n{} violations", self.violation_count)?;
        for violation in &self.violations {
            writeln!(f, "VIOLATION {violation}")?;
        }
        Ok(())
    }
}

/// How long something takes.
pub(super) struct Stopwatch(Instant);

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.0.elapsed()
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
pub(super) fn grouped(number: u64) -> String {
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

    fn table(reached: u64, violation_count: u64, fired: u64) -> Table {
        let mut figures = Figures::default();
        for hazard in Hazard::all() {
            let fired = if hazard == Hazard::TornWrite {
                fired
            } else {
                200
            };
            (0..200).for_each(|seed| figures.note_hazard(hazard, u64::from(seed < fired)));
        }
        Table {
            violation_count,
            rows: vec![Row {
                what: "seeds".to_owned(),
                required: 10,
                reached,
                note: String::new(),
                took: Duration::ZERO,
            }],
            figures: Some(figures),
            ..Table::default()
        }
    }

    #[test]
    fn a_row_that_is_not_reached_a_violation_and_an_idle_fault_are_no_proof() {
        assert!(table(10, 0, 80).is_proof());
        assert!(!table(9, 0, 80).is_proof());
        assert!(!table(10, 1, 80).is_proof());
        assert!(!table(10, 0, 79).is_proof());
    }

    #[test]
    fn a_fault_that_no_seed_had_is_no_proof() {
        let mut table = table(10, 0, 80);
        let figures = table.figures.as_mut().unwrap();
        figures.hazards.remove(&Hazard::LostEntry);
        assert!(!table.is_proof());
        assert!(
            table
                .to_string()
                .contains("| F3 LostEntry | 0 | 0 | 0 % | NO | 0 |")
        );
    }

    #[test]
    fn digits_come_in_groups() {
        let texts = [0, 999, 1_000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }
}
