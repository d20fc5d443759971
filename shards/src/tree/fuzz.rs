//! The tree's decoders, for [`crate::fuzz`].

mod lists;

use std::path::Path;

use lightning_io::{IoBuf, to_u32, to_u64, to_usize};

use super::address::{Extent, PageRef, UNIT_BYTES};
use super::blob::{self, BlobHeader, BlobKind, BlobRef};
use super::file_header;
use super::inner::{InnerBuilder, InnerPage, InnerSize};
use super::leaf::LeafPage;
use super::leaf_builder::{LeafBuilder, LeafSize};
use super::packer::Packer;
use super::page::{self, Fences, PAGE_BYTES_MAX, Page};
use super::space::{Bitmap, Space};
use super::wire::{put, u32_at, u64_at, usize_at};
use crate::fuzz::{Decoder, Draw, OWNER, Verdict, byte, noise, number, refused};
use crate::{Compression, Decompressor, Entry, EntryFlags, StorageKey, Timestamp};

pub(crate) use lists::{FILTER, RUN_LIST, STATE, make_state};

pub(crate) const FILE_HEADER: Decoder = Decoder {
    name: "tree_file_header",
    make: make_file_header,
    inflated_bytes_max: 0,
    repair: repair_file_header,
    check: check_file_header,
};

pub(crate) const LEAF: Decoder = Decoder {
    name: "leaf",
    make: make_leaf,
    repair: repair_page,
    inflated_bytes_max: PAGE_BYTES_MAX,
    check: |bytes| check_page(bytes, check_leaf),
};

pub(crate) const INNER: Decoder = Decoder {
    name: "inner_page",
    make: make_inner,
    repair: repair_page,
    inflated_bytes_max: PAGE_BYTES_MAX,
    check: |bytes| check_page(bytes, check_inner),
};

pub(crate) const BLOB: Decoder = Decoder {
    name: "blob",
    make: make_blob,
    inflated_bytes_max: 0,
    repair: repair_blob,
    check: check_blob,
};

pub(crate) const SPACE_MAP: Decoder = Decoder {
    name: "space_map",
    make: make_space_map,
    inflated_bytes_max: 0,
    repair: |_| (),
    check: check_space_map,
};

fn make_file_header(draw: Draw<'_>) -> Vec<u8> {
    let mut unit = vec![0; UNIT_BYTES];
    let page_bytes = UNIT_BYTES * (1 + to_usize(draw(256)));
    file_header::encode(OWNER, page_bytes, &mut unit);
    unit
}

fn repair_file_header(bytes: &mut [u8]) {
    if bytes.len() >= UNIT_BYTES {
        let checksum = crc32fast::hash(&bytes[12..UNIT_BYTES]);
        put(bytes, 8, &checksum.to_le_bytes());
    }
}

fn check_file_header(bytes: &[u8]) -> Verdict {
    match file_header::decode(bytes, OWNER, Path::new("tree")) {
        Ok(page_bytes) => {
            assert!(file_header::is_page_target(page_bytes));
            Verdict::Accepted {
                covered_bytes: UNIT_BYTES,
            }
        }
        Err(error) => refused(error),
    }
}

/// Keys in ascending order that share a prefix, and fences around them.
fn make_keys(draw: Draw<'_>) -> Vec<Vec<u8>> {
    let prefix = noise(draw, 12);
    let mut keys: Vec<Vec<u8>> = (0..=draw(40))
        .map(|_| [&prefix[..], &noise(draw, 14)].concat())
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

fn make_leaf(draw: Draw<'_>) -> Vec<u8> {
    let keys = make_keys(draw);
    let mut entries = Vec::new();
    for key in &keys {
        let mut timestamp = 1 + number(draw) / 2;
        for _ in 0..=draw(3) {
            let (flags, value) = match draw(6) {
                0 => (EntryFlags::TOMBSTONE, Vec::new()),
                1 => (EntryFlags::OVERFLOW, BlobRef::NONE.encode().to_vec()),
                2 => (EntryFlags::VALUE, vec![byte(draw); to_usize(draw(900))]),
                _ => (EntryFlags::VALUE, noise(draw, 90)),
            };
            entries.push((key, timestamp, flags, value));
            if timestamp == 0 {
                break;
            }
            timestamp = draw(timestamp);
        }
    }
    entries.dedup_by(|after, before| (after.0, after.1) == (before.0, before.1));
    let last = keys.last().expect("there is a key");
    let upper = [&last[..], &[0]].concat();
    let fences = Fences {
        lower: &keys[0],
        upper: (draw(4) > 0).then_some(&upper),
    };
    let size = LeafSize {
        count: entries.len(),
        key_bytes: entries.iter().map(|entry| entry.0.len()).sum(),
        value_bytes: entries.iter().map(|entry| entry.3.len()).sum(),
    };
    let mut builder = LeafBuilder::new(fences, size, IoBuf::zeroed);
    for (key, timestamp, flags, value) in &entries {
        builder.push(&Entry {
            key,
            timestamp: Timestamp(*timestamp),
            flags: *flags,
            value,
        });
    }
    let (page, _) = builder.finish();
    let mut stored = pack(&page, 0, draw);
    page::seal(&mut stored, OWNER, 1 + draw(1000));
    stored
}

/// A page as it is stored with any of the settings.
fn pack(page: &[u8], level: u8, draw: Draw<'_>) -> Vec<u8> {
    let setting = match draw(5) {
        0 => Compression::None,
        1 => Compression::Lz4,
        2 => Compression::Snappy,
        3 => Compression::Adaptive,
        _ => Compression::Zstd { level: 1 },
    };
    let mut packer = Packer::new(setting);
    match packer.pack(page, level) {
        Some(packed) => packer.bytes()[packed.range].to_vec(),
        None => page.to_vec(),
    }
}

fn make_inner(draw: Draw<'_>) -> Vec<u8> {
    let mut keys = make_keys(draw);
    let mut upper = keys.last().expect("there is a key").clone();
    upper.push(0);
    if draw(4) == 0 {
        keys[0].clear();
    }
    let fences = Fences {
        lower: &keys[0],
        upper: (draw(4) > 0).then_some(&upper),
    };
    let size = InnerSize {
        count: keys.len(),
        separator_bytes: keys[1..].iter().map(Vec::len).sum(),
    };
    let level = 1 + byte(draw) % 4;
    let mut builder = InnerBuilder::new(level, fences, size, IoBuf::zeroed);
    for key in &keys {
        let child = PageRef {
            unit: number(draw),
            len_bytes: 4096,
            checksum: 9,
        };
        builder.push(key, child, Timestamp(number(draw)));
    }
    let (page, _) = builder.finish();
    let mut stored = pack(&page, level, draw);
    page::seal(&mut stored, OWNER, 1 + draw(1000));
    stored
}

/// Whether a page of this length is ever read.
fn is_page_len(len: usize) -> bool {
    len > 0 && len <= PAGE_BYTES_MAX && len.is_multiple_of(UNIT_BYTES)
}

fn repair_page(bytes: &mut [u8]) {
    if is_page_len(bytes.len()) {
        let unit = u64_at(bytes, 32);
        page::seal(bytes, OWNER, unit);
    }
}

/// Opens a page as the one that its own header says it is.
fn check_page(bytes: &[u8], check: fn(&Page)) -> Verdict {
    if !is_page_len(bytes.len()) {
        return refused("not a page's length");
    }
    let reference = PageRef {
        unit: u64_at(bytes, 32),
        len_bytes: to_u32(bytes.len()),
        checksum: u32_at(bytes, 0),
    };
    let allocate = |len| {
        assert!(len <= PAGE_BYTES_MAX, "no claim takes more than a page");
        IoBuf::zeroed(len)
    };
    let mut decompressor = Decompressor::default();
    let stored = IoBuf::from_slice(bytes);
    match Page::open(
        stored,
        OWNER,
        reference,
        bytes[9],
        &mut decompressor,
        allocate,
    ) {
        Ok(page) => {
            check(&page);
            Verdict::Accepted {
                covered_bytes: bytes.len(),
            }
        }
        Err(what) => refused(what),
    }
}

fn check_leaf(page: &Page) {
    if page.level() > 0 {
        return check_inner(page);
    }
    let leaf = page.leaf();
    let in_order = page.check_order().is_ok();
    let mut key = Vec::new();
    let mut before: Option<Vec<u8>> = None;
    for index in 0..leaf.count() {
        let entry = leaf.entry(index);
        assert!(
            entry
                .overflow()
                .is_none_or(|blob| blob.encode() == entry.value)
        );
        leaf.key_into(index, &mut key);
        assert!(key.len() <= StorageKey::BYTES_MAX);
        let found = leaf.find(&key, entry.timestamp);
        let newest = leaf.find(&key, Timestamp::MAX);
        if in_order {
            assert_eq!(found, Some(index));
            assert!(newest.is_some_and(|newest| newest <= index));
            assert!(before.as_ref().is_none_or(|before| *before <= key));
        }
        look_around(&key, |key| {
            assert!(leaf.lower_bound(key, entry.timestamp) <= leaf.count());
        });
        before = Some(key.clone());
    }
    if in_order {
        check_rebuilt_leaf(leaf);
    }
}

/// Asks for keys near one that is there.
fn look_around(key: &[u8], mut ask: impl FnMut(&[u8])) {
    ask(&[]);
    ask(&key[..key.len() / 2]);
    ask(&[key, &[0]].concat());
    ask(&[key, &[0xff; 9]].concat());
}

/// A leaf in order is what the builder makes of its entries.
fn check_rebuilt_leaf(leaf: LeafPage<'_>) {
    let keys: Vec<Vec<u8>> = (0..leaf.count())
        .map(|index| {
            let mut key = Vec::new();
            leaf.key_into(index, &mut key);
            key
        })
        .collect();
    let size = LeafSize {
        count: leaf.count(),
        key_bytes: keys.iter().map(Vec::len).sum(),
        value_bytes: (0..leaf.count()).map(|at| leaf.entry(at).value.len()).sum(),
    };
    let mut builder = LeafBuilder::new(leaf.fences(), size, IoBuf::zeroed);
    for (index, key) in keys.iter().enumerate() {
        let entry = leaf.entry(index);
        builder.push(&Entry {
            key,
            timestamp: entry.timestamp,
            flags: entry.flags,
            value: entry.value,
        });
    }
    let (page, _) = builder.finish();
    let again = Page::parse(page).expect("what is built here is sound");
    let again = again.leaf();
    for index in 0..leaf.count() {
        assert_eq!(again.entry(index), leaf.entry(index));
    }
}

fn check_inner(page: &Page) {
    if page.level() == 0 {
        return check_leaf(page);
    }
    let inner: InnerPage<'_> = page.inner();
    let in_order = page.check_order().is_ok();
    let mut key = Vec::new();
    for index in 0..inner.count() {
        let child = inner.child(index);
        assert_eq!(PageRef::decode(&child.encode()), child);
        let (lower, upper) = inner.key_range(index);
        if in_order && let (Some(lower), Some(upper)) = (&lower, &upper) {
            assert!(lower < upper);
        }
        inner.lower_into(index, &mut key);
        let found = inner.child_index(&key);
        assert!(found < inner.count());
        if in_order {
            assert_eq!(found, index);
        }
        look_around(&key, |key| assert!(inner.child_index(key) < inner.count()));
    }
}

fn make_blob(draw: Draw<'_>) -> Vec<u8> {
    let content = noise(draw, 9000);
    let header = BlobHeader {
        kind: if draw(2) == 0 {
            BlobKind::Value
        } else {
            BlobKind::SpaceMap
        },
        owner: OWNER,
        unit: 1 + number(draw) / 2,
        content_len: content.len(),
    };
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(&content);
    bytes.resize(bytes.len().next_multiple_of(UNIT_BYTES), 0);
    repair_blob(&mut bytes);
    bytes
}

fn repair_blob(bytes: &mut [u8]) {
    if bytes.len() >= blob::HEADER_BYTES {
        let checksum = crc32fast::hash(&bytes[blob::CHECKED_FROM..]);
        blob::set_checksum(bytes, checksum);
    }
}

fn check_blob(bytes: &[u8]) -> Verdict {
    if bytes.len() < blob::HEADER_BYTES {
        return refused("shorter than a header");
    }
    let expected = BlobHeader {
        kind: if bytes[8] == 2 {
            BlobKind::SpaceMap
        } else {
            BlobKind::Value
        },
        owner: OWNER,
        unit: u64_at(bytes, 32),
        content_len: usize_at(bytes, 28),
    };
    let reference = BlobRef {
        unit: expected.unit,
        content_bytes: u32_at(bytes, 28),
        checksum: u32_at(bytes, 0),
    };
    assert_eq!(BlobRef::decode(&reference.encode()), reference);
    let extent = reference.extent();
    assert!(extent.bytes() >= to_u64(blob::HEADER_BYTES + reference.content_len()));
    let computed = crc32fast::hash(&bytes[blob::CHECKED_FROM..]);
    match expected.check(&bytes[..blob::HEADER_BYTES], computed, reference.checksum) {
        Ok(()) => Verdict::Accepted {
            covered_bytes: bytes.len(),
        },
        Err(what) => refused(what),
    }
}

/// The first four bytes say of how many units; the caller of the real one has bounded them by the
/// length of the file.
fn make_space_map(draw: Draw<'_>) -> Vec<u8> {
    let units = 1 + draw(4000);
    let mut space = Space::new(Bitmap::default(), units);
    for _ in 0..draw(60) {
        let taken = space.take(1 + draw(80));
        if let Some(extent) = taken.filter(|_| draw(3) == 0) {
            space.release(extent);
        }
    }
    let words = space.used().to_words().iter();
    let mut bytes = to_u32(to_usize(units)).to_le_bytes().to_vec();
    bytes.extend(words.flat_map(|word| word.to_le_bytes()));
    bytes
}

fn check_space_map(bytes: &[u8]) -> Verdict {
    const UNITS_MAX: u64 = 1 << 12;
    let Some((units, map)) = bytes.split_first_chunk::<4>() else {
        return refused("no number of units");
    };
    let units = 1 + u64::from(u32::from_le_bytes(*units)) % UNITS_MAX;
    let bitmap = match Bitmap::from_bytes(map, units) {
        Ok(bitmap) => bitmap,
        Err(what) => return refused(what),
    };
    let words = bitmap.to_words().iter();
    let again: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(Bitmap::from_bytes(&again, units).as_ref(), Ok(&bitmap));
    assert!(map.starts_with(&again) && map[again.len()..].iter().all(|&byte| byte == 0));
    let taken = bitmap.count();
    let mut space = Space::new(bitmap, units);
    let mut free = units - space.used_units();
    assert!(space.used_units() <= taken + 1);
    for length in [1, 2, 63, 64, 65, 500] {
        while let Some(extent) = space.take(length) {
            assert!(extent.end().is_some_and(|end| end <= units));
            assert!(space.is_taken(extent));
            free -= length;
            if length == 1 {
                break;
            }
        }
    }
    assert_eq!(units - space.used_units(), free);
    assert!(!space.is_taken(Extent {
        unit: units,
        units: 1
    }));
    Verdict::Accepted { covered_bytes: 0 }
}
