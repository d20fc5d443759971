//! Every saved input, and a short run of every target: what changes of the code meet first.

use std::time::Duration;

use lightning_fuzz::memory::Counting;
use lightning_fuzz::{NAMES, Settings, corpus, run, target};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// More than is read from files and made at the start, so that some inputs are mutated; few enough
/// for a debug build.
const EXECUTIONS: u64 = 400;

#[test]
fn no_saved_input_and_no_short_run_finds_anything() {
    let crashes = std::env::temp_dir().join("lightning-fuzz-crashes");
    let settings = Settings {
        duration: Duration::from_mins(10),
        executions_max: EXECUTIONS,
        crashes,
        ..Settings::default()
    };
    let report = run(&settings).unwrap();
    assert_eq!(report.crashes(), 0, "{report}");
    assert_eq!(report.targets.len(), NAMES.len());
    for target in &report.targets {
        assert!(target.executions >= EXECUTIONS, "{target}");
        // Something reaches the inside, or the target tests nothing.
        assert!(
            target.accepted > 0 && target.accepted <= target.executions,
            "{target}"
        );
        assert!(target.heap_bytes_peak > 0, "{target}");
    }
}

#[test]
fn every_target_has_saved_inputs_and_they_are_few() {
    let saved = corpus::load(&corpus::directory()).unwrap();
    for input in &saved {
        assert!(target(&input.target).is_some(), "{}", input.path.display());
    }
    for name in NAMES {
        assert!(saved.iter().any(|input| input.target == name), "{name}");
    }
    let bytes: usize = saved.iter().map(|input| input.bytes.len()).sum();
    assert!(
        saved.len() < 300 && bytes < 2 << 20,
        "{} inputs, {bytes} bytes",
        saved.len()
    );
}
