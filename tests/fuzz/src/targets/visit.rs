//! Everything asked of a database that may hold anything: that it opens, reads, scans, checks itself,
//! writes, flushes and closes; and, of a copy, that it is salvaged.
//!
//! What a damaged database answers is an error or data. That nothing panics, hangs or takes memory
//! out of proportion is seen outside; here, that data is what was written.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lightning_io::sim::{Image, World};
use lightning_shards::fuzz::salvaged;
use lightning_shards::{
    Compression, OpenMode, Ops, Result, Salvage, SalvageConfig, Sink, StorageKey,
};

use super::database::{is_a_value, key, write};
use crate::site::{self, Database, KEYSPACE, ROOT, Site};
use crate::target::Verdict;

/// So small that a salvage of a few hundred keys takes several windows and batches.
const SALVAGE: SalvageConfig = SalvageConfig {
    window_bytes: 64 << 10,
    batch_bytes: 4 << 10,
};

/// The file that a salvage may make: the lock is taken of a damaged database too.
const LOCK: &str = "LOCK";

/// Judges what is read.
#[derive(Debug)]
pub(super) struct Judge {
    /// Whether only values may be read that were written: not where checksums cover any contents.
    is_strict: bool,
    /// The first broken promise.
    wrong: Option<String>,
}

impl Judge {
    pub(super) fn new(is_strict: bool) -> Self {
        Self {
            is_strict,
            wrong: None,
        }
    }

    fn note(&mut self, wrong: impl FnOnce() -> String) {
        if self.wrong.is_none() {
            self.wrong = Some(wrong());
        }
    }

    fn see(&mut self, key: &[u8], value: &[u8]) {
        let digits = key.get(3..8).and_then(|digits| str::from_utf8(digits).ok());
        let number = digits.and_then(|digits| digits.parse::<usize>().ok());
        let is_sound =
            number.is_some_and(|number| self::key(number) == key && is_a_value(number, value));
        if self.is_strict && !is_sound {
            self.note(|| {
                let value = value[..value.len().min(40)].escape_ascii();
                format!("{} has the value {value}", key.escape_ascii())
            });
        }
    }

    /// Nothing, or what was wrong.
    pub(super) fn outcome(self) -> std::result::Result<(), String> {
        self.wrong.map_or(Ok(()), Err)
    }
}

/// Opens a database, and asks everything of it.
pub(super) fn visit(
    image: Image,
    shards: usize,
    keys: usize,
    judge: &mut Judge,
) -> std::result::Result<Verdict, String> {
    let world = World::with_image(7, site::world_config(), image);
    let site = Site::new(&world, shards, Compression::Adaptive);
    let mut found = None;
    let outcome = world.run(ask(site, keys, judge, &mut found));
    match outcome.map_err(|failure| failure.to_string())? {
        Err(error) => {
            let message = error.to_string();
            assert!(!message.is_empty(), "an error has a message");
            Ok(found.map_or(Verdict::Refused(message), Verdict::Accepted))
        }
        Ok(()) => Ok(Verdict::Accepted(found.unwrap_or_default())),
    }
}

/// Failures of single requests are what a damaged database answers. `found` says what became of it,
/// once it is open.
async fn ask(site: Site, keys: usize, judge: &mut Judge, found: &mut Option<String>) -> Result<()> {
    let database = Database::open(site, OpenMode::Open).await?;
    let found = found.insert("opened".to_owned());
    let client = &database.client;
    for number in (0..keys).step_by(7) {
        if let Ok(Some(value)) = client.get(KEYSPACE, &key(number)).await {
            judge.see(&key(number), &value);
        }
    }
    let mut rows: BTreeSet<Bytes> = BTreeSet::new();
    let mut scanner = client.scan(KEYSPACE, Bound::Unbounded, Bound::Unbounded);
    while let Ok(Some((key, value))) = scanner.next().await {
        judge.see(&key, &value);
        // Where checksums cover any contents, keys may be in any order, and so come again.
        if !rows.insert(key) && judge.is_strict {
            judge.note(|| "a scan gives a key two times".to_owned());
        }
    }
    drop(scanner);
    if let Ok(reports) = client.verify().await {
        let damages = reports.iter().flat_map(|report| &report.damages);
        for (index, damage) in damages.enumerate() {
            assert!(!damage.to_string().is_empty(), "a damage has a message");
            if index == 0 {
                *found = format!("opened, {}", damage.what);
            }
        }
    }
    // The flush changes pages that may be damaged, and the close waits for it.
    let wanted: Vec<usize> = (0..keys).step_by(23).collect();
    if write(&database, &wanted, 1).await.is_ok() {
        drop(client.flush().await);
    }
    drop(client.stats().await);
    database.close().await
}

/// Takes what a salvage reads.
struct Collector<'a> {
    judge: &'a mut Judge,
    keys: BTreeSet<Vec<u8>>,
}

impl Sink for Collector<'_> {
    async fn write(&mut self, puts: Ops) -> Result<()> {
        for (stored, value) in salvaged(&puts) {
            let key = StorageKey::user_key(stored).unwrap_or_default();
            self.judge.see(key, value);
            if !self.keys.insert(stored.to_vec()) {
                let key = key.escape_ascii();
                self.judge
                    .note(|| format!("a salvage gives {key} two times"));
            }
        }
        Ok(())
    }
}

/// Salvages a database, which must stay as it is.
pub(super) fn salvage(image: Image, judge: &mut Judge) -> std::result::Result<(), String> {
    let before = contents(&image);
    let world = World::with_image(8, site::world_config(), image);
    let mut sink = Collector {
        judge,
        keys: BTreeSet::new(),
    };
    let outcome = world.run(async {
        let mut salvage = Salvage::open(&world.client(), Path::new(ROOT)).await?;
        salvage.run(&SALVAGE, &mut sink).await
    });
    let keys = lightning_io::to_u64(sink.keys.len());
    match outcome.map_err(|failure| format!("salvage: {failure}"))? {
        Err(error) => assert!(!error.to_string().is_empty(), "an error has a message"),
        Ok(report) => {
            for loss in &report.losses {
                assert!(!loss.to_string().is_empty(), "a loss has a message");
            }
            if report.entries() != keys {
                let counted = report.entries();
                return Err(format!("a salvage of {keys} entries counts {counted}"));
            }
        }
    }
    if contents(&world.shutdown()) == before {
        Ok(())
    } else {
        Err("a salvage changed what it read".to_owned())
    }
}

fn contents(image: &Image) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let paths = image.list_files().into_iter();
    paths
        .filter(|path| !path.ends_with(LOCK))
        .map(|path| (path.clone(), image.read_file(&path)))
        .collect()
}
