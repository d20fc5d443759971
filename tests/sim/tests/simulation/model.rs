//! A database against a `BTreeMap`: one caller, many thousand operations, opened again in between.

use lightning_sim::sequential::{Settings, compare};

/// Operations of each seed.
const OPERATIONS: usize = 10_000;

#[test]
fn a_database_behaves_as_a_map() {
    for seed in 0..6 {
        let settings = Settings {
            operations: OPERATIONS,
            reopen_every: 1_500,
        };
        if let Err(what) = compare(seed, settings) {
            panic!("seed {seed}: {what}");
        }
    }
}
