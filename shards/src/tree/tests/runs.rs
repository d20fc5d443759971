//! Runs ahead of the base, and their merges, step by step.

use std::ops::Range;

use super::super::run::{Phase, Run};
use super::super::{MergeStep, MergeTarget, TreeUpdate, TreeView};
use super::*;

const CONFIG: TreeConfig = TreeConfig {
    page_bytes: 4096,
    cache_bytes: 1 << 20,
    compression: Compression::None,
};

fn key(number: usize) -> Vec<u8> {
    format!("key{number:05}").into_bytes()
}

fn publish(tree: &Tree<TestEnv>, update: TreeUpdate) -> TreeState {
    let state = *update.state();
    tree.publish(update);
    state
}

fn flush(tree: &Tree<TestEnv>, batch: &Batch) -> TreeState {
    let keys = batch.entries.len() as u64;
    let update = block_on(tree.apply_as_run(&mut batch.clone(), keys)).unwrap();
    publish(tree, update)
}

fn step(target: MergeTarget, inputs: Range<usize>, bytes_max: usize) -> MergeStep {
    MergeStep {
        target,
        inputs,
        bytes_max,
    }
}

fn merge(tree: &Tree<TestEnv>, step: &MergeStep) -> TreeState {
    let update = block_on(tree.merge_step(step)).unwrap();
    publish(tree, update)
}

fn runs(tree: &Tree<TestEnv>) -> Vec<std::rc::Rc<Run>> {
    tree.view().version.list.runs.clone()
}

fn places(tree: &Tree<TestEnv>, is_wanted: impl Fn(&Run) -> bool) -> Range<usize> {
    let runs = runs(tree);
    let first = runs.iter().position(|run| is_wanted(run));
    let first = first.unwrap_or(runs.len());
    let wanted = runs[first..].iter().take_while(|run| is_wanted(run));
    first..first + wanted.count()
}

/// A step that can be taken now: of the merge under way, or of a new one.
fn any_step(tree: &Tree<TestEnv>, random: &mut Random) -> Option<MergeStep> {
    let bytes_max = 1 + random.below(12_000);
    let whole = |run: &Run| run.phase == Phase::Whole;
    if random.below(2) == 0 {
        let begun = places(tree, |run| run.phase == Phase::IntoBase);
        if !begun.is_empty() {
            return Some(step(MergeTarget::Base, begun, bytes_max));
        }
        let prefix = places(tree, whole);
        let count = prefix.len();
        return (prefix.start == 0 && count > 0)
            .then(|| step(MergeTarget::Base, 0..1 + random.below(count), bytes_max));
    }
    let begun = places(tree, |run| run.phase == Phase::IntoRun);
    if !begun.is_empty() {
        return Some(step(MergeTarget::Run, begun, bytes_max));
    }
    let new = places(tree, |run| whole(run) && run.tier == 0);
    (new.len() > 1).then(|| step(MergeTarget::Run, new, bytes_max))
}

fn assert_absent(tree: &Tree<TestEnv>, view: &TreeView, key: &[u8]) {
    let found = block_on(tree.get(view, key, Timestamp::MAX)).unwrap();
    let is_gone = found.is_none_or(|found| found.flags.contains(EntryFlags::TOMBSTONE));
    assert!(is_gone, "{} is gone", key.escape_ascii());
}

/// What is in memory says the same as what was read.
fn assert_probes(tree: &Tree<TestEnv>, model: &Model, keys: usize) {
    let view = tree.view();
    for number in 0..keys {
        let key = key(number);
        if !model.contains_key(&key) {
            assert_absent(tree, &view, &key);
        }
        match tree.try_get(&view, &key, Timestamp::MAX).unwrap() {
            Lookup::NeedIo => {}
            Lookup::Absent => assert!(!model.contains_key(&key)),
            Lookup::Found(found) => {
                let expected = model.get(&key).map(|(timestamp, _)| *timestamp);
                let found = Some(found).filter(|it| !it.flags.contains(EntryFlags::TOMBSTONE));
                assert_eq!(found.map(|found| found.timestamp.0), expected);
            }
        }
    }
}

fn random_batch(random: &mut Random, clock: &mut u64, keys: usize) -> Batch {
    let mut batch = Batch::default();
    let (count, base) = (1 + random.below(250), random.below(keys));
    let span = 1 + random.below(keys);
    for _ in 0..count {
        *clock += 1;
        let key = key((base + random.below(span)) % keys);
        let len = match random.below(12) {
            0 => 1100 + random.below(9000),
            1 => 0,
            _ => random.below(120),
        };
        let byte = u8::try_from(*clock % 251).unwrap();
        batch = if random.below(4) == 0 {
            batch.delete(&key, *clock)
        } else {
            batch.put(&key, *clock, &vec![byte; len])
        };
    }
    batch.sorted()
}

/// Flushes, steps of merges, restarts and pinned views in any order, against a map.
fn agrees_with_a_map(seed: usize) {
    const KEYS: usize = 600;
    let env = TestEnv::default();
    let (mut tree, mut state) = create(&env, CONFIG);
    let mut random = Random(seed as u64);
    let (mut model, mut clock) = (Model::new(), 0);
    let mut pinned: Vec<(TreeView, Model)> = Vec::new();
    for _ in 0..120 {
        match random.below(10) {
            0 => {
                pinned.clear();
                drop(tree);
                tree = open(&env, CONFIG, &state).unwrap();
            }
            1 => pinned.push((tree.view(), model.clone())),
            2..=4 if runs(&tree).len() < 12 => {
                let batch = random_batch(&mut random, &mut clock, KEYS);
                batch.apply_to(&mut model);
                state = flush(&tree, &batch);
            }
            _ => {
                if let Some(step) = any_step(&tree, &mut random) {
                    if random.below(6) == 0 {
                        let update = block_on(tree.merge_step(&step)).unwrap();
                        tree.discard(update);
                    }
                    state = merge(&tree, &step);
                }
            }
        }
        if pinned.len() > 2 {
            pinned.remove(random.below(2));
        }
        assert_holds(&tree, &model);
        assert_probes(&tree, &model, KEYS);
        let from = key(random.below(KEYS));
        let rest: Model = model
            .range(from.clone()..)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        assert!(scan(&tree, &tree.view(), &from) == rest, "seek");
        for (view, then) in &pinned {
            assert!(scan(&tree, view, b"") == *then, "a view changed");
        }
    }
}

#[test]
fn runs_and_merges_agree_with_a_map() {
    for seed in 0..16 {
        agrees_with_a_map(seed);
    }
}
