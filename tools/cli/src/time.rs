//! Spans of time as text: a number and a unit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Units, the longest first, with their milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A span of whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no time such as 500ms, 30s, 15m, 12h or 7d");
        let digits = text.find(|char: char| !char.is_ascii_digit());
        let (number, unit) = text.split_at(digits.ok_or_else(bad)?);
        let (_, millis) = UNITS.iter().find(|known| known.0 == unit).ok_or_else(bad)?;
        let number: u64 = number.parse().map_err(|_| bad())?;
        let millis = number.checked_mul(*millis).ok_or_else(bad)?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Time {
    /// In the longest unit of which it is a whole number; in microseconds when it has others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        let whole = |millis: u64| micros.is_multiple_of(u128::from(millis) * 1_000);
        match UNITS.iter().find(|unit| whole(unit.1)) {
            Some((unit, millis)) => write!(f, "{}{unit}", micros / (u128::from(*millis) * 1_000)),
            None => write!(f, "{micros}us"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_and_written_in_the_longest_unit_that_fits() {
        for (text, millis, written) in [
            ("500ms", 500, "500ms"),
            ("30s", 30_000, "30s"),
            ("120s", 120_000, "2m"),
            ("12h", 43_200_000, "12h"),
            ("24h", 86_400_000, "1d"),
            ("1500ms", 1_500, "1500ms"),
        ] {
            let time: Time = text.parse().unwrap();
            assert_eq!(time, Time(Duration::from_millis(millis)));
            assert_eq!(time.to_string(), written);
        }
        assert_eq!(Time(Duration::from_micros(1_500)).to_string(), "1500us");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "5w",
            "1.5h",
            "18446744073709551615d",
        ] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }
}
