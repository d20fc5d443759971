//! Presets: settings in one word, beside those that are set one by one.

use lightning_db::{Database, ErrorKind, Preset};

use crate::scratch;
use crate::support::run;

const ALL: [Preset; 6] = [
    Preset::Oltp,
    Preset::Olap,
    Preset::Cache,
    Preset::TimeSeries,
    Preset::Graph,
    Preset::Edge,
];

#[test]
fn a_database_opens_with_every_preset_whatever_it_was_created_with() {
    let directory = scratch();
    let path = directory.path().join("db");
    run("every preset", async move {
        let build = || Database::builder(&path).memory_budget(4 << 20);
        let db = build()
            .shards(2)
            .preset(Preset::Edge)
            .create()
            .await
            .unwrap();
        assert_eq!(db.shard_count(), 2);
        db.close().await.unwrap();
        for (number, preset) in ALL.into_iter().enumerate() {
            let db = build().preset(preset).open().await.unwrap();
            assert_eq!(db.shard_count(), 2);
            for row in 0..500 {
                let key = format!("{} {row}", preset.name());
                db.put(key, vec![7; 100]).await.unwrap();
            }
            db.flush().await.unwrap();
            assert_eq!(
                db.count(..).await.unwrap(),
                500 * u64::try_from(number + 1).unwrap()
            );
            assert_eq!(db.verify().await.unwrap().damages, []);
            db.close().await.unwrap();
        }
    });
}

#[test]
fn a_small_device_gets_one_shard_unless_it_is_told_otherwise() {
    let directory = scratch();
    let path = directory.path().join("db");
    run("a preset that decides the shards", async move {
        let db = Database::builder(&path).preset(Preset::Edge).create().await;
        let db = db.unwrap();
        assert_eq!(db.shard_count(), 1);
        db.close().await.unwrap();
    });
}

#[test]
fn what_contradicts_itself_makes_nothing() {
    let directory = scratch();
    let path = directory.path().join("db");
    run("contradictions", async move {
        let both = Database::builder(&path)
            .preset(Preset::Cache)
            .preset(Preset::Edge);
        let refused = both.open_or_create().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        let many = Database::builder(&path).preset(Preset::Edge).shards(64);
        let refused = many.open_or_create().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        let odd = Database::builder(&path).page_bytes(5_000);
        let refused = odd.open_or_create().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        assert!(!path.exists());
    });
}
