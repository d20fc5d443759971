//! `import`: formats, keys, bad input, acknowledgements.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use crate::{Place, command, lightning, lightning_with, shipped};

fn scan(db: &str) -> String {
    let ran = lightning(["scan", db]).ends_with(0);
    ran.text().to_owned()
}

#[test]
fn the_three_formats_make_the_same_entries() {
    let place = Place::new();
    let expected = "x/1\t{\"a\":\"1\",\"b\":\"x\"}\ny/2\t{\"a\":\"2\",\"b\":\"y\"}\n";
    for (name, text) in [
        ("t.csv", "a,b\n1,x\n2,\"y\"\n"),
        ("t.tsv", "a\tb\r\n1\tx\r\n2\ty\r\n"),
        (
            "t.jsonl",
            "{\"a\":\"1\",\"b\":\"x\"}\n\n{ \"a\" : \"2\", \"b\" : \"y\" }",
        ),
    ] {
        let (db, file) = (place.path(&format!("{name}.db")), place.file(name, text));
        let ran = lightning(["import", &db, &file, "--key", "b,a"]).ends_with(0);
        assert!(
            ran.text().starts_with("rows 2\nskipped 0\nseconds "),
            "{}",
            ran.text()
        );
        assert_eq!(scan(&db), expected, "{name}");
        let format = name.rsplit('.').next().unwrap();
        let db = place.path("piped.db");
        let args = ["import", &db, "-", "--format", format, "--key", "b,a"];
        lightning_with(args, text.as_bytes()).ends_with(0);
        assert_eq!(scan(&db), expected, "{name} from a pipe");
    }
}

#[test]
fn json_values_keep_their_types() {
    let place = Place::new();
    let (db, text) = (
        place.path("db"),
        "{\"k\":7,\"f\":1.50,\"t\":true,\"n\":null,\"l\":[1, 2]}\n",
    );
    lightning_with(
        ["import", &db, "-", "--format", "jsonl", "--key", "k,t,n"],
        text.as_bytes(),
    )
    .ends_with(0);
    assert_eq!(
        scan(&db),
        "7/true/null\t{\"k\":7,\"f\":1.50,\"t\":true,\"n\":null,\"l\":[1,2]}\n"
    );
}

#[test]
fn the_shipped_table_is_imported_whole() {
    let place = Place::new();
    let (db, file) = (place.path("db"), shipped());
    let ran =
        lightning(["import", &db, file.to_str().unwrap(), "--key", "code_point"]).ends_with(0);
    assert!(ran.text().starts_with("rows 34888\n"), "{}", ran.text());
    assert_eq!(
        lightning(["verify", &db]).ends_with(0).text(),
        "entries 34888\nok\n"
    );
    assert_eq!(scan(&db).lines().count(), 34_888);
}

#[test]
fn of_rows_with_one_key_the_last_stays_however_many_are_under_way() {
    let place = Place::new();
    let keys = 700;
    let rows: String = (0..40_000).map(|n| format!("{},{n}\n", n % keys)).collect();
    let db = place.database(&format!("k,v\n{rows}"));
    for line in scan(&db).lines() {
        let (key, value) = line.split_once('\t').unwrap();
        let key: u32 = key.parse().unwrap();
        let last = (40_000 - 1 - key) / keys * keys + key;
        assert_eq!(value, format!("{{\"k\":\"{key}\",\"v\":\"{last}\"}}"));
    }
    assert!(
        lightning(["verify", &db])
            .ends_with(0)
            .text()
            .starts_with("entries 700\n")
    );
}

#[test]
fn an_import_adds_to_an_existing_database() {
    let place = Place::new();
    let (db, file) = (place.path("db"), place.file("a.csv", "k,v\n1,2\n"));
    lightning(["import", &db, &file, "--key", "k", "--shards", "2"]).ends_with(0);
    let more = place.file("b.csv", "k,v\n3,4\n");
    lightning(["import", &db, &more, "--key", "k", "--shards", "2"]).ends_with(0);
    lightning(["import", &db, &more, "--key", "v"]).ends_with(0);
    assert_eq!(scan(&db).lines().count(), 3);
    let other = lightning(["import", &db, &more, "--key", "k", "--shards", "3"]).ends_with(1);
    assert!(other.err.contains("has 2 shards, not 3"), "{}", other.err);
}

#[test]
fn an_input_that_cannot_be_used_creates_nothing() {
    let place = Place::new();
    let db = place.path("db");
    let csv = place.file("a.csv", "k,v\n1,2\n");
    let missing = lightning(["import", &db, &csv, "--key", "id"]).ends_with(1);
    assert!(
        missing
            .err
            .contains("a.csv: no column \"id\" in the header: k, v"),
        "{}",
        missing.err
    );
    let absent = lightning(["import", &db, &place.path("b.csv"), "--key", "k"]).ends_with(1);
    assert!(absent.err.contains("b.csv"), "{}", absent.err);
    let empty = place.file("c.csv", "");
    let empty = lightning(["import", &db, &empty, "--key", "k"]).ends_with(1);
    assert!(
        empty.err.contains("there is no header line"),
        "{}",
        empty.err
    );
    std::fs::create_dir(place.path("d.csv")).unwrap();
    lightning(["import", &db, &place.path("d.csv"), "--key", "k"]).ends_with(1);
    let unknown = place.file("a.txt", "k\n1\n");
    lightning(["import", &db, &unknown, "--key", "k"]).ends_with(2);
    lightning(["import", &db, "-", "--key", "k"]).ends_with(2);
    assert!(!Path::new(&db).exists());
}

/// Bad rows: the file's name, its text with one good row in front and one behind, and what the
/// message has to say.
fn bad_inputs() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let long = "x".repeat((64 << 10) + 1);
    vec![
        (
            "ragged.csv",
            b"k,v\n1,2\n3\n4,5\n".to_vec(),
            "line 3: expected 2 fields, found 1",
        ),
        (
            "wide.tsv",
            b"k\tv\n1\t2\n3\t4\t5\n4\t5\n".to_vec(),
            "line 3: expected 2 fields, found 3",
        ),
        (
            "bytes.csv",
            b"k,v\n1,2\n3,\xff\n4,5\n".to_vec(),
            "line 3: not valid UTF-8",
        ),
        (
            "empty.csv",
            b"k,v\n1,2\n,3\n4,5\n".to_vec(),
            "line 3: the key is empty",
        ),
        (
            "long.csv",
            format!("k,v\n1,2\n{long},3\n4,5\n").into_bytes(),
            "line 3: the key has 65537 bytes",
        ),
        (
            "broken.jsonl",
            b"{\"k\":\"1\"}\n{\"k\":\n{\"k\":\"4\"}\n".to_vec(),
            "line 2: broken JSON",
        ),
        (
            "list.jsonl",
            b"{\"k\":\"1\"}\n[1]\n{\"k\":\"4\"}\n".to_vec(),
            "line 2: expected a JSON object, found an array",
        ),
        (
            "absent.jsonl",
            b"{\"k\":\"1\"}\n{\"v\":1}\n{\"k\":\"4\"}\n".to_vec(),
            "line 2: the key column \"k\" is absent",
        ),
    ]
}

#[test]
fn a_bad_row_ends_the_import_and_the_rows_before_it_are_there() {
    for (name, text, message) in bad_inputs() {
        let place = Place::new();
        let (db, file) = (place.path("db"), place.file(name, text));
        let ran = lightning(["import", &db, &file, "--key", "k"]).ends_with(1);
        let place_and_fault = format!("{name}, {message}");
        assert!(ran.err.contains(&place_and_fault), "{}", ran.err);
        assert!(
            ran.err.contains("the 1 rows before it are durable"),
            "{}",
            ran.err
        );
        let keys = lightning(["scan", &db, "--keys"]).ends_with(0);
        assert_eq!(keys.text(), "1\n", "{name}");
    }
}

#[test]
fn bad_rows_are_skipped_and_reported_when_that_is_asked_for() {
    for (name, text, message) in bad_inputs() {
        let place = Place::new();
        let (db, file) = (place.path("db"), place.file(name, text));
        let ran = lightning(["import", &db, &file, "--key", "k", "--skip-bad"]);
        assert_eq!(ran.status, 0, "{ran:?}");
        assert!(
            ran.text().starts_with("rows 2\nskipped 1\n"),
            "{}",
            ran.text()
        );
        assert!(ran.err.contains(message), "{}", ran.err);
        let keys = lightning(["scan", &db, "--keys"]).ends_with(0);
        assert_eq!(keys.text(), "1\n4\n", "{name}");
    }
}

#[test]
fn only_the_first_ten_skipped_rows_are_told_one_by_one() {
    let place = Place::new();
    let text = format!("k,v\n{}last,row\n", "bad\n".repeat(1000));
    let (db, file) = (place.path("db"), place.file("a.csv", text));
    let ran = lightning(["import", &db, &file, "--key", "k", "--skip-bad"]);
    assert_eq!(ran.status, 0);
    assert!(
        ran.text().starts_with("rows 1\nskipped 1000\n"),
        "{}",
        ran.text()
    );
    assert_eq!(ran.err.lines().count(), 11);
    assert!(ran.err.contains("990 more rows"), "{}", ran.err);
}

#[test]
fn acknowledgements_count_up_to_all_rows() {
    let place = Place::new();
    let (db, file) = (place.path("db"), shipped());
    let args = [
        "import",
        &db,
        file.to_str().unwrap(),
        "--key",
        "code_point",
        "--ack",
    ];
    let ran = lightning(args).ends_with(0);
    let acked: Vec<u64> = ran
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("acked "))
        .map(|rows| rows.parse().unwrap())
        .collect();
    assert!(acked.is_sorted_by(|a, b| a < b));
    assert_eq!(acked.last(), Some(&34_888));
}

#[test]
fn a_row_that_was_acknowledged_survives_a_kill() {
    let place = Place::new();
    let db = place.path("db");
    let mut child = command()
        .args(["import", &db, "-", "--format", "csv", "--key", "k", "--ack"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut acks = BufReader::new(child.stdout.take().unwrap()).lines();
    input.write_all(b"k,v\n").unwrap();
    for row in 1..=5 {
        // Nothing more comes behind the row, and yet it is written.
        writeln!(input, "{row},value").unwrap();
        assert_eq!(acks.next().unwrap().unwrap(), format!("acked {row}"));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let keys = lightning(["scan", &db, "--keys"]).ends_with(0);
    assert_eq!(keys.text(), "1\n2\n3\n4\n5\n");
}

#[test]
fn an_import_goes_on_when_nobody_reads_its_acknowledgements() {
    let place = Place::new();
    let (db, file) = (place.path("db"), shipped());
    let mut child = command()
        .args([
            "import",
            &db,
            file.to_str().unwrap(),
            "--key",
            "code_point",
            "--ack",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr), (Some(0), vec![]));
    assert!(
        lightning(["verify", &db])
            .ends_with(0)
            .text()
            .starts_with("entries 34888\n")
    );
}
