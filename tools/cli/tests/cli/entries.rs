//! `put`, `get`, `delete`, `scan`, `stats` and `verify`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::{Place, command, lightning, shipped};

#[test]
fn a_value_can_be_put_read_replaced_and_deleted() {
    let place = Place::new();
    let db = place.database("k,v\n1,2\n");
    lightning(["put", &db, "key", "value"]).ends_with(0);
    assert_eq!(lightning(["get", &db, "key"]).ends_with(0).out, b"value");
    lightning(["put", &db, "key", ""]).ends_with(0);
    assert_eq!(lightning(["get", &db, "key"]).ends_with(0).out, b"");
    lightning(["delete", &db, "key"]).ends_with(0);
    let absent = lightning(["get", &db, "key"]).ends_with(1);
    assert_eq!(
        (absent.out.len(), absent.err.as_str()),
        (0, "lightning: key not found: key\n")
    );
    lightning(["delete", &db, "key"]).ends_with(0);
    lightning(["put", &db, "--", "--key", "-v"]).ends_with(0);
    assert_eq!(
        lightning(["get", &db, "--", "--key"]).ends_with(0).out,
        b"-v"
    );
}

#[test]
fn keys_that_the_database_refuses_end_with_1() {
    let place = Place::new();
    let db = place.database("k,v\n1,2\n");
    lightning(["put", &db, "", "value"]).ends_with(1);
    let long = "k".repeat((64 << 10) + 1);
    lightning(["put", &db, &long, "value"]).ends_with(1);
    let longest = &long[1..];
    lightning(["put", &db, longest, "value"]).ends_with(0);
    assert_eq!(lightning(["get", &db, longest]).ends_with(0).out, b"value");
}

#[test]
fn bytes_of_every_kind_come_back_from_get_and_escaped_from_scan() {
    let place = Place::new();
    let db = place.database("k,v\n");
    // An argument cannot hold a zero byte; everything else is allowed.
    let every: Vec<u8> = (1..=u8::MAX).collect();
    let key: OsString = [b"\xff\t".as_slice(), "é\n".as_bytes()]
        .map(OsStr::from_bytes)
        .into_iter()
        .collect();
    lightning([
        OsStr::new("put"),
        db.as_ref(),
        &key,
        OsStr::from_bytes(&every),
    ])
    .ends_with(0);
    let got = lightning([OsStr::new("get"), db.as_ref(), &key]).ends_with(0);
    assert_eq!(got.out, every);

    let line = lightning(["scan", &db]).ends_with(0);
    let (key, value) = line
        .text()
        .strip_suffix('\n')
        .unwrap()
        .split_once('\t')
        .unwrap();
    assert_eq!(key, "\\xFF\\té\\n");
    let mut expected = String::new();
    for byte in every {
        match byte {
            b'\t' => expected.push_str("\\t"),
            b'\n' => expected.push_str("\\n"),
            b'\r' => expected.push_str("\\r"),
            b'\\' => expected.push_str("\\\\"),
            0x80.. => expected.push_str(&format!("\\x{byte:02X}")),
            ascii => expected.push(char::from(ascii)),
        }
    }
    assert_eq!(value, expected);
}

#[test]
fn scan_narrows_by_prefix_bounds_and_limit() {
    let place = Place::new();
    let db = place.database("k\na1\na2\nb1\nb2\nb3\nc1\n");
    let keys = |options: &[&str]| {
        let all = [&["scan", &db, "--keys"], options].concat();
        lightning(all).ends_with(0).text().replace('\n', " ")
    };
    assert_eq!(keys(&[]), "a1 a2 b1 b2 b3 c1 ");
    assert_eq!(keys(&["--prefix", "b"]), "b1 b2 b3 ");
    assert_eq!(keys(&["--from", "a2", "--to", "b2"]), "a2 b1 ");
    assert_eq!(
        keys(&["--prefix", "b", "--from", "b2", "--to", "z", "--limit", "1"]),
        "b2 "
    );
    assert_eq!(keys(&["--limit", "0"]), "");
    assert_eq!(keys(&["--prefix", "zz"]), "");
    assert_eq!(keys(&["--from", "b", "--to", "b"]), "");
    assert_eq!(
        lightning(["scan", &db, "--limit", "1"]).ends_with(0).text(),
        "a1\t{\"k\":\"a1\"}\n"
    );
    lightning(["scan", &db, "--from", "c", "--to", "a"]).ends_with(2);
    assert_eq!(keys(&["--reverse"]), "c1 b3 b2 b1 a2 a1 ");
    assert_eq!(keys(&["--reverse", "--limit", "2"]), "c1 b3 ");
    assert_eq!(
        keys(&["--reverse", "--prefix", "b", "--to", "b3"]),
        "b2 b1 "
    );
}

#[test]
fn count_counts_a_range() {
    let place = Place::new();
    let db = place.database("k\na1\na2\nb1\nb2\nb3\nc1\n");
    let count = |options: &[&str]| {
        let all = [&["count", &db], options].concat();
        lightning(all).ends_with(0).text().to_owned()
    };
    assert_eq!(count(&[]), "6\n");
    assert_eq!(count(&["--prefix", "b"]), "3\n");
    assert_eq!(count(&["--from", "a2", "--to", "b2"]), "2\n");
    assert_eq!(count(&["--prefix", "b", "--from", "b2"]), "2\n");
    assert_eq!(count(&["--from", "b", "--to", "b"]), "0\n");
    assert_eq!(count(&["--prefix", "zz"]), "0\n");
    lightning(["count", &db, "--from", "c", "--to", "a"]).ends_with(2);
}

#[test]
fn a_reader_that_leaves_early_ends_a_scan_quietly() {
    let place = Place::new();
    let db = place.path("db");
    let data = shipped();
    let data = data.to_str().unwrap();
    lightning(["import", &db, data, "--key", "script,code_point"]).ends_with(0);
    let mut child = command()
        .args(["scan", &db])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    drop(out);
    let ended = child.wait_with_output().unwrap();
    assert!(line.starts_with("Adlam/01E900\t{"), "{line}");
    assert_eq!((ended.status.code(), ended.stderr), (Some(0), vec![]));
}

#[test]
fn a_full_device_under_the_output_is_a_failure() {
    let place = Place::new();
    let db = place.database("k,v\n1,2\n");
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let ended = command().args(["scan", &db]).stdout(full).output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        String::from_utf8(ended.stderr)
            .unwrap()
            .contains("cannot write to standard output")
    );
}

#[test]
fn stats_are_a_table_or_json() {
    let place = Place::new();
    let (db, file) = (place.path("db"), place.file("a.csv", "k\n1\n2\n"));
    lightning(["import", &db, &file, "--key", "k", "--shards", "2"]).ends_with(0);
    let table = lightning(["stats", &db]).ends_with(0);
    for word in ["shard", "entries", "wal bytes", "tree bytes", "puts", "all"] {
        assert!(table.text().contains(word), "{word}: {}", table.text());
    }
    let json = lightning(["stats", &db, "--json"]).ends_with(0);
    assert_eq!(json.text().lines().count(), 1);
    let json: serde_json::Value = serde_json::from_slice(&json.out).unwrap();
    assert_eq!(json["path"], db);
    let shards = json["shards"].as_array().unwrap();
    assert_eq!(shards.len(), 2);
    for figure in [
        "entries",
        "tree_bytes",
        "wal_records",
        "cache_hits",
        "scans",
    ] {
        let sum: u64 = shards
            .iter()
            .map(|shard| shard[figure].as_u64().unwrap())
            .sum();
        assert_eq!(json[figure].as_u64(), Some(sum), "{figure}");
    }
    assert_eq!(shards[1]["shard"], 1);
}

#[test]
fn commands_on_what_is_no_database_end_with_1() {
    let place = Place::new();
    let absent = place.path("absent");
    let file = place.file("file", "text");
    for db in [absent.as_str(), &file, place.0.path().to_str().unwrap()] {
        for rest in [
            &["get", "k"] as &[_],
            &["put", "k", "v"],
            &["delete", "k"],
            &["scan"],
            &["count"],
            &["stats"],
            &["verify"],
        ] {
            let ran = lightning([&[rest[0], db], &rest[1..]].concat()).ends_with(1);
            assert!(
                ran.err.contains(db),
                "the message names the place: {}",
                ran.err
            );
            assert!(ran.out.is_empty());
        }
    }
    assert!(
        !Path::new(&absent).exists(),
        "nothing but import and demo creates a database"
    );
}

#[test]
fn verify_counts_what_is_there() {
    let place = Place::new();
    let db = place.database("k\n1\n2\n3\n2\n");
    assert_eq!(
        lightning(["verify", &db]).ends_with(0).text(),
        "entries 3\nok\n"
    );
}

fn files_under(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_under(&path, into);
        } else {
            into.push(path);
        }
    }
}

#[test]
fn a_flipped_bit_in_a_stored_value_is_found() {
    let place = Place::new();
    let rows: String = (0..5000)
        .map(|n| format!("{n:05},needle-{n:05}\n"))
        .collect();
    let db = place.database(&format!("k,v\n{rows}"));
    let needle = b"needle-00007";
    let mut files = Vec::new();
    files_under(Path::new(&db), &mut files);
    let mut flipped = 0;
    for file in files {
        let mut bytes = fs::read(&file).unwrap();
        let places: Vec<usize> = bytes
            .windows(needle.len())
            .enumerate()
            .filter(|(_, window)| window == needle)
            .map(|(at, _)| at)
            .collect();
        for at in places {
            bytes[at + 8] ^= 1;
            flipped += 1;
            fs::write(&file, &bytes).unwrap();
        }
    }
    assert!(flipped > 0, "the value is somewhere in the files");
    lightning(["verify", &db]).ends_with(1);
    lightning(["get", &db, "00007"]).ends_with(1);
}
