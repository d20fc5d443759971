//! What each byte of a database on disk is for, decoded from the documented format alone.
//!
//! Nothing of the engine is used here: a byte that the engine forgot to check must not be called
//! redundant by the engine's own idea of what it needs. What is redundant:
//!
//! * the two blocks of the superblock's older generation: the newer one is durable in two copies;
//! * units of the tree's file that neither the current base nor a current run reaches, and that the
//!   current space map has as free;
//! * pages of a run that has been merged beyond them;
//! * large values of versions that a newer run replaces or deletes: a merge frees them unread;
//! * filters of runs: what they say is in the runs as well, and a merge frees them unread;
//! * segments that end at or below the checkpoint, and files that were never taken into use;
//! * what lies behind the last record of a segment, up to its second header;
//! * the reserve: nobody reads what it holds;
//! * a mark that ends the log: it holds nothing but that the record before it is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use lightning_io::sim::Image;
use lightning_io::{BLOCK_BYTES, to_u64, to_usize};

/// What bytes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Region {
    /// A copy of the database's identity.
    Identity,
    /// A copy of the newest superblock.
    Superblock,
    /// A copy of the superblock before it.
    SuperblockOld,
    /// The header of the tree's file.
    TreeHeader,
    /// An inner page.
    InnerPage,
    /// A leaf.
    Leaf,
    /// A page of a run all of whose entries are in the target of a merge.
    PageMerged,
    /// A large value.
    LargeValue,
    /// A large value of a version that a newer run replaces or deletes.
    LargeValueOld,
    /// The space map.
    SpaceMap,
    /// The list of runs.
    RunList,
    /// The filter of a run.
    Filter,
    /// A unit that is free.
    FreeUnit,
    /// A header of a segment that is needed.
    SegmentHeader,
    /// A record of such a segment.
    Record,
    /// A mark behind which the log ends.
    EndMark,
    /// Space behind the records of such a segment.
    LogSpace,
    /// A segment that is wholly below the checkpoint.
    SegmentReleased,
    /// A file of the log that is not in use.
    SegmentUnused,
    /// Space that is held back for a full disk.
    Reserve,
}

impl Region {
    /// Whether a change of such a byte has to be noticed or set right.
    pub fn is_live(self) -> bool {
        !matches!(
            self,
            Self::SuperblockOld
                | Self::FreeUnit
                | Self::PageMerged
                | Self::LargeValueOld
                | Self::Filter
                | Self::EndMark
                | Self::LogSpace
                | Self::SegmentReleased
                | Self::SegmentUnused
                | Self::Reserve
        )
    }

    /// Whether there is a second copy, from which the damaged one is written again.
    pub fn is_doubled(self) -> bool {
        matches!(
            self,
            Self::Identity | Self::Superblock | Self::SegmentHeader
        )
    }
}

/// The regions of one file, in order and without gaps.
pub(crate) type Regions = Vec<(Range<u64>, Region)>;

/// Decodes every file of a sound database.
///
/// # Errors
/// What is not as documented.
pub(crate) fn decode(image: &Image) -> Result<BTreeMap<PathBuf, Regions>, String> {
    let mut files = BTreeMap::new();
    let mut shards: BTreeMap<PathBuf, BTreeMap<PathBuf, Vec<u8>>> = BTreeMap::new();
    for path in image.list_files() {
        let bytes = image.read_file(&path).unwrap_or_default();
        let name = name_of(&path);
        match name.as_str() {
            "LOCK" if bytes.is_empty() => drop(files.insert(path, Regions::new())),
            "DATABASE" if bytes.len() == 2 * BLOCK_BYTES => {
                let whole = 0..to_u64(bytes.len());
                files.insert(path, vec![(whole, Region::Identity)]);
            }
            _ => {
                let directory = path.parent().unwrap_or(Path::new("")).to_path_buf();
                shards.entry(directory).or_default().insert(path, bytes);
            }
        }
    }
    for (directory, contents) in shards {
        decode_shard(&directory, &contents, &mut files)
            .map_err(|what| format!("{}: {what}", directory.display()))?;
    }
    Ok(files)
}

fn name_of(path: &Path) -> String {
    let name = path.file_name();
    name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn decode_shard(
    directory: &Path,
    contents: &BTreeMap<PathBuf, Vec<u8>>,
    files: &mut BTreeMap<PathBuf, Regions>,
) -> Result<(), String> {
    let path = directory.join("superblock");
    let bytes = contents.get(&path).ok_or("there is no superblock")?;
    let superblock = Superblock::decode(bytes)?;
    let blocks = (0..4_u64).map(|block| {
        let current = block / 2 == superblock.generation % 2;
        let region = if current {
            Region::Superblock
        } else {
            Region::SuperblockOld
        };
        (block_range(block), region)
    });
    files.insert(path, blocks.collect());

    let path = directory.join("tree");
    let bytes = contents.get(&path).ok_or("there is no tree")?;
    files.insert(path, Tree::decode(bytes, &superblock)?);

    let logs: BTreeMap<&PathBuf, &Vec<u8>> = contents
        .iter()
        .filter(|(path, _)| name_of(path).starts_with("wal-"))
        .collect();
    let path = directory.join("reserve");
    let reserve = contents.get(&path);
    if logs.len() + 2 + usize::from(reserve.is_some()) != contents.len() {
        return Err("there is a file that is not documented".to_owned());
    }
    if let Some(reserve) = reserve {
        files.insert(path, vec![(0..to_u64(reserve.len()), Region::Reserve)]);
    }
    decode_log(&logs, &superblock, files)
}

fn block_range(block: u64) -> Range<u64> {
    let block_bytes = to_u64(BLOCK_BYTES);
    block * block_bytes..(block + 1) * block_bytes
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<u64, String> {
    let field = bytes.get(at..at + N).ok_or("a field beyond the end")?;
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(field);
    Ok(u64::from_le_bytes(wide))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<usize, String> {
    number::<4>(bytes, at).map(to_usize)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, String> {
    number::<8>(bytes, at)
}

/// CRC-32 (IEEE), bit by bit.
fn crc(parts: &[&[u8]]) -> u64 {
    let mut state = u32::MAX;
    for byte in parts.iter().flat_map(|part| part.iter()) {
        state ^= u32::from(*byte);
        for _ in 0..8 {
            state = (state >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(state & 1));
        }
    }
    u64::from(!state)
}

/// Whether a framed block has its magic and its checksum.
pub(crate) fn is_sound(block: &[u8], magic: [u8; 8]) -> bool {
    block.len() == BLOCK_BYTES
        && block.starts_with(&magic)
        && number::<4>(block, 12) == Ok(crc(&[&block[..12], &[0; 4], &block[16..]]))
}

/// What a superblock says.
struct Superblock {
    generation: u64,
    checkpoint: u64,
    durable: u64,
    base: Root,
    space_map: Reference,
    runs: Reference,
}

/// Where a tree begins.
#[derive(Clone, Copy)]
struct Root {
    page: Reference,
    levels: u8,
}

impl Root {
    fn decode(bytes: &[u8], at: usize) -> Result<Self, String> {
        Ok(Self {
            page: Reference::decode(bytes, at)?,
            levels: *bytes.get(at + 32).ok_or("a root beyond the end")?,
        })
    }
}

impl Superblock {
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let blocks: Vec<&[u8]> = bytes.chunks(BLOCK_BYTES).collect();
        let sound = blocks
            .iter()
            .enumerate()
            .filter(|(at, block)| is_sound(block, *b"LDBSUPER") && usize::from(block[34]) == *at);
        let generation = |block: &[u8]| u64_at(block, 40).unwrap_or(0);
        let best = sound.max_by_key(|(_, block)| generation(block));
        let (_, block) = best.ok_or("no superblock is sound")?;
        // Both copies are there: the database is not damaged yet.
        let slot = to_usize(2 * (generation(block) % 2));
        let whole = |at: usize| blocks.get(at).is_some_and(|b| is_sound(b, *b"LDBSUPER"));
        if blocks.len() != 4 || !whole(slot) || !whole(slot + 1) {
            return Err("the newest superblock is not there twice".to_owned());
        }
        Ok(Self {
            generation: generation(block),
            checkpoint: u64_at(block, 48)?,
            durable: u64_at(block, 64)?,
            base: Root::decode(block, 80)?,
            space_map: Reference::decode(block, 216)?,
            runs: Reference::decode(block, 232)?,
        })
    }
}

/// Where a page or blob is.
#[derive(Clone, Copy)]
struct Reference {
    unit: u64,
    len: usize,
    checksum: u64,
}

impl Reference {
    fn decode(bytes: &[u8], at: usize) -> Result<Self, String> {
        Ok(Self {
            unit: u64_at(bytes, at)?,
            len: u32_at(bytes, at + 8)?,
            checksum: number::<4>(bytes, at + 12)?,
        })
    }
}

/// The file of the tree: what each unit is for.
struct Tree<'a> {
    bytes: &'a [u8],
    /// Every unit that is taken.
    units: BTreeSet<u64>,
    /// The pages and blobs that take them.
    extents: Regions,
    /// The newest version of each key: its timestamp, and the number of its tree.
    newest: BTreeMap<Vec<u8>, (u64, usize)>,
    /// The large values, each with its version.
    large: Vec<(Vec<u8>, (u64, usize), Reference)>,
    trees: usize,
}

impl<'a> Tree<'a> {
    fn decode(bytes: &'a [u8], superblock: &Superblock) -> Result<Regions, String> {
        let mut tree = Self {
            bytes,
            units: BTreeSet::from([0]),
            extents: vec![(block_range(0), Region::TreeHeader)],
            newest: BTreeMap::new(),
            large: Vec::new(),
            trees: 0,
        };
        tree.tree(superblock.base, &[])?;
        if superblock.runs.unit > 0 {
            tree.runs(superblock.runs)?;
        }
        for (key, version, value) in std::mem::take(&mut tree.large) {
            let region = if tree.newest.get(&key) == Some(&version) {
                Region::LargeValue
            } else {
                Region::LargeValueOld
            };
            tree.blob(value, region)?;
        }
        let map = superblock.space_map;
        if map.unit > 0 {
            tree.check_space_map(map)?;
            tree.blob(map, Region::SpaceMap)?;
        }
        Ok(tree.regions())
    }

    /// The extents in order, and the gaps between them.
    fn regions(mut self) -> Regions {
        self.extents.sort_by_key(|(range, _)| range.start);
        let mut regions = Regions::new();
        let mut end = 0;
        for (range, region) in self.extents {
            if end < range.start {
                regions.push((end..range.start, Region::FreeUnit));
            }
            end = range.end;
            regions.push((range, region));
        }
        let len = to_u64(self.bytes.len());
        if end < len {
            regions.push((end..len, Region::FreeUnit));
        }
        regions
    }

    /// The bytes of an extent, whose units are noted and whose checksum is right.
    fn extent(
        &mut self,
        reference: Reference,
        len: usize,
        region: Region,
    ) -> Result<&'a [u8], String> {
        let units = to_u64(len.div_ceil(BLOCK_BYTES));
        let end = reference.unit + units;
        for unit in reference.unit..end {
            if !self.units.insert(unit) {
                return Err(format!("unit {unit} has two owners"));
            }
        }
        let range = block_range(reference.unit).start..block_range(end).start;
        self.extents.push((range, region));
        let start = to_usize(reference.unit) * BLOCK_BYTES;
        let bytes = self.bytes.get(start..start + to_usize(units) * BLOCK_BYTES);
        let bytes = bytes.ok_or("an extent beyond the end")?;
        if crc(&[&bytes[4..]]) != reference.checksum {
            return Err(format!("unit {} is not as its owner says", reference.unit));
        }
        Ok(bytes)
    }

    fn blob(&mut self, reference: Reference, region: Region) -> Result<&'a [u8], String> {
        self.extent(reference, 64 + reference.len, region)
    }

    /// A tree whose entries below `from` are another's.
    fn tree(&mut self, root: Root, from: &[u8]) -> Result<(), String> {
        self.trees += 1;
        if root.levels == 0 {
            return Ok(());
        }
        self.page(root.page, root.levels - 1, from)
    }

    /// The runs of a list.
    fn runs(&mut self, list: Reference) -> Result<(), String> {
        let blob = self.blob(list, Region::RunList)?;
        let list = &blob[64..64 + list.len];
        let mut at = 16;
        for _ in 0..u32_at(list, 8)? {
            let root = Root::decode(list, at + 8)?;
            let filter = Reference::decode(list, at + 144)?;
            let lens = [at + 180, at + 184, at + 188].map(|at| u32_at(list, at));
            let [smallest, largest, merged_to] = lens;
            let bound = at + 192 + smallest? + largest?;
            at = bound + merged_to?;
            let merged_to = list.get(bound..at).ok_or("a key beyond the list")?;
            self.tree(root, merged_to)?;
            if filter.unit > 0 {
                self.blob(filter, Region::Filter)?;
            }
        }
        if at == list.len() {
            Ok(())
        } else {
            Err("the list of runs does not end behind the last".to_owned())
        }
    }

    fn page(&mut self, reference: Reference, level: u8, from: &[u8]) -> Result<(), String> {
        let region = if level == 0 {
            Region::Leaf
        } else {
            Region::InnerPage
        };
        let page = self.extent(reference, reference.len, region)?;
        let count = u32_at(page, 28)?;
        let lower_len = u32_at(page, 56)?;
        let (lower, rest) = page[64..].split_at(lower_len);
        let upper = match u32_at(page, 60)? {
            0xffff_ffff => None,
            len => Some(&rest[..len]),
        };
        if upper.is_some_and(|upper| upper <= from)
            && let Some((_, region)) = self.extents.last_mut()
        {
            *region = Region::PageMerged;
        }
        let body = (64 + lower_len + upper.map_or(0, <[u8]>::len)).next_multiple_of(8);
        let shared = upper.map_or(0, |upper| {
            let pairs = lower.iter().zip(upper);
            pairs.take_while(|(a, b)| a == b).count()
        });
        if level > 0 {
            let children = body + (count - 1) * 8;
            for child in 0..count {
                let child = Reference::decode(page, children + child * 16)?;
                self.page(child, level - 1, from)?;
            }
            return Ok(());
        }
        for index in 0..count {
            let entry = u32_at(page, body + count * 8 + index * 4)?;
            let (timestamp, word) = (u64_at(page, entry)?, u64_at(page, entry + 8)?);
            let end = entry + 16 + to_usize(word >> 8 & 0xff_ffff);
            let key = [&lower[..shared], &page[entry + 16..end]].concat();
            if key.as_slice() < from {
                continue;
            }
            let version = (timestamp, self.trees);
            if word & 2 != 0 {
                let value = Reference::decode(page, end)?;
                self.large.push((key.clone(), version, value));
            }
            let newest = self.newest.entry(key).or_default();
            *newest = version.max(*newest);
        }
        Ok(())
    }

    /// The map has exactly the units as taken that base and runs reach; before its own are noted.
    fn check_space_map(&self, map: Reference) -> Result<(), String> {
        let start = to_usize(map.unit) * BLOCK_BYTES + 64;
        let bits = self.bytes.get(start..start + map.len);
        let bits = bits.ok_or("a space map beyond the end")?;
        for unit in 0..to_u64(bits.len()) * 8 {
            let taken = bits[to_usize(unit / 8)] >> (unit % 8) & 1 == 1;
            if taken != self.units.contains(&unit) {
                return Err(format!("unit {unit}: the space map says taken: {taken}"));
            }
        }
        let beyond = self
            .units
            .iter()
            .find(|unit| **unit >= to_u64(bits.len()) * 8);
        beyond.map_or(Ok(()), |unit| {
            Err(format!("unit {unit} is not in the space map"))
        })
    }
}

/// A segment that is in use.
struct Segment<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    id: u64,
    epoch: u64,
    base: u64,
    durable: u64,
}

impl<'a> Segment<'a> {
    /// The header that counts, if there is one.
    fn decode(path: &'a Path, bytes: &'a [u8]) -> Option<Self> {
        let copies = [0, bytes.len().checked_sub(BLOCK_BYTES)?];
        let block = |at: usize| &bytes[at..at + BLOCK_BYTES];
        let sound = copies.into_iter().zip([0, 1]);
        let sound =
            sound.filter(|&(at, copy)| is_sound(block(at), *b"LDBWALSG") && block(at)[34] == copy);
        let id = |at: usize| u64_at(block(at), 40).unwrap_or(0);
        let (at, _) = sound.max_by_key(|&(at, _)| id(at))?;
        let field = |offset| u64_at(block(at), offset).ok();
        Some(Self {
            path,
            bytes,
            id: id(at),
            epoch: field(48)?,
            base: field(56)?,
            durable: field(72)?,
        })
    }
}

/// A record's place and what it says.
struct Record {
    range: Range<u64>,
    is_mark: bool,
    durable: u64,
}

impl Segment<'_> {
    /// The records, in order.
    fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        let (mut at, mut lsn) = (BLOCK_BYTES, self.base);
        while let Some(record) = self.record(at, lsn) {
            at = to_usize(record.range.end);
            lsn += 1;
            records.push(record);
        }
        records
    }

    fn record(&self, at: usize, lsn: u64) -> Option<Record> {
        let bytes = &self.bytes[at..self.bytes.len() - BLOCK_BYTES];
        if !bytes.starts_with(b"LREC") || number::<4>(bytes, 4).ok()? != crc(&[&bytes[8..64]]) {
            return None;
        }
        if u64_at(bytes, 24).ok()? != self.epoch || u64_at(bytes, 32).ok()? != lsn {
            return None;
        }
        let len = (64 + u32_at(bytes, 12).ok()?).next_multiple_of(BLOCK_BYTES);
        let payload = bytes.get(64..len)?;
        (number::<4>(bytes, 8).ok()? == crc(&[payload])).then_some(())?;
        Some(Record {
            range: to_u64(at)..to_u64(at + len),
            is_mark: bytes[18] == 2,
            durable: u64_at(bytes, 48).ok()?,
        })
    }
}

fn decode_log(
    logs: &BTreeMap<&PathBuf, &Vec<u8>>,
    superblock: &Superblock,
    files: &mut BTreeMap<PathBuf, Regions>,
) -> Result<(), String> {
    let mut segments = Vec::new();
    for (path, bytes) in logs {
        if let Some(segment) = Segment::decode(path, bytes) {
            segments.push(segment);
        } else {
            let whole = (0..to_u64(bytes.len()), Region::SegmentUnused);
            files.insert((*path).clone(), vec![whole]);
        }
    }
    segments.sort_by_key(|segment| segment.id);
    let mut durable = superblock.durable;
    let mut last = 0;
    for at in 0..segments.len() {
        let (segment, next) = (&segments[at], segments.get(at + 1));
        let len = to_u64(segment.bytes.len());
        if next.is_some_and(|next| next.base <= superblock.checkpoint + 1) {
            let whole = (0..len, Region::SegmentReleased);
            files.insert(segment.path.to_path_buf(), vec![whole]);
            continue;
        }
        let records = segment.records();
        let end = segment.base + to_u64(records.len());
        if next.is_some_and(|next| next.base != end) {
            return Err(format!("segment {} does not reach the next", segment.id));
        }
        durable = durable.max(segment.durable);
        let mut regions = vec![(block_range(0), Region::SegmentHeader)];
        for (index, record) in records.iter().enumerate() {
            durable = durable.max(record.durable);
            let ends = next.is_none() && index + 1 == records.len();
            let region = if ends && record.is_mark {
                Region::EndMark
            } else {
                last = segment.base + to_u64(index);
                Region::Record
            };
            regions.push((record.range.clone(), region));
        }
        let end = regions.last().map_or(0, |(range, _)| range.end);
        let header = len - to_u64(BLOCK_BYTES);
        if end < header {
            regions.push((end..header, Region::LogSpace));
        }
        regions.push((header..len, Region::SegmentHeader));
        files.insert(segment.path.to_path_buf(), regions);
    }
    if last > durable {
        return Err(format!(
            "record {last} is above every durable mark, {durable}"
        ));
    }
    Ok(())
}
