//! Every byte of every file of a small database, changed in every way that one byte often changes:
//! each of its bits flipped, all of them cleared, all of them set.
//!
//! After each change the database is opened, every key is read, everything is scanned and checked.
//! Each change must be *detected* (an error, or a damage in the check's report, that names the
//! file), *repaired* (all content right, and the byte on disk right again, from a second copy), or
//! *redundant* (all content right, nothing reported, and `layout` proves that the byte
//! holds nothing that counts).
//!
//! A byte in a block that nothing reads when the database is undamaged cannot change what happens:
//! the run would be the same one, step for step. Where the whole is swept, such changes are not run;
//! they are *unread*, and the layout has to prove, as for all others, that the byte holds nothing
//! that counts.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;
use std::path::{Path, PathBuf};

use lightning_io::sim::{BlocksRead, Image, Rng};
use lightning_io::{BLOCK_BYTES, to_u64, to_usize};

use super::judge::{Judged, judge};
use super::layout::{Region, decode};
use super::sample::{Ending, Sample};
use super::{Extent, jobs};

/// Changes of one byte: eight bits, 0x00 and 0xff.
const CHANGES: u64 = 10;

/// Violations that are told one by one; all are counted.
const VIOLATIONS_TOLD: usize = 20;

/// How changes of one kind of bytes ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Classes {
    /// Reported, with the file's name.
    pub detected: u64,
    /// Set right from another copy.
    pub repaired: u64,
    /// Without effect on a byte that nobody needs.
    pub redundant: u64,
    /// Of a byte that nobody needs, in a block that nobody reads.
    pub unread: u64,
}

impl AddAssign<&Self> for Classes {
    fn add_assign(&mut self, other: &Self) {
        self.detected += other.detected;
        self.repaired += other.repaired;
        self.redundant += other.redundant;
        self.unread += other.unread;
    }
}

/// What a sweep over bytes, or over blocks, found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ByteFigures {
    /// Bytes of all files of the databases that were damaged.
    pub bytes: u64,
    /// Changes that were made and judged.
    pub cases: u64,
    /// How they ended, by kind of file and what its bytes are for.
    pub classes: BTreeMap<(&'static str, Region), Classes>,
    /// Detected changes because of which the database did not open.
    pub refused: u64,
    /// Detected changes with which it opened.
    pub opened: u64,
    /// Keys that could be read with those, and keys in all.
    pub keys_readable: u64,
    /// See `keys_readable`.
    pub keys: u64,
    /// Wrong answers, panics, hangs, live bytes whose change nobody noticed, errors that name
    /// another file.
    pub violation_count: u64,
    /// The first of them.
    pub violations: Vec<String>,
}

impl AddAssign<&Self> for ByteFigures {
    fn add_assign(&mut self, other: &Self) {
        self.bytes += other.bytes;
        self.cases += other.cases;
        for (key, classes) in &other.classes {
            *self.classes.entry(*key).or_default() += classes;
        }
        self.refused += other.refused;
        self.opened += other.opened;
        self.keys_readable += other.keys_readable;
        self.keys += other.keys;
        self.violation_count += other.violation_count;
        self.violations.extend_from_slice(&other.violations);
        self.violations.truncate(VIOLATIONS_TOLD);
    }
}

impl ByteFigures {
    /// All classes together.
    pub fn total(&self) -> Classes {
        let mut total = Classes::default();
        self.classes.values().for_each(|classes| total += classes);
        total
    }

    pub(super) fn violate(&mut self, what: String) {
        self.violation_count += 1;
        if self.violations.len() < VIOLATIONS_TOLD {
            self.violations.push(what);
        }
    }

    /// Notes all changes of a range whose blocks are not read.
    fn pass_over(&mut self, file: &Path, region: Region, range: &std::ops::Range<u64>) {
        let cases = (range.end - range.start) * CHANGES;
        self.cases += cases;
        if region.is_live() {
            let what = format!("{} {range:?} ({region:?}): nobody reads it", file.display());
            return self.violate(what);
        }
        let classes = self.classes.entry((kind_of(file), region)).or_default();
        classes.unread += cases;
    }

    /// Sorts one case into its class.
    pub(super) fn sort(&mut self, case: &Case<'_>, judged: &Judged, keys: usize) {
        self.cases += 1;
        if let Some(what) = &judged.violation {
            return self.violate(format!("{case}: {what}"));
        }
        let classes = self.classes.entry((case.kind(), case.region)).or_default();
        if !judged.reports.is_empty() {
            classes.detected += 1;
            if judged.opened {
                self.opened += 1;
                self.keys_readable += to_u64(judged.readable);
                self.keys += to_u64(keys);
            } else {
                self.refused += 1;
            }
            if !judged.names(&case.file.to_string_lossy()) {
                let reports = judged.reports.join("; ");
                self.violate(format!("{case}: another file is named: {reports}"));
            }
        } else if !case.region.is_live() {
            classes.redundant += 1;
        } else if case.is_right_again(&judged.image) {
            classes.repaired += 1;
        } else {
            self.violate(format!("{case}: nobody noticed"));
        }
    }
}

impl fmt::Display for ByteFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {} bytes, {} cases", self.bytes, self.cases)?;
        for ((file, region), classes) in &self.classes {
            let Classes {
                detected,
                repaired,
                redundant,
                unread,
            } = classes;
            writeln!(
                f,
                "  {file:<11}{:<16} detected {detected:>9}  repaired {repaired:>7}  \
                 redundant {redundant:>9}  unread {unread:>9}",
                format!("{region:?}")
            )?;
        }
        let share = self.keys_readable * 1000 / self.keys.max(1);
        writeln!(
            f,
            "  detected: {} at opening, {} later with {}.{} % of keys readable",
            self.refused,
            self.opened,
            share / 10,
            share % 10
        )?;
        writeln!(f, "  {} violations", self.violation_count)?;
        self.violations
            .iter()
            .try_for_each(|violation| writeln!(f, "  VIOLATION {violation}"))
    }
}

/// One change of a file.
pub(super) struct Case<'a> {
    /// Which database, for reports.
    pub(super) ending: Ending,
    /// The file that was damaged.
    pub(super) file: &'a Path,
    /// What the damaged bytes are for.
    pub(super) region: Region,
    /// Where they begin.
    pub(super) offset: u64,
    /// What was there.
    pub(super) was: &'a [u8],
    /// What is there instead.
    pub(super) is: &'a [u8],
    /// Where that came from.
    pub(super) source: String,
}

impl Case<'_> {
    fn kind(&self) -> &'static str {
        kind_of(self.file)
    }

    /// Whether the file has what was there before the damage; of what is there twice, anything but
    /// the damage, as a copy may have been replaced by a newer one.
    fn is_right_again(&self, image: &Image) -> bool {
        let now = image.read_range(self.file, self.offset, self.was.len());
        let holds = |bytes: &[u8]| now.as_deref() == Some(bytes);
        holds(self.was) || self.region.is_doubled() && !holds(self.is)
    }
}

fn kind_of(file: &Path) -> &'static str {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    ["DATABASE", "superblock", "tree", "reserve"]
        .into_iter()
        .find(|kind| *kind == name)
        .unwrap_or("wal")
}

impl fmt::Display for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ending, file, region) = (self.ending, self.file.display(), self.region);
        write!(
            f,
            "{ending:?} {file} at {} ({region:?}): {}",
            self.offset, self.source
        )
    }
}

/// Bytes of one file that are for the same thing.
struct Stratum {
    file: PathBuf,
    region: Region,
    /// Where they are; the sum of the lengths is `bytes`.
    ranges: Vec<std::ops::Range<u64>>,
    bytes: u64,
    /// Which of its cases are run: this many, evenly spaced.
    cases: u64,
}

impl Stratum {
    /// The place and the change of the `nth` case that is run.
    fn case(&self, nth: u64, rng: &mut Rng) -> (u64, u64) {
        let all = self.bytes * CHANGES;
        let (from, to) = (nth * all / self.cases, (nth + 1) * all / self.cases);
        let case = from + rng.below(to - from);
        let mut at = case / CHANGES;
        for range in &self.ranges {
            let len = range.end - range.start;
            if at < len {
                return (range.start + at, case % CHANGES);
            }
            at -= len;
        }
        unreachable!("a case lies in one of the ranges")
    }
}

/// Every file's bytes by what they are for.
fn strata(image: &Image) -> Result<Vec<Stratum>, String> {
    let mut strata: Vec<Stratum> = Vec::new();
    for (file, regions) in decode(image)? {
        for (range, region) in regions {
            let same = |stratum: &&mut Stratum| stratum.file == file && stratum.region == region;
            let bytes = range.end - range.start;
            if let Some(stratum) = strata.iter_mut().find(same) {
                stratum.bytes += bytes;
                stratum.ranges.push(range);
            } else {
                strata.push(Stratum {
                    file: file.clone(),
                    region,
                    ranges: vec![range],
                    bytes,
                    cases: 0,
                });
            }
        }
    }
    Ok(strata)
}

/// Takes out of the strata what lies in blocks that are not read, and notes it.
fn take_unread(strata: &mut [Stratum], read: &BlocksRead, figures: &mut ByteFigures) {
    let block = to_u64(BLOCK_BYTES);
    for stratum in strata {
        let blocks = read.get(&stratum.file);
        let mut kept = Vec::new();
        for range in std::mem::take(&mut stratum.ranges) {
            for number in range.start / block..range.end.div_ceil(block) {
                let start = range.start.max(number * block);
                let piece = start..range.end.min((number + 1) * block);
                if blocks.is_some_and(|blocks| blocks.contains(&number)) {
                    kept.push(piece);
                } else {
                    stratum.bytes -= piece.end - piece.start;
                    figures.pass_over(&stratum.file, stratum.region, &piece);
                }
            }
        }
        stratum.ranges = kept;
    }
}

/// Gives every stratum the same number of cases, as far as it has them.
fn spread(strata: &mut [Stratum], extent: Extent) {
    let Extent::Sampled(mut left) = extent else {
        return strata.iter_mut().for_each(|s| s.cases = s.bytes * CHANGES);
    };
    strata.sort_by_key(|stratum| stratum.bytes);
    let count = strata.len();
    for (at, stratum) in strata.iter_mut().enumerate() {
        // The small ones come first and leave the rest of their share to those behind them.
        let share = left / to_u64(count - at);
        stratum.cases = share.min(stratum.bytes * CHANGES);
        left -= stratum.cases;
    }
}

/// Damages the byte sweep's databases, one byte at a time: one that was closed and one that was cut
/// off, each with half of the cases.
///
/// # Errors
/// When the databases could not be built or are not laid out as documented.
pub fn sweep_bytes(seed: u64, extent: Extent, jobs: usize) -> Result<ByteFigures, String> {
    let mut figures = ByteFigures::default();
    let half = match extent {
        Extent::Sampled(cases) => Extent::Sampled(cases.div_ceil(2)),
        Extent::Whole => Extent::Whole,
    };
    for ending in [Ending::Closed, Ending::Crashed] {
        figures += &sweep_sample(seed, ending, half, jobs)?;
    }
    Ok(figures)
}

fn sweep_sample(
    seed: u64,
    ending: Ending,
    extent: Extent,
    jobs: usize,
) -> Result<ByteFigures, String> {
    let sample = Sample::build(seed, ending)?;
    let mut strata = strata(&sample.image)?;
    let bytes = strata.iter().map(|stratum| stratum.bytes).sum();
    let sound = judge(seed, sample.image.clone(), &sample.rows);
    if sound.violation.is_some() || !sound.reports.is_empty() {
        return Err(format!("the undamaged database: {sound:?}"));
    }
    let mut passed_over = ByteFigures::default();
    if matches!(extent, Extent::Whole) {
        take_unread(&mut strata, &sound.blocks_read, &mut passed_over);
    }
    spread(&mut strata, extent);
    // The number of the first case behind each stratum.
    let ends: Vec<u64> = strata
        .iter()
        .scan(0, |sum, stratum| {
            *sum += stratum.cases;
            Some(*sum)
        })
        .collect();
    let count = ends.last().copied().unwrap_or(0);
    let run = |image: &mut Image, number: u64, figures: &mut ByteFigures| {
        let at = ends.partition_point(|end| *end <= number);
        let stratum = &strata[at];
        let nth = number + stratum.cases - ends[at];
        let (offset, change) = stratum.case(nth, &mut Rng::stream(seed, number));
        let was = image.read_range(&stratum.file, offset, 1);
        let was = was.expect("the layout ends where the file ends")[0];
        let mask = match change {
            8 => was,
            9 => !was,
            bit => 1 << bit,
        };
        if mask == 0 {
            return;
        }
        image.flip_bits(&stratum.file, offset, mask);
        let judged = judge(seed, image.clone(), &sample.rows);
        image.flip_bits(&stratum.file, offset, mask);
        let case = Case {
            ending,
            file: &stratum.file,
            region: stratum.region,
            offset,
            was: &[was],
            is: &[was ^ mask],
            source: format!("{was:#04x} became {:#04x}", was ^ mask),
        };
        figures.sort(&case, &judged, sample.rows.len());
    };
    let mut figures: ByteFigures = jobs::run(jobs, count, || sample.image.clone(), run);
    debug_assert!(to_usize(figures.cases) <= to_usize(count));
    figures += &passed_over;
    figures.bytes = bytes;
    Ok(figures)
}
