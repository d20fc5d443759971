//! Older views while newer trees are published.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;

fn key(number: usize) -> Vec<u8> {
    format!("key{number:06}").into_bytes()
}

fn round(random: &mut Random, timestamp: u64) -> Batch {
    let mut batch = Batch::default();
    for step in 0..200 {
        let key = key(random.below(2000));
        let len = if random.below(15) == 0 { 3000 } else { 50 };
        let byte = u8::try_from(timestamp % 250).unwrap();
        let timestamp = timestamp * 1000 + step;
        batch = if random.below(3) == 0 {
            batch.delete(&key, timestamp)
        } else {
            batch.put(&key, timestamp, &vec![byte; len])
        };
    }
    batch.sorted()
}

#[test]
fn an_old_view_stays_as_it_was_while_space_is_reused() {
    let env = TestEnv::default();
    // A cache of two pages: what the old views show comes from the file.
    let (tree, _) = create(&env, config(4096, 8192));
    let (mut random, mut model) = (Random(3), Model::new());
    let mut pinned: Vec<(super::super::TreeView, Model)> = Vec::new();
    for timestamp in 1..60 {
        let batch = round(&mut random, timestamp);
        batch.apply_to(&mut model);
        commit(&tree, &batch);
        if timestamp % 5 == 0 {
            pinned.push((tree.view(), model.clone()));
        }
        if pinned.len() > 3 {
            pinned.remove(random.below(3));
        }
        for (view, then) in &pinned {
            assert!(scan(&tree, view, b"") == *then, "a view changed");
        }
        assert_holds(&tree, &model);
    }
    assert!(tree.stats().retired_versions > 0);
    for (view, then) in &pinned {
        let report = block_on(tree.verify(view, &mut |_| {})).unwrap();
        assert_eq!(report.damages, vec![]);
        assert_eq!(report.entries, then.len() as u64);
    }
    drop(pinned);
    commit(&tree, &round(&mut random, 1000));
    let stats = tree.stats();
    assert_eq!(stats.retired_versions, 0);
    let overhead = stats.used_bytes - stats.live_bytes;
    assert_eq!(overhead, 2 * 4096, "the header and the space map");
}

#[test]
fn a_value_outlives_its_view() {
    let env = TestEnv::default();
    let (tree, _) = create(&env, config(4096, 8192));
    let large = vec![9; 20_000];
    commit(
        &tree,
        &Batch::default()
            .put(b"large", 1, &large)
            .put(b"small", 1, b"s"),
    );
    let view = tree.view();
    let value = block_on(tree.get(&view, b"large", Timestamp::MAX))
        .unwrap()
        .unwrap();
    let small = block_on(tree.get(&view, b"small", Timestamp::MAX))
        .unwrap()
        .unwrap();
    drop(view);
    for timestamp in 2..20 {
        let other = vec![u8::try_from(timestamp).unwrap(); 20_000];
        commit(
            &tree,
            &Batch::default()
                .put(b"large", timestamp, &other)
                .delete(b"small", timestamp),
        );
    }
    assert!(value.as_slice().is_none());
    assert!(block_on(tree.load(&value)).unwrap() == large);
    assert_eq!(small.as_slice(), Some(&b"s"[..]));
}

#[test]
fn reads_go_on_while_an_update_is_under_way() {
    let env = TestEnv::default();
    let (tree, _) = create(&env, config(4096, 16 << 10));
    let (mut random, mut model) = (Random(8), Model::new());
    for timestamp in 1..8 {
        let batch = round(&mut random, timestamp);
        batch.apply_to(&mut model);
        commit(&tree, &batch);
    }
    env.plan.yields.set(true);
    let mut batch = round(&mut random, 100);
    let mut after = model.clone();
    batch.apply_to(&mut after);
    let polls = {
        let mut update = pin!(tree.apply(&mut batch));
        let mut context = Context::from_waker(Waker::noop());
        let mut polls = 0;
        loop {
            match update.as_mut().poll(&mut context) {
                Poll::Ready(update) => break tree.publish(update.unwrap()),
                Poll::Pending => polls += 1,
            }
            if polls % 16 == 1 {
                assert!(scan(&tree, &tree.view(), b"") == model);
                let view = tree.view();
                let report = block_on(tree.verify(&view, &mut |_| {})).unwrap();
                assert!(report.is_sound() && !report.is_space_checked);
            }
        }
        polls
    };
    assert!(polls > 30, "the update let others run {polls} times");
    assert_holds(&tree, &after);
}

#[test]
fn a_dropped_update_leaves_the_tree_and_is_free_after_a_restart() {
    let env = TestEnv::default();
    let config = config(4096, 1 << 20);
    let (tree, _) = create(&env, config);
    let (mut random, mut model) = (Random(5), Model::new());
    let batch = round(&mut random, 1);
    batch.apply_to(&mut model);
    commit(&tree, &batch);
    env.plan.yields.set(true);
    let mut dropped = 0;
    'next: for polls in 0.. {
        let mut batch = round(&mut random, 2);
        let mut update = pin!(tree.apply(&mut batch));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..polls {
            if let Poll::Ready(update) = update.as_mut().poll(&mut context) {
                tree.discard(update.unwrap());
                break 'next;
            }
        }
        dropped += 1;
    }
    assert!(dropped > 20, "{dropped} updates were dropped half-way");
    env.plan.yields.set(false);
    assert_holds(&tree, &model);
    let batch = round(&mut random, 3);
    batch.apply_to(&mut model);
    let state = commit(&tree, &batch);
    assert_holds(&tree, &model);
    assert!(tree.stats().used_bytes > tree.stats().live_bytes + 2 * 4096);
    let tree = open(&env, config, &state).unwrap();
    assert_holds(&tree, &model);
    assert_eq!(tree.stats().used_bytes, state.live_bytes() + 2 * 4096);
}

#[test]
fn a_state_that_was_not_published_is_whole_on_disk() {
    // What a restart finds between the sync of the file and that of the superblock, and after it.
    let env = TestEnv::default();
    let config = config(4096, 1 << 20);
    let (tree, mut state) = create(&env, config);
    let (mut random, mut model) = (Random(6), Model::new());
    for timestamp in 1..20 {
        let mut batch = round(&mut random, timestamp);
        let before = model.clone();
        batch.apply_to(&mut model);
        let update = block_on(tree.apply(&mut batch)).unwrap();
        let old = open(&env.fork(), config, &state).unwrap();
        assert_holds(&old, &before);
        state = *update.state();
        let new = open(&env.fork(), config, &state).unwrap();
        assert_holds(&new, &model);
        tree.publish(update);
    }
}

#[test]
fn a_discarded_update_gives_everything_back() {
    let env = TestEnv::default();
    let (tree, _) = create(&env, config(4096, 1 << 20));
    let (mut random, mut model) = (Random(7), Model::new());
    let batch = round(&mut random, 1);
    batch.apply_to(&mut model);
    commit(&tree, &batch);
    let before = tree.stats().used_bytes;
    for timestamp in 2..10 {
        let update = block_on(tree.apply(&mut round(&mut random, timestamp))).unwrap();
        assert!(tree.stats().used_bytes > before);
        tree.discard(update);
        assert_eq!(tree.stats().used_bytes, before);
        assert_holds(&tree, &model);
    }
}

#[test]
#[should_panic(expected = "one update at a time")]
fn a_second_update_at_a_time_is_refused() {
    let env = TestEnv::default();
    let (tree, _) = create(&env, config(4096, 1 << 20));
    let batch = Batch::default().put(b"a", 1, b"1");
    let first = block_on(tree.apply(&mut batch.clone())).unwrap();
    let second = block_on(tree.apply(&mut batch.clone()));
    drop((first, second));
}
