//! Keyspaces that come and go while callers work on them.

use lightning_sim::keyspaces::{Figures, run};

const SEEDS: u64 = 300;

#[test]
fn keyspaces_hold_exactly_what_was_promised() {
    let (mut figures, mut violations) = (Figures::default(), Vec::new());
    for seed in 0..SEEDS {
        let outcome = run(seed);
        figures += outcome.figures;
        violations.extend(outcome.violation.map(|what| format!("seed {seed}: {what}")));
    }
    println!("{figures:#?}");
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    // A simulation in which these do not happen has tested nothing.
    for (figure, least) in [
        (figures.created, SEEDS),
        (figures.dropped, SEEDS),
        (figures.drops_resumed, SEEDS / 30),
        (figures.refused, SEEDS),
        (figures.ranges, SEEDS),
        (figures.crashes, SEEDS),
    ] {
        assert!(
            figure >= least,
            "{figure} is less than {least} in {figures:#?}"
        );
    }
}

/// Seeds that found something, and what it was. A change of what a seed draws makes another run of
/// it.
const FOUND: [(u64, &str); 1] = [(
    3217,
    "a deletion that found nothing left was answered before what had deleted the keys was durable",
)];

#[test]
fn old_findings_stay_away() {
    for (seed, what) in FOUND {
        assert_eq!(run(seed).violation, None, "seed {seed}: {what}");
    }
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
