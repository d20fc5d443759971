//! Pages that are stored compressed.

use lightning_io::IoBuf;

use super::super::address::{PageRef, UNIT_BYTES};
use super::super::packer::Packer;
use super::super::page::{Fences, HEADER_BYTES, PAGE_BYTES_MAX, seal, set_stored};
use super::format::{leaf_image, opened, row};
use super::*;
use crate::{Codec, CodecError, Compressor, Decompressor};

pub(super) const SETTINGS: [Compression; 6] = [
    Compression::None,
    Compression::Lz4,
    Compression::Zstd { level: 1 },
    Compression::Zstd { level: 19 },
    Compression::Snappy,
    Compression::Adaptive,
];

/// Where the header says what the page is stored as.
const CODEC: usize = 8;
const RAW_BYTES: usize = 48;
const STORED_BYTES: usize = 52;

const FENCES: Fences<'static> = Fences {
    lower: b"",
    upper: None,
};

fn with(page_bytes: usize, compression: Compression) -> TreeConfig {
    TreeConfig {
        compression,
        ..config(page_bytes, 1 << 20)
    }
}

fn random_bytes(random: &mut Random, len: usize) -> Vec<u8> {
    (0..len)
        .map(|_| u8::try_from(random.below(256)).unwrap())
        .collect()
}

/// A value as applications have them: words that come again, and a number.
fn text(random: &mut Random) -> Vec<u8> {
    let words = ["alpha", "beta", "gamma", "delta", "letter", "small", "sign"];
    let number = random.below(1_000_000);
    let (one, other) = (words[random.below(7)], words[random.below(7)]);
    format!("{{\"name\":\"{one} {other}\",\"number\":\"{number}\",\"category\":\"Ll\"}}")
        .into_bytes()
}

fn filled(count: usize, timestamp: u64, mut value: impl FnMut() -> Vec<u8>) -> Batch {
    (0..count).fold(Batch::default(), |batch, number| {
        batch.put(format!("key{number:06}").as_bytes(), timestamp, &value())
    })
}

/// The stored form of a page of text, and its reference.
fn stored_page(setting: Compression) -> (Vec<u8>, PageRef, IoBuf) {
    let mut random = Random(2);
    let rows: Vec<_> = (0..120)
        .map(|number: usize| row(format!("key{number:04}").as_bytes(), 3, &text(&mut random)))
        .collect();
    let image = leaf_image(&rows, FENCES);
    assert!(image.len() >= 3 * UNIT_BYTES);
    let mut packer = Packer::new(setting);
    let packed = packer.pack(&image, 0).expect("text shrinks");
    let mut stored = packer.bytes()[packed.range].to_vec();
    let reference = seal(&mut stored, OWNER, 7);
    (stored, reference, image)
}

#[test]
fn every_codec_gives_back_pages_of_every_size_and_takes_less_space() {
    for page_bytes in [4 << 10, 16 << 10, 64 << 10, 1 << 20] {
        let rows = 400 + page_bytes / 50;
        let batch = {
            let mut random = Random(1);
            filled(rows, 1, move || text(&mut random))
        };
        let mut model = Model::new();
        batch.apply_to(&mut model);
        let mut raw_bytes = 0;
        for setting in SETTINGS {
            let env = TestEnv::default();
            let config = with(page_bytes, setting);
            let (tree, _) = create(&env, config);
            let state = commit(&tree, &batch);
            assert_holds(&tree, &model);
            let tree = open(&env, config, &state).unwrap();
            assert_holds(&tree, &model);
            let pages = tree.stats().pages;
            let total = pages.total();
            assert_eq!(total.stored_bytes, state.live_bytes());
            if setting == Compression::None {
                raw_bytes = total.raw_bytes;
                assert_eq!(pages.of(Codec::Raw), total);
                assert_eq!(total.stored_bytes, total.raw_bytes);
                continue;
            }
            // The setting changes what is stored, not what is in memory.
            assert_eq!(total.raw_bytes, raw_bytes);
            if page_bytes == UNIT_BYTES {
                // Only a page beyond its target could save a unit.
                assert_eq!(pages.of(Codec::Raw), total, "{setting:?}");
            } else {
                assert!(
                    2 * total.stored_bytes < total.raw_bytes + 3 * 4096,
                    "{setting:?} {page_bytes}: {total:?}"
                );
            }
        }
    }
}

#[test]
fn what_does_not_shrink_stays_raw() {
    for setting in SETTINGS {
        let env = TestEnv::default();
        let (tree, _) = create(&env, with(16 << 10, setting));
        let mut random = Random(9);
        let batch = filled(900, 1, || random_bytes(&mut random, 200));
        let mut model = Model::new();
        batch.apply_to(&mut model);
        commit(&tree, &batch);
        assert_holds(&tree, &model);
        let pages = tree.stats().pages;
        assert!(pages.of(Codec::Raw).pages > 10);
        assert_eq!(pages.of(Codec::Raw), pages.total(), "{setting:?}");
    }
}

#[test]
fn pages_of_all_codecs_lie_in_one_tree_and_are_counted() {
    let env = TestEnv::default();
    let (mut tree, mut state) = create(&env, with(16 << 10, Compression::None));
    let (mut random, mut model) = (Random(4), Model::new());
    for (setting, step) in SETTINGS.into_iter().zip(0..) {
        let config = with(16 << 10, setting);
        tree = if step == 0 {
            tree
        } else {
            open(&env, config, &state).unwrap()
        };
        // Each setting gets a range of its own and touches a little of the others'.
        let mut batch = (0..600).fold(Batch::default(), |batch, number| {
            let key = format!("{step}/{number:05}");
            batch.put(key.as_bytes(), 1 + step, &text(&mut random))
        });
        for other in 0..step {
            batch = batch.delete(format!("{other}/{:05}", 7 * step).as_bytes(), 100 + step);
        }
        let batch = batch.sorted();
        batch.apply_to(&mut model);
        state = commit(&tree, &batch);
        assert_holds(&tree, &model);
    }
    let pages = tree.stats().pages;
    for codec in Codec::ALL {
        assert!(pages.of(codec).pages > 0, "{codec}");
    }
    // Everything rewritten without compression: nothing of the others is left, nor counted.
    let tree = open(&env, with(16 << 10, Compression::None), &state).unwrap();
    let batch = model
        .keys()
        .fold(Batch::default(), |batch, key| batch.put(key, 1000, b"new"));
    batch.apply_to(&mut model);
    commit(&tree, &batch);
    assert_holds(&tree, &model);
    let pages = tree.stats().pages;
    assert_eq!(pages.of(Codec::Raw), pages.total());
}

#[test]
fn the_cache_holds_what_a_reader_would_decompress() {
    let env = TestEnv::default();
    let config = with(16 << 10, Compression::Lz4);
    let (tree, _) = create(&env, config);
    let mut random = Random(4);
    commit(&tree, &filled(2000, 1, || text(&mut random)));
    drop(scan(&tree, &tree.view(), b""));
    // Successors of cached pages go into the cache as they were built.
    let state = commit(&tree, &filled(2000, 2, || text(&mut random)));
    let mut compared = 0;
    let root = block_on(tree.shared.store.read_page(state.base.page, 1)).unwrap();
    for at in 0..root.inner().count() {
        let child = root.inner().child(at);
        let Some(cached) = tree.shared.store.cache.borrow().peek(child) else {
            continue;
        };
        let read = block_on(tree.shared.store.read_page(child, 0)).unwrap();
        assert_eq!(read.raw().bytes[4..], cached.raw().bytes[4..]);
        assert_eq!(
            (read.codec(), cached.codec(), cached.size_bytes()),
            (Codec::Lz4, Codec::Lz4, read.size_bytes())
        );
        assert!(child.size_bytes() < cached.size_bytes());
        compared += 1;
    }
    assert!(compared > 3, "{compared} pages");
    let cache = tree.stats().cache;
    assert!(cache.bytes > cache.pages * 12 * 1024, "{cache:?}");
}

#[test]
fn flipped_bits_and_truncations_of_a_compressed_page_are_refused() {
    for setting in &SETTINGS[1..] {
        let (stored, reference, _) = stored_page(*setting);
        assert!(opened(IoBuf::from_slice(&stored), reference, 0).is_ok());
        for at in 0..stored.len() {
            let mut bad = IoBuf::from_slice(&stored);
            bad[at] ^= 1 << (at % 8);
            assert!(opened(bad, reference, 0).is_err(), "byte {at}");
        }
        for len in 0..stored.len() {
            let cut = IoBuf::from_slice(&stored[..len]);
            let is_whole = cut[..] == stored[..];
            assert_eq!(opened(cut, reference, 0).is_ok(), is_whole, "{len} bytes");
        }
    }
}

/// Opens a compressed page that somebody changed and gave a good checksum.
fn forged(stored: &[u8], change: impl FnOnce(&mut [u8])) -> Result<super::super::Page, String> {
    let mut bad = IoBuf::from_slice(stored);
    change(&mut bad);
    let reference = seal(&mut bad, OWNER, 7);
    opened(bad, reference, 0)
}

fn put_u32(bytes: &mut [u8], at: usize, value: usize) {
    bytes[at..at + 4].copy_from_slice(&lightning_io::to_u32(value).to_le_bytes());
}

#[test]
fn a_wrong_length_is_refused_before_memory_is_taken() {
    for setting in &SETTINGS[1..] {
        let (stored, reference, image) = stored_page(*setting);
        let most = PAGE_BYTES_MAX + UNIT_BYTES;
        let other = (0..=most)
            .step_by(UNIT_BYTES)
            .filter(|&raw| raw != image.len());
        for raw in other.chain([image.len() - 1, image.len() + 1, 0xffff_f000, 0xffff_ffff]) {
            let mut bad = IoBuf::from_slice(&stored);
            put_u32(&mut bad, RAW_BYTES, raw);
            let sealed = seal(&mut bad, OWNER, 7);
            let decompressor = &mut Decompressor::default();
            let refused = super::super::Page::open(bad, OWNER, sealed, 0, decompressor, |len| {
                assert!(len == raw && len <= PAGE_BYTES_MAX, "{len} bytes");
                IoBuf::zeroed(len)
            });
            assert!(refused.is_err(), "{raw} bytes in memory");
        }
        let stored_len = usize::try_from(u32::from_le_bytes(
            stored[STORED_BYTES..][..4].try_into().unwrap(),
        ))
        .unwrap();
        for len in (0..=stored.len() + 1).filter(|&len| len != stored_len) {
            let refused = forged(&stored, |bad| put_u32(bad, STORED_BYTES, len));
            // Zeros behind an LZ4 block are no part of it, nor of any other.
            assert!(
                refused.is_err(),
                "{setting:?}: {len} of {stored_len} bytes stored"
            );
        }
        assert!(reference.size_bytes() < image.len());
    }
}

#[test]
fn another_codec_is_refused_and_damaged_content_never_panics() {
    let mut random = Random(5);
    for setting in &SETTINGS[1..] {
        let (stored, _, _) = stored_page(*setting);
        let codec = stored[CODEC];
        for other in (0..=u8::MAX).filter(|&other| other != codec) {
            let refused = forged(&stored, |bad| bad[CODEC] = other);
            assert!(refused.is_err(), "codec {other} for {codec}");
        }
        let mut refused = 0;
        for _ in 0..3000 {
            let changed = forged(&stored, |bad| {
                for _ in 0..=random.below(3) {
                    let at = HEADER_BYTES + random.below(stored.len() - HEADER_BYTES);
                    bad[at] = u8::try_from(random.below(256)).unwrap();
                }
            });
            match changed {
                Ok(page) => drop(page.check_order()),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 300, "{refused}");
    }
}

#[test]
fn a_damage_in_a_compressed_page_names_its_place() {
    let env = TestEnv::default();
    let (tree, _) = create(&env, with(16 << 10, Compression::Lz4));
    let mut random = Random(6);
    let state = commit(&tree, &filled(2000, 1, || text(&mut random)));
    let tree = open(&env, with(16 << 10, Compression::None), &state).unwrap();
    let root = block_on(tree.shared.store.read_page(state.base.page, 1)).unwrap();
    let child = root.inner().child(1);
    let bytes = env.bytes(path());
    let at = lightning_io::to_usize(child.offset());
    // The page is whole, and its parent means it, but its content is not what the codec wrote.
    let mut bad = bytes.borrow()[at..at + child.size_bytes()].to_vec();
    bad[HEADER_BYTES..HEADER_BYTES + 40].fill(0xff);
    let forged = seal(&mut bad, OWNER, child.unit);
    bytes.borrow_mut()[at..at + bad.len()].copy_from_slice(&bad);
    let error = block_on(tree.shared.store.read_page(forged, 0)).unwrap_err();
    let crate::Error::Corruption(damage) = error else {
        panic!("not a corruption: {error}");
    };
    assert_eq!(
        (
            damage.place.shard,
            damage.place.file.as_path(),
            damage.place.offset
        ),
        (Some(OWNER.shard), path(), child.offset())
    );
    assert!(damage.what.contains("LZ4"), "{damage}");
}

/// A page of two units, small enough to write down what it is compressed to.
fn golden_page() -> IoBuf {
    leaf_image(&[row(b"ab", 0x0102, &[b'v'; 5000])], FENCES)
}

/// Some bytes, and how often they come.
type Part = (&'static [u8], usize);

/// Content as it was once written, in parts: it has to be readable for ever, whatever a codec makes
/// of the page today.
const GOLDEN: [(Codec, &[Part]); 3] = [
    (
        Codec::Lz4,
        &[
            (
                &[
                    0x11, 0x00, 0x01, 0x00, 0x81, 0x62, 0x61, 0x4c, 0x00, 0x00, 0x00, 0x02, 0x01,
                    0x0d, 0x00, 0xcf, 0x00, 0x00, 0x02, 0x00, 0x00, 0x88, 0x13, 0x00, 0x00, 0x61,
                    0x62, 0x76, 0x01, 0x00,
                ],
                1,
            ),
            (&[0xff], 19),
            (&[0x87, 0x00, 0x95, 0x13, 0x0f, 0x02, 0x00], 1),
            (&[0xff], 12),
            (&[0x09, 0x60, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00], 1),
        ],
    ),
    (
        Codec::Zstd,
        &[(
            &[
                0x28, 0xb5, 0x2f, 0xfd, 0x60, 0xc0, 0x1e, 0x1d, 0x01, 0x00, 0xb0, 0x00, 0x00, 0x62,
                0x61, 0x4c, 0x00, 0x00, 0x00, 0x02, 0x01, 0x00, 0x02, 0x00, 0x00, 0x88, 0x13, 0x00,
                0x00, 0x61, 0x62, 0x76, 0x00, 0x04, 0x10, 0x00, 0x16, 0xf4, 0x05, 0xe1, 0x74, 0x84,
                0xc7, 0xc2, 0x02,
            ],
            1,
        )],
    ),
    (
        Codec::Snappy,
        &[
            (
                &[
                    0xc0, 0x3f, 0x00, 0x00, 0x05, 0x01, 0x1c, 0x62, 0x61, 0x4c, 0x00, 0x00, 0x00,
                    0x02, 0x01, 0x05, 0x0d, 0x2c, 0x00, 0x00, 0x02, 0x00, 0x00, 0x88, 0x13, 0x00,
                    0x00, 0x61, 0x62, 0x76,
                ],
                1,
            ),
            (&[0xfe, 0x01, 0x00], 78),
            (&[0x0d, 0x01, 0x1a, 0x98, 0x13], 1),
            (&[0xfe, 0x01, 0x00], 48),
            (&[0x4a, 0x01, 0x00], 1),
        ],
    ),
];

#[test]
fn what_was_once_written_is_readable() {
    let image = golden_page();
    for (codec, parts) in GOLDEN {
        let parts = parts.iter().map(|(bytes, times)| bytes.repeat(*times));
        let content: Vec<u8> = parts.flatten().collect();
        let mut stored = IoBuf::zeroed(UNIT_BYTES);
        stored[..HEADER_BYTES].copy_from_slice(&image[..HEADER_BYTES]);
        set_stored(&mut stored, codec, content.len());
        stored[HEADER_BYTES..][..content.len()].copy_from_slice(&content);
        let reference = seal(&mut stored, OWNER, 7);
        // The documented places of what a compressed page adds.
        assert_eq!(stored[CODEC], codec.to_byte());
        assert_eq!(stored[RAW_BYTES..][..4], [0, 0x20, 0, 0]);
        let stored_bytes = lightning_io::to_u32(HEADER_BYTES + content.len());
        assert_eq!(stored[STORED_BYTES..][..4], stored_bytes.to_le_bytes());
        assert_eq!(stored[..4], crc32fast::hash(&stored[4..]).to_le_bytes());
        assert!(
            stored[HEADER_BYTES + content.len()..]
                .iter()
                .all(|&byte| byte == 0)
        );
        let page = opened(stored, reference, 0).unwrap();
        assert_eq!(page.raw().bytes[HEADER_BYTES..], image[HEADER_BYTES..]);
    }
}

#[test]
fn a_decompressor_fills_its_output_or_says_that_it_did_not() {
    let input: Vec<u8> = (0..20_000u32)
        .flat_map(|number| (number / 9).to_le_bytes())
        .collect();
    let (mut compressor, mut decompressor) = (Compressor::default(), Decompressor::default());
    let mut buffer = Vec::new();
    for len in [1, 63, 4096, input.len()] {
        for codec in &Codec::ALL[1..] {
            let stored = match codec {
                Codec::Lz4 => compressor.lz4(&input[..len], &mut buffer),
                Codec::Snappy => compressor.snappy(&input[..len], &mut buffer),
                _ => compressor.zstd(3, &input[..len], &mut buffer),
            };
            let Some(stored) = stored.map(<[u8]>::to_vec) else {
                assert!(*codec == Codec::Zstd && len < 64);
                continue;
            };
            let mut output = vec![0; len];
            decompressor
                .decompress(*codec, &stored, &mut output)
                .unwrap();
            assert_eq!(output, input[..len]);
            for wrong in [0, len - 1, len + 1, 2 * len + 100] {
                if wrong == len {
                    continue;
                }
                let mut output = vec![0; wrong];
                let refused = decompressor.decompress(*codec, &stored, &mut output);
                assert!(refused.is_err(), "{codec}: {len} bytes into {wrong}");
                if wrong > len {
                    let (expected, found) = (wrong, len);
                    let codec = *codec;
                    assert_eq!(
                        refused,
                        Err(CodecError::Length {
                            codec,
                            expected,
                            found
                        })
                    );
                }
            }
        }
    }
}

/// What a packer makes of pages, as one letter each.
fn choices(packer: &mut Packer, pages: impl Iterator<Item = Vec<u8>>) -> String {
    pages
        .map(|value| {
            let image = leaf_image(&[row(b"key", 1, &value)], FENCES);
            packer.begin();
            match packer.pack(&image, 0).map(|packed| packed.codec) {
                None => '.',
                Some(Codec::Lz4) => 'l',
                Some(Codec::Zstd) => 'z',
                Some(_) => '?',
            }
        })
        .collect()
}

#[test]
fn adaptive_takes_zstandard_only_where_it_saves_a_unit_more() {
    let mut random = Random(3);
    let mut packer = Packer::new(Compression::Adaptive);
    // Digits: nothing for LZ4 to find, but each takes less than half a byte.
    let digits = |random: &mut Random| -> Vec<u8> {
        random_bytes(random, 15_000)
            .iter()
            .map(|byte| b'0' + byte % 10)
            .collect()
    };
    let made = choices(&mut packer, (0..40).map(|_| digits(&mut random)));
    assert_eq!(made, "z".repeat(40));
    // One byte over and over: a unit with either.
    let made = choices(&mut packer, (0..40).map(|_| vec![7; 15_000]));
    assert_eq!(made, "l".repeat(40));
}

#[test]
fn adaptive_pauses_on_what_does_not_shrink_and_comes_back() {
    let mut random = Random(3);
    let mut packer = Packer::new(Compression::Adaptive);
    let mut incompressible = |count| -> Vec<Vec<u8>> {
        (0..count)
            .map(|_| random_bytes(&mut random, 15_000))
            .collect()
    };
    let made = choices(&mut packer, incompressible(200).into_iter());
    assert_eq!(made, ".".repeat(200));
    // At the worst a whole pause has just begun.
    let made = choices(&mut packer, (0..200).map(|_| vec![7; 15_000]));
    assert!(
        made.starts_with('.') && made.ends_with(&"l".repeat(184)),
        "{made}"
    );
    // One in four that does not shrink is no reason to pause.
    let some = incompressible(50).into_iter();
    let mixed = some.flat_map(|page| [page, vec![7; 15_000], vec![7; 15_000], vec![7; 15_000]]);
    assert_eq!(choices(&mut packer, mixed), ".lll".repeat(50));
}

#[test]
fn the_same_batches_make_the_same_file() {
    let run = || {
        let env = TestEnv::default();
        let (tree, _) = create(&env, with(16 << 10, Compression::Adaptive));
        let mut random = Random(8);
        for timestamp in 1..4 {
            let batch = filled(3000, timestamp, || {
                if random.below(3) == 0 {
                    random_bytes(&mut random, 90)
                } else {
                    text(&mut random)
                }
            });
            commit(&tree, &batch);
        }
        env.bytes(path()).borrow().clone()
    };
    assert!(run() == run());
}
