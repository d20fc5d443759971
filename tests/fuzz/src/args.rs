//! The command line of the fuzzer.

use std::time::Duration;

use crate::campaign::Settings;

/// How the command is called.
pub const USAGE: &str = "\
usage: lightning-fuzz [--seconds N] [--seed S] [--jobs J] [--target NAME].. [--keep DIR] [--list]

  --seconds N     how long in all, divided among the targets (default 60)
  --seed S        what chance begins with (default 1)
  --jobs J        targets at a time, each on a core (default 1)
  --target NAME   this target alone, or those that are named
  --keep DIR      begin with the inputs in DIR too, and keep there what does something new
  --list          print the names of all targets";

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
        let at_least_one = |text: String| match number(text)? {
            0 => Err(format!("{name} is at least 1")),
            count => Ok(count),
        };
        match name.as_str() {
            "--seconds" => settings.duration = Duration::from_secs(at_least_one(value()?)?),
            "--seed" => settings.seed = number(value()?)?,
            "--jobs" => settings.jobs = lightning_io::to_usize(at_least_one(value()?)?),
            "--keep" => settings.keep = Some(value()?.into()),
            "--target" => settings.targets.push(value()?),
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
        let text = "--seconds 9 --seed 7 --jobs 2 --target leaf --target csv";
        let Ok(Command::Run(settings)) = read(text) else {
            panic!("it is one");
        };
        let nine = Duration::from_secs(9);
        assert_eq!(
            (settings.duration, settings.seed, settings.jobs),
            (nine, 7, 2)
        );
        assert_eq!(settings.targets, ["leaf", "csv"]);
        assert_eq!(read("--list"), Ok(Command::List));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "--seconds",
            "--seconds x",
            "--seconds 0",
            "--jobs 0",
            "--target other",
            "--fast",
            "leaf",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
