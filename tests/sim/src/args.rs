//! The command line of the simulation.

use std::ops::Range;

use crate::faults::FaultSet;

/// How the command is called.
pub const USAGE: &str = "\
usage: lightning-sim --seeds A..B [--faults none|all|F5,F10,..] [--shrink] [--trace]
       cargo planted [BUG..]

  --seeds A..B   run the seeds from A up to, not including, B; A alone is one seed
  --faults SET   faults besides crashes: none (the default), all, or a list of names
  --shrink       look for the smallest run in which a violating seed still fails
  --trace        print the last events of a violating run

  cargo planted  build all planted bugs in, and look for each in up to 1000 seeds, or for those
                 that are named; one alone, to look at: RUSTFLAGS='--cfg planted=\"BUG\"'";

/// What the command is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    /// Which seeds.
    pub seeds: Range<u64>,
    /// Which faults.
    pub faults: FaultSet,
    /// Whether to make failing runs smaller.
    pub shrink: bool,
    /// Whether to print what a failing run did.
    pub trace: bool,
}

/// Reads the arguments after the program's name; `None` is a call for help.
///
/// # Errors
/// What is wrong with them.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Option<Args>, String> {
    let mut args = args.into_iter();
    let mut seeds = None;
    let mut parsed = Args {
        seeds: 0..0,
        faults: FaultSet::none(),
        shrink: false,
        trace: false,
    };
    while let Some(arg) = args.next() {
        let (name, mut inline) = match arg.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (arg, None),
        };
        let mut value = || {
            let value = inline.take().or_else(|| args.next());
            value.ok_or_else(|| format!("{name} needs a value"))
        };
        match name.as_str() {
            "--seeds" => seeds = Some(parse_seeds(&value()?)?),
            "--faults" => {
                parsed.faults = FaultSet::parse(&value()?)
                    .map_err(|unknown| format!("there is no fault {unknown:?}"))?;
            }
            "--shrink" => parsed.shrink = true,
            "--trace" => parsed.trace = true,
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("there is no option {name:?}")),
        }
        if inline.is_some() {
            return Err(format!("{name} takes no value"));
        }
    }
    parsed.seeds = seeds.ok_or("--seeds is missing")?;
    Ok(Some(parsed))
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let bad = || format!("{text:?} is no range of seeds such as 0..1000");
    let number = |text: &str| text.parse::<u64>().map_err(|_| bad());
    let range = if let Some((from, to)) = text.split_once("..") {
        number(from)?..number(to)?
    } else {
        let seed = number(text)?;
        seed..seed.checked_add(1).ok_or_else(bad)?
    };
    if range.is_empty() {
        return Err(bad());
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Args>, String> {
        parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_full_command_line_is_understood() {
        let args = read("--seeds 3..9 --faults F5,F10 --shrink --trace")
            .unwrap()
            .unwrap();
        assert_eq!(args.seeds, 3..9);
        assert!(args.shrink && args.trace && !args.faults.is_empty());
        assert_eq!(read("--seeds=7").unwrap().unwrap().seeds, 7..8);
        assert_eq!(read("--help"), Ok(None));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "",
            "--seeds",
            "--seeds 9..3",
            "--seeds 3..3",
            "--seeds a..b",
            "--seeds 18446744073709551615",
            "--seeds 1..2 --faults F99",
            "--seeds 1..2 --fast",
            "--seeds 1..2 --shrink=yes",
            "--seeds 1..2 --faults",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
