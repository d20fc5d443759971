//! Devices that fail.

use super::*;
use crate::Error;

const CONFIG: TreeConfig = TreeConfig {
    page_bytes: 4096,
    cache_bytes: 1 << 20,
    compression: Compression::None,
};

fn batch(timestamp: u64, count: usize) -> Batch {
    (0..count).fold(Batch::default(), |batch, number| {
        let len = if number % 50 == 0 { 6000 } else { 80 };
        let byte = u8::try_from(timestamp % 250).unwrap();
        batch.put(
            format!("key{number:05}").as_bytes(),
            timestamp,
            &vec![byte; len],
        )
    })
}

#[test]
fn a_read_that_fails_once_is_tried_again_and_one_that_fails_twice_is_an_error() {
    let env = TestEnv::default();
    let (tree, _) = create(&env, CONFIG);
    let state = commit(&tree, &batch(1, 300));
    let tree = open(&env, CONFIG, &state).unwrap();
    let view = tree.view();
    env.plan.failing_reads.set(1);
    assert!(
        block_on(tree.get(&view, b"key00001", Timestamp::MAX))
            .unwrap()
            .is_some()
    );
    assert_eq!(tree.stats().read_retries, 1);
    env.plan.failing_reads.set(2);
    let failed = block_on(tree.get(&view, b"key00299", Timestamp::MAX));
    assert!(matches!(failed, Err(Error::Io(_))));
    assert!(
        block_on(tree.get(&view, b"key00299", Timestamp::MAX))
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_failed_write_is_made_again_elsewhere() {
    let clean = TestEnv::default();
    let (tree, _) = create(&clean, CONFIG);
    commit(&tree, &batch(1, 500));
    let writes = clean.plan.writes.borrow().len();
    for (before, failing) in (1..writes).flat_map(|before| [(before, 1), (before, 2)]) {
        let env = TestEnv::default();
        let (tree, _) = create(&env, CONFIG);
        let mut model = Model::new();
        env.plan
            .writes_before
            .set(u32::try_from(before - 1).unwrap());
        env.plan.failing_writes.set(failing);
        batch(1, 500).apply_to(&mut model);
        let state = commit(&tree, &batch(1, 500));
        assert_holds(&tree, &model);
        assert!(tree.stats().write_retries >= 1);
        assert_holds(&open(&env, CONFIG, &state).unwrap(), &model);
        // The failed units are free again, and not lost.
        batch(2, 500).apply_to(&mut model);
        commit(&tree, &batch(2, 500));
        assert_holds(&tree, &model);
        let stats = tree.stats();
        assert_eq!(stats.used_bytes, stats.live_bytes + 2 * 4096);
    }
}

#[test]
fn three_failed_writes_and_a_failed_sync_leave_everything_as_it_was() {
    let env = TestEnv::default();
    let (tree, _) = create(&env, CONFIG);
    let mut model = Model::new();
    batch(1, 400).apply_to(&mut model);
    commit(&tree, &batch(1, 400));
    let before = tree.stats().used_bytes;
    for plan in 0..12 {
        if plan == 11 {
            env.plan.failing_syncs.set(1);
        } else {
            env.plan.writes_before.set(plan);
            env.plan.failing_writes.set(u32::MAX);
        }
        let failed = block_on(tree.apply(&mut batch(2, 400)));
        assert!(matches!(failed, Err(Error::Io(_))), "plan {plan}");
        env.plan.failing_writes.set(0);
        assert_eq!(tree.stats().used_bytes, before);
        assert_holds(&tree, &model);
    }
    batch(3, 400).apply_to(&mut model);
    commit(&tree, &batch(3, 400));
    assert_holds(&tree, &model);
}

#[test]
fn no_space_leaves_everything_as_it_was_and_goes_away_with_its_cause() {
    let env = TestEnv::default();
    let (tree, _) = create(&env, CONFIG);
    let mut model = Model::new();
    batch(1, 400).apply_to(&mut model);
    commit(&tree, &batch(1, 400));
    let before = tree.stats();
    for more in (0..60).map(|units| units * 4 * 4096) {
        env.plan.bytes_max.set(Some(before.file_bytes + more));
        match block_on(tree.apply(&mut batch(2, 4000))) {
            Ok(update) => tree.discard(update),
            Err(error) => assert!(error.is_no_space(), "{error}"),
        }
        assert_eq!(tree.stats().used_bytes, before.used_bytes);
        assert_holds(&tree, &model);
    }
    env.plan.bytes_max.set(None);
    batch(2, 4000).apply_to(&mut model);
    commit(&tree, &batch(2, 4000));
    assert_holds(&tree, &model);
}

#[test]
fn a_batch_that_breaks_its_contract_is_refused_whole() {
    let env = TestEnv::default();
    let (tree, _) = create(&env, CONFIG);
    let mut model = Model::new();
    batch(1, 100).apply_to(&mut model);
    commit(&tree, &batch(1, 100));
    let before = tree.stats().used_bytes;
    let mut overflow = Batch::default().put(b"a", 1, b"0123456789abcdef");
    overflow.entries[0].2 = EntryFlags::OVERFLOW;
    for mut bad in [
        Batch::default().put(b"b", 1, b"").put(b"a", 1, b""),
        Batch::default().put(b"zz", 1, b"").put(b"a", 1, b""),
        Batch::default().put(&vec![b'k'; 65_541], 1, b""),
        overflow,
    ] {
        let refused = block_on(tree.apply(&mut bad));
        assert!(matches!(refused, Err(Error::Invalid { .. })));
        assert_eq!(tree.stats().used_bytes, before);
        assert_holds(&tree, &model);
    }
}
