//! Damaged files: whatever bytes are there, an answer is right or an error that names the place.
//!
//! Each case damages one file of a copy of a small closed database, opens it, and reads every key
//! in three ways. Damage below what is known to be durable has to be refused; a missing row is
//! accepted nowhere: everything was acknowledged and the database was closed.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use futures_util::TryStreamExt;
use lightning_db::{Database, Error, ErrorKind};

use crate::opening::{Template, template_rows};
use crate::support::{Random, files_below, run};

/// How a case ended; every way counts as sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// Opening was refused.
    Refused,
    /// Some keys could not be read, or the check found something; the others were right.
    Contained,
    /// Every key was right: nothing that counts was damaged, or a second copy helped.
    Harmless,
}

/// An error about damage has to say where.
#[track_caller]
fn assert_names_a_place(error: &Error, case: &str) {
    let sound = matches!(
        error.kind(),
        ErrorKind::Corruption | ErrorKind::Io | ErrorKind::Version | ErrorKind::NotFound
    );
    assert!(sound, "{case}: {error:?}");
    let message = error.to_string();
    let names = ["DATABASE", "superblock", "tree", "wal", "shard-00"];
    let named = names.iter().any(|name| message.contains(name));
    assert!(named, "{case}: {message} names no file");
    if let Some(corruption) = error.corruption() {
        assert!(!corruption.what.is_empty(), "{case}: {message}");
    }
}

/// Opens a damaged database and reads every key in every way.
async fn judge(path: &Path, case: &str) -> End {
    let db = match Database::open(path).await {
        Ok(db) => db,
        Err(error) => {
            assert_names_a_place(&error, case);
            return End::Refused;
        }
    };
    let rows: BTreeMap<String, Vec<u8>> = template_rows().collect();
    let mut end = End::Harmless;
    for (key, value) in &rows {
        match db.get(key).await {
            Ok(found) => assert!(
                found.as_deref() == Some(value),
                "{case}: key {key} reads as {} bytes",
                found.map_or("no".to_owned(), |found| found.len().to_string())
            ),
            Err(error) => {
                assert_names_a_place(&error, case);
                end = End::Contained;
            }
        }
    }
    let mut scan = db.scan(..);
    let mut expected = rows.iter();
    loop {
        match scan.try_next().await {
            Ok(Some((key, value))) => {
                let expected = expected.next().expect("no row too many");
                let right = key == expected.0.as_bytes() && value == *expected.1;
                assert!(right, "{case}: the scan shows a wrong row at {key:?}");
            }
            Ok(None) => {
                assert_eq!(expected.next(), None, "{case}: the scan ends too early");
                break;
            }
            Err(error) => {
                assert_names_a_place(&error, case);
                end = End::Contained;
                break;
            }
        }
    }
    match db.verify().await {
        Ok(report) if report.damages.is_empty() => {
            assert_eq!(end, End::Harmless, "{case}: the check overlooked it");
        }
        Ok(_) => end = End::Contained,
        Err(error) => {
            assert_names_a_place(&error, case);
            end = End::Contained;
        }
    }
    // A damaged database takes no harm from being closed, and may fail to.
    drop(db.close().await);
    end
}

/// Runs one case on a copy; `damage` does the damage.
fn case(name: &str, file: &Path, damage: impl FnOnce(&Path)) -> End {
    let (_directory, path) = Template::shared().copy();
    damage(&path.join(file));
    let case = format!("{name} of {}", file.display());
    run(&case.clone(), async move { judge(&path, &case).await })
}

/// The files of the template, by their path inside it, with their lengths.
pub(crate) fn files() -> Vec<(std::path::PathBuf, u64)> {
    let root = &Template::shared().path;
    files_below(root)
        .into_iter()
        .filter(|file| !file.ends_with("LOCK"))
        .map(|file| {
            let length = fs::metadata(&file).unwrap().len();
            (file.strip_prefix(root).unwrap().to_path_buf(), length)
        })
        .collect()
}

#[test]
fn the_undamaged_template_is_sound() {
    let (_directory, path) = Template::shared().copy();
    let end = run("no damage", async move { judge(&path, "no damage").await });
    assert_eq!(end, End::Harmless);
}

#[test]
fn a_truncated_file_is_found() {
    let mut ends = BTreeMap::new();
    for (file, length) in files() {
        for cut in [0, 1, 100, 4095, 4096, length / 2, length - 4096, length - 1] {
            if cut >= length {
                continue;
            }
            let end = case(&format!("first {cut} bytes"), &file, |path| {
                let file = OpenOptions::new().write(true).open(path).unwrap();
                file.set_len(cut).unwrap();
            });
            *ends.entry(end).or_insert(0) += 1;
        }
    }
    assert!(ends[&End::Refused] > 10, "{ends:?}");
}

/// Damages of every kind, somewhere in some file.
pub(crate) fn damage_at_random(random: &mut Random, path: &Path, length: u64) -> String {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let length = usize::try_from(length).unwrap();
    // Most of a log is zeros that were never used: aim at what is there, most of the time.
    let content = content_end(path);
    let reach = if random.chance(5) { length } else { content };
    let at = random.below(reach);
    let block = at / 4096 * 4096;
    let write = |at: usize, bytes: &[u8]| {
        let at = u64::try_from(at).unwrap();
        file.write_all_at(bytes, at).unwrap();
    };
    match random.below(6) {
        0 => {
            let mut byte = [0];
            file.read_exact_at(&mut byte, u64::try_from(at).unwrap())
                .unwrap();
            write(at, &[byte[0] ^ (1 << random.below(8))]);
            format!("a flipped bit at {at}")
        }
        1 => {
            let len = 1 + random.below(16).min(length - at - 1);
            let bytes = random.bytes(len);
            write(at, &bytes);
            format!("{} random bytes at {at}", bytes.len())
        }
        2 => {
            write(block, &random.bytes(4096));
            format!("a random block at {block}")
        }
        3 => {
            write(block, &[0; 4096]);
            format!("a blank block at {block}")
        }
        4 => {
            // A misdirected write: another block of the same file.
            let from = random.below(content) / 4096 * 4096;
            let mut bytes = [0; 4096];
            file.read_exact_at(&mut bytes, u64::try_from(from).unwrap())
                .unwrap();
            write(block, &bytes);
            format!("block {from} at {block}")
        }
        _ => {
            let end = (block + 4096 * (1 + random.below(8))).min(length);
            write(block, &random.bytes(end - block));
            format!("random bytes from {block} to {end}")
        }
    }
}

/// Where the last block that is not blank ends.
fn content_end(path: &Path) -> usize {
    let bytes = fs::read(path).unwrap();
    // The last block of a log is its second header, so it does not tell.
    let used = bytes
        .chunks(4096)
        .rev()
        .skip(1)
        .skip_while(|block| block.iter().all(|&b| b == 0));
    (used.count() + 1) * 4096
}

fn damages(seed: u64, count: usize) {
    let files = files();
    let mut random = Random::new(seed);
    let mut ends = BTreeMap::new();
    for number in 0..count {
        let (file, length) = &files[random.below(files.len())];
        let name = format!("seed {seed}, damage {number}");
        let mut made = String::new();
        let end = case(&name, file, |path| {
            made = damage_at_random(&mut random, path, *length);
            println!("{name}: {made} of {}", file.display());
        });
        *ends.entry(end).or_insert(0) += 1;
    }
    println!("seed {seed}: {ends:?}");
    let hurt: usize = ends
        .iter()
        .filter(|(end, _)| **end != End::Harmless)
        .map(|(_, n)| n)
        .sum();
    assert!(
        hurt > count / 10,
        "the damages do not reach what counts: {ends:?}"
    );
}

#[test]
fn random_damage_never_gives_a_wrong_answer() {
    damages(11, 150);
}

#[test]
fn more_random_damage_never_gives_a_wrong_answer() {
    damages(12, 150);
}
