//! Crashes at random points, nested in recovery too, checked for exact contents.

use lightning_sim::report::Figures;
use lightning_sim::{Options, run};

/// Seeds of one test run: some hundred crashes inside recovery and two thousand images. The figures of
/// the project come from ten times as many.
const SEEDS: u64 = 250;

#[test]
fn every_crash_leaves_exactly_what_was_promised() {
    let (mut figures, mut violations) = (Figures::default(), Vec::new());
    for seed in 0..SEEDS {
        let outcome = run(seed, &Options::default());
        figures += &outcome.figures;
        violations.extend(outcome.violation.map(|violation| violation.to_string()));
    }
    println!("{figures}");
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    // A simulation in which these do not happen has tested nothing.
    for (figure, least) in [
        (figures.crash_images, SEEDS),
        (figures.nested_crashes, SEEDS),
        (figures.recoveries_repeated, SEEDS / 4),
        (figures.tails_lost, SEEDS / 4),
        (figures.unanswered_kept, SEEDS / 4),
        (figures.flushes, SEEDS),
        (figures.segments_recycled, SEEDS),
        (figures.dropped, SEEDS),
        (figures.busy, SEEDS / 4),
        (figures.closes, SEEDS),
        (figures.kills, SEEDS / 10),
    ] {
        assert!(
            figure >= least,
            "{figure} is less than {least} in\n{figures}"
        );
    }
}
