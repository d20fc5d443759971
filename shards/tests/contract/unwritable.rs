//! Places of the disk that take no writes any more.

use lightning_io::sim::{Fault, FaultConfig, Knob, PPM, SimConfig, World};
use lightning_shards::{Error, ShardConfig};

use crate::site::{Site, small, world};

/// More than the memtable of a small shard holds.
const KEYS: u32 = 600;

#[test]
fn a_tree_that_takes_no_pages_does_not_keep_its_shard_from_being_opened() {
    let large = ShardConfig {
        memory_bytes: 8 << 20,
        ..small()
    };
    let first = world(1);
    let site = Site::new(&first, 1);
    let written = first.run(async {
        let database = site.open(large).await?;
        for key in 0..KEYS {
            database.put(&key.to_string(), &[7; 1_000]).await?;
        }
        Ok::<_, Error>(())
    });
    written.unwrap().unwrap();

    let faults = FaultConfig::default();
    let unwritable = Knob::new(PPM, u64::MAX).only("tree");
    let config = SimConfig {
        faults: faults.with(Fault::StickyWriteError, unwritable),
        ..SimConfig::default()
    };
    let second = World::with_image(2, config, first.shutdown());
    let site = Site::new(&second, 1);
    let read = second.run(async {
        let database = site.open(small()).await?;
        for key in 0..KEYS {
            let value = database.get(&key.to_string()).await?;
            assert_eq!(value.as_deref(), Some(&[7; 1_000][..]), "key {key}");
        }
        Ok::<_, Error>(())
    });
    read.unwrap().unwrap();
    assert!(
        !second.faults_fired().is_empty(),
        "the log was replayed into the tree"
    );
}
