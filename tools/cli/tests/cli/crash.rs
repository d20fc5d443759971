//! `import --ack`, killed again and again on one database: what it acknowledged is there.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::{Place, command, lightning};

/// Kills of one run.
const KILLS: u32 = 20;
/// After this long without a word an import is taken to hang.
const HANG: Duration = Duration::from_mins(2);

fn value(round: u32, row: u64) -> String {
    let len = usize::try_from(row % 97).unwrap();
    format!("{round}.{row}.{}", "x".repeat(len))
}

/// An import under way, of rows without end.
struct Import {
    child: Child,
    acks: Receiver<u64>,
}

impl Import {
    fn start(db: &str, round: u32) -> Self {
        let mut child = command()
            .args(["import", db, "-", "--format", "csv", "--key", "k", "--ack"])
            .args(["--shards", "3"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        thread::spawn(move || {
            let mut text = "k,v\n".to_owned();
            for row in 0_u64.. {
                text.push_str(&format!("{round}/{row},{}\n", value(round, row)));
                if text.len() > 10_000 {
                    // The import is gone when it was killed.
                    if input.write_all(text.as_bytes()).is_err() {
                        return;
                    }
                    text.clear();
                }
            }
        });
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (sender, acks) = channel();
        thread::spawn(move || {
            let mut line = String::new();
            // A line that the kill cut short is no acknowledgement.
            while out.read_line(&mut line).is_ok() && line.ends_with('\n') {
                let ack = line.trim_end().strip_prefix("acked ").unwrap();
                if sender.send(ack.parse().unwrap()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Self { child, acks }
    }

    /// Waits for the first acknowledgement and a while longer, kills the import, and returns how
    /// many rows it had acknowledged.
    fn kill_after(mut self, delay: Duration) -> u64 {
        let first = self.acks.recv_timeout(HANG).expect("the import goes on");
        thread::sleep(delay);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.acks.iter().last().unwrap_or(first)
    }
}

#[test]
fn a_killed_import_keeps_what_it_acknowledged() {
    let place = Place::new();
    let db = place.path("db");
    let mut random = std::process::id();
    println!("seed {random}");
    let mut acked = Vec::new();
    for round in 0..KILLS {
        // Knuth's linear congruential generator, of which the upper bits are used.
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let delay = Duration::from_micros(u64::from(random >> 15));
        acked.push(Import::start(&db, round).kill_after(delay));

        let verified = lightning(["verify", &db]).ends_with(0);
        assert!(verified.text().ends_with("\nok\n"), "{}", verified.text());
        let prefix = format!("{round}/");
        let scanned = lightning(["scan", &db, "--prefix", &prefix]).ends_with(0);
        let rows = rows_of(scanned.text());
        check(round, acked[acked.len() - 1], &rows);
    }
    println!("acknowledged: {acked:?}");
    // Later kills took nothing from the rows of earlier imports.
    for (round, &acked) in (0..).zip(&acked) {
        let prefix = format!("{round}/");
        let scanned = lightning(["scan", &db, "--prefix", &prefix]).ends_with(0);
        check(round, acked, &rows_of(scanned.text()));
    }
}

/// The lines of a scan, by their keys.
fn rows_of(text: &str) -> std::collections::BTreeMap<&str, &str> {
    text.lines()
        .map(|line| line.split_once('\t').unwrap())
        .collect()
}

/// The first `acked` rows have to be there, and every row that is there has to be right.
fn check(round: u32, acked: u64, rows: &std::collections::BTreeMap<&str, &str>) {
    for row in 0..acked {
        let key = format!("{round}/{row}");
        assert!(
            rows.contains_key(key.as_str()),
            "of {acked} rows {key} is missing"
        );
    }
    for (key, found) in rows {
        let row: u64 = key.split_once('/').unwrap().1.parse().unwrap();
        let expected = format!("{{\"k\":\"{key}\",\"v\":\"{}\"}}", value(round, row));
        assert_eq!(*found, expected);
    }
}
