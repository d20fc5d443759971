//! Whole blocks, pages, values and records replaced by others of the same length: what a write or a
//! read that went astray, or was lost, leaves behind.
//!
//! The bytes come from the same file, from another file of the shard, from the other shard, from
//! another database, or from the same place at an earlier moment. Most of them are sound by
//! themselves: only what they say about where they belong, and what points to them, gives them away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lightning_io::sim::{Image, Rng};
use lightning_io::{BLOCK_BYTES, to_u64, to_usize};

use super::bytes::{ByteFigures, Case};
use super::jobs;
use super::judge::judge;
use super::layout::{Region, decode};
use super::sample::{Ending, Sample};

/// Draws of a replacement before a case is given up: some lengths are rare.
const DRAWS_MAX: usize = 32;

/// Where a replacement comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    SameFile,
    OtherFile,
    OtherShard,
    OtherDatabase,
    Earlier,
}

const SOURCES: [Source; 5] = [
    Source::SameFile,
    Source::OtherFile,
    Source::OtherShard,
    Source::OtherDatabase,
    Source::Earlier,
];

/// A page, a value, a record or a block.
#[derive(Debug, Clone)]
struct Piece {
    file: PathBuf,
    region: Region,
    offset: u64,
    len: usize,
}

/// The pieces of a disk. Long stretches that nobody needs are cut into blocks.
fn pieces(image: &Image) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    for (file, regions) in decode(image)? {
        for (range, region) in regions {
            let whole = matches!(
                region,
                Region::InnerPage | Region::Leaf | Region::LargeValue | Region::Record
            );
            let bytes = range.end - range.start;
            let step = if whole { bytes } else { to_u64(BLOCK_BYTES) };
            for offset in (range.start..range.end).step_by(to_usize(step)) {
                pieces.push(Piece {
                    file: file.clone(),
                    region,
                    offset,
                    len: to_usize(step),
                });
            }
        }
    }
    Ok(pieces)
}

/// The databases of a sweep.
struct Disks {
    sample: Sample,
    /// By file and region, so that rare ones are hit as often as others.
    targets: Vec<Vec<Piece>>,
    /// All by length.
    here: BTreeMap<usize, Vec<Piece>>,
    other: Image,
    there: BTreeMap<usize, Vec<Piece>>,
}

fn by_length(pieces: &[Piece]) -> BTreeMap<usize, Vec<Piece>> {
    let mut lengths: BTreeMap<usize, Vec<Piece>> = BTreeMap::new();
    for piece in pieces {
        lengths.entry(piece.len).or_default().push(piece.clone());
    }
    lengths
}

impl Disks {
    fn build(seed: u64, ending: Ending) -> Result<Self, String> {
        let sample = Sample::build(seed, ending)?;
        let other = Sample::build(seed.wrapping_add(1), ending)?.image;
        let (here, there) = (pieces(&sample.image)?, pieces(&other)?);
        let mut targets: BTreeMap<(&Path, Region), Vec<Piece>> = BTreeMap::new();
        for piece in &here {
            let key = (piece.file.as_path(), piece.region);
            targets.entry(key).or_default().push(piece.clone());
        }
        Ok(Self {
            targets: targets.into_values().collect(),
            here: by_length(&here),
            there: by_length(&there),
            sample,
            other,
        })
    }

    /// Bytes from elsewhere for a piece, other than its own, and what they are.
    fn replacement(
        &self,
        source: Source,
        target: &Piece,
        rng: &mut Rng,
    ) -> Option<(Vec<u8>, String)> {
        let own = bytes_of(&self.sample.image, target)?;
        for _ in 0..DRAWS_MAX {
            let (image, piece) = match source {
                Source::Earlier => {
                    let older = &self.sample.older;
                    (&older[rng.index(older.len())], target)
                }
                Source::OtherDatabase => {
                    let same_place = rng.coin();
                    let pool = self.there.get(&target.len)?;
                    let drawn = &pool[rng.index(pool.len())];
                    (&self.other, if same_place { target } else { drawn })
                }
                Source::SameFile | Source::OtherFile | Source::OtherShard => {
                    let pool = self.here.get(&target.len)?;
                    let drawn = &pool[rng.index(pool.len())];
                    let same_file = drawn.file == target.file;
                    let same_shard = drawn.file.parent() == target.file.parent();
                    let fits = match source {
                        Source::SameFile => same_file,
                        Source::OtherFile => same_shard && !same_file,
                        _ => !same_shard,
                    };
                    if !fits {
                        continue;
                    }
                    (&self.sample.image, drawn)
                }
            };
            match bytes_of(image, piece) {
                Some(bytes) if bytes != own => {
                    let (file, offset) = (piece.file.display(), piece.offset);
                    return Some((bytes, format!("{source:?} {file} at {offset} instead")));
                }
                _ => {}
            }
        }
        None
    }
}

fn bytes_of(image: &Image, piece: &Piece) -> Option<Vec<u8>> {
    image.read_range(&piece.file, piece.offset, piece.len)
}

/// Replaces pieces of a database that was closed and of one that was cut off, half of `cases` each.
///
/// # Errors
/// When the databases could not be built or are not laid out as documented.
pub fn sweep_swaps(seed: u64, cases: u64, jobs: usize) -> Result<ByteFigures, String> {
    let mut figures = ByteFigures::default();
    for ending in [Ending::Closed, Ending::Crashed] {
        let disks = Disks::build(seed, ending)?;
        let run = |image: &mut Image, number: u64, figures: &mut ByteFigures| {
            swap(&disks, ending, seed, image, number, figures);
        };
        let begin = || disks.sample.image.clone();
        let found: ByteFigures = jobs::run(jobs, cases.div_ceil(2), begin, run);
        figures += &found;
    }
    Ok(figures)
}

fn swap(
    disks: &Disks,
    ending: Ending,
    seed: u64,
    image: &mut Image,
    number: u64,
    figures: &mut ByteFigures,
) {
    let rng = &mut Rng::stream(seed, number);
    let turn = to_usize(number);
    let targets = &disks.targets[turn / SOURCES.len() % disks.targets.len()];
    let target = &targets[rng.index(targets.len())];
    // Some lengths are not to be had everywhere; the same place at another moment may be as it is.
    let sources = (0..SOURCES.len()).map(|at| SOURCES[(turn + at) % SOURCES.len()]);
    let mut found = sources.filter_map(|source| disks.replacement(source, target, rng));
    let Some((bytes, source)) = found.next() else {
        return;
    };
    let was = bytes_of(image, target).expect("a piece lies inside its file");
    image.replace_blocks(&target.file, target.offset, &bytes);
    let judged = judge(seed, image.clone(), &disks.sample.rows);
    image.replace_blocks(&target.file, target.offset, &was);
    let case = Case {
        ending,
        file: &target.file,
        region: target.region,
        offset: target.offset,
        was: &was,
        is: &bytes,
        source,
    };
    figures.sort(&case, &judged, disks.sample.rows.len());
}
