//! Making a failing run smaller: fewer shards, callers, operations, lives and faults.

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
    for fault in from.faults.iter() {
        add(&|options| options.faults = from.faults.without(fault));
    }
    found
}
