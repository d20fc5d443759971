//! `salvage`: what is copied of a damaged database, and what is said about the rest.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Place, lightning};

/// A database of one shard, two thousand rows, closed.
fn made(place: &Place) -> String {
    let rows: String = (0..2000)
        .map(|row| format!("row-{row:05},{row}\n"))
        .collect();
    let (db, file) = (
        place.path("old.db"),
        place.file("rows.csv", format!("k,v\n{rows}")),
    );
    lightning(["import", &db, &file, "--key", "k", "--shards", "1"]).ends_with(0);
    db
}

fn damage(file: impl AsRef<Path>, at: usize) {
    let mut bytes = fs::read(&file).unwrap();
    bytes[at] ^= 0x10;
    fs::write(&file, bytes).unwrap();
}

/// The first leaf in a tree's file that holds a row's text.
fn leaf_with(db: &str, text: &str) -> (PathBuf, usize) {
    let tree = Path::new(db).join("shard-000/tree");
    let bytes = fs::read(&tree).unwrap();
    let at = bytes
        .windows(text.len())
        .rposition(|window| window == text.as_bytes());
    (tree, at.unwrap())
}

fn contents(directory: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(path.to_str().unwrap()));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_whole_database_is_copied_whole() {
    let place = Place::new();
    let (db, out) = (made(&place), place.path("new.db"));
    let before = contents(&db);
    let ran = lightning(["salvage", &db, &out]).ends_with(0);
    assert!(
        ran.text()
            .ends_with("total 2000 entries copied and verified, nothing lost\n"),
        "{ran:?}"
    );
    assert_eq!(
        fs::read_to_string(place.path("new.db.salvage.txt")).unwrap(),
        ran.text()
    );
    assert!(contents(&db) == before, "the source was changed");
    let (old, new) = (
        lightning(["scan", &db]).ends_with(0),
        lightning(["scan", &out]).ends_with(0),
    );
    assert_eq!(old.out, new.out);
    lightning(["verify", &out]).ends_with(0);
    assert_ne!(
        fs::read(Path::new(&db).join("DATABASE")).unwrap()[16..32],
        fs::read(Path::new(&out).join("DATABASE")).unwrap()[16..32]
    );
    // A second run does not write over anything.
    let again = lightning(["salvage", &db, &out]).ends_with(1);
    assert!(again.err.contains("new.db.salvage.txt"), "{}", again.err);
    let report = place.path("report.txt");
    let again = lightning(["salvage", &db, &out, "--report", &report]).ends_with(1);
    assert!(again.err.contains("exists at"), "{}", again.err);
}

#[test]
fn a_damaged_leaf_is_named_and_everything_else_is_copied() {
    let place = Place::new();
    let (db, out) = (made(&place), place.path("new.db"));
    let (tree, at) = leaf_with(&db, "row-01000");
    damage(tree, at);
    let before = contents(&db);
    let report = place.path("lost.txt");
    let ran = lightning(["salvage", &db, &out, "--report", &report]).ends_with(1);
    assert!(
        ran.err.contains("1 loss in") && ran.err.contains("lost.txt"),
        "{}",
        ran.err
    );
    let lost = ran
        .text()
        .lines()
        .find(|line| line.starts_with("lost: "))
        .unwrap();
    assert!(
        lost.contains("shard 0, file") && lost.contains("tree, offset"),
        "{lost}"
    );
    let range = lost.split_once("lost: keys from ").unwrap().1;
    let (from, to) = range.split_once(" to ").unwrap();
    assert!((from..to).contains(&"row-01000"), "{range}");
    assert_eq!(fs::read_to_string(&report).unwrap(), ran.text());
    assert!(contents(&db) == before, "the source was changed");
    for row in (0..2000).map(|row| format!("row-{row:05}")).step_by(37) {
        let status = i32::from((from..to).contains(&row.as_str()));
        lightning(["get", &out, &row]).ends_with(status);
    }
    lightning(["verify", &out]).ends_with(0);
}

#[test]
fn a_database_that_refuses_to_open_is_read() {
    let place = Place::new();
    let (db, out) = (made(&place), place.path("new.db"));
    for slot in 0..4 {
        damage(
            Path::new(&db).join("shard-000/superblock"),
            slot * 4096 + 50,
        );
    }
    damage(Path::new(&db).join("DATABASE"), 50);
    damage(Path::new(&db).join("DATABASE"), 4096 + 50);
    lightning(["scan", &db]).ends_with(1);
    fs::create_dir(&out).unwrap();
    let ran = lightning(["salvage", &db, &out, "--json"]).ends_with(1);
    let report: serde_json::Value = serde_json::from_str(ran.text()).unwrap();
    assert_eq!(report["losses"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["entries"], 2000, "{report}");
    assert_eq!(report["shards"][0]["tree_entries"], 0, "{report}");
    assert!(
        report["notes"][0]["file"]
            .as_str()
            .unwrap()
            .ends_with("DATABASE"),
        "{report}"
    );
    assert_eq!(
        fs::read_to_string(place.path("new.db.salvage.json")).unwrap(),
        ran.text()
    );
    let rows = lightning(["scan", &out, "--keys"]).ends_with(0);
    assert_eq!(rows.text().lines().count(), 2000);
}

#[test]
fn what_cannot_be_is_refused_and_nothing_is_left_behind() {
    let place = Place::new();
    let (db, out) = (made(&place), place.path("new.db"));
    let inside = format!("{db}/rescued");
    lightning(["salvage", &db]).ends_with(2);
    lightning(["salvage", &db, &out, "--report", &format!("{db}/r.txt")]).ends_with(2);
    lightning(["salvage", &db, &inside, "--report", &place.path("r.txt")]).ends_with(1);
    let absent = lightning(["salvage", &place.path("absent"), &out]).ends_with(1);
    assert!(absent.err.contains("absent"), "{}", absent.err);
    assert!(!Path::new(&out).exists() && !Path::new(&inside).exists());
    assert!(!Path::new(&place.path("new.db.salvage.txt")).exists());
    let full = place.path("full");
    fs::create_dir(&full).unwrap();
    fs::write(Path::new(&full).join("thesis.txt"), "years of work").unwrap();
    let refused = lightning(["salvage", &db, &full]).ends_with(1);
    assert!(refused.err.contains("thesis.txt"), "{}", refused.err);
    let refused = lightning(["salvage", &full, &out]).ends_with(1);
    assert!(refused.err.contains("DATABASE"), "{}", refused.err);
    assert_eq!(contents(&full).len(), 1);
}
