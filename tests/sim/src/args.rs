//! The command line of the simulation.

use std::num::NonZero;
use std::ops::Range;
use std::thread;

use crate::faults::FaultSet;
use crate::figures::{Part, Settings};

/// How the command is called.
pub const USAGE: &str = "\
usage: lightning-sim --seeds A..B [--faults none|all|F5,F10,..] [--jobs N] [--shrink] [--trace]
       lightning-sim figures [--long] [--row NAME,..] [--first SEED] [--jobs N]
       cargo planted [BUG..]

  --seeds A..B   run the seeds from A up to, not including, B; A alone is one seed
  --faults SET   faults besides crashes: none (the default), all, or a list of names
  --jobs N       threads; as many as there are cores when left out
  --shrink       look for the smallest run in which a violating seed still fails
  --trace        print the last events of a violating run

  figures        print the figures of the project, what is required beside what was reached;
                 some minutes
  --long         what a release needs; some hours
  --row NAME     these rows alone: seeds, twice, syncs, calls, bytes, swaps, planted, fuzz
  --first SEED   begin with this seed, instead of 0

  cargo planted  build all planted bugs in, and look for each in up to 1000 seeds, or for those
                 that are named; one alone, to look at: RUSTFLAGS='--cfg planted=\"BUG\"'

exit status: 0 when all is as it has to be, 1 when something is violated, not reached, or a fault
strikes in too few of the seeds that have it, 2 when the command line is wrong";

/// What the command is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// To say how it is called.
    Help,
    /// To run seeds.
    Seeds(Args),
    /// To print the figures.
    Figures(Settings),
}

/// Which seeds to run, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    /// Which seeds.
    pub seeds: Range<u64>,
    /// Which faults.
    pub faults: FaultSet,
    /// Threads.
    pub jobs: usize,
    /// Whether to make failing runs smaller.
    pub shrink: bool,
    /// Whether to print what a failing run did.
    pub trace: bool,
}

/// The options of a command line, one after the other.
struct Options<I> {
    args: I,
    name: String,
    inline: Option<String>,
}

impl<I: Iterator<Item = String>> Options<I> {
    fn new(args: I) -> Self {
        Self {
            args,
            name: String::new(),
            inline: None,
        }
    }

    /// Steps to the next option and gives its name.
    fn next(&mut self) -> Result<Option<String>, String> {
        if self.inline.is_some() {
            return Err(format!("{} takes no value", self.name));
        }
        let Some(arg) = self.args.next() else {
            return Ok(None);
        };
        (self.name, self.inline) = match arg.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (arg, None),
        };
        Ok(Some(self.name.clone()))
    }

    fn value(&mut self) -> Result<String, String> {
        let value = self.inline.take().or_else(|| self.args.next());
        value.ok_or_else(|| format!("{} needs a value", self.name))
    }

    fn jobs(&mut self) -> Result<usize, String> {
        let value = self.value()?;
        let jobs = value.parse().ok().filter(|&jobs| jobs > 0);
        jobs.ok_or_else(|| format!("{value:?} is no number of threads"))
    }

    fn unknown<T>(&self) -> Result<T, String> {
        Err(format!("there is no option {:?}", self.name))
    }
}

/// Reads the arguments after the program's name.
///
/// # Errors
/// What is wrong with them.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Request, String> {
    let mut args = args.into_iter().peekable();
    if args.next_if(|arg| arg == "figures").is_some() {
        parse_figures(Options::new(args))
    } else {
        parse_run(Options::new(args))
    }
}

fn parse_run(mut options: Options<impl Iterator<Item = String>>) -> Result<Request, String> {
    let mut seeds = None;
    let mut parsed = Args {
        seeds: 0..0,
        faults: FaultSet::none(),
        jobs: cores(),
        shrink: false,
        trace: false,
    };
    while let Some(name) = options.next()? {
        match name.as_str() {
            "--seeds" => seeds = Some(parse_seeds(&options.value()?)?),
            "--faults" => {
                parsed.faults = FaultSet::parse(&options.value()?)
                    .map_err(|unknown| format!("there is no fault {unknown:?}"))?;
            }
            "--jobs" => parsed.jobs = options.jobs()?,
            "--shrink" => parsed.shrink = true,
            "--trace" => parsed.trace = true,
            "--help" | "-h" => return Ok(Request::Help),
            _ => return options.unknown(),
        }
    }
    parsed.seeds = seeds.ok_or("--seeds is missing")?;
    Ok(Request::Seeds(parsed))
}

fn parse_figures(mut options: Options<impl Iterator<Item = String>>) -> Result<Request, String> {
    let mut settings = Settings {
        long: false,
        jobs: cores(),
        first_seed: 0,
        parts: Vec::new(),
    };
    while let Some(name) = options.next()? {
        match name.as_str() {
            "--long" => settings.long = true,
            "--jobs" => settings.jobs = options.jobs()?,
            "--row" => {
                for name in options.value()?.split(',') {
                    let part = Part::named(name);
                    let part = part.ok_or_else(|| format!("there is no row {name:?}"))?;
                    settings.parts.push(part);
                }
            }
            "--first" => {
                let seed = options.value()?;
                let parsed = seed.parse().ok().filter(|&seed| seed <= FIRST_SEED_MAX);
                settings.first_seed = parsed.ok_or_else(|| format!("{seed:?} is no seed"))?;
            }
            "--help" | "-h" => return Ok(Request::Help),
            _ => return options.unknown(),
        }
    }
    if settings.parts.is_empty() {
        settings.parts = Part::ALL.to_vec();
    }
    Ok(Request::Figures(settings))
}

/// Leaves room for every seed that the figures may need.
const FIRST_SEED_MAX: u64 = u64::MAX / 2;

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
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

    fn read(text: &str) -> Result<Request, String> {
        parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_full_command_line_is_understood() {
        let line = "--seeds 3..9 --faults F5,F10 --shrink --trace --jobs 3";
        let Ok(Request::Seeds(args)) = read(line) else {
            panic!("{line} is understood");
        };
        assert_eq!(args.seeds, 3..9);
        assert_eq!(args.jobs, 3);
        assert!(args.shrink && args.trace && !args.faults.is_empty());
        assert!(matches!(read("--seeds=7"), Ok(Request::Seeds(args)) if args.seeds == (7..8)));
        assert_eq!(read("--help"), Ok(Request::Help));
        assert_eq!(read("figures --help"), Ok(Request::Help));
    }

    #[test]
    fn the_figures_are_asked_for_by_name() {
        let settings = Settings {
            long: true,
            jobs: 2,
            first_seed: 9,
            parts: vec![Part::Twice, Part::Fuzz, Part::Bytes],
        };
        let line = "figures --long --jobs=2 --first 9 --row twice,fuzz --row bytes";
        assert_eq!(read(line), Ok(Request::Figures(settings)));
        assert!(matches!(read("figures"), Ok(Request::Figures(all)) if all.parts == Part::ALL));
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
            "--seeds 1..2 --jobs 0",
            "--seeds 1..2 figures",
            "figures --seeds 1..2",
            "figures --faults F99",
            "figures --jobs none",
            "figures --long=yes",
            "figures --first -1",
            "figures --row",
            "figures --row twice,sweeps",
            "figures --first 18446744073709551615",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
