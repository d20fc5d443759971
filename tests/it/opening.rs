//! Opening what is not there, is not a database, is in use, or is not whole.
//!
//! A read-only directory cannot be made for a process with root's rights without a mount; the
//! translation of that error is tested in `lightning-io`.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use futures_util::TryStreamExt;
use lightning_db::{Database, Error, ErrorKind, Result};

use crate::scratch;
use crate::support::{copy_tree, files_below, run};

const SHARDS: usize = 2;

/// A closed database, with rows in its tree and in its log.
pub(crate) struct Template {
    _directory: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

/// The rows of every template.
pub(crate) fn template_rows() -> impl Iterator<Item = (String, Vec<u8>)> {
    (0..300_usize).map(|number| {
        let len = if number % 60 == 0 { 9_000 } else { 40 };
        let byte = u8::try_from(number % 251).unwrap();
        (format!("key-{number:05}"), vec![byte; len])
    })
}

impl Template {
    pub(crate) fn make() -> Self {
        let directory = scratch();
        let path = directory.path().join("db");
        let place = path.clone();
        run("the making of a template", async move {
            let db = Database::builder(&place).shards(SHARDS).create().await?;
            let mut batches = [lightning_db::Batch::new(), lightning_db::Batch::new()];
            for (number, (key, value)) in template_rows().enumerate() {
                batches[usize::from(number >= 200)].put(key, value);
            }
            let [tree, log] = batches;
            db.write(tree).await?;
            db.flush().await?;
            db.write(log).await?;
            db.close().await
        })
        .unwrap();
        Self {
            _directory: directory,
            path,
        }
    }

    pub(crate) fn shared() -> &'static Self {
        static TEMPLATE: OnceLock<Template> = OnceLock::new();
        TEMPLATE.get_or_init(Self::make)
    }

    /// A copy to do anything with.
    pub(crate) fn copy(&self) -> (tempfile::TempDir, PathBuf) {
        let directory = scratch();
        let path = directory.path().join("db");
        copy_tree(&self.path, &path);
        (directory, path)
    }
}

/// Opens, expecting a failure; whatever fails must let go of the lock.
#[track_caller]
fn refused(opening: impl Future<Output = Result<Database>> + Send + 'static) -> Error {
    run("an opening that must fail", opening).expect_err("there is no sound database")
}

#[track_caller]
fn assert_kind(error: &Error, kind: ErrorKind, texts: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    let message = error.to_string();
    for text in texts {
        assert!(message.contains(text), "{message} does not say {text}");
    }
}

fn open(path: &Path) -> impl Future<Output = Result<Database>> + Send + 'static {
    Database::builder(path).open()
}

#[test]
fn where_nothing_is_nothing_is_opened_or_made() {
    let directory = scratch();
    let path = directory.path().join("absent");
    let error = refused(open(&path));
    assert_kind(&error, ErrorKind::NotFound, &["absent"]);
    assert!(!path.exists());
    let error = refused(Database::builder(path.join("below")).create());
    assert_kind(&error, ErrorKind::Io, &["below"]);
    assert!(!path.exists());
}

#[test]
fn an_empty_directory_is_no_database_and_can_become_one() {
    let directory = scratch();
    let path = directory.path().to_path_buf();
    assert_kind(&refused(open(&path)), ErrorKind::NotFound, &["empty"]);
    run("creation", async move {
        Database::create(&path).await?.close().await?;
        Database::open(&path).await?.close().await
    })
    .unwrap();
}

#[test]
fn a_directory_of_strangers_is_left_alone() {
    let directory = scratch();
    let path = directory.path().to_path_buf();
    fs::write(path.join("thesis.txt"), "years of work").unwrap();
    for opening in [
        Database::builder(&path).open().boxed_up(),
        Database::builder(&path).create().boxed_up(),
        Database::builder(&path).open_or_create().boxed_up(),
    ] {
        let error = refused(opening);
        assert_kind(&error, ErrorKind::NotFound, &["thesis.txt", "DATABASE"]);
        assert_eq!(files_below(&path), [path.join("thesis.txt")]);
    }
    assert_eq!(fs::read(path.join("thesis.txt")).unwrap(), b"years of work");
}

trait BoxedUp: Future + Send + Sized + 'static {
    fn boxed_up(self) -> std::pin::Pin<Box<dyn Future<Output = Self::Output> + Send>> {
        Box::pin(self)
    }
}
impl<F: Future + Send + Sized + 'static> BoxedUp for F {}

#[test]
fn a_file_is_no_database() {
    let directory = scratch();
    let path = directory.path().join("file");
    fs::write(&path, "content").unwrap();
    for opening in [
        Database::builder(&path).open().boxed_up(),
        Database::builder(&path).open_or_create().boxed_up(),
    ] {
        let error = refused(opening);
        assert!(
            matches!(error.kind(), ErrorKind::Io | ErrorKind::NotFound),
            "{error:?}"
        );
        assert!(error.to_string().contains("file"), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), b"content");
}

#[test]
fn a_database_is_created_once() {
    let (_directory, path) = Template::shared().copy();
    let error = refused(Database::builder(&path).create());
    assert_kind(&error, ErrorKind::AlreadyExists, &["exists"]);
    is_whole(&path);
}

#[test]
fn an_open_database_is_locked_until_it_is_closed() {
    let (_directory, path) = Template::shared().copy();
    run("a second opening", async move {
        let db = Database::open(&path).await.unwrap();
        let clone = db.clone();
        let error = Database::open(&path).await.unwrap_err();
        assert_kind(&error, ErrorKind::Locked, &["LOCK"]);
        let error = Database::builder(&path).open_or_create().await.unwrap_err();
        assert_kind(&error, ErrorKind::Locked, &["LOCK"]);
        // A refused opening changes nothing for the one that holds the lock.
        clone.put("more", "value").await.unwrap();
        drop(clone);
        db.close().await.unwrap();
        let again = Database::open(&path).await.unwrap();
        assert!(again.get("more").await.unwrap().is_some());
        again.close().await.unwrap();
        // The old handle stays closed although the database is open again.
        assert_eq!(db.get("more").await.unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn a_dropped_database_closes_in_the_background() {
    let (_directory, path) = Template::shared().copy();
    run("opening until the lock is free", async move {
        let db = Database::open(&path).await.unwrap();
        db.put("more", "value").await.unwrap();
        drop(db);
        loop {
            match Database::open(&path).await {
                Ok(db) => {
                    assert!(db.get("more").await.unwrap().is_some());
                    db.close().await.unwrap();
                    return;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Locked, "{error}"),
            }
        }
    });
}

#[test]
fn another_number_of_shards_is_refused() {
    let (_directory, path) = Template::shared().copy();
    for shards in [1, SHARDS + 1] {
        for opening in [
            Database::builder(&path).shards(shards).open().boxed_up(),
            Database::builder(&path)
                .shards(shards)
                .open_or_create()
                .boxed_up(),
        ] {
            let error = refused(opening);
            assert_kind(&error, ErrorKind::Invalid, &["number of shards"]);
        }
    }
    is_whole(&path);
}

/// Writes another format version into a framed block and makes its checksum right.
fn set_block_version(file: &Path, offset: usize) {
    const BLOCK_BYTES: usize = 4096;
    let mut bytes = fs::read(file).unwrap();
    let block = &mut bytes[offset..offset + BLOCK_BYTES];
    block[8..12].copy_from_slice(&99_u32.to_le_bytes());
    block[12..16].fill(0);
    let checksum = crc32fast::hash(block);
    block[12..16].copy_from_slice(&checksum.to_le_bytes());
    fs::write(file, bytes).unwrap();
}

#[test]
fn another_format_version_is_told_by_every_file() {
    let file_of = |path: &Path, name: &str| match name {
        "DATABASE" => path.join(name),
        "wal" => wal_file(path),
        name => path.join("shard-001").join(name),
    };
    for (name, offsets) in [
        ("DATABASE", &[0, 4096][..]),
        ("superblock", &[0, 4096, 8192, 12288]),
    ] {
        let (_directory, path) = Template::shared().copy();
        let file = file_of(&path, name);
        for &offset in offsets {
            set_block_version(&file, offset);
        }
        let error = refused(open(&path));
        assert_kind(&error, ErrorKind::Version, &[name, "99"]);
    }
    let (_directory, path) = Template::shared().copy();
    let file = wal_file(&path);
    let last = usize::try_from(fs::metadata(&file).unwrap().len()).unwrap() - 4096;
    set_block_version(&file, 0);
    set_block_version(&file, last);
    assert_kind(&refused(open(&path)), ErrorKind::Version, &["wal", "99"]);

    let (_directory, path) = Template::shared().copy();
    let file = file_of(&path, "tree");
    let mut bytes = fs::read(&file).unwrap();
    bytes[12..16].copy_from_slice(&99_u32.to_le_bytes());
    let checksum = crc32fast::hash(&bytes[12..4096]);
    bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    assert_kind(&refused(open(&path)), ErrorKind::Version, &["tree", "99"]);
}

/// A log file of the second shard that holds something.
fn wal_file(path: &Path) -> PathBuf {
    let shard = path.join("shard-001");
    let mut files = files_below(&shard);
    files.retain(|file| {
        let name = file.file_name().unwrap().to_str().unwrap();
        name.starts_with("wal") && fs::read(file).unwrap()[..8] == *b"LDBWALSG"
    });
    files.pop().expect("a log has a segment in use")
}

#[test]
fn a_missing_file_is_told_by_name() {
    for name in ["superblock", "tree"] {
        let (_directory, path) = Template::shared().copy();
        fs::remove_file(path.join("shard-001").join(name)).unwrap();
        let error = refused(open(&path));
        assert!(
            matches!(error.kind(), ErrorKind::Io | ErrorKind::Corruption),
            "{error:?}"
        );
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_missing_shard_is_told_by_name() {
    let (_directory, path) = Template::shared().copy();
    fs::rename(path.join("shard-001"), path.join("elsewhere")).unwrap();
    let error = refused(open(&path));
    assert!(error.to_string().contains("shard-001"), "{error}");
    // And nothing was made up for it.
    assert!(!path.join("shard-001").exists());
    fs::rename(path.join("elsewhere"), path.join("shard-001")).unwrap();
    is_whole(&path);
}

#[test]
fn a_missing_log_is_told() {
    let (_directory, path) = Template::shared().copy();
    for file in files_below(&path.join("shard-001")) {
        if file
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("wal")
        {
            fs::remove_file(file).unwrap();
        }
    }
    let error = refused(open(&path));
    assert_kind(&error, ErrorKind::Corruption, &["shard-001"]);
}

#[test]
fn a_missing_identity_makes_no_new_database() {
    let (_directory, path) = Template::shared().copy();
    fs::rename(path.join("DATABASE"), path.join("kept")).unwrap();
    let before = files_below(&path);
    for opening in [
        Database::builder(&path).open().boxed_up(),
        Database::builder(&path).create().boxed_up(),
        Database::builder(&path).open_or_create().boxed_up(),
    ] {
        assert_kind(&refused(opening), ErrorKind::NotFound, &["DATABASE"]);
    }
    assert_eq!(files_below(&path), before);
    fs::rename(path.join("kept"), path.join("DATABASE")).unwrap();
    is_whole(&path);
}

#[test]
fn files_of_two_shards_that_changed_places_are_found() {
    for name in ["superblock", "tree", "wal", ""] {
        let (_directory, path) = Template::shared().copy();
        let (first, second) = (path.join("shard-000"), path.join("shard-001"));
        let names: Vec<_> = match name {
            "" => vec![PathBuf::new()],
            "wal" => names_of_logs(&first),
            name => vec![PathBuf::from(name)],
        };
        for name in names {
            exchange(&first.join(&name), &second.join(&name), &path.join("aside"));
        }
        let error = refused(open(&path));
        assert_kind(&error, ErrorKind::Corruption, &["shard-00"]);
        assert!(error.corruption().is_some());
    }
}

#[test]
fn files_of_another_database_are_found() {
    let other = Template::make();
    for name in ["superblock", "tree", "wal", "", "../DATABASE"] {
        let (_directory, path) = Template::shared().copy();
        let (_other_directory, stranger) = other.copy();
        let shard = path.join("shard-001");
        let names: Vec<_> = match name {
            "wal" => names_of_logs(&shard),
            name => vec![PathBuf::from(name)],
        };
        for name in names {
            let theirs = stranger.join("shard-001").join(&name);
            exchange(&shard.join(&name), &theirs, &path.join("aside"));
        }
        let error = refused(open(&path));
        assert_kind(&error, ErrorKind::Corruption, &["shard-00"]);
    }
}

fn names_of_logs(shard: &Path) -> Vec<PathBuf> {
    let files = files_below(shard);
    let names = files
        .iter()
        .map(|file| PathBuf::from(file.file_name().unwrap()));
    names
        .filter(|name| name.to_str().unwrap().starts_with("wal"))
        .collect()
}

fn exchange(a: &Path, b: &Path, aside: &Path) {
    let a = a.components().as_path();
    let b = b.components().as_path();
    fs::rename(a, aside).unwrap();
    fs::rename(b, a).unwrap();
    fs::rename(aside, b).unwrap();
}

#[test]
fn an_interrupted_creation_is_started_over() {
    let directory = scratch();
    let path = directory.path().join("db");
    // What a crash leaves between the identity's name and its content.
    fs::create_dir(&path).unwrap();
    fs::write(path.join("DATABASE"), []).unwrap();
    let error = refused(open(&path));
    assert_kind(&error, ErrorKind::Corruption, &["DATABASE"]);
    run("creation", async move {
        Database::create(&path).await?.close().await?;
        Database::open(&path).await?.close().await
    })
    .unwrap();
}

/// Opens and reads everything.
#[track_caller]
fn is_whole(path: &Path) {
    let path = path.to_path_buf();
    let rows = run("reading everything", async move {
        let db = Database::open(&path).await?;
        let rows: Vec<_> = db.scan(..).try_collect().await?;
        db.close().await?;
        Ok::<_, Error>(rows)
    })
    .unwrap();
    let expected = template_rows().map(|(key, value)| (key.into_bytes().into(), value.into()));
    assert!(expected.eq(rows), "every row is there");
}
