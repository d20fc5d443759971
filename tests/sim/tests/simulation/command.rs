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
    for line in [
        "",
        "--seeds 9..3",
        "--seeds 0..1 --faults F99",
        "figures --seeds 0..1",
        "figures --faults F99",
        "figures --jobs 0",
    ] {
        let output = command(line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(output.stdout.is_empty(), "{line}");
        let told = String::from_utf8(output.stderr).unwrap();
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
