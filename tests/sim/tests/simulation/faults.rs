//! All faults at once: nothing is violated, every knob strikes, and what faults excuse is used.

use lightning_sim::Options;
use lightning_sim::faults::FaultSet;
use lightning_sim::figures::run_seeds;
use lightning_sim::report::Hazard;

/// Seeds of one test run. The figures of the project come from ten times as many.
const SEEDS: u64 = 200;

#[test]
fn a_hostile_disk_is_found_out_and_contained() {
    let options = Options {
        faults: FaultSet::all(),
        ..Options::default()
    };
    let (figures, violations) = run_seeds(&(0..SEEDS), &options, 2);
    println!("{figures}");
    let violations: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    for hazard in Hazard::all() {
        let met = figures.hazards.get(&hazard).copied().unwrap_or_default();
        assert!(met.fired > 0, "{hazard} never struck in\n{figures}");
    }
    // A simulation in which these do not happen has tested nothing.
    for (figure, least) in [
        (figures.unread, SEEDS / 4),
        (figures.contained, SEEDS),
        (figures.refused, SEEDS / 20),
        (figures.poisoned, SEEDS / 20),
        (figures.space_returned, 1),
        (figures.open_errors, SEEDS / 4),
    ] {
        assert!(
            figure >= least,
            "{figure} is less than {least} in\n{figures}"
        );
    }
}
