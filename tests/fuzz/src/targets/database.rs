//! Any bytes opened as a database: the files of a small one, changed, then visited and salvaged.
//!
//! An input says which database, whether checksums are put right after the changes, and what the
//! changes are. Every answer must be a typed error or data; without new checksums no answer may be
//! a value that was never written there.

use std::path::{Path, PathBuf};

use lightning_io::sim::{CrashPoint, Image, Rng, World};
use lightning_shards::{Compression, Durability, OpenMode, Ops, Result};

use super::reseal::{Files, reseal};
use super::visit::{self, Judge};
use crate::input::Input;
use crate::site::{self, Database, KEYSPACE, ROOT, Site};
use crate::target::{Target, Verdict};

/// The most that opening, reading and checking may hold: the disk's image, 256 KiB a shard, a few
/// buffers of 1 MiB, and room for what a list of damages needs.
const HEAP_BYTES_MAX: usize = 48 << 20;

/// Changes that one input makes.
const CHANGES_MAX: usize = 24;

/// The longest that a change makes a file.
const FILE_BYTES_MAX: usize = 4 << 20;

const BLOCK: usize = 4096;

/// What a number of a file becomes.
const NUMBERS: &[u64] = &[
    0,
    1,
    255,
    4_096,
    1 << 16,
    1 << 20,
    1 << 31,
    u64::MAX >> 1,
    u64::MAX - 1,
    u64::MAX,
];

/// A database that was made, and how it ended.
struct Base {
    shards: usize,
    keys: usize,
    image: Image,
    files: Files,
    /// The blocks that hold anything, by file: changes of nothing but zeros find little.
    blocks: Vec<(PathBuf, Vec<usize>)>,
}

/// The target.
pub(crate) struct DatabaseTarget {
    bases: Vec<Base>,
}

pub(super) fn key(number: usize) -> Vec<u8> {
    let long = if number.is_multiple_of(97) { 300 } else { 0 };
    format!("key{number:05}{}", "x".repeat(long)).into_bytes()
}

/// The values of a key begin with it, so that one of another key is recognised.
fn value(number: usize, version: usize) -> Vec<u8> {
    let len = match number % 53 {
        0 => 5_000,
        1 => 0,
        other => other,
    };
    format!("{number}={version}:{}", "v".repeat(len)).into_bytes()
}

pub(super) fn is_a_value(number: usize, value: &[u8]) -> bool {
    (0..VERSIONS).any(|version| self::value(number, version) == value)
}

const VERSIONS: usize = 3;

/// Writes a version of some keys, as batches.
pub(super) async fn write(database: &Database, numbers: &[usize], version: usize) -> Result<()> {
    for chunk in numbers.chunks(16) {
        let mut ops = Ops::default();
        for &number in chunk {
            if (number + version).is_multiple_of(11) {
                ops.delete(KEYSPACE, &key(number))?;
            } else {
                ops.put(KEYSPACE, &key(number), &value(number, version))?;
            }
        }
        database.client.write(ops, Durability::Sync).await?;
    }
    Ok(())
}

/// How a database ends before it is changed.
#[derive(Clone, Copy)]
enum End {
    Closed,
    Killed,
    PowerCut,
}

impl Base {
    fn make(shards: usize, keys: usize, compression: Compression, end: End) -> Self {
        let world = World::new(keys as u64, site::world_config());
        let site = Site::new(&world, shards, compression);
        let fill = async {
            let database = Database::open(site, OpenMode::Create).await?;
            let all: Vec<usize> = (0..keys).collect();
            write(&database, &all, 0).await?;
            database.client.flush().await?;
            write(&database, &all[..keys / 2], 1).await?;
            database.client.flush().await?;
            write(&database, &all[keys / 3..], 2).await?;
            // Two versions of a key in what is replayed.
            write(&database, &all[keys / 2..], 0).await?;
            match end {
                End::Closed => database.close().await,
                End::Killed | End::PowerCut => Ok(()),
            }
        };
        let filled = world.run_until_crash(fill, CrashPoint::AfterIos(u64::MAX));
        filled
            .expect("nothing goes wrong in this world")
            .expect("it is not cut off")
            .expect("every operation is within its bounds");
        let image = match end {
            End::PowerCut => world.crash(),
            End::Closed | End::Killed => world.shutdown(),
        };
        Self::of(shards, keys, image)
    }

    fn of(shards: usize, keys: usize, image: Image) -> Self {
        let paths = image.list_files();
        let file = |path: PathBuf| {
            let bytes = image.read_file(&path).expect("it was listed");
            (path, bytes)
        };
        let files: Files = paths.into_iter().map(file).collect();
        let blocks = files
            .iter()
            .map(|(path, bytes)| {
                let full = (0..bytes.len())
                    .step_by(BLOCK)
                    .filter(|&at| bytes[at..].iter().take(BLOCK).any(|&byte| byte != 0));
                (path.clone(), full.collect())
            })
            .collect();
        Self {
            shards,
            keys,
            image,
            files,
            blocks,
        }
    }

    /// The place of a change: a file, and a byte of it, mostly near the start of a full block.
    fn place(&self, input: &mut Input<'_>) -> (PathBuf, usize) {
        let (path, blocks) = &self.blocks[input.below(self.blocks.len())];
        let block = if blocks.is_empty() {
            0
        } else {
            blocks[input.below(blocks.len())]
        };
        let within = match input.below(3) {
            0 => input.below(BLOCK),
            1 => input.below(256),
            _ => 4 * input.below(32),
        };
        (path.clone(), block + within)
    }

    fn change(&self, files: &mut Files, input: &mut Input<'_>) {
        let (path, at) = self.place(input);
        let Some(bytes) = files.get_mut(&path) else {
            return;
        };
        let at = at.min(bytes.len());
        match input.below(12) {
            0..=2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << input.below(8);
                }
            }
            3..=5 => {
                let end = bytes.len().min(at + input.pick(&[1, 2, 4, 8, 8]));
                let mut number = [0; 8];
                number[..end - at].copy_from_slice(&bytes[at..end]);
                let old = u64::from_le_bytes(number);
                let new = match input.below(4) {
                    0 => old.wrapping_add(input.byte().into()),
                    1 => old.wrapping_sub(input.byte().into()),
                    2 => old ^ 1 << input.below(64),
                    _ => input.pick(NUMBERS),
                };
                bytes[at..end].copy_from_slice(&new.to_le_bytes()[..end - at]);
            }
            6 => {
                let end = bytes.len().min(at + 1 + input.below(2 * BLOCK));
                bytes[at..end].fill(input.pick(&[0, 0xff]));
            }
            7 => bytes.truncate(at - at % input.pick(&[1, BLOCK])),
            8 => bytes.resize((bytes.len() + input.below(1 << 20)).min(FILE_BYTES_MAX), 0),
            9 => self.misdirect(files, (&path, at), input),
            10 => {
                files.remove(&path);
            }
            _ => {
                let copy = bytes.clone();
                let name = input.pick(&["wal-000001", "wal-000900", "wal-x", "tree", "superblock"]);
                files.insert(path.with_file_name(name), copy);
            }
        }
    }

    /// Blocks of one place over those of another.
    fn misdirect(&self, files: &mut Files, to: (&Path, usize), input: &mut Input<'_>) {
        let (from, start) = self.place(input);
        let start = start - start % BLOCK;
        let source = &self.files[&from];
        let end = source.len().min(start + BLOCK * (1 + input.below(3)));
        let piece = source[start.min(end)..end].to_vec();
        if let Some(bytes) = files.get_mut(to.0) {
            let at = to.1 - to.1 % BLOCK;
            let end = bytes.len().min(at + piece.len());
            if at < end {
                bytes[at..end].copy_from_slice(&piece[..end - at]);
            }
        }
    }
}

impl DatabaseTarget {
    pub(crate) fn new() -> Self {
        let bases = vec![
            Base::make(1, 60, Compression::None, End::Closed),
            Base::make(2, 150, Compression::Lz4, End::Killed),
            Base::make(1, 700, Compression::Adaptive, End::PowerCut),
        ];
        Self { bases }
    }
}

impl Target for DatabaseTarget {
    fn make(&mut self, rng: &mut Rng) -> Vec<u8> {
        let mut input = vec![0; 2 + 8 * (1 + rng.index(4))];
        rng.fill(&mut input);
        input
    }

    fn run(&mut self, input: &[u8]) -> Result<Verdict, String> {
        let mut input = Input::new(input);
        let base = &self.bases[input.below(self.bases.len())];
        let new_checksums = input.below(2) == 1;
        let mut files = base.files.clone();
        for _ in 0..CHANGES_MAX {
            if input.is_empty() {
                break;
            }
            base.change(&mut files, &mut input);
        }
        if new_checksums {
            reseal(&mut files);
        }
        let image = changed_image(base, &files);
        let mut judge = Judge::new(!new_checksums);
        let visited = visit::visit(image.clone(), base.shards, base.keys, &mut judge)?;
        visit::salvage(image, &mut judge)?;
        judge.outcome()?;
        Ok(visited)
    }

    /// What lies where in a database changes with the engine.
    fn has_lasting_outcomes(&self) -> bool {
        false
    }

    fn heap_bytes_max(&self, _input_bytes: usize) -> usize {
        HEAP_BYTES_MAX
    }
}

/// The disk with the changed files; what did not change is shared with the original.
fn changed_image(base: &Base, files: &Files) -> Image {
    if base.files.keys().any(|path| !files.contains_key(path)) {
        let mut image = Image::new(Path::new(ROOT));
        for (path, bytes) in files {
            image.write_file(path, bytes);
        }
        return image;
    }
    let mut image = base.image.clone();
    for (path, bytes) in files {
        if base.files.get(path) != Some(bytes) {
            image.write_file(path, bytes);
        }
    }
    image
}

/// A database that nothing was done to, for a test of what changes it.
#[cfg(test)]
pub(super) fn sound_files() -> Files {
    Base::make(1, 700, Compression::None, End::Killed).files
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens a changed database with all checksums put right; the error, if it is one.
    fn open_changed(base: &Base, mut files: Files) -> Option<String> {
        reseal(&mut files);
        let world = World::with_image(7, site::world_config(), changed_image(base, &files));
        let site = Site::new(&world, base.shards, Compression::None);
        let opened = async { Database::open(site, OpenMode::Open).await.map(drop) };
        let outcome = world.run(opened).expect("no panic and no endless loop");
        assert_eq!(world.task_panics(), [""; 0]);
        outcome.err().map(|error| error.to_string())
    }

    /// The memtable takes this for a mistake of its caller, and panics.
    #[test]
    fn a_log_whose_commits_go_back_in_time_is_damaged() {
        let base = Base::make(1, 60, Compression::None, End::Killed);
        let mut files = base.files.clone();
        assert_eq!(open_changed(&base, files.clone()), None);
        // The last group of commits: the record of kind 1 with the highest number.
        let mut last = (0, PathBuf::new(), 0);
        for (path, bytes) in &files {
            for at in (0..bytes.len()).step_by(BLOCK) {
                let is_group = bytes[at..].starts_with(b"LREC") && bytes[at + 18] == 1;
                let lsn = u64::from_le_bytes(bytes[at + 32..at + 40].try_into().unwrap());
                if is_group && lsn > last.0 {
                    last = (lsn, path.clone(), at);
                }
            }
        }
        let (_, path, at) = last;
        let bytes = files.get_mut(&path).unwrap();
        bytes[at + 72..at + 80].fill(0);
        let error = open_changed(&base, files).expect("it is damaged");
        assert!(error.contains("follows one at"), "{error}");
    }

    /// The last header of such a file would lie across a block's end.
    #[test]
    fn a_spare_file_that_ends_within_a_block_is_not_taken_into_use() {
        let base = Base::make(1, 60, Compression::None, End::Killed);
        let mut files = base.files.clone();
        let is_log = |path: &&PathBuf| path.to_string_lossy().contains("wal-");
        let path = files.keys().find(is_log).unwrap();
        let spare = path.with_file_name("wal-000900");
        files.insert(spare, vec![0; (1 << 20) + 7]);
        assert_eq!(open_changed(&base, files), None);
    }

    #[test]
    fn databases_that_were_not_changed_open_and_are_right() {
        let mut target = DatabaseTarget::new();
        for base in 0..3 {
            let sound = Ok(Verdict::Accepted("opened".to_owned()));
            assert_eq!(target.run(&[base, 0]), sound, "base {base}");
            assert_eq!(target.run(&[base, 1]), sound, "resealed {base}");
        }
    }
}
