//! Opens a disk that was damaged and reads all of it, in every way: what comes must be right, or an
//! error that says where the damage is.

use bytes::Bytes;
use std::ops::Bound::Unbounded;

use lightning_io::sim::{BlocksRead, Image, SimConfig, World};
use lightning_shards::{Error, OpenMode, VerifyReport};

use super::sample::{Rows, SHARDS, SLOTS, opening, unasked_model};
use crate::database::{Database, Site};
use crate::keys::KEYSPACE;
use crate::panics;

/// Polls after which a case is taken for a hang; one takes a few thousand.
const POLLS_MAX: u64 = 500_000;

/// What became of a damaged database.
#[derive(Debug)]
pub(crate) struct Judged {
    /// A wrong answer, a panic or a hang.
    pub violation: Option<String>,
    /// What it reported: errors, and damages that a check found.
    pub reports: Vec<String>,
    /// Whether it could be opened.
    pub opened: bool,
    /// Keys that were read, of all.
    pub readable: usize,
    /// The disk afterwards.
    pub image: Image,
    /// What was read of it.
    pub blocks_read: BlocksRead,
}

impl Judged {
    /// Whether any report names the file.
    pub(crate) fn names(&self, file: &str) -> bool {
        self.reports.iter().any(|report| report.contains(file))
    }
}

/// Opens the disk, reads every row by its key and in a scan, and has everything checked.
pub(crate) fn judge(seed: u64, image: Image, rows: &Rows) -> Judged {
    let recording = panics::record();
    let config = SimConfig {
        polls_max: POLLS_MAX,
        ..SimConfig::default()
    };
    let world = World::with_image(seed, config, image);
    world.note_blocks_read();
    let mut reading = Reading {
        rows,
        reports: Vec::new(),
        violation: None,
        opened: false,
        readable: 0,
    };
    let outcome = world.run(reading.run(Site::new(&world, SHARDS, SLOTS)));
    if let Err(failure) = outcome {
        reading.violation = Some(failure.to_string());
    }
    let panicked = recording.take();
    if let Some(panic) = panicked.first() {
        reading.violation = Some(format!("panicked: {panic}"));
    }
    Judged {
        violation: reading.violation,
        reports: reading.reports,
        opened: reading.opened,
        readable: reading.readable,
        blocks_read: world.blocks_read(),
        image: world.shutdown(),
    }
}

struct Reading<'a> {
    rows: &'a Rows,
    reports: Vec<String>,
    violation: Option<String>,
    opened: bool,
    readable: usize,
}

impl Reading<'_> {
    async fn run(&mut self, site: Site) {
        let model = unasked_model();
        let database = match Database::open(site, opening(OpenMode::Open), &model).await {
            Ok(database) => database,
            Err(error) => return self.report(&error),
        };
        self.opened = true;
        self.get_all(&database).await;
        self.scan(&database).await;
        match database.client.verify().await {
            Ok(reports) => self.check_reports(&reports),
            Err(error) => self.report(&error),
        }
    }

    fn report(&mut self, error: &Error) {
        self.reports.push(error.to_string());
    }

    fn violate(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    async fn get_all(&mut self, database: &Database) {
        for (key, value) in self.rows {
            match database.client.get(KEYSPACE, key).await {
                Ok(found) if found.as_deref() == Some(value) => self.readable += 1,
                Ok(found) => {
                    let found = found.map(|found| found.len());
                    self.violate(format!(
                        "get of {} gave {found:?} bytes, expected {}",
                        tail(key),
                        value.len()
                    ));
                }
                Err(error) => self.report(&error),
            }
        }
    }

    async fn scan(&mut self, database: &Database) {
        let mut scanner = database.client.scan(KEYSPACE, Unbounded, Unbounded);
        let mut expected = self.rows.iter();
        loop {
            let row: Option<(Bytes, Bytes)> = match scanner.next().await {
                Ok(row) => row,
                Err(error) => return self.report(&error),
            };
            let wanted = expected.next();
            match (row, wanted) {
                (None, None) => return,
                (Some((key, value)), Some((other, wanted))) if key == other && value == wanted => {}
                (row, wanted) => {
                    let row = row.map(|row| tail(&row.0));
                    let wanted = wanted.map(|row| tail(row.0));
                    return self.violate(format!("scan: expected {wanted:?}, found {row:?}"));
                }
            }
        }
    }

    fn check_reports(&mut self, reports: &[VerifyReport]) {
        let damages = reports.iter().flat_map(|report| &report.damages);
        let before = self.reports.len();
        self.reports.extend(damages.map(ToString::to_string));
        let entries: u64 = reports.iter().map(|report| report.entries).sum();
        if self.reports.len() == before && entries != lightning_io::to_u64(self.rows.len()) {
            let expected = self.rows.len();
            self.violate(format!("verify: {entries} entries, expected {expected}"));
        }
    }
}

/// The end of a key, which tells it from others.
fn tail(key: &[u8]) -> String {
    let from = key.len().saturating_sub(8);
    key[from..].escape_ascii().to_string()
}
