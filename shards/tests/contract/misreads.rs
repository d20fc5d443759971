//! What is misread once, while a database is opened, loses nothing: not one read of a block decides
//! that something durable is not there.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use lightning_io::sim::{CrashModel, Image, SimConfig, World};
use lightning_io::{IoBuf, IoError, IoErrorKind, IoOp};
use lightning_shards::{Durability, Error, Result, ShardConfig};

use crate::hooks::{Hook, HookedEnv};
use crate::site::{Running, Site, small, world_on};

const SHARDS: usize = 2;

type Content = BTreeMap<String, Vec<u8>>;

/// What a read gives instead of what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Misread {
    Error,
    Short,
    Zeros,
    Noise,
    /// A bit of the first block.
    Bit,
    /// What stood at the same place of the file that was read before.
    Elsewhere,
}

impl Misread {
    const ALL: [Self; 6] = [
        Self::Error,
        Self::Short,
        Self::Zeros,
        Self::Noise,
        Self::Bit,
        Self::Elsewhere,
    ];
}

/// Misreads the n-th read of an opening.
#[derive(Debug)]
struct Plan {
    left: Cell<u64>,
    misread: Misread,
    /// Whose reads are counted; all when it is empty.
    only: PathBuf,
    /// The file that is misread, once it was.
    struck: RefCell<Option<PathBuf>>,
    before: RefCell<Vec<u8>>,
    reads: Cell<u64>,
}

impl Plan {
    fn new(nth: u64, misread: Misread, only: &Path) -> Rc<Self> {
        Rc::new(Self {
            left: Cell::new(nth),
            misread,
            only: only.to_path_buf(),
            struck: RefCell::default(),
            before: RefCell::default(),
            reads: Cell::new(0),
        })
    }
}

impl Hook for Plan {
    fn read(
        &self,
        path: &Path,
        (offset, len): (u64, usize),
        outcome: Result<IoBuf, IoError>,
    ) -> Result<IoBuf, IoError> {
        let mut bytes = outcome?;
        if !path.ends_with(&self.only) {
            return Ok(bytes);
        }
        self.reads.set(self.reads.get() + 1);
        let left = self.left.get();
        self.left.set(left.wrapping_sub(1));
        if left != 0 {
            *self.before.borrow_mut() = bytes.to_vec();
            return Ok(bytes);
        }
        *self.struck.borrow_mut() = Some(path.to_path_buf());
        let fails = |kind| Err(IoError::at(IoOp::Read, path, offset, len, kind));
        match self.misread {
            Misread::Error => {
                return fails(IoErrorKind::Device {
                    errno: Some(5),
                    message: "planned".to_owned(),
                });
            }
            Misread::Short => {
                return fails(IoErrorKind::ShortRead {
                    expected: len,
                    found: 512,
                });
            }
            Misread::Zeros => bytes.fill(0),
            Misread::Noise => bytes.fill(0xa7),
            Misread::Bit => bytes[70] ^= 1,
            Misread::Elsewhere => {
                let before = self.before.borrow();
                let shared = before.len().min(bytes.len());
                bytes[..shared].copy_from_slice(&before[..shared]);
            }
        }
        Ok(bytes)
    }
}

fn config() -> ShardConfig {
    ShardConfig {
        segment_bytes_first: 32 << 10,
        segment_bytes_max: 32 << 10,
        // No mark comes to the help of the last record.
        mark_interval: Duration::from_hours(1),
        ..small()
    }
}

async fn fill(db: &Running, content: &mut Content, round: u8, count: u8) {
    for number in 0..count {
        let (key, value) = (format!("key{number}"), vec![round ^ number; 1500]);
        let written = db.put_with(&key, &value, Durability::Sync);
        written.await.unwrap();
        content.insert(key, value);
    }
}

/// What a power failure leaves of a database with a tree, used segments and a log that is needed.
fn template(seed: u64, count: u8) -> (Image, Content) {
    let settings = SimConfig {
        crash: CrashModel::NOTHING_SURVIVES,
        ..SimConfig::default()
    };
    let world = World::new(seed, settings);
    let site = Site::new(&world, SHARDS);
    let content = world.run(async {
        let db = site.open(config()).await.unwrap();
        let mut content = Content::new();
        fill(&db, &mut content, 1, 90).await;
        db.client.flush().await.unwrap();
        fill(&db, &mut content, 2, count).await;
        content
    });
    (world.crash(), content.unwrap())
}

/// Opens the image with one misread. It may fail for what is not read twice, the tree's own pages,
/// and must not lose anything, then or later. Returns the number of reads.
fn open(image: &Image, content: &Content, nth: u64, misread: Misread) -> u64 {
    let world = world_on(nth, image.clone());
    let plan = Plan::new(nth, misread, Path::new(""));
    let hook = Rc::clone(&plan);
    let site = Site::new(&world, SHARDS).with_envs(|env| HookedEnv::new(env, hook.clone()));
    let opened = world.run(async {
        let db = match site.open(config()).await {
            Ok(db) => db,
            Err(error) => return Some(error),
        };
        plan.left.set(u64::MAX);
        assert_holds(&db, content).await;
        // What is written next takes the place of anything that was taken for free.
        let mut more = Content::new();
        fill(&db, &mut more, 3, 60).await;
        db.close().await.unwrap();
        None
    });
    let struck = plan.struck.borrow().clone();
    let reads = plan.reads.get();
    match opened.unwrap() {
        None => {}
        Some(error) => {
            let of_tree = struck.is_some_and(|path| path.ends_with("tree"));
            assert!(of_tree, "{misread:?} {nth}: {error}");
            assert!(matches!(error, Error::Corruption(_)), "{error}");
            let world = world_on(nth, world.shutdown());
            let site = Site::new(&world, SHARDS);
            let reopened = world.run(async {
                let db = site.open(config()).await.unwrap();
                assert_holds(&db, content).await;
            });
            reopened.unwrap();
        }
    }
    reads
}

async fn assert_holds(db: &Running, content: &Content) {
    for (key, value) in content {
        assert_eq!(db.get(key).await.unwrap().as_ref(), Some(value), "{key}");
    }
}

#[test]
fn no_single_misread_at_an_opening_loses_anything() {
    // Logs that end in the middle of a segment, and at different places of it.
    for (seed, count) in [(1, 0), (2, 1), (3, 7), (4, 30)] {
        let (image, content) = template(seed, count);
        for misread in Misread::ALL {
            let mut nth = 0;
            // The reads after the opening are counted as well; those are not misread.
            while nth < open(&image, &content, nth, misread) && nth < 60 {
                nth += 1;
            }
            assert!(nth > 30, "{nth} reads");
        }
    }
}

/// Rot in a durable record, of which a later record tells, with that record misread once.
#[test]
fn a_misread_mark_does_not_turn_rot_into_the_end_of_the_log() {
    let (image, content) = template(5, 30);
    let log = image.list_files().into_iter().filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        path.to_string_lossy().contains("shard-000") && name.starts_with("wal-")
    });
    let mut refused = 0;
    for path in log {
        let length = image.read_file(&path).unwrap().len();
        for block in 1..length / 4096 - 1 {
            let mut image = image.clone();
            image.flip_bit(&path, (block * 4096 + 80) as u64, 1);
            // Its headers, the records before it, it twice, and what is behind it twice.
            for nth in 0..12 {
                let world = world_on(nth, image.clone());
                let plan = Plan::new(nth, Misread::Zeros, &path);
                let hook = Rc::clone(&plan);
                let site = Site::new(&world, SHARDS);
                let site = site.with_envs(|env| HookedEnv::new(env, hook.clone()));
                let opened = world.run(async {
                    let db = site.open(config()).await?;
                    plan.left.set(u64::MAX);
                    let mut kept = 0;
                    for (key, value) in &content {
                        kept += usize::from(db.get(key).await?.as_ref() == Some(value));
                    }
                    Ok::<_, Error>(kept)
                });
                match opened.unwrap() {
                    // The last record may rot unseen: no mark speaks of it.
                    Ok(kept) => assert!(kept + 1 >= content.len(), "block {block}, read {nth}"),
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(refused > 40);
}

#[test]
fn a_segment_that_was_cut_off_is_not_taken_for_a_free_one() {
    let (image, _) = template(6, 30);
    for path in image.list_files() {
        let bytes = image.read_file(&path).unwrap_or_default();
        let is_segment = path.to_string_lossy().contains("/wal-");
        if !is_segment || &bytes[..8] != b"LDBWALSG" {
            continue;
        }
        for cut in [4096, 5000, 8192, bytes.len() - 4096, bytes.len() - 1] {
            let mut image = image.clone();
            image.write_file(&path, &bytes[..cut]);
            let world = world_on(1, image);
            let site = Site::new(&world, SHARDS);
            let opened = world.run(async { site.open(config()).await.map(drop) });
            let error = opened.unwrap().expect_err("durable records are cut off");
            assert!(error.to_string().contains("bytes, expected"), "{error}");
        }
    }
}
