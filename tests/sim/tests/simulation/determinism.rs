//! One seed is one run.

use lightning_sim::faults::FaultSet;
use lightning_sim::{Options, run};

#[test]
fn the_same_seed_does_the_same() {
    let hashes: Vec<u64> = (0..40)
        .map(|seed| run(seed, &Options::default()).hash)
        .collect();
    for (seed, hash) in (0..).zip(&hashes) {
        assert_eq!(run(seed, &Options::default()).hash, *hash, "seed {seed}");
    }
    let mut distinct = hashes.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), hashes.len(), "seeds differ");
}

#[test]
fn the_same_seed_does_the_same_with_faults() {
    let options = Options {
        faults: FaultSet::all(),
        ..Options::default()
    };
    for seed in 0..20 {
        let (first, second) = (run(seed, &options), run(seed, &options));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.figures, second.figures, "seed {seed}");
    }
}
