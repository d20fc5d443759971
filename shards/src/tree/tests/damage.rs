//! Bytes on disk that are not what was written there.

use std::collections::BTreeSet;

use super::super::blob::BlobKind;
use super::*;
use crate::tree::address::UNIT_BYTES;
use crate::tree::{PageRef, TreeView};
use crate::{Corruption, Error};

const CONFIG: TreeConfig = TreeConfig {
    page_bytes: 4096,
    cache_bytes: 1 << 20,
    compression: Compression::None,
};

/// Two levels and a large value, small enough to damage every byte of.
fn small_tree() -> (TestEnv, TreeState, Model) {
    let env = TestEnv::default();
    let (tree, _) = create(&env, CONFIG);
    let mut model = Model::new();
    let batch = (0..120).fold(Batch::default(), |batch, number| {
        let len = if number == 60 { 5000 } else { 40 };
        batch.put(format!("key{number:04}").as_bytes(), 1, &vec![3; len])
    });
    batch.apply_to(&mut model);
    let state = commit(&tree, &batch);
    assert!(state.height() == 2);
    (env, state, model)
}

fn damage_of(error: Error) -> Corruption {
    match error {
        Error::Corruption(corruption) => *corruption,
        other => panic!("not a corruption: {other}"),
    }
}

/// Reads every key; returns those that are damaged and checks that the others are right.
fn read_all(tree: &Tree<TestEnv>, model: &Model) -> Vec<(Vec<u8>, Corruption)> {
    let view = tree.view();
    let mut damaged = Vec::new();
    for (key, (_, value)) in model {
        let found = block_on(async {
            let found = tree.get(&view, key, Timestamp::MAX).await?;
            tree.load(&found.expect("never absent for damage")).await
        });
        match found {
            Ok(found) => assert!(found == value.as_slice(), "a wrong answer"),
            Err(error) => damaged.push((key.clone(), damage_of(error))),
        }
    }
    damaged
}

/// The live units, in order; the state says how many there are.
fn live_units(env: &TestEnv, state: &TreeState) -> Vec<usize> {
    let tree = open(env, CONFIG, state).unwrap();
    let space = tree.shared.store.space.borrow();
    let extent = |unit| super::super::address::Extent { unit, units: 1 };
    let live: Vec<usize> = (0..space.file_units())
        .filter(|&unit| space.used().contains(extent(unit)))
        .map(lightning_io::to_usize)
        .collect();
    assert_eq!(live.len() as u64 * 4096, state.live_bytes() + 2 * 4096);
    live
}

/// Flips one bit and looks what open, the verifier and every read say about it.
fn flip(env: &TestEnv, state: &TreeState, model: &Model, at: usize) -> Vec<Vec<u8>> {
    let bytes = env.bytes(path());
    bytes.borrow_mut()[at] ^= 1 << (at % 8);
    let mut keys = Vec::new();
    match open(env, CONFIG, state) {
        Err(error) => assert_eq!(damage_of(error).place.file, path()),
        Ok(tree) => {
            let report = verified(&tree);
            assert_eq!(report.damages.len(), 1, "byte {at}: {:?}", report.damages);
            let place = &report.damages[0].place;
            assert_eq!(
                (place.file.as_path(), place.shard),
                (path(), Some(OWNER.shard))
            );
            let inside = (at as u64).checked_sub(place.offset);
            assert!(inside.is_some_and(|inside| inside < 3 * 4096));
            let damaged = read_all(&tree, model);
            assert!(!damaged.is_empty());
            check_ranges(&damaged, model);
            keys.extend(damaged.into_iter().map(|(key, _)| key));
        }
    }
    bytes.borrow_mut()[at] ^= 1 << (at % 8);
    keys
}

#[test]
fn a_flipped_bit_anywhere_costs_only_the_keys_that_are_named() {
    let (env, state, model) = small_tree();
    let mut keys_seen = BTreeSet::new();
    for unit in live_units(&env, &state) {
        for at in (unit * UNIT_BYTES..(unit + 1) * UNIT_BYTES).step_by(61) {
            keys_seen.extend(flip(&env, &state, &model, at));
        }
    }
    assert_eq!(keys_seen.len(), model.len());
    assert_holds(&open(&env, CONFIG, &state).unwrap(), &model);
}

#[test]
fn every_flipped_byte_of_every_live_unit_is_found() {
    let (env, state, _) = small_tree();
    let tree = open(&env, CONFIG, &state).unwrap();
    let store = &tree.shared.store;
    let root = state.base.page;
    let mut found = 0;
    let bytes = env.bytes(path());
    let mut each_byte = |start: u64, len: usize, is_damaged: &mut dyn FnMut() -> bool| {
        assert!(!is_damaged());
        let start = lightning_io::to_usize(start);
        for at in start..start + len {
            bytes.borrow_mut()[at] ^= 1 << (at % 8);
            assert!(is_damaged(), "byte {at}");
            bytes.borrow_mut()[at] ^= 1 << (at % 8);
        }
        found += len.div_ceil(UNIT_BYTES);
    };
    let is_damage = |error: Option<Error>| matches!(error, Some(Error::Corruption(_)));
    let mut values = Vec::new();
    let children = root_children(&tree, &tree.view());
    for (page, level) in children
        .into_iter()
        .map(|page| (page, 0))
        .chain([(root, 1)])
    {
        each_byte(page.offset(), page.size_bytes(), &mut || {
            is_damage(block_on(store.read_page(page, level)).err())
        });
        if level == 0 {
            let page = block_on(store.read_page(page, 0)).unwrap();
            let leaf = page.leaf();
            values.extend((0..leaf.count()).filter_map(|at| leaf.entry(at).overflow()));
        }
    }
    let values = values.into_iter().map(|value| (value, BlobKind::Value));
    for (blob, kind) in values.chain([(state.space_map, BlobKind::SpaceMap)]) {
        let extent = blob.extent();
        each_byte(
            extent.unit * 4096,
            lightning_io::to_usize(extent.bytes()),
            &mut || is_damage(block_on(store.read_blob(blob, kind)).err()),
        );
    }
    each_byte(0, UNIT_BYTES, &mut || {
        is_damage(open(&env, CONFIG, &state).err())
    });
    assert_eq!(found, live_units(&env, &state).len());
}

/// The range in a damage covers the keys that cannot be read, and no others.
fn check_ranges(damaged: &[(Vec<u8>, Corruption)], model: &Model) {
    let (from, to) = damaged[0].1.keys.clone().expect("the tree names the keys");
    let covers = |key: &Vec<u8>| {
        from.as_ref().is_none_or(|from| key >= from) && to.as_ref().is_none_or(|to| key < to)
    };
    let expected: Vec<_> = model.keys().filter(|key| covers(key)).collect();
    assert_eq!(
        damaged.iter().map(|(key, _)| key).collect::<Vec<_>>(),
        expected
    );
}

fn root_children(tree: &Tree<TestEnv>, view: &TreeView) -> Vec<PageRef> {
    let root = tree.shared.store.read_page(view.state().base.page, 1);
    let root = block_on(root).unwrap();
    (0..root.inner().count())
        .map(|at| root.inner().child(at))
        .collect()
}

#[test]
fn a_page_in_anothers_place_is_misdirected() {
    let (env, state, _) = small_tree();
    let children = root_children(
        &open(&env, CONFIG, &state).unwrap(),
        &TreeView {
            version: std::rc::Rc::new(super::super::versions::Version {
                state,
                list: super::super::run::RunList::default(),
                flushes: 0,
            }),
        },
    );
    let bytes = env.bytes(path());
    let (from, to) = (children[1], children[2]);
    let (from, to) = (
        lightning_io::to_usize(from.offset()),
        lightning_io::to_usize(to.offset()),
    );
    bytes.borrow_mut().copy_within(from..from + 4096, to);
    let tree = open(&env, CONFIG, &state).unwrap();
    let damages = verified(&tree).damages;
    assert_eq!(damages.len(), 1);
    assert!(damages[0].what.contains("misdirected"), "{}", damages[0]);
    assert_eq!(damages[0].place.offset, to as u64);
}

#[test]
fn a_page_of_another_shard_or_database_is_misdirected() {
    let (env, state, _) = small_tree();
    let tree = open(&env, CONFIG, &state).unwrap();
    let children = root_children(&tree, &tree.view());
    for other in [
        FileOwner {
            shard: ShardId(6),
            ..OWNER
        },
        FileOwner {
            database: DatabaseId([1; 16]),
            ..OWNER
        },
    ] {
        let fork = env.fork();
        let child = children[0];
        let at = lightning_io::to_usize(child.offset());
        let bytes = fork.bytes(path());
        super::super::page::seal(
            &mut bytes.borrow_mut()[at..at + child.size_bytes()],
            other,
            child.unit,
        );
        let damages = verified(&open(&fork, CONFIG, &state).unwrap()).damages;
        assert!(damages[0].what.contains("another owner"), "{}", damages[0]);
        let opened = block_on(Tree::open(&fork, path(), other, CONFIG, &state));
        assert!(matches!(opened, Err(Error::Corruption(_))));
    }
}

#[test]
fn an_older_page_at_its_address_is_stale() {
    let (env, state, _) = small_tree();
    let tree = open(&env, CONFIG, &state).unwrap();
    let child = root_children(&tree, &tree.view())[0];
    let at = lightning_io::to_usize(child.offset());
    let bytes = env.bytes(path());
    {
        // A valid page of the same owner at the same unit, with other contents.
        let mut bytes = bytes.borrow_mut();
        let page = &mut bytes[at..at + child.size_bytes()];
        page[child.size_bytes() - 1] ^= 1;
        super::super::page::seal(page, OWNER, child.unit);
    }
    let damages = verified(&open(&env, CONFIG, &state).unwrap()).damages;
    assert_eq!(damages.len(), 1);
    assert!(damages[0].what.contains("stale"), "{}", damages[0]);
}

#[test]
fn an_update_does_not_spread_damage_and_passes_by_what_it_does_not_touch() {
    let (env, state, mut model) = small_tree();
    let tree = open(&env, CONFIG, &state).unwrap();
    let child = root_children(&tree, &tree.view())[0];
    let at = lightning_io::to_usize(child.offset());
    env.bytes(path()).borrow_mut()[at + 100] ^= 4;
    let before = tree.stats().used_bytes;
    let failed = block_on(tree.apply(&mut Batch::default().put(b"key0001", 9, b"x")));
    let damage = damage_of(failed.unwrap_err());
    assert_eq!(damage.place.offset, at as u64);
    assert!(damage.keys.is_some());
    assert_eq!(tree.stats().used_bytes, before);
    let batch = Batch::default().put(b"key0119", 9, b"x");
    batch.apply_to(&mut model);
    commit(&tree, &batch);
    let damaged = read_all(&tree, &model);
    assert!(!damaged.is_empty() && damaged.len() < model.len());
    check_ranges(&damaged, &model);
}

#[test]
fn a_cursor_goes_on_behind_a_damaged_leaf() {
    let (env, state, model) = small_tree();
    let tree = open(&env, CONFIG, &state).unwrap();
    let child = root_children(&tree, &tree.view())[1];
    env.bytes(path()).borrow_mut()[lightning_io::to_usize(child.offset()) + 9] ^= 1;
    let view = tree.view();
    let mut both = [0; 2];
    for (seen, direction) in both
        .iter_mut()
        .zip([Direction::Forward, Direction::Reverse])
    {
        let mut cursor = tree.cursor(&view, direction);
        if direction == Direction::Reverse {
            block_on(cursor.seek(&[0xff])).unwrap();
        }
        let mut damages = 0;
        while !cursor.is_end() {
            while cursor.peek().is_some() {
                *seen += 1;
                cursor.advance();
            }
            if let Err(error) = block_on(cursor.fill()) {
                damages += 1;
                let (from, to) = damage_of(error).keys.unwrap();
                let behind = match direction {
                    Direction::Forward => to,
                    Direction::Reverse => from,
                };
                block_on(cursor.seek(&behind.unwrap())).unwrap();
            }
        }
        assert_eq!(damages, 1);
        assert!(*seen > 0 && *seen < model.len());
    }
    assert_eq!(both[0], both[1]);
}

#[test]
fn a_file_that_was_cut_off_is_refused_or_reported() {
    let (env, state, _) = small_tree();
    let full = env.bytes(path()).borrow().clone();
    for units in 0..full.len() / UNIT_BYTES {
        *env.bytes(path()).borrow_mut() = full[..units * UNIT_BYTES].to_vec();
        let opened = open(&env, CONFIG, &state);
        assert!(matches!(opened, Err(Error::Corruption(_) | Error::Io(_))));
    }
}

#[test]
fn any_state_at_all_ends_in_an_error_not_in_a_panic() {
    let (env, state, model) = small_tree();
    let mut bytes = [0; TreeState::BYTES];
    state.encode(&mut bytes);
    for bit in 0..TreeState::BYTES * 8 {
        let mut bad = bytes;
        bad[bit / 8] ^= 1 << (bit % 8);
        let Ok(bad) = TreeState::decode(&bad) else {
            continue;
        };
        let Ok(tree) = open(&env, CONFIG, &bad) else {
            continue;
        };
        // Another number of units is another amount of free space, if the file is long enough.
        let harmless = bad.file_units != state.file_units;
        assert!(harmless || !verified(&tree).is_sound(), "bit {bit}");
        let view = tree.view();
        for key in model.keys() {
            drop(block_on(tree.get(&view, key, Timestamp::MAX)));
        }
    }
}
