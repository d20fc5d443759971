//! Guesses about ranges, next to the truth.

use std::ops::Bound;

use super::*;
use crate::{KeyspaceId, StorageKey, StoredRange};

fn stored(number: u64) -> Vec<u8> {
    // Keys at random distances, as hashes are.
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    StorageKey::new(KeyspaceId::DEFAULT, &spread)
        .as_slice()
        .to_vec()
}

fn range(from: &[u8], to: &[u8]) -> StoredRange {
    let key = |stored| StorageKey::user_key(stored).unwrap();
    let ends = (Bound::Included(key(from)), Bound::Excluded(key(to)));
    StoredRange::new(KeyspaceId::DEFAULT, ends.0, ends.1).unwrap()
}

/// A tree of entries of one size, put in an order that splits pages everywhere.
fn uniform(page_bytes: usize, count: u64) -> (Tree<TestEnv>, Model) {
    let env = TestEnv::default();
    let (tree, _) = create(&env, config(page_bytes, 1 << 20));
    let mut model = Model::new();
    for numbers in (0..count).collect::<Vec<_>>().chunks(1_000) {
        let mut batch = Batch::default();
        for &number in numbers {
            batch = batch.put(&stored(number), number + 1, &[7; 100]);
        }
        let batch = batch.sorted();
        batch.apply_to(&mut model);
        commit(&tree, &batch);
    }
    (tree, model)
}

#[test]
fn an_estimate_of_uniform_entries_is_right_to_a_factor_of_two_and_mostly_to_a_tenth() {
    for page_bytes in [4 << 10, 16 << 10] {
        let (tree, model) = uniform(page_bytes, 40_000);
        let view = tree.view();
        let keys: Vec<_> = model.keys().collect();
        let page_entries = page_bytes / 130;
        let (mut random, mut errors) = (Random(5), 0);
        for _ in 0..2_000 {
            let from = random.below(keys.len());
            let longest = (keys.len() - from).min(1 << random.below(16));
            let to = from + random.below(longest);
            let expected = to - from;
            let found = block_on(tree.estimate(&view, &range(keys[from], keys[to]))).unwrap();
            let entries = lightning_io::to_usize(found.entries);
            errors += entries.abs_diff(expected) * 1_000 / (expected + 2 * page_entries);
            let slack = 2 * page_entries;
            assert!(
                entries + slack >= expected / 2 && entries <= expected * 2 + slack,
                "{expected} entries were taken for {entries}, {page_bytes}"
            );
            let bytes = lightning_io::to_usize(found.bytes);
            assert!(bytes <= 600 * (expected + slack), "{bytes} bytes");
            assert!(
                bytes + 2 * page_bytes >= 120 * expected / 2,
                "{bytes} bytes"
            );
        }
        assert!(errors / 2_000 < 100, "{errors} thousandths in 2000 guesses");
        let whole = StoredRange::new(KeyspaceId::DEFAULT, Bound::Unbounded, Bound::Unbounded);
        let found = block_on(tree.estimate(&view, &whole.unwrap())).unwrap();
        assert_eq!(found.entries, model.len() as u64);
        assert_eq!(found.bytes, view.state().live_bytes());
    }
}

#[test]
fn an_estimate_within_a_leaf_is_exact() {
    let (tree, model) = uniform(16 << 10, 60);
    let view = tree.view();
    let keys: Vec<_> = model.keys().collect();
    for from in 0..keys.len() {
        for to in from..keys.len() {
            let found = block_on(tree.estimate(&view, &range(keys[from], keys[to]))).unwrap();
            assert_eq!(found.entries, (to - from) as u64);
        }
    }
    let env = TestEnv::default();
    let (empty, _) = create(&env, config(4096, 8192));
    let found = block_on(empty.estimate(&empty.view(), &range(keys[0], keys[9]))).unwrap();
    assert_eq!((found.entries, found.bytes), (0, 0));
}
