//! One damage at a time.

use std::path::Path;

use lightning_io::sim::{Image, World};
use lightning_io::{BLOCK_BYTES, Env, to_u64, to_usize};

use super::build::{Part, ROOT, SHARDS, checkpoints, parts, path, sim_config};
use super::judge::{exact, judge, risen, salvage, salvage_with, template, told};
use crate::wal::{RecordHeader, RecordKind, SegmentHeader};
use crate::{Lost, Lsn, SalvageConfig};

/// Looks into an image.
fn look<T>(image: &Image, ask: impl AsyncFnOnce(&World) -> T) -> T {
    let world = World::with_image(3, sim_config(), image.clone());
    world.run(ask(&world)).unwrap()
}

fn change(image: &mut Image, file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = image.read_file(file).unwrap();
    change(&mut bytes);
    image.write_file(file, &bytes);
}

fn flip(image: &mut Image, file: &Path, offset: u64) {
    assert!(image.flip_bit(file, offset, 3));
}

#[test]
fn an_undamaged_database_comes_out_whole() {
    let built = template();
    for config in [
        SalvageConfig::default(),
        SalvageConfig {
            window_bytes: 1,
            batch_bytes: 1,
        },
    ] {
        let (contents, report) = salvage_with(built.image.clone(), &config).unwrap();
        judge(&built, &contents, &report, &[], "no damage");
        assert_eq!(
            (exact(&built, &contents), risen(&built, &contents)),
            (built.history.len(), 0)
        );
        assert!(
            report.is_whole() && report.notes.is_empty(),
            "{}",
            told(&report)
        );
        for shard in &report.shards {
            assert!(shard.tree_entries > 0 && shard.log_entries > 0, "{shard:?}");
            assert_eq!((shard.older_entries, shard.found_entries), (0, 0));
        }
        let live = built
            .history
            .values()
            .filter(|writes| writes.last().unwrap().value.is_some());
        assert_eq!(report.entries(), to_u64(live.count()));
    }
}

/// The parts of the trees of all shards.
fn all_parts(image: &Image) -> Vec<(u16, Part)> {
    look(image, async |world| {
        let mut all = Vec::new();
        for shard in 0..SHARDS {
            let found = parts(&world.client(), shard).await;
            all.extend(found.into_iter().map(|part| (shard, part)));
        }
        all
    })
}

#[test]
fn a_damaged_page_or_large_value_takes_its_keys_and_no_others() {
    let built = template();
    let (mut found, mut older, mut levels) = (0, 0, [0; 4]);
    for (shard, part) in all_parts(&built.image) {
        let case = format!("shard {shard}, {part:?}");
        let mut image = built.image.clone();
        let file = path(&format!("shard-{shard:03}/tree"));
        flip(&mut image, &file, part.offset + part.bytes / 2);
        let (contents, report) = salvage(image);
        judge(&built, &contents, &report, &[], &case);
        levels[part.level.map_or(3, usize::from)] += 1;
        // A large value that the log replaced is not read.
        if part.level.is_none() && report.is_whole() {
            assert_eq!(exact(&built, &contents), built.history.len(), "{case}");
            continue;
        }
        let [loss] = &report.losses[..] else {
            panic!("{case}: one loss, not\n{}", told(&report));
        };
        assert_eq!(loss.lost, Lost::Keys(part.keys.clone()), "{case}");
        assert_eq!(loss.place.file, file, "{case}");
        assert_eq!(
            (loss.place.offset, loss.bytes),
            (part.offset, Some(part.bytes)),
            "{case}"
        );
        let totals = report.shards[usize::from(shard)];
        found += totals.found_entries;
        older += totals.older_entries;
        if part.level.is_some_and(|level| level > 0) {
            // Every leaf below is found by itself, and only what was deleted may come back.
            let inexact = built.history.len() - exact(&built, &contents);
            assert_eq!(
                inexact,
                risen(&built, &contents),
                "{case}\n{}",
                told(&report)
            );
        }
    }
    assert!(
        levels[0] > 200 && levels[1] > 2 && levels[2] == 2 && levels[3] > 8,
        "{levels:?}"
    );
    assert!(found > 0 && older > 0, "{found} {older}");
}

#[test]
fn damage_that_takes_nothing_is_a_note() {
    let built = template();
    let mut cases: Vec<(String, u64)> =
        vec![("DATABASE".to_owned(), 40), ("DATABASE".to_owned(), 4136)];
    for shard in 0..SHARDS {
        let directory = format!("shard-{shard:03}");
        cases.push((format!("{directory}/tree"), 50));
        cases.extend((0..4).map(|slot| (format!("{directory}/superblock"), slot * 4096 + 100)));
        let (generation, newest) = look(&built.image, async |world| {
            checkpoints(&world.client(), shard).await[0]
        });
        assert!(generation > 1);
        cases.push((
            format!("{directory}/tree"),
            newest.tree.space_map_offset() + 70,
        ));
    }
    for (file, length) in segments(&built.image) {
        cases.push((file.clone(), 50));
        cases.push((file, length - 4000));
    }
    for (file, offset) in cases {
        let mut image = built.image.clone();
        flip(&mut image, &path(&file), offset);
        let case = format!("{file} at {offset}");
        let (contents, report) = salvage(image);
        judge(&built, &contents, &report, &[], &case);
        assert!(report.is_whole(), "{case}: {}", told(&report));
        assert_eq!(exact(&built, &contents), built.history.len(), "{case}");
        // A single copy of the identity does, and is completed at the next opening.
        assert!(
            file == "DATABASE" || report.notes.len() == 1,
            "{case}: {}",
            told(&report)
        );
    }
}

/// Files of logs, with their lengths.
fn segments(image: &Image) -> Vec<(String, u64)> {
    let files = image.list_files().into_iter();
    let named = files.filter(|file| file.to_str().unwrap().contains("wal-"));
    named
        .map(|file| {
            let length = to_u64(image.read_file(&file).unwrap().len());
            let name = file
                .strip_prefix(ROOT)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            (name, length)
        })
        .collect()
}

#[test]
fn without_an_identity_the_other_files_say_what_it_was() {
    let built = template();
    for damage in 0..3 {
        let mut image = built.image.clone();
        match damage {
            0 => change(&mut image, &path("DATABASE"), |bytes| {
                bytes[30] ^= 1;
                bytes[4126] ^= 1;
            }),
            1 => change(&mut image, &path("DATABASE"), Vec::clear),
            _ => image = without(&image, "DATABASE"),
        }
        let (contents, report) = salvage(image);
        judge(&built, &contents, &report, &[], "no identity");
        assert!(report.is_whole(), "{}", told(&report));
        assert_eq!(exact(&built, &contents), built.history.len());
        assert_eq!(report.notes.len(), 1);
        let sound = salvage(built.image.clone()).1;
        assert_eq!(report.database, sound.database);
    }
}

fn without(image: &Image, file: &str) -> Image {
    let world = World::with_image(4, sim_config(), image.clone());
    let removed = world.run(async { world.client().remove_file(&path(file)).await });
    removed.unwrap().unwrap();
    world.shutdown()
}

#[test]
fn without_a_superblock_log_and_found_leaves_are_what_is_left() {
    let built = template();
    for shard in 0..SHARDS {
        let file = path(&format!("shard-{shard:03}/superblock"));
        let mut image = built.image.clone();
        (0..4).for_each(|slot| flip(&mut image, &file, slot * 4096 + 60));
        let (contents, report) = salvage(image);
        judge(&built, &contents, &report, &[], "no superblock");
        assert_eq!(report.losses.len(), 1, "{}", told(&report));
        assert_eq!(report.losses[0].lost, Lost::Keys((None, None)));
        let inexact = built.history.len() - exact(&built, &contents);
        assert_eq!(inexact, risen(&built, &contents), "{}", told(&report));
        assert!(report.shards[usize::from(shard)].found_entries > 0);
    }
}

#[test]
fn without_the_newest_generation_the_one_before_it_is_read() {
    let built = template();
    let (mut older, mut deleted_before) = (0, 0);
    for shard in 0..SHARDS {
        let file = path(&format!("shard-{shard:03}/superblock"));
        let (generation, _) = look(&built.image, async |world| {
            checkpoints(&world.client(), shard).await[0]
        });
        let first = generation % 2 * 2;
        let mut image = built.image.clone();
        (first..first + 2).for_each(|slot| flip(&mut image, &file, slot * 4096 + 60));
        let (contents, report) = salvage(image);
        judge(&built, &contents, &report, &[], "the newest generation");
        let records = |lost: &Lost| matches!(lost, Lost::Records { .. });
        older += report
            .losses
            .iter()
            .filter(|loss| records(&loss.lost))
            .count();
        // The root of the newest tree instead: the same, and its leaves are found.
        let root = all_parts(&built.image)
            .into_iter()
            .filter(|(of, _)| *of == shard)
            .max_by_key(|(_, part)| part.level)
            .unwrap()
            .1;
        let mut image = built.image.clone();
        flip(
            &mut image,
            &path(&format!("shard-{shard:03}/tree")),
            root.offset + 5,
        );
        let (contents, report) = salvage(image);
        judge(&built, &contents, &report, &[], "the root");
        let totals = report.shards[usize::from(shard)];
        assert!(totals.older_entries > 0, "{totals:?}");
        assert!(
            risen(&built, &contents) < 40,
            "{}",
            risen(&built, &contents)
        );
        // The older tree knows what was deleted before it, whatever old leaves lie in the file.
        let known = look(&built.image, async |world| {
            checkpoints(&world.client(), shard).await[1]
        });
        let known = known.1.marks.checkpoint;
        deleted_before += built
            .history
            .iter()
            .filter(|(key, writes)| {
                let last = writes.last().unwrap();
                let here = built.router.shard_of(key).0 == shard;
                let gone = here && last.value.is_none() && last.lsn <= known;
                assert!(
                    !gone || !contents.contains_key(*key),
                    "{}",
                    key.escape_ascii()
                );
                gone
            })
            .count();
    }
    assert!(deleted_before > 5, "{deleted_before}");
    assert!(
        older > 0,
        "a log that goes back to the older checkpoint shows nothing"
    );
}

/// The sound records of a segment's current use: offset, LSN and whether it has commits.
fn records(image: &Image, file: &str) -> Vec<(u64, Lsn, bool)> {
    let bytes = image.read_file(&path(file)).unwrap();
    // Without one the segment waits for its first use.
    let Ok(header) = SegmentHeader::decode(&bytes[..BLOCK_BYTES], 0) else {
        return Vec::new();
    };
    let blocks = bytes.chunks(BLOCK_BYTES).enumerate().skip(1);
    blocks
        .filter_map(|(block, bytes)| {
            let (record, ..) = RecordHeader::decode(bytes).ok()?;
            let is_group = record.kind == RecordKind::Group;
            let offset = to_u64(block * BLOCK_BYTES);
            (record.epoch == header.epoch).then_some((offset, record.lsn, is_group))
        })
        .collect()
}

#[test]
fn a_damaged_record_is_lost_alone_and_what_follows_is_applied() {
    let built = template();
    let mut told_of = 0;
    for (file, _) in segments(&built.image) {
        let shard: u16 = file["shard-".len()..][..3].parse().unwrap();
        let (_, newest) = look(&built.image, async |world| {
            checkpoints(&world.client(), shard).await[0]
        });
        for (offset, lsn, is_group) in records(&built.image, &file) {
            for at in [offset + 20, offset + 70] {
                let case = format!("record {lsn} of {file} at {at}");
                let mut image = built.image.clone();
                flip(&mut image, &path(&file), at);
                let (contents, report) = salvage(image);
                judge(&built, &contents, &report, &[], &case);
                let needed = lsn > newest.marks.checkpoint;
                if !needed || !is_group {
                    assert_eq!(exact(&built, &contents), built.history.len(), "{case}");
                    // The mark at the very end has no successor that knows of it.
                    let expected = usize::from(needed && !report.losses.is_empty());
                    assert_eq!(report.losses.len(), expected, "{case}: {}", told(&report));
                    continue;
                }
                let [loss] = &report.losses[..] else {
                    panic!("{case}: one loss, not\n{}", told(&report));
                };
                let (from, to) = (lsn, Some(lsn));
                assert_eq!(loss.lost, Lost::Records { from, to }, "{case}");
                assert_eq!(
                    (loss.place.file.as_path(), loss.place.offset),
                    (path(&file).as_path(), offset)
                );
                assert_eq!(exact(&built, &contents), built.history.len() - 1, "{case}");
                told_of += 1;
            }
        }
    }
    assert!(told_of > 100, "{told_of}");
}

#[test]
fn a_lost_end_is_told_by_the_durable_mark_of_a_record_that_is_damaged_too() {
    let built = template();
    for shard in 0..SHARDS {
        let all = segments(&built.image).into_iter().map(|(file, _)| file);
        let here = all.filter(|file| file.starts_with(&format!("shard-{shard:03}")));
        let (lsn, file, mut offsets) = here
            .filter_map(|file| {
                let found = records(&built.image, &file);
                let offsets: Vec<u64> = found.iter().map(|record| record.0).collect();
                Some((found.last()?.1, file, offsets))
            })
            .max()
            .unwrap();
        // The last record is a mark. Its header says how far the log was durable, and its content,
        // which is nothing but zeros, is damaged; so is the record before it.
        let mut image = built.image.clone();
        let (mark, last) = (offsets.pop().unwrap(), offsets.pop().unwrap());
        flip(&mut image, &path(&file), mark + 100);
        flip(&mut image, &path(&file), last + 100);
        let (contents, report) = salvage(image);
        judge(&built, &contents, &report, &[], &file);
        let record = Lsn(lsn.0 - 1);
        let (from, to) = (record, Some(record));
        assert_eq!(report.losses.len(), 1, "{}", told(&report));
        assert_eq!(report.losses[0].lost, Lost::Records { from, to });
        assert_eq!(report.losses[0].place.offset, last);
    }
}

#[test]
fn a_record_that_is_not_whole_at_the_very_end_is_a_note() {
    let built = template();
    for (file, _) in segments(&built.image) {
        let Some(&(offset, lsn, is_group)) = records(&built.image, &file).last() else {
            continue;
        };
        let mut image = built.image.clone();
        flip(&mut image, &path(&file), offset + 20);
        let (contents, report) = salvage(image);
        judge(&built, &contents, &report, &[], &file);
        let end = report
            .shards
            .iter()
            .any(|shard| shard.last_record.next() == lsn);
        if end && !is_group {
            assert!(report.is_whole(), "{file}: {}", told(&report));
            let [note] = &report.notes[..] else {
                panic!("{file}: one note, not\n{}", told(&report));
            };
            assert!(note.what.contains("not whole"), "{note}");
        }
    }
}

#[test]
fn a_segment_without_a_header_is_read_by_its_records() {
    let built = template();
    for (file, length) in segments(&built.image) {
        let mut image = built.image.clone();
        flip(&mut image, &path(&file), 60);
        flip(&mut image, &path(&file), length - 4096 + 60);
        let (contents, report) = salvage(image);
        judge(&built, &contents, &report, &[], &file);
        if !records(&built.image, &file).is_empty() {
            assert!(report.is_whole(), "{file}: {}", told(&report));
            assert_eq!(exact(&built, &contents), built.history.len(), "{file}");
        }
    }
}

/// From which record on nobody can know what the last segment of a shard held.
fn unknown(image: &Image, file: &str) -> Vec<(u16, Lsn)> {
    let shard = &file[..file.find('/').unwrap()];
    let bases = segments(image)
        .into_iter()
        .filter(|(name, _)| name.starts_with(shard));
    let base = |name: &str| {
        let bytes = image.read_file(&path(name)).unwrap();
        SegmentHeader::decode(&bytes[..BLOCK_BYTES], 0).map(|header| header.base)
    };
    let last = bases
        .filter_map(|(name, _)| base(&name).ok())
        .max()
        .unwrap();
    if !file.contains("wal-") || base(file) != Ok(last) {
        return Vec::new();
    }
    vec![(shard["shard-".len()..].parse().unwrap(), last)]
}

#[test]
fn a_missing_file_takes_what_it_held() {
    let built = template();
    for file in built.image.list_files() {
        let file = file.strip_prefix(ROOT).unwrap().to_str().unwrap();
        if file == "LOCK" || file == "DATABASE" {
            continue;
        }
        let (contents, report) = salvage(without(&built.image, file));
        judge(
            &built,
            &contents,
            &report,
            &unknown(&built.image, file),
            file,
        );
        if file.ends_with("/reserve") {
            assert!(report.is_whole(), "{file}");
        } else if !file.contains("wal-") {
            assert!(!report.is_whole(), "{file}");
        }
    }
}

#[test]
fn a_missing_shard_is_lost_and_the_others_are_whole() {
    let built = template();
    let world = World::new(5, sim_config());
    for file in built.image.list_files() {
        let moved = file.to_str().unwrap().replace("shard-000", "elsewhere");
        world.write_file(Path::new(&moved), &built.image.read_file(&file).unwrap());
    }
    let (contents, report) = salvage(world.shutdown());
    judge(&built, &contents, &report, &[], "no shard 0");
    assert_eq!(report.losses.len(), 1, "{}", told(&report));
    assert_eq!(report.losses[0].lost, Lost::Everything);
    assert!(report.shards[0].entries() == 0 && report.shards[1].entries() > 0);
}

#[test]
fn a_truncated_file_takes_what_is_cut_off() {
    let built = template();
    for file in built.image.list_files() {
        let name = file
            .strip_prefix(ROOT)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let length = built.image.read_file(&file).unwrap().len();
        for cut in [
            0,
            1,
            4095,
            4096,
            12_288,
            length / 2,
            length.saturating_sub(4096),
            length.saturating_sub(1),
        ] {
            if cut >= length {
                continue;
            }
            let mut image = built.image.clone();
            change(&mut image, &file, |bytes| bytes.truncate(cut));
            let (contents, report) = salvage(image);
            judge(
                &built,
                &contents,
                &report,
                &[],
                &format!("{name} cut to {cut}"),
            );
        }
    }
}

#[test]
fn files_of_two_shards_that_changed_places_are_not_mixed_up() {
    let built = template();
    let mut names: Vec<String> = vec!["superblock".to_owned(), "tree".to_owned()];
    let (ones, others): (Vec<_>, Vec<_>) = segments(&built.image)
        .into_iter()
        .map(|(file, _)| file)
        .partition(|file| file.starts_with("shard-000"));
    let in_second = |name: &&String| others.contains(&name.replace("shard-000", "shard-001"));
    names.extend(
        ones.iter()
            .filter(in_second)
            .map(|file| file["shard-000/".len()..].to_owned()),
    );
    assert!(names.len() > 2);
    for name in names {
        let [a, b] = ["shard-000", "shard-001"].map(|shard| path(&format!("{shard}/{name}")));
        let mut image = built.image.clone();
        let (in_a, in_b) = (image.read_file(&a).unwrap(), image.read_file(&b).unwrap());
        image.write_file(&a, &in_b);
        image.write_file(&b, &in_a);
        let (contents, report) = salvage(image);
        let mut beyond = unknown(&built.image, &format!("shard-000/{name}"));
        beyond.extend(unknown(&built.image, &format!("shard-001/{name}")));
        judge(&built, &contents, &report, &beyond, &name);
        assert!(!report.is_whole(), "{name}");
    }
}

#[test]
fn sectors_that_cannot_be_read_are_damage_like_any_other() {
    use lightning_io::sim::{Fault, FaultConfig, Knob};
    let built = template();
    let mut failed = 0;
    for seed in 0..40 {
        let knob = Knob::new(20_000, 3).only("shard-");
        let faults = FaultConfig::default().with(Fault::StickyReadError, knob);
        let config = lightning_io::sim::SimConfig {
            faults,
            ..sim_config()
        };
        let world = World::with_image(seed, config, built.image.clone());
        let outcome = world.run(async {
            let mut salvage = crate::Salvage::open(&world.client(), Path::new(ROOT)).await?;
            let mut collector = super::judge::Collector::default();
            let report = salvage
                .run(&SalvageConfig::default(), &mut collector)
                .await?;
            Ok::<_, crate::Error>((collector.0, report))
        });
        let (contents, report) = outcome.unwrap().unwrap();
        judge(&built, &contents, &report, &[], &format!("seed {seed}"));
        failed += to_usize(to_u64(report.notes.len()));
    }
    assert!(failed > 10, "{failed}");
}

#[test]
fn what_is_no_database_is_refused_and_left_alone() {
    let world = World::new(6, sim_config());
    world.write_file(Path::new("db/thesis.txt"), b"years of work");
    let refused = world.run(crate::Salvage::open(&world.client(), Path::new(ROOT)));
    assert!(matches!(
        refused.unwrap(),
        Err(crate::Error::NotADatabase { .. })
    ));
    let absent = world.run(crate::Salvage::open(&world.client(), Path::new("absent")));
    assert!(matches!(
        absent.unwrap(),
        Err(crate::Error::NotADatabase { .. })
    ));
    assert_eq!(world.list_files(), [Path::new("db/thesis.txt")]);
}
