//! The command as a script meets it: what it prints where, and its exit status.

use std::process::{Command, Output};

fn command(line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lightning-sim"))
        .args(line.split_whitespace())
        .output()
        .expect("the command is built with its tests")
}

#[test]
fn a_command_line_that_makes_no_sense_is_a_usage_error() {
    for (line, wrong) in [
        ("", "--seeds is missing"),
        ("--seeds 9..3", "\"9..3\" is no range of seeds"),
        ("--seeds x..3", "\"x..3\" is no range of seeds"),
        ("--seeds 0..1 --faults F99", "no fault \"F99\""),
        ("--seeds 0..1 --faults F5,Rot", "no fault \"Rot\""),
        ("--seeds 0..1 --fast", "no option \"--fast\""),
        ("figures --seeds 0..1", "no option \"--seeds\""),
        ("figures --row sweeps", "no row \"sweeps\""),
        ("figures --jobs 0", "\"0\" is no number of threads"),
    ] {
        let output = command(line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(output.stdout.is_empty(), "{line}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains(wrong), "{line}: {told}");
        assert!(told.contains("usage: lightning-sim"), "{line}: {told}");
    }
}

#[test]
fn seeds_print_the_same_on_any_number_of_threads() {
    let one = command("--seeds 0..4 --faults all --jobs 1");
    let three = command("--seeds 0..4 --faults all --jobs 3");
    assert_eq!(one.status.code(), Some(0));
    assert_eq!(one.stdout, three.stdout);
    let told = String::from_utf8(one.stdout).unwrap();
    assert!(told.starts_with("seeds 0..4: 0 violations"), "{told}");
}
