//! Every place is tried where something can go wrong, as far as a test's time allows.

use lightning_sim::sweep::{Extent, sweep_bytes, sweep_calls, sweep_swaps, sweep_syncs};

/// Cases of the test: the figures of the project come from ten times as many.
const BYTE_CASES: u64 = 20_000;

/// Pairs of the test.
const SWAPS: u64 = 5_000;

#[test]
fn a_changed_byte_is_detected_repaired_or_redundant() {
    let figures = sweep_bytes(1, Extent::Sampled(BYTE_CASES), 2).unwrap();
    println!("{figures}");
    assert_eq!(figures.violation_count, 0, "{figures}");
    assert!(figures.cases > BYTE_CASES / 2, "{figures}");
}

#[test]
fn a_block_from_elsewhere_is_detected_repaired_or_redundant() {
    let figures = sweep_swaps(1, SWAPS, 2).unwrap();
    println!("{figures}");
    assert_eq!(figures.violation_count, 0, "{figures}");
    assert!(figures.cases > SWAPS / 2, "{figures}");
}

#[test]
fn after_a_failed_sync_or_log_write_nothing_is_acknowledged() {
    let figures = sweep_syncs(1, Extent::Whole, 2).unwrap();
    println!("{figures}");
    assert_eq!(figures.violation_count, 0, "{figures}");
}

#[test]
fn any_call_may_fail_and_nothing_is_lost() {
    let figures = sweep_calls(1, Extent::Sampled(3_000), 2).unwrap();
    println!("{figures}");
    assert_eq!(figures.violation_count, 0, "{figures}");
}
