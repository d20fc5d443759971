//! Salvage of real files: what comes out is right, what does not is told, and the source stays.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use futures_util::TryStreamExt;
use lightning_db::{Database, ErrorKind, SalvageReport, salvage};

use crate::damage::{damage_at_random, files};
use crate::opening::{Template, template_rows};
use crate::support::{Random, files_below, run};

fn bytes_below(directory: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let files = files_below(directory).into_iter();
    files
        .map(|file| (file.clone(), fs::read(file).unwrap()))
        .collect()
}

/// Salvages a copy of the template that `damage` was done to, and checks what comes out.
fn case(name: &str, damage: impl FnOnce(&Path)) -> SalvageReport {
    let (directory, path) = Template::shared().copy();
    damage(&path);
    let before = bytes_below(&path);
    let to = directory.path().join("new");
    let (from, case) = (path.clone(), name.to_owned());
    let report = run(name, async move {
        let report = salvage(&from, &to)
            .await
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        let db = Database::open(&to).await.unwrap();
        let rows: BTreeMap<String, Vec<u8>> = template_rows().collect();
        let found: Vec<_> = db.scan(..).try_collect().await.unwrap();
        for (key, value) in &found {
            let expected = rows.get(str::from_utf8(key).unwrap());
            assert!(
                expected.is_some_and(|expected| expected == value),
                "{case}: {key:?}"
            );
        }
        assert_eq!(
            u64::try_from(found.len()).unwrap(),
            report.entries(),
            "{case}"
        );
        assert!(
            found.len() == rows.len() || !report.is_whole(),
            "{case}: rows vanish silently"
        );
        assert_eq!(db.verify().await.unwrap().damages, []);
        db.close().await.unwrap();
        report
    });
    assert!(
        bytes_below(&path) == before,
        "{name}: the source was changed"
    );
    report
}

#[test]
fn an_undamaged_database_is_copied_whole() {
    let report = case("no damage", |_| ());
    assert!(report.is_whole() && report.notes.is_empty(), "{report:?}");
    assert_eq!(report.entries(), 300);
}

#[test]
fn random_damage_is_contained_and_told() {
    let files = files();
    let mut random = Random::new(21);
    let mut hurt = 0;
    for number in 0..60 {
        let (file, length) = &files[random.below(files.len())];
        let mut made = String::new();
        let report = case(&format!("seed 21, damage {number}"), |path| {
            made = damage_at_random(&mut random, &path.join(file), *length);
        });
        println!("{made} of {}: {:?}", file.display(), report.losses);
        hurt += usize::from(!report.is_whole() || !report.notes.is_empty());
    }
    assert!(hurt > 10, "the damages do not reach what counts: {hurt}");
}

#[test]
fn a_database_in_use_is_not_read() {
    let (directory, path) = Template::shared().copy();
    let to = directory.path().join("new");
    run("a salvage of a database in use", async move {
        let db = Database::open(&path).await.unwrap();
        let refused = salvage(&path, &to).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Locked, "{refused}");
        assert!(!to.exists());
        db.close().await.unwrap();
        // The same path twice is no copy.
        let refused = salvage(&path, &path).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    });
}
