//! Entries that expire: where their time lies, and when an update lets them go.

use std::time::Duration;

use super::super::page::{Fences, seal};
use super::format::{leaf_image, opened};
use super::*;
use crate::Ttl;
use crate::entry::AsOf;

const TTL_US: u64 = 1_000;

fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros)
}

/// A value as it is stored.
fn expiring(value: &[u8]) -> Vec<u8> {
    let ttl = Ttl::new(Duration::from_micros(TTL_US)).unwrap();
    [&ttl.to_bytes(), value].concat()
}

impl Batch {
    fn put_expiring(mut self, key: &[u8], micros: u64, value: &[u8]) -> Self {
        let (timestamp, flags) = (at(micros).0, EntryFlags::EXPIRING);
        self.entries
            .push((key.to_vec(), timestamp, flags, expiring(value)));
        self
    }
}

/// Applies a batch as of a time.
fn commit_as_of(tree: &Tree<TestEnv>, batch: &Batch, now: Timestamp) -> TreeState {
    let update = block_on(tree.apply(&mut AsOf::new(batch.clone(), now))).unwrap();
    let state = *update.state();
    tree.publish(update);
    state
}

#[test]
fn the_time_lies_in_the_page_and_a_large_value_outside() {
    let env = TestEnv::default();
    let (tree, _) = create(&env, config(4096, 1 << 20));
    let large = vec![9; 20_000];
    let batch = Batch::default()
        .put_expiring(b"large", 10, &large)
        .put_expiring(b"small", 20, b"value");
    let state = commit_as_of(&tree, &batch, at(30));
    for tree in [tree, open(&env, config(4096, 1 << 20), &state).unwrap()] {
        let view = tree.view();
        for (key, committed, value) in [(&b"large"[..], 10, &large[..]), (b"small", 20, b"value")] {
            let found = block_on(tree.get(&view, key, Timestamp::MAX)).unwrap();
            let found = found.expect("it is in the tree");
            assert_eq!(block_on(tree.load(&found)).unwrap(), value);
            assert_eq!(found.end, Some(at(committed + TTL_US)));
            assert!(!found.is_gone(Timestamp(at(committed + TTL_US).0 - 1)));
            assert!(found.is_gone(at(committed + TTL_US)));
        }
        let mut seen = Vec::new();
        let report = block_on(tree.verify(&view, &mut |entry| {
            seen.push((entry.key.to_vec(), entry.flags, entry.value.to_vec()));
        }));
        assert_eq!(report.unwrap().damages, vec![]);
        let flags = EntryFlags::EXPIRING;
        let small = (b"small".to_vec(), flags, expiring(b"value"));
        assert_eq!(seen, [(b"large".to_vec(), flags, expiring(&large)), small]);
    }
}

#[test]
fn what_has_expired_goes_from_the_pages_that_an_update_opens() {
    let env = TestEnv::default();
    let (tree, _) = create(&env, config(4096, 1 << 20));
    let large = vec![9; 20_000];
    let old = Batch::default()
        .put(b"a", 1, b"older")
        .put(b"b", 2, b"older")
        .put(b"c", 3, b"stays");
    commit_as_of(&tree, &old, at(5));
    let batch = Batch::default()
        .put_expiring(b"a", 10, b"expires")
        .put_expiring(b"b", 2_000, b"lasts")
        .put_expiring(b"large", 10, &large);
    commit_as_of(&tree, &batch, at(20));
    assert_eq!(tree.view().state().entry_count(), 4);
    // In the batch what has expired deletes; in the tree it is left out with its large value.
    let batch = Batch::default()
        .put_expiring(b"c", 500, b"expires")
        .put(b"d", 3_000, b"new");
    let state = commit_as_of(&tree, &batch, at(10 + TTL_US + 500));
    let model = scan(&tree, &tree.view(), b"");
    let keys: Vec<_> = model.keys().map(Vec::as_slice).collect();
    assert_eq!(keys, [b"b", b"d"]);
    assert_eq!(verified(&tree).damages, vec![]);
    assert_eq!(state.entry_count(), 2);
    let unaged = Batch::default().put(b"e", 4_000, b"new");
    commit(&tree, &unaged);
    assert_eq!(
        scan(&tree, &tree.view(), b"").len(),
        3,
        "a batch without a time ages nothing"
    );
}

#[test]
fn a_leaf_whose_expiring_entries_do_not_say_when_is_refused() {
    let fences = Fences {
        lower: b"",
        upper: None,
    };
    let open = |flags: EntryFlags, value: Vec<u8>| {
        let row = (b"key".to_vec(), 1, flags, value);
        let mut image = leaf_image(&[row], fences);
        let reference = seal(&mut image, OWNER, 7);
        opened(image, reference, 0).map(drop)
    };
    let large = EntryFlags::EXPIRING.with(EntryFlags::OVERFLOW);
    assert_eq!(open(EntryFlags::EXPIRING, expiring(b"")), Ok(()));
    assert_eq!(open(large, expiring(&[1; 16])), Ok(()));
    for (flags, value) in [
        (EntryFlags::EXPIRING, Vec::new()),
        (EntryFlags::EXPIRING, vec![1; 7]),
        (EntryFlags::EXPIRING, vec![0; 20]),
        (large, vec![1; 16]),
        (large, expiring(&[1; 15])),
        (large, expiring(&[1; 17])),
        (EntryFlags::OVERFLOW, expiring(&[1; 16])),
    ] {
        assert!(open(flags, value.clone()).is_err(), "{flags:?} {value:?}");
    }
}
