//! The codecs of leaves, inner pages and blobs.

use lightning_io::IoBuf;

use super::super::address::PageRef;
use super::super::blob::{BlobHeader, BlobKind, BlobRef, HEADER_BYTES};
use super::super::inner::{InnerBuilder, InnerSize};
use super::super::leaf_builder::{LeafBuilder, LeafSize, separator};
use super::super::page::{Fences, Page, seal};
use super::*;
use crate::Decompressor;

pub(super) type Row = (Vec<u8>, u64, EntryFlags, Vec<u8>);

pub(super) fn leaf_image(rows: &[Row], fences: Fences) -> IoBuf {
    let size = LeafSize {
        count: rows.len(),
        key_bytes: rows.iter().map(|row| row.0.len()).sum(),
        value_bytes: rows.iter().map(|row| row.3.len()).sum(),
    };
    let mut builder = LeafBuilder::new(fences, size, IoBuf::zeroed);
    for (key, timestamp, flags, value) in rows {
        builder.push(&Entry {
            key,
            timestamp: Timestamp(*timestamp),
            flags: *flags,
            value,
        });
    }
    let (page, max) = builder.finish();
    assert_eq!(Some(max.0), rows.iter().map(|row| row.1).max());
    page
}

fn inner_image(children: &[(Vec<u8>, PageRef)], fences: Fences) -> IoBuf {
    let size = InnerSize {
        count: children.len(),
        separator_bytes: children[1..].iter().map(|child| child.0.len()).sum(),
    };
    let mut builder = InnerBuilder::new(1, fences, size, IoBuf::zeroed);
    for (lower, child) in children {
        builder.push(lower, *child, Timestamp(9));
    }
    builder.finish().0
}

pub(super) fn row(key: &[u8], timestamp: u64, value: &[u8]) -> Row {
    (key.to_vec(), timestamp, EntryFlags::VALUE, value.to_vec())
}

fn sealed(mut image: IoBuf, level: u8) -> (Page, PageRef, Vec<u8>) {
    let reference = seal(&mut image, OWNER, 7);
    let bytes = image.to_vec();
    (opened(image, reference, level).unwrap(), reference, bytes)
}

pub(super) fn opened(bytes: IoBuf, reference: PageRef, level: u8) -> Result<Page, String> {
    let decompressor = &mut Decompressor::default();
    Page::open(bytes, OWNER, reference, level, decompressor, IoBuf::zeroed)
}

const FENCES: Fences<'static> = Fences {
    lower: b"user/a",
    upper: Some(b"user/z"),
};

fn sample_rows() -> Vec<Row> {
    vec![
        row(b"user/a", 3, b"first"),
        row(b"user/abcdefgh", 9, b""),
        row(b"user/abcdefgh", 5, b"older"),
        (b"user/abcdefgh".to_vec(), 2, EntryFlags::TOMBSTONE, vec![]),
        row(b"user/abcdefgh\0", 4, b"zero"),
        row(b"user/abcdefghi", 4, b"longer"),
        (
            b"user/b".to_vec(),
            1,
            EntryFlags::OVERFLOW,
            BlobRef::NONE.encode().to_vec(),
        ),
    ]
}

#[test]
fn a_leaf_gives_back_what_was_put_in() {
    let rows = sample_rows();
    let (page, _, _) = sealed(leaf_image(&rows, FENCES), 0);
    let leaf = page.leaf();
    assert_eq!((leaf.count(), leaf.prefix()), (rows.len(), &b"user/"[..]));
    assert_eq!(
        (page.fences(), page.max_timestamp()),
        (FENCES, Timestamp(9))
    );
    assert_eq!(page.check_order(), Ok(()));
    let mut key = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        leaf.key_into(index, &mut key);
        let entry = leaf.entry(index);
        let found = (
            key.clone(),
            entry.timestamp.0,
            entry.flags,
            entry.value.to_vec(),
        );
        assert_eq!(found, *row);
    }
}

#[test]
fn a_search_finds_the_newest_version_that_is_old_enough() {
    let (page, _, _) = sealed(leaf_image(&sample_rows(), FENCES), 0);
    let leaf = page.leaf();
    let find = |key: &[u8], at| leaf.find(key, Timestamp(at));
    assert_eq!(find(b"user/abcdefgh", u64::MAX), Some(1));
    assert_eq!(find(b"user/abcdefgh", 8), Some(2));
    assert_eq!(find(b"user/abcdefgh", 4), Some(3));
    assert_eq!(find(b"user/abcdefgh", 1), None);
    assert_eq!(find(b"user/abcdefgh\0", 4), Some(4));
    assert_eq!(find(b"user/abcdefghi", 4), Some(5));
    let absent: [&[u8]; 9] = [
        b"",
        b"use",
        b"user/",
        b"user/abc",
        b"user/abcdefgh\0\0",
        b"user/abcdefghij",
        b"user/c",
        b"uses",
        b"a",
    ];
    for key in absent {
        assert_eq!(find(key, u64::MAX), None);
        let expected = sample_rows()
            .iter()
            .filter(|row| row.0.as_slice() < key)
            .count();
        assert_eq!(leaf.lower_bound(key, Timestamp::MAX), expected);
    }
}

fn sample_children() -> Vec<(Vec<u8>, PageRef)> {
    let lowers: [&[u8]; 5] = [
        b"user/a",
        b"user/abcdefgh",
        b"user/abcdefgh\0",
        b"user/abcdefghz",
        b"user/b",
    ];
    let child = |unit: u64| PageRef {
        unit,
        len_bytes: 4096,
        checksum: 99,
    };
    lowers
        .iter()
        .zip(10..)
        .map(|(lower, unit)| (lower.to_vec(), child(unit)))
        .collect()
}

#[test]
fn an_inner_page_leads_every_key_to_the_child_that_covers_it() {
    let children = sample_children();
    let (page, _, _) = sealed(inner_image(&children, FENCES), 1);
    let inner = page.inner();
    assert_eq!(page.check_order(), Ok(()));
    assert_eq!(inner.count(), children.len());
    let keys: [&[u8]; 10] = [
        b"user/a",
        b"user/aa",
        b"user/abcdefgh",
        b"user/abcdefgh\0",
        b"user/abcdefgh\0\0",
        b"user/abcdefghy",
        b"user/abcdefghz",
        b"user/azz",
        b"user/b",
        b"user/yyy",
    ];
    for key in keys {
        let expected = children
            .iter()
            .rposition(|child| child.0.as_slice() <= key)
            .unwrap();
        assert_eq!(inner.child_index(key), expected);
        assert_eq!(inner.child(expected), children[expected].1);
        let (from, to) = inner.key_range(expected);
        assert!(from.unwrap().as_slice() <= key && key < to.unwrap().as_slice());
    }
}

#[test]
fn flipped_bits_and_truncations_of_a_page_are_refused() {
    let pages = [
        (leaf_image(&sample_rows(), FENCES), 0),
        (inner_image(&sample_children(), FENCES), 1),
    ];
    for (image, level) in pages {
        let (_, reference, bytes) = sealed(image, level);
        for at in 0..bytes.len() {
            let mut bad = IoBuf::from_slice(&bytes);
            bad[at] ^= 1 << (at % 8);
            assert!(opened(bad, reference, level).is_err(), "byte {at}");
        }
        for len in 0..bytes.len() {
            // A buffer is whole blocks; what is cut off reads as zeros.
            let cut = IoBuf::from_slice(&bytes[..len]);
            let is_whole = cut[..] == bytes[..];
            assert_eq!(opened(cut, reference, level).is_ok(), is_whole);
        }
        assert!(opened(IoBuf::from_slice(&bytes), reference, 1 - level).is_err());
    }
}

#[test]
fn a_page_with_a_good_checksum_and_any_field_wrong_never_panics() {
    let mut random = Random(1);
    for (image, level) in [
        (leaf_image(&sample_rows(), FENCES), 0),
        (inner_image(&sample_children(), FENCES), 1),
    ] {
        let (mut refused, rounds) = (0, 20_000);
        for _ in 0..rounds {
            let mut bad = IoBuf::from_slice(&image);
            for _ in 0..=random.below(3) {
                let at = 12 + random.below(400);
                bad[at] = [0, 1, 0x7f, 0xff, 64][random.below(5)];
            }
            let reference = seal(&mut bad, OWNER, 7);
            let Ok(page) = opened(bad, reference, level) else {
                refused += 1;
                continue;
            };
            drop(page.check_order());
            let mut key = Vec::new();
            if level == 0 {
                let leaf = page.leaf();
                (0..leaf.count()).for_each(|at| leaf.key_into(at, &mut key));
                leaf.find(b"user/abcdefgh", Timestamp(5));
            } else {
                let inner = page.inner();
                let child = inner.child_index(b"user/abcdefgh\0");
                assert!(child < inner.count());
                drop(inner.key_range(child));
            }
        }
        assert!(refused > rounds / 10, "{refused}");
    }
}

#[test]
fn the_order_check_finds_what_a_reader_does_without() {
    let ordered = sample_rows();
    for at in 0..ordered.len() - 1 {
        let mut rows = ordered.clone();
        rows.swap(at, at + 1);
        let (page, _, _) = sealed(leaf_image(&rows, FENCES), 0);
        assert!(page.check_order().is_err(), "swapped {at}");
    }
    let children = sample_children();
    for at in 1..children.len() - 1 {
        let mut swapped = children.clone();
        swapped.swap(at, at + 1);
        let (page, _, _) = sealed(inner_image(&swapped, FENCES), 1);
        assert!(page.check_order().is_err(), "swapped {at}");
    }
}

#[test]
fn pages_have_the_documented_bytes() {
    let fences = Fences {
        lower: b"aa",
        upper: Some(b"ac"),
    };
    let (_, reference, leaf) = sealed(leaf_image(&[row(b"ab", 0x0102, b"v")], fences), 0);
    assert_eq!(leaf[..4], reference.checksum.to_le_bytes());
    assert_eq!(leaf[..4], crc32fast::hash(&leaf[4..]).to_le_bytes());
    let header = [b'L', b'D', b'B', b'P', 0, 0, 5, 0];
    assert_eq!(leaf[4..12], header);
    assert_eq!(&leaf[12..28], b"0123456789abcdef");
    assert_eq!(leaf[28..40], [1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(leaf[40..48], [2, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        leaf[48..64],
        [0, 0x10, 0, 0, 0, 0x10, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0]
    );
    assert_eq!(&leaf[64..72], b"aaac\0\0\0\0");
    assert_eq!(&leaf[72..80], b"\0\0\0\0\0\0\0b");
    assert_eq!(leaf[80..84], [84, 0, 0, 0]);
    assert_eq!(
        leaf[84..100],
        [2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0]
    );
    assert_eq!(&leaf[100..102], b"bv");
    assert!(leaf[102..].iter().all(|&byte| byte == 0));

    let child = |unit| PageRef {
        unit,
        len_bytes: 4096,
        checksum: 3,
    };
    let children = [(b"aa".to_vec(), child(1)), (b"ab".to_vec(), child(2))];
    let (_, _, inner) = sealed(inner_image(&children, fences), 1);
    assert_eq!(inner[8..10], [0, 1]);
    assert_eq!(&inner[72..80], b"\0\0\0\0\0\0\0b");
    assert_eq!(inner[80..96], child(1).encode());
    assert_eq!(inner[96..112], child(2).encode());
    assert_eq!(inner[112..120], [120, 0, 0, 0, 121, 0, 0, 0]);
    assert_eq!(inner[120], b'b');
}

#[test]
fn a_blob_header_has_the_documented_bytes() {
    let header = BlobHeader {
        kind: BlobKind::SpaceMap,
        owner: OWNER,
        unit: 0x0304,
        content_len: 0x0102,
    };
    let bytes = header.encode();
    assert_eq!(&bytes[4..8], b"LDBX");
    assert_eq!(bytes[8..12], [2, 0, 5, 0]);
    assert_eq!(&bytes[12..28], b"0123456789abcdef");
    assert_eq!(bytes[28..40], [2, 1, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[40..HEADER_BYTES], [0; 24]);
}

#[test]
fn a_separator_is_the_shortest_key_between_two() {
    let shortest: [(&[u8], &[u8], &[u8]); 4] = [
        (b"abc", b"abd", b"abd"),
        (b"abc", b"b", b"b"),
        (b"ab", b"abcd", b"abc"),
        (b"alpha", b"omega", b"o"),
    ];
    for (left, right, expected) in shortest {
        assert_eq!(separator(left, right), expected);
        assert!(left < expected && expected <= right);
    }
}
