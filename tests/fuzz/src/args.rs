//! The command line of the fuzzer.

use std::time::Duration;

use crate::campaign::Settings;

/// How the command is called.
pub const USAGE: &str = "\
usage: lightning-fuzz [--seconds N | --long] [--seed S] [--jobs J] [--only A,B,..]
                      [--keep DIR] [--list]

  --seconds N   how long in all, divided among the targets (default 60)
  --long        half an hour
  --seed S      what chance begins with (default 1)
  --jobs J      targets at a time, each on a core (default 1)
  --only A,B    these targets alone
  --keep DIR    begin with the inputs in DIR too, and keep there what finds new coverage
  --list        print the names of all targets";

/// Half an hour.
const LONG: Duration = Duration::from_mins(30);

/// What the command is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Fuzz.
    Run(Settings),
    /// Print the names of the targets.
    List,
    /// Print how it is called.
    Help,
}

/// Reads the arguments after the program's name.
///
/// # Errors
/// What is wrong with them.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let mut args = args.into_iter();
    let mut settings = Settings::default();
    while let Some(name) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
        let number = |text: String| {
            let parsed = text.parse::<u64>();
            parsed.map_err(|_| format!("{text:?} is no number"))
        };
        match name.as_str() {
            "--seconds" => settings.duration = Duration::from_secs(number(value()?)?),
            "--long" => settings.duration = LONG,
            "--seed" => settings.seed = number(value()?)?,
            "--jobs" => settings.jobs = lightning_io::to_usize(number(value()?)?).max(1),
            "--keep" => settings.keep = Some(value()?.into()),
            "--only" => settings.targets = value()?.split(',').map(str::to_owned).collect(),
            "--list" => return Ok(Command::List),
            "--help" | "-h" => return Ok(Command::Help),
            _ => return Err(format!("there is no option {name:?}")),
        }
    }
    let known = |target: &&String| crate::NAMES.contains(&target.as_str());
    match settings.targets.iter().find(|target| !known(target)) {
        Some(unknown) => Err(format!("there is no target {unknown:?}")),
        None => Ok(Command::Run(settings)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Command, String> {
        parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_full_command_line_is_understood() {
        let Ok(Command::Run(settings)) = read("--long --seed 7 --jobs 2 --only leaf,csv") else {
            panic!("it is one");
        };
        assert_eq!(
            (settings.duration, settings.seed, settings.jobs),
            (LONG, 7, 2)
        );
        assert_eq!(settings.targets, ["leaf", "csv"]);
        assert_eq!(read("--list"), Ok(Command::List));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in ["--seconds", "--seconds x", "--only leaf,other", "--fast"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
