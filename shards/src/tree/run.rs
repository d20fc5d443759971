//! Runs: immutable trees ahead of the base, each with the newest version of the keys that one
//! memtable, or several older runs, had.
//!
//! # Invariants
//! * The list is oldest first: of two runs that have a key, the later one has the newer version.
//!   The base is older than all of them.
//! * A deletion is an entry of a run like any other, as an older run or the base may have the key.
//! * While a run is merged its entries below `merged_to` are in the target of the merge, or gone,
//!   and so are their large values: readers pass over them, and over the pages that have nothing
//!   else. All inputs of a merge have the same `merged_to`.
//! * A merge into the base has the oldest runs as its inputs. A merge of runs into one has
//!   neighbours in the list; its target, which grows, lies right before them, has no keys but those
//!   below their `merged_to`, and has no filter of its own: the filters of its inputs speak for it.
//!
//! # On-disk layout
//! The list is the content of a blob, little-endian:
//! ```text
//! 0   next_id  u64   what the next run is called
//! 8   count    u32   then four zeros
//! 16  the runs, oldest first, one behind the other:
//!     0    id             u64
//!     8    root           [u8; 136]  see `root.rs`; all entries and pages are counted, and the
//!                                    large values of entries from `merged_to` on
//!     144  filter         [u8; 16]   blob reference; unit 0 for a target that grows
//!     160  newest         u64        no version of the run is newer
//!     168  left           u64        entries from `merged_to` on
//!     176  tier           u8         0 for what a flush wrote, 1 for what a merge of runs wrote
//!     177  phase          u8         0 whole, 1 growing, 2 merged into the base, 3 into a run
//!     178  zeros          [u8; 2]
//!     180  smallest_len   u32
//!     184  largest_len    u32
//!     188  merged_to_len  u32        0 for a run that is not merged
//!     192  the smallest key, the largest key, `merged_to`
//! ```

use std::cell::OnceCell;
use std::rc::Rc;

use lightning_io::{to_u32, to_u64};

use super::blob::BlobRef;
use super::filter::Filter;
use super::root::Root;
use super::wire::{put, u32_at, u64_at, usize_at};
use crate::{StorageKey, Timestamp};

/// The most runs of a shard: every read asks each of them. The policy keeps them below a third of
/// it; with so many a flush makes room by merging first.
pub(crate) const RUNS_MAX: usize = 64;

const LIST_NEXT_ID: usize = 0;
const LIST_COUNT: usize = LIST_NEXT_ID + 8;
const LIST_HEADER_BYTES: usize = LIST_COUNT + 8;

const ID: usize = 0;
const ROOT: usize = ID + 8;
const FILTER: usize = ROOT + Root::BYTES;
const NEWEST: usize = FILTER + BlobRef::BYTES;
const LEFT: usize = NEWEST + 8;
const TIER: usize = LEFT + 8;
const PHASE: usize = TIER + 1;
const ZEROS: usize = PHASE + 1;
const SMALLEST_LEN: usize = ZEROS + 2;
const LARGEST_LEN: usize = SMALLEST_LEN + 4;
const MERGED_TO_LEN: usize = LARGEST_LEN + 4;
const RUN_HEADER_BYTES: usize = MERGED_TO_LEN + 4;

const _: () = assert!(RUN_HEADER_BYTES == 192);

/// The longest list: of the most runs, each with three of the longest keys. `merged_to` may be a
/// byte longer than a key.
pub(super) const LIST_BYTES_MAX: usize =
    LIST_HEADER_BYTES + RUNS_MAX * (RUN_HEADER_BYTES + 3 * (StorageKey::BYTES_MAX + 1));

/// What a run is on the way to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is not merged.
    Whole,
    /// It is the target of a merge.
    Growing,
    /// It is an input of a merge into the base.
    IntoBase,
    /// It is an input of a merge into the growing run before it.
    IntoRun,
}

impl Phase {
    fn to_byte(self) -> u8 {
        match self {
            Self::Whole => 0,
            Self::Growing => 1,
            Self::IntoBase => 2,
            Self::IntoRun => 3,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        let all = [Self::Whole, Self::Growing, Self::IntoBase, Self::IntoRun];
        all.get(usize::from(byte)).copied()
    }

    /// Whether it is an input of a merge.
    pub(super) fn is_input(self) -> bool {
        matches!(self, Self::IntoBase | Self::IntoRun)
    }
}

/// What a run is to those who decide about merges, and to those who count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunInfo {
    pub(crate) id: u64,
    pub(crate) tier: u8,
    pub(crate) phase: Phase,
    /// Entries that a merge has yet to take.
    pub(crate) entries: u64,
    /// What a merge has yet to read, and the large values that it would move.
    pub(crate) debt_bytes: u64,
}

/// A filter in memory; `None` when it could not be read, and every key may be there.
pub(super) type Resident = Rc<OnceCell<Option<Filter>>>;

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) id: u64,
    pub(super) root: Root,
    pub(super) filter: BlobRef,
    pub(super) newest: Timestamp,
    pub(super) left: u64,
    pub(super) tier: u8,
    pub(super) phase: Phase,
    pub(super) smallest: Vec<u8>,
    pub(super) largest: Vec<u8>,
    pub(super) merged_to: Vec<u8>,
    /// The filter, once it was needed. All states of one run share it.
    pub(super) resident: Resident,
}

impl Run {
    pub(super) fn info(&self) -> RunInfo {
        let page_bytes = self.root.pages.total().stored_bytes;
        let value_bytes = self.root.live_bytes.saturating_sub(page_bytes);
        let left = u128::from(page_bytes) * u128::from(self.left);
        let left = left / u128::from(self.root.entries.max(1));
        let left = u64::try_from(left).unwrap_or(page_bytes);
        RunInfo {
            id: self.id,
            tier: self.tier,
            phase: self.phase,
            entries: self.left,
            debt_bytes: left.saturating_add(value_bytes),
        }
    }

    /// Whether the run, rather than the target of its merge, has to say what became of a key.
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        let misses = key == self.largest && planted!("run_misses_largest");
        key >= self.merged_to.as_slice() && self.spans(key) && !misses
    }

    /// Whether a key lies between the smallest and the largest.
    pub(super) fn spans(&self, key: &[u8]) -> bool {
        self.smallest.as_slice() <= key && key <= self.largest.as_slice()
    }

    fn encoded_len(&self) -> usize {
        RUN_HEADER_BYTES + self.smallest.len() + self.largest.len() + self.merged_to.len()
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        let mut header = [0; RUN_HEADER_BYTES];
        put(&mut header, ID, &self.id.to_le_bytes());
        self.root.encode(&mut header[ROOT..FILTER]);
        put(&mut header, FILTER, &self.filter.encode());
        put(&mut header, NEWEST, &self.newest.0.to_le_bytes());
        put(&mut header, LEFT, &self.left.to_le_bytes());
        header[TIER] = self.tier;
        header[PHASE] = self.phase.to_byte();
        let lens = [SMALLEST_LEN, LARGEST_LEN, MERGED_TO_LEN];
        let keys = [&self.smallest, &self.largest, &self.merged_to];
        for (at, key) in lens.into_iter().zip(keys) {
            put(&mut header, at, &to_u32(key.len()).to_le_bytes());
        }
        bytes.extend_from_slice(&header);
        for key in keys {
            bytes.extend_from_slice(key);
        }
    }

    /// Reads the run at the front of `bytes`; returns what follows it.
    fn decode(bytes: &[u8], file_units: u64) -> Result<(Self, &[u8]), String> {
        let Some((header, mut rest)) = bytes.split_at_checked(RUN_HEADER_BYTES) else {
            return Err(format!("a run of {} bytes", bytes.len()));
        };
        let mut key = |at: usize| {
            let (key, after) = rest.split_at_checked(usize_at(header, at))?;
            rest = after;
            Some(key.to_vec())
        };
        let keys = (key(SMALLEST_LEN), key(LARGEST_LEN), key(MERGED_TO_LEN));
        let (Some(smallest), Some(largest), Some(merged_to)) = keys else {
            return Err("keys of a run that are longer than the list".to_owned());
        };
        let Some(phase) = Phase::from_byte(header[PHASE]) else {
            return Err(format!("a run in phase {}", header[PHASE]));
        };
        let run = Self {
            id: u64_at(header, ID),
            root: Root::decode(&header[ROOT..FILTER])?,
            filter: BlobRef::decode(&header[FILTER..]),
            newest: Timestamp(u64_at(header, NEWEST)),
            left: u64_at(header, LEFT),
            tier: header[TIER],
            phase,
            smallest,
            largest,
            merged_to,
            resident: Rc::default(),
        };
        if header[ZEROS..SMALLEST_LEN] != [0; 2] {
            return Err(format!("run {} has padding that is not zero", run.id));
        }
        run.check(file_units)?;
        Ok((run, rest))
    }

    /// Whether the parts agree with each other, in a file of so many units.
    fn check(&self, file_units: u64) -> Result<(), String> {
        self.root.check(file_units)?;
        let filter_end = self.filter.extent().end();
        let keys_fit = self.smallest <= self.largest
            && self.largest.len().max(self.smallest.len()) <= StorageKey::BYTES_MAX
            && self.merged_to.len() <= StorageKey::BYTES_MAX + 1;
        if self.root.is_empty()
            || self.left > self.root.entries
            || self.tier > 1
            || self.phase.is_input() == self.merged_to.is_empty()
            || (self.phase == Phase::Growing) != self.filter.is_none()
            || filter_end.is_none_or(|end| end > file_units)
            || !keys_fit
        {
            return Err(format!(
                "run {} of tier {} in phase {:?}: {} of {} entries left, filter at unit {}, keys of \
                 {}, {} and {} bytes",
                self.id,
                self.tier,
                self.phase,
                self.left,
                self.root.entries,
                self.filter.unit,
                self.smallest.len(),
                self.largest.len(),
                self.merged_to.len(),
            ));
        }
        Ok(())
    }
}

/// All runs of a tree's file, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RunList {
    pub(super) next_id: u64,
    pub(super) runs: Vec<Rc<Run>>,
}

impl RunList {
    /// Whether nothing was changed between the two.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let pairs = self.runs.iter().zip(&other.runs);
        self.runs.len() == other.runs.len() && pairs.into_iter().all(|(a, b)| Rc::ptr_eq(a, b))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let len = LIST_HEADER_BYTES + self.runs.iter().map(|run| run.encoded_len()).sum::<usize>();
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&self.next_id.to_le_bytes());
        bytes.extend_from_slice(&to_u64(self.runs.len()).to_le_bytes());
        self.runs.iter().for_each(|run| run.encode(&mut bytes));
        bytes
    }

    /// Reads the content of a list's blob, of a file of so many units.
    ///
    /// # Errors
    /// What contradicts itself; the caller knows the place.
    pub(super) fn decode(bytes: &[u8], file_units: u64) -> Result<Self, String> {
        if bytes.len() < LIST_HEADER_BYTES {
            return Err(format!("a list of runs of {} bytes", bytes.len()));
        }
        let count = usize_at(bytes, LIST_COUNT);
        if count > RUNS_MAX || u32_at(bytes, LIST_COUNT + 4) != 0 {
            return Err(format!("a list of {count} runs"));
        }
        let mut list = Self {
            next_id: u64_at(bytes, LIST_NEXT_ID),
            runs: Vec::with_capacity(count),
        };
        let mut rest = &bytes[LIST_HEADER_BYTES..];
        for _ in 0..count {
            let (run, after) = Run::decode(rest, file_units)?;
            list.runs.push(Rc::new(run));
            rest = after;
        }
        if !rest.is_empty() {
            return Err(format!("{} bytes behind the last run", rest.len()));
        }
        list.check()?;
        Ok(list)
    }

    /// Whether the runs agree with each other.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut before: Option<&Run> = None;
        for (at, run) in self.runs.iter().enumerate() {
            let last_phase = before.map(|before| before.phase);
            let same_bound = before.is_some_and(|before| {
                before.phase != run.phase || before.merged_to == run.merged_to
            });
            let fits = match run.phase {
                Phase::IntoBase => at == 0 || last_phase == Some(Phase::IntoBase) && same_bound,
                Phase::IntoRun => {
                    matches!(last_phase, Some(Phase::Growing | Phase::IntoRun)) && same_bound
                }
                Phase::Growing => run.tier == 1 && self.followed_by_input(at),
                Phase::Whole => true,
            };
            let known = self.runs[..at].iter().any(|other| other.id == run.id);
            if !fits || known || run.id >= self.next_id {
                return Err(format!(
                    "run {} in phase {:?} at place {at} of {}",
                    run.id,
                    run.phase,
                    self.runs.len()
                ));
            }
            before = Some(run);
        }
        let growing = self.runs.iter().filter(|run| run.phase == Phase::Growing);
        if growing.count() > 1 {
            return Err("two growing runs".to_owned());
        }
        Ok(())
    }

    fn followed_by_input(&self, at: usize) -> bool {
        let next = self.runs.get(at + 1);
        next.is_some_and(|next| {
            next.phase == Phase::IntoRun && self.runs[at].largest < next.merged_to
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::root::tests::root;
    use super::*;

    fn run(id: u64, tier: u8, phase: Phase) -> Run {
        let reference = BlobRef {
            unit: 9,
            content_bytes: 32,
            checksum: 7,
        };
        let grows = phase == Phase::Growing;
        Run {
            id,
            root: root(),
            filter: if grows { BlobRef::NONE } else { reference },
            newest: Timestamp(77),
            left: 258,
            tier,
            phase,
            smallest: b"aa".to_vec(),
            largest: if grows {
                b"k".to_vec()
            } else {
                b"zzz".to_vec()
            },
            merged_to: if phase.is_input() {
                b"k\0".to_vec()
            } else {
                Vec::new()
            },
            resident: Rc::default(),
        }
    }

    fn list(runs: Vec<Run>) -> RunList {
        RunList {
            next_id: 100,
            runs: runs.into_iter().map(Rc::new).collect(),
        }
    }

    fn busy() -> RunList {
        list(vec![
            run(1, 1, Phase::IntoBase),
            run(2, 1, Phase::IntoBase),
            run(3, 1, Phase::Whole),
            run(9, 1, Phase::Growing),
            run(4, 0, Phase::IntoRun),
            run(5, 0, Phase::IntoRun),
            run(6, 0, Phase::Whole),
        ])
    }

    #[test]
    fn a_list_survives_and_is_refused_when_it_is_cut_anywhere() {
        for list in [busy(), RunList::default()] {
            let bytes = list.encode();
            assert_eq!(RunList::decode(&bytes, 256), Ok(list));
            for len in 0..bytes.len() {
                assert!(RunList::decode(&bytes[..len], 256).is_err(), "{len}");
            }
        }
    }

    #[test]
    fn a_list_has_the_documented_bytes() {
        let bytes = list(vec![run(1, 1, Phase::IntoBase)]).encode();
        assert_eq!(
            bytes[..24],
            [
                100, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0
            ]
        );
        assert_eq!(
            bytes[16 + 144..],
            [
                9, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0, 7, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0,
                0, 0, 0, 0, 0, 1, 2, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, b'a', b'a', b'z',
                b'z', b'z', b'k', 0
            ]
        );
    }

    #[test]
    fn a_run_that_contradicts_itself_is_refused() {
        let refused = |change: fn(&mut Run)| {
            let mut run = run(1, 1, Phase::IntoBase);
            change(&mut run);
            RunList::decode(&list(vec![run]).encode(), 256).is_err()
        };
        assert!(!refused(|_| ()));
        assert!(refused(|run| run.root = Root::EMPTY));
        assert!(refused(|run| run.left += 1));
        assert!(refused(|run| run.tier = 2));
        assert!(refused(|run| run.merged_to.clear()));
        assert!(refused(|run| run.filter = BlobRef::NONE));
        assert!(refused(|run| run.filter.unit = 256));
        assert!(refused(|run| run.root.page.unit = 255));
        assert!(refused(|run| run.smallest = b"zzzz".to_vec()));
        assert!(refused(
            |run| run.largest = vec![b'z'; StorageKey::BYTES_MAX + 1]
        ));
    }

    #[test]
    fn runs_that_contradict_each_other_are_refused() {
        let refused = |change: fn(&mut Vec<Run>)| {
            let mut runs: Vec<Run> = busy().runs.iter().map(|run| (**run).clone()).collect();
            change(&mut runs);
            RunList::decode(&list(runs).encode(), 256).is_err()
        };
        assert!(refused(|runs| runs[6].id = 1));
        assert!(refused(|runs| runs[6].id = 100));
        assert!(refused(|runs| runs.swap(0, 2)));
        assert!(refused(|runs| runs.swap(4, 6)));
        assert!(refused(|runs| drop(runs.remove(3))));
        assert!(refused(|runs| runs[3].tier = 0));
        assert!(refused(|runs| runs[3].largest = b"k\0".to_vec()));
        assert!(refused(|runs| runs[1].merged_to = b"l\0".to_vec()));
        assert!(refused(|runs| runs[5].merged_to = b"l\0".to_vec()));
        assert!(refused(|runs| runs.truncate(4)));
    }
}
