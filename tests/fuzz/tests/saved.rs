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
    let report = run(&settings, |_| {}).unwrap();
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
fn every_saved_input_belongs_to_a_target() {
    let directory = std::fs::read_dir(corpus::directory()).unwrap();
    let mut bytes = 0;
    for entry in directory {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let owner = name.split_once('-').map(|parts| parts.0);
        assert!(owner.is_some_and(|owner| target(owner).is_some()), "{name}");
        bytes += entry.metadata().unwrap().len();
    }
    assert!(bytes < 1 << 20, "{bytes} bytes of saved inputs");
}
