//! `demo`, help and version.

use crate::{Place, lightning};

#[test]
fn the_demonstration_leaves_a_database_that_can_be_used() {
    let place = Place::new();
    let directory = place.path("demo");
    let text = lightning(["demo", &directory]).ends_with(0);
    assert!(
        text.text()
            .contains("everything that was read is what was written")
    );
    let db = format!("{directory}/unicode.db");
    assert!(text.text().contains(&db));
    let alpha = lightning(["get", &db, "Greek/0003B1"]).ends_with(0);
    assert!(alpha.text().contains("GREEK SMALL LETTER ALPHA"));

    let again = lightning(["demo", &directory]).ends_with(1);
    assert!(again.err.contains("not empty"), "{}", again.err);
}

#[test]
fn every_command_has_help_and_every_misuse_ends_with_2() {
    for command in [
        "demo", "import", "put", "get", "delete", "scan", "stats", "verify",
    ] {
        let help = lightning([command, "--help"]).ends_with(0);
        assert!(help.text().contains("Usage: lightning"), "{command}");
        assert!(help.text().contains("Example"), "{command}");
        lightning([command, "--no-such-option"]).ends_with(2);
    }
    assert!(
        lightning(["--help"])
            .ends_with(0)
            .text()
            .contains("Examples:")
    );
    let version = lightning(["--version"]).ends_with(0);
    assert_eq!(
        version.text(),
        format!("lightning {}\n", env!("CARGO_PKG_VERSION"))
    );
    for misuse in [
        &[] as &[&str],
        &["no-such-command"],
        &["get", "db"],
        &["put", "db", "key"],
        &["import", "db", "file.csv"],
        &["import", "db", "file.csv", "--key", "k", "--format", "xml"],
        &["scan", "db", "--limit", "many"],
    ] {
        lightning(misuse).ends_with(2);
    }
}
