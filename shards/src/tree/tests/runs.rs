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
    let update = block_on(tree.merge_step(step, Timestamp::ZERO)).unwrap();
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
                        let update = block_on(tree.merge_step(&step, Timestamp::ZERO)).unwrap();
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
        let below = model.range(..from.clone());
        let below: Model = below
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let seen = walk(&tree, &tree.view(), &from, Direction::Reverse);
        assert!(seen == below, "seek in reverse");
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

/// Three runs over a base: of every key an older version, a deletion or a large value somewhere.
fn layered() -> (TestEnv, TreeState, Model) {
    let env = TestEnv::default();
    let (tree, mut state) = create(&env, CONFIG);
    let mut model = Model::new();
    for layer in 0..4_u64 {
        let mut batch = Batch::default();
        for number in 0..400_usize {
            let timestamp = layer * 1000 + number as u64 + 1;
            let len = if number % 13 == 0 { 3000 } else { 60 };
            let value = vec![u8::try_from(layer).unwrap(); len];
            batch = match (number + 7 * usize::try_from(layer).unwrap()) % 4 {
                0 | 1 => batch.put(&key(number), timestamp, &value),
                2 => batch.delete(&key(number), timestamp),
                _ => batch,
            };
        }
        let batch = batch.sorted();
        batch.apply_to(&mut model);
        state = if layer == 0 {
            commit(&tree, &batch)
        } else {
            flush(&tree, &batch)
        };
    }
    assert_holds(&tree, &model);
    (env, state, model)
}

/// Merges step by step, each by another process; a step that is cut off before its superblock
/// leaves everything as it was.
fn merged_by_many(target: MergeTarget, phase: Phase) -> (TestEnv, TreeState, Model) {
    let (env, mut state, model) = layered();
    let mut steps = 0;
    loop {
        let tree = open(&env, CONFIG, &state).unwrap();
        assert_holds(&tree, &model);
        let begun = places(&tree, |run| run.phase == phase);
        if begun.is_empty() && steps > 0 {
            assert!(steps > 5, "{steps} steps");
            return (env, state, model);
        }
        let inputs = if begun.is_empty() { 0..3 } else { begun };
        let step = step(target, inputs, 2000);
        drop(block_on(tree.merge_step(&step, Timestamp::ZERO)).unwrap());
        let tree = open(&env, CONFIG, &state).unwrap();
        assert_holds(&tree, &model);
        state = merge(&tree, &step);
        assert_holds(&tree, &model);
        steps += 1;
    }
}

#[test]
fn a_merge_into_the_base_is_taken_up_at_every_step() {
    let (env, state, model) = merged_by_many(MergeTarget::Base, Phase::IntoBase);
    let tree = open(&env, CONFIG, &state).unwrap();
    assert!(runs(&tree).is_empty());
    assert_eq!(state.entry_count(), model.len() as u64);
    let stats = tree.stats();
    assert_eq!(stats.used_bytes, stats.live_bytes + 2 * 4096);
}

#[test]
fn a_merge_into_a_run_is_taken_up_at_every_step_and_keeps_deletions() {
    let (env, state, model) = merged_by_many(MergeTarget::Run, Phase::IntoRun);
    let tree = open(&env, CONFIG, &state).unwrap();
    let runs = runs(&tree);
    assert_eq!(runs.len(), 1);
    assert_eq!((runs[0].tier, runs[0].phase), (1, Phase::Whole));
    // Made again by each process, and complete all the same: the verifier asks it for every key.
    assert!(!runs[0].filter.is_none());
    let deleted = (0..400).map(key).filter(|key| !model.contains_key(key));
    assert!(deleted.count() > 50);
    assert_holds(&tree, &model);
}

#[test]
fn a_view_keeps_the_inputs_of_a_merge_that_is_over() {
    let (env, state, model) = layered();
    let tree = open(&env, CONFIG, &state).unwrap();
    let view = tree.view();
    merge(&tree, &step(MergeTarget::Base, 0..3, usize::MAX));
    assert!(runs(&tree).is_empty());
    let all = (0..400).fold(Batch::default(), |batch, number| {
        batch.delete(&key(number), 9000)
    });
    commit(&tree, &all);
    assert!(scan(&tree, &view, b"") == model);
    let used = tree.stats().used_bytes;
    drop(view);
    commit(&tree, &Batch::default().put(b"key", 9001, b""));
    assert!(tree.stats().used_bytes < used / 10);
}

#[test]
fn a_damaged_filter_costs_reads_and_no_answers() {
    let (env, state, model) = layered();
    let tree = open(&env, CONFIG, &state).unwrap();
    let filter = runs(&tree)[1].filter;
    let at = lightning_io::to_usize(filter.unit) * 4096 + 70;
    env.bytes(path()).borrow_mut()[at] ^= 4;
    let view = tree.view();
    for (key, (timestamp, _)) in &model {
        let found = block_on(tree.get(&view, key, Timestamp::MAX)).unwrap();
        assert_eq!(found.map(|found| found.timestamp.0), Some(*timestamp));
    }
    let report = verified(&tree);
    assert_eq!(report.damages.len(), 1);
    assert_eq!(report.damages[0].place.offset, filter.unit * 4096);
}

#[test]
fn filters_take_their_memory_off_the_page_cache() {
    let (env, state, _) = layered();
    let config = TreeConfig {
        cache_bytes: 64 << 10,
        ..CONFIG
    };
    let tree = open(&env, config, &state).unwrap();
    let view = tree.view();
    let probe = |tree: &Tree<TestEnv>| {
        for number in 0..400 {
            block_on(tree.get(&view, &key(number), Timestamp::MAX)).unwrap();
        }
        tree.stats().cache.bytes
    };
    let bytes = probe(&tree);
    let filters: usize = runs(&tree)
        .iter()
        .filter_map(|run| run.resident.get()?.as_ref())
        .map(super::super::filter::Filter::size_bytes)
        .sum();
    assert!(filters > 500, "{filters}");
    assert!(bytes <= (64 << 10) - filters, "{bytes} and {filters}");
}

#[test]
fn a_scan_reads_no_run_before_it_comes_to_its_keys() {
    let env = TestEnv::default();
    let (tree, _) = create(&env, CONFIG);
    let (mut model, mut state) = (Model::new(), None);
    for run in 0..6_usize {
        let keys = (0..200).map(|number| key(run * 1000 + number));
        let batch = keys.fold(Batch::default(), |batch, key| batch.put(&key, 1, &[1; 90]));
        batch.apply_to(&mut model);
        state = Some(flush(&tree, &batch));
    }
    let tree = open(&env, CONFIG, &state.unwrap()).unwrap();
    let view = tree.view();
    for direction in [Direction::Forward, Direction::Reverse] {
        let mut cursor = tree.cursor(&view, direction);
        block_on(cursor.seek(&key(2100))).unwrap();
        assert!(cursor.peek().is_some());
    }
    // The root of one run, and a leaf for each direction.
    assert!(tree.stats().cache.pages <= 3);
    assert_holds(&tree, &model);
}
