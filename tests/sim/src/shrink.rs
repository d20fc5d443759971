//! Making a failing run smaller: fewer shards, callers, operations, lives and faults, and fewer
//! strikes of these.

use std::fmt;

use crate::faults::FaultSet;
use crate::life::run;
use crate::plan::Options;
use crate::report::Violation;

/// The smallest run that was found to fail.
#[derive(Debug)]
pub struct Shrunk {
    /// Its bounds.
    pub options: Options,
    /// How it fails.
    pub violation: Violation,
    /// How many runs that took.
    pub attempts: usize,
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options {
            shards_max,
            clients_max,
            operations_max,
            generations_max,
            ref faults,
            rate_percent,
            strikes_max,
            trace_last: _,
        } = self.options;
        write!(
            f,
            "smallest of {} runs: shards <= {shards_max}, clients <= {clients_max}, \
             operations <= {operations_max}, generations <= {generations_max}, faults",
            self.attempts
        )?;
        if faults.is_empty() {
            f.write_str(" none")?;
        }
        for (at, fault) in faults.iter().enumerate() {
            write!(f, "{}{fault:?}", if at == 0 { " " } else { "," })?;
        }
        if !faults.is_empty() {
            write!(f, " at {rate_percent} % of the rate")?;
            if strikes_max < u64::MAX {
                write!(f, ", <= {strikes_max} strikes")?;
            }
        }
        write!(f, ": {}", self.violation)
    }
}

/// Runs that one search may take: each is some milliseconds, and most reductions are tried twice.
const ATTEMPTS_MAX: usize = 200;

/// Looks for the smallest bounds under which a seed still fails; `None` when it does not fail.
pub fn shrink(seed: u64, options: &Options) -> Option<Shrunk> {
    let violation = run(seed, options).violation?;
    let mut best = Shrunk {
        options: options.clone(),
        violation,
        attempts: 1,
    };
    loop {
        let mut smaller = false;
        for candidate in reductions(&best.options) {
            if best.attempts >= ATTEMPTS_MAX {
                return Some(best);
            }
            best.attempts += 1;
            if let Some(violation) = run(seed, &candidate).violation {
                best.options = candidate;
                best.violation = violation;
                smaller = true;
                break;
            }
        }
        if !smaller {
            return Some(best);
        }
    }
}

/// Smaller bounds, the boldest first.
fn reductions(from: &Options) -> Vec<Options> {
    let mut found = Vec::new();
    let mut add = |change: &dyn Fn(&mut Options)| {
        let mut options = from.clone();
        change(&mut options);
        if options != *from {
            found.push(options);
        }
    };
    add(&|options| options.shards_max = 1);
    add(&|options| options.clients_max = 1);
    add(&|options| options.generations_max = 1);
    add(&|options| options.operations_max /= 2);
    add(&|options| options.shards_max = (options.shards_max - 1).max(1));
    add(&|options| options.clients_max = (options.clients_max - 1).max(1));
    add(&|options| options.generations_max = (options.generations_max - 1).max(1));
    add(&|options| {
        options.operations_max -= options
            .operations_max
            .div_ceil(8)
            .min(options.operations_max);
    });
    if !from.faults.is_empty() {
        add(&|options| options.faults = FaultSet::none());
        for fault in from.faults.iter() {
            add(&|options| options.faults = from.faults.without(fault));
        }
        add(&|options| options.strikes_max = options.strikes_max.min(3) / 2);
        add(&|options| options.rate_percent /= 2);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reductions_are_smaller_each_in_one_way_and_come_to_an_end() {
        let mut options = Options {
            faults: FaultSet::all(),
            ..Options::default()
        };
        let mut steps = 0;
        while let Some(smaller) = reductions(&options).pop() {
            assert_ne!(smaller, options);
            options = smaller;
            steps += 1;
            assert!(steps < 500);
        }
        assert!(options.faults.is_empty() || options.rate_percent == 0);
    }
}
