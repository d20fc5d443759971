//! What came out of a salvage, held against what was written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lightning_io::sim::{Image, World};

use super::build::{Built, ROOT, Write, build, sim_config, with_runs, without_runs};
use crate::{Error, Loss, Lost, Lsn, Ops, Result, Salvage, SalvageConfig, SalvageReport, Sink};

/// What a salvage handed on, by stored key.
pub(super) type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Default)]
pub(super) struct Collector(pub(super) Contents);

impl Sink for Collector {
    async fn write(&mut self, puts: Ops) -> Result<()> {
        for op in puts.ops() {
            let op = op.unwrap();
            let twice = self.0.insert(op.key.to_vec(), op.value.to_vec());
            assert_eq!(twice, None, "a key comes once: {}", op.key.escape_ascii());
        }
        Ok(())
    }
}

/// Built once: every case damages a copy.
pub(super) fn template() -> Built {
    thread_local! {
        static BUILT: Built = build(&without_runs());
    }
    BUILT.with(copy)
}

/// As [`template`], with runs ahead of the base.
pub(super) fn template_with_runs() -> Built {
    thread_local! {
        static BUILT: Built = build(&with_runs());
    }
    BUILT.with(copy)
}

fn copy(built: &Built) -> Built {
    Built {
        image: built.image.clone(),
        router: built.router,
        history: built.history.clone(),
    }
}

fn files(image: &Image) -> Vec<(PathBuf, Vec<u8>)> {
    let files = image.list_files().into_iter();
    files
        .map(|file| {
            let bytes = image.read_file(&file).unwrap();
            (file, bytes)
        })
        .collect()
}

/// Salvages an image, and checks that it is left as it was.
pub(super) fn salvage_with(
    image: Image,
    config: &SalvageConfig,
) -> Result<(Contents, SalvageReport)> {
    let before = files(&image);
    let world = World::with_image(7, sim_config(), image);
    let outcome = world.run(async {
        let mut salvage = Salvage::open(&world.client(), Path::new(ROOT)).await?;
        let mut collector = Collector::default();
        let report = salvage.run(config, &mut collector).await?;
        Ok::<_, Error>((collector.0, report))
    });
    let outcome = outcome.unwrap();
    assert_eq!(world.task_panics(), Vec::<String>::new());
    assert!(files(&world.shutdown()) == before, "the source was changed");
    outcome
}

/// In small portions, so that every case takes several windows.
pub(super) fn salvage(image: Image) -> (Contents, SalvageReport) {
    let small = SalvageConfig {
        window_bytes: 100 << 10,
        batch_bytes: 4 << 10,
    };
    salvage_with(image, &small).unwrap()
}

fn covers(loss: &Loss, key: &[u8], missed: &[Write]) -> bool {
    match &loss.lost {
        Lost::Everything => true,
        Lost::Keys((from, to)) => {
            from.as_deref().is_none_or(|from| from <= key)
                && to.as_deref().is_none_or(|to| key < to)
        }
        Lost::Records { from, to } => missed
            .iter()
            .any(|write| *from <= write.lsn && to.is_none_or(|to| write.lsn <= to)),
    }
}

/// The two checks on the contents. `unknown_from` is the first record of each shard of whose loss
/// nothing can know.
pub(super) fn judge(
    built: &Built,
    contents: &Contents,
    report: &SalvageReport,
    unknown_from: &[(u16, Lsn)],
    case: &str,
) {
    for (key, value) in contents {
        let writes = built.history.get(key);
        let was_written = writes.is_some_and(|writes| {
            writes
                .iter()
                .any(|write| write.value.as_ref() == Some(value))
        });
        assert!(was_written, "{case}: {} was never that", key.escape_ascii());
    }
    assert_eq!(
        report.entries(),
        lightning_io::to_u64(contents.len()),
        "{case}"
    );
    for (key, writes) in &built.history {
        let found = contents.get(key);
        let at = writes
            .iter()
            .rposition(|write| write.value.as_ref() == found);
        let missed = &writes[at.map_or(0, |at| at + 1)..];
        if missed.is_empty() {
            continue;
        }
        let shard = built.router.shard_of(key);
        let unknown = |(of, from): &(u16, Lsn)| {
            *of == shard.0 && missed.iter().any(|write| write.lsn >= *from)
        };
        let covered = report
            .losses
            .iter()
            .any(|loss| loss.place.shard.is_none_or(|of| of == shard) && covers(loss, key, missed));
        assert!(
            covered || unknown_from.iter().any(unknown),
            "{case}: {} comes out as {:?}, {} writes behind, and no loss says so:\n{}",
            key.escape_ascii(),
            found.map(Vec::len),
            missed.len(),
            told(report),
        );
    }
}

/// Keys that came out as they were last.
pub(super) fn exact(built: &Built, contents: &Contents) -> usize {
    let is_exact = |(key, writes): &(&Vec<u8>, &Vec<Write>)| {
        writes
            .last()
            .is_some_and(|last| last.value.as_ref() == contents.get(*key))
    };
    built.history.iter().filter(is_exact).count()
}

/// Keys that are gone and came out.
pub(super) fn risen(built: &Built, contents: &Contents) -> usize {
    let deleted = |key: &&Vec<u8>| built.history[*key].last().unwrap().value.is_none();
    contents.keys().filter(deleted).count()
}

pub(super) fn told(report: &SalvageReport) -> String {
    let lines = report.losses.iter().map(ToString::to_string);
    let notes = report.notes.iter().map(|note| format!("note: {note}"));
    let shards = report.shards.iter().map(|shard| format!("{shard:?}"));
    lines
        .chain(notes)
        .chain(shards)
        .collect::<Vec<_>>()
        .join("\n")
}
