//! What the demonstration prints, line by line as it goes on.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::error::CliError;
use crate::import::rate;
use crate::output::Output;

/// The longest latency that is told apart: an hour, in nanoseconds.
const NANOS_MAX: u64 = 3_600_000_000_000;

/// Digits that a latency keeps: a thousandth of it is far less than what it varies by.
const DIGITS: u8 = 3;

/// How long calls took.
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, NANOS_MAX, DIGITS);
        Self(histogram.expect("bounds and digits are in the histogram's range"))
    }

    pub(super) fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record(nanos);
    }

    fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(quantile))
    }
}

/// What the demonstration prints.
pub(super) struct Report(Output);

impl Report {
    pub(super) fn new() -> Self {
        Self(Output::new())
    }

    /// A fact.
    pub(super) fn text(&mut self, what: &str, text: impl fmt::Display) -> Result<(), CliError> {
        self.0.line(format_args!("{what:<22}{text}"))?;
        self.0.flush()
    }

    /// How long a single thing took.
    pub(super) fn took(&mut self, what: &str, took: Duration) -> Result<(), CliError> {
        self.text(what, format_args!("{:.1} ms", took.as_secs_f64() * 1e3))
    }

    /// How much was done in what time, and how long single calls took.
    pub(super) fn rate(
        &mut self,
        what: &str,
        count: u64,
        unit: &str,
        elapsed: Duration,
        latencies: Option<Latencies>,
    ) -> Result<(), CliError> {
        let rate = rate(count, elapsed);
        let millis = elapsed.as_secs_f64() * 1e3;
        let main = format!("{count:>8} {unit:<8} {millis:>9.1} ms {rate:>11.0}/s");
        match latencies {
            None => self.text(what, main),
            Some(calls) => {
                let (p50, p99) = (micros(calls.quantile(0.5)), micros(calls.quantile(0.99)));
                self.text(
                    what,
                    format_args!("{main}   p50 {p50:>8} us   p99 {p99:>8} us"),
                )
            }
        }
    }
}

fn micros(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let mut latencies = Latencies::new();
        for micros in 1..=100_000 {
            latencies.record(Duration::from_micros(micros));
        }
        let near = |found: Duration, micros: u64| {
            found.abs_diff(Duration::from_micros(micros)) <= Duration::from_micros(micros / 500)
        };
        assert!(near(latencies.quantile(0.5), 50_000));
        assert!(near(latencies.quantile(0.99), 99_000));
    }
}
