//! Puts the checksums of a whole database right after its files were changed, so that what lies
//! behind them is reached: the work of an attacker who knows the format.
//!
//! Written from the pages of `docs/format`, without the engine's code. A page's or blob's checksum
//! is repeated in the references to it, and a record's in its successor; each round puts right what
//! the last one changed, up to the superblock, which ends it. References inside of compressed pages
//! stay as they are; pages that have any are mostly of one unit, and those are never compressed.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The files of a database.
pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

const BLOCK: usize = 4096;

/// More rounds than a tree of a test has levels.
const ROUNDS_MAX: usize = 8;

/// The longest page or blob that is looked at.
const EXTENT_BYTES_MAX: usize = 2 << 20;

/// A change of what refers to a structure: these bytes become those.
struct Change {
    from: Vec<u8>,
    to: Vec<u8>,
}

/// Puts all checksums right.
pub(crate) fn reseal(files: &mut Files) {
    for _ in 0..ROUNDS_MAX {
        let mut changes = Vec::new();
        for bytes in files.values_mut() {
            for at in (0..bytes.len()).step_by(BLOCK) {
                changes.extend(reseal_block(bytes, at));
            }
        }
        if changes.is_empty() {
            return;
        }
        for bytes in files.values_mut() {
            for change in &changes {
                replace(bytes, change);
            }
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].try_into().map_or(0, u32::from_le_bytes)
}

fn len_at(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u32_at(bytes, at)).unwrap_or(usize::MAX)
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Seals what begins at a block; says what refers to it by its old checksum.
fn reseal_block(file: &mut [u8], at: usize) -> Option<Change> {
    let rest = file.get_mut(at..).filter(|rest| rest.len() >= BLOCK)?;
    let magic: [u8; 8] = rest[..8].try_into().ok()?;
    match &magic {
        b"LDBIDENT" | b"LDBSUPER" | b"LDBWALSG" => {
            put(rest, 12, 0);
            let checksum = crc32fast::hash(&rest[..BLOCK]);
            put(rest, 12, checksum);
            None
        }
        b"LDBTREE\0" => {
            let checksum = crc32fast::hash(&rest[12..BLOCK]);
            put(rest, 8, checksum);
            None
        }
        [b'L', b'R', b'E', b'C', ..] => reseal_record(rest),
        [_, _, _, _, b'L', b'D', b'B', b'P'] => {
            let stored = len_at(rest, 52);
            let len = stored.checked_next_multiple_of(BLOCK)?;
            reseal_extent(rest, len, len)
        }
        [_, _, _, _, b'L', b'D', b'B', b'X'] => {
            let content = len_at(rest, 28);
            let len = content.checked_add(64)?.checked_next_multiple_of(BLOCK)?;
            reseal_extent(rest, len, content)
        }
        _ => None,
    }
}

/// A page or a blob of `len` bytes, to which references give `named_len`.
fn reseal_extent(rest: &mut [u8], len: usize, named_len: usize) -> Option<Change> {
    let extent = rest.get_mut(..len).filter(|_| len <= EXTENT_BYTES_MAX)?;
    if !(BLOCK..)
        .step_by(BLOCK)
        .take(EXTENT_BYTES_MAX / BLOCK)
        .any(|whole| whole == len)
    {
        return None;
    }
    let old = u32_at(extent, 0);
    let new = crc32fast::hash(&extent[4..]);
    put(extent, 0, new);
    // A reference: unit, length, checksum.
    let mut from = extent[32..40].to_vec();
    from.extend_from_slice(&u32::try_from(named_len).ok()?.to_le_bytes());
    let mut to = from.clone();
    from.extend_from_slice(&old.to_le_bytes());
    to.extend_from_slice(&new.to_le_bytes());
    (old != new).then_some(Change { from, to })
}

fn reseal_record(rest: &mut [u8]) -> Option<Change> {
    let len = len_at(rest, 12)
        .checked_add(64)?
        .checked_next_multiple_of(BLOCK)?;
    let record = rest.get_mut(..len)?;
    // The hash of a record is its header's checksum over its payload's: the eight bytes that its
    // successor repeats are these two fields in the other order.
    let hash = |record: &[u8]| [&record[8..12], &record[4..8]].concat();
    let from = hash(record);
    let payload = crc32fast::hash(&record[64..]);
    put(record, 8, payload);
    let header = crc32fast::hash(&record[8..64]);
    put(record, 4, header);
    let to = hash(record);
    (from != to).then_some(Change { from, to })
}

/// References lie anywhere: those of large values follow keys of any length.
fn replace(bytes: &mut [u8], change: &Change) {
    let len = change.from.len();
    for start in (0..bytes.len()).step_by(BLOCK) {
        let end = bytes.len().min(start + BLOCK);
        if bytes[start..end].iter().all(|&byte| byte == 0) {
            continue;
        }
        for at in start..end.min((bytes.len() + 1).saturating_sub(len)) {
            if bytes[at] == change.from[0] && bytes[at..at + len] == change.from[..] {
                bytes[at..at + len].copy_from_slice(&change.to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_leaf_is_sound_again_up_to_the_superblock() {
        let sound = super::super::database::sound_files();
        let mut files = sound.clone();
        reseal(&mut files);
        assert!(files == sound, "a sound database stays as it is");
        let is_tree = |path: &&PathBuf| path.ends_with("tree");
        let tree = sound.keys().find(is_tree).unwrap().clone();
        let superblock = tree.with_file_name("superblock");
        let leaves: Vec<usize> = (BLOCK..sound[&tree].len())
            .step_by(BLOCK)
            .filter(|at| {
                let page = &sound[&tree][*at..];
                page[4..8] == *b"LDBP" && page[9] == 0
            })
            .collect();
        // Some leaves are of older trees, to which no superblock leads.
        let reaches = |leaf: &&usize| {
            let mut files = sound.clone();
            files.get_mut(&tree).unwrap()[**leaf + 40] ^= 1;
            reseal(&mut files);
            assert!(files[&tree] != sound[&tree]);
            files[&superblock] != sound[&superblock]
        };
        let live = leaves.iter().filter(reaches).count();
        assert!(live > 4, "{live} of {} leaves", leaves.len());
    }
}
