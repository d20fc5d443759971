//! Random batches against a `BTreeMap`.

use super::compression::SETTINGS;
use super::*;

/// What a run of random batches looks like.
struct Shape {
    seed: u64,
    config: TreeConfig,
    rounds: usize,
    batch: usize,
    keys: usize,
    /// The longest padding of a key and the longest value.
    key_bytes: usize,
    value_bytes: usize,
}

impl Shape {
    fn key(&self, random: &mut Random) -> Vec<u8> {
        let number = random.below(self.keys);
        // Padding in the middle makes keys that share much and differ late.
        let padding = if number.is_multiple_of(7) {
            number % (self.key_bytes + 1)
        } else {
            0
        };
        let mut key = vec![b'k'; padding];
        key.extend_from_slice(format!("{number:08}").as_bytes());
        key.truncate(65_540);
        key
    }

    fn batch(&self, random: &mut Random, clock: &mut u64) -> Batch {
        let mut batch = Batch::default();
        // Some rounds mostly delete, so that pages empty and levels vanish; some touch one spot.
        let deletes_of_ten = [1, 3, 9][random.below(3)];
        for _ in 0..=random.below(self.batch) {
            let key = self.key(random);
            *clock += 1;
            if random.below(10) < deletes_of_ten {
                batch = batch.delete(&key, *clock);
            } else {
                let len = match random.below(20) {
                    0 => random.below(self.value_bytes + 1),
                    1 => 0,
                    _ => random.below(64),
                };
                batch = batch.put(&key, *clock, &vec![u8::try_from(len % 251).unwrap(); len]);
            }
        }
        batch.sorted()
    }

    fn run(&self) {
        let env = TestEnv::default();
        let mut random = Random(self.seed);
        let (mut tree, _) = create(&env, self.config);
        let (mut model, mut clock) = (Model::new(), 0);
        for round in 0..self.rounds {
            let batch = self.batch(&mut random, &mut clock);
            batch.apply_to(&mut model);
            let state = commit(&tree, &batch);
            assert_holds(&tree, &model);
            let from = self.key(&mut random);
            let rest: Model = model.range(from.clone()..).map(own).collect();
            assert!(
                scan(&tree, &tree.view(), &from) == rest,
                "seek in round {round}"
            );
            let below: Model = model.range(..from.clone()).map(own).collect();
            assert!(
                walk(&tree, &tree.view(), &from, Direction::Reverse) == below,
                "seek in reverse in round {round}"
            );
            if random.below(3) == 0 {
                drop(tree);
                tree = open(&env, self.config, &state).unwrap();
                assert_holds(&tree, &model);
            }
        }
        // Everything goes, and comes back.
        let all = model
            .keys()
            .fold(Batch::default(), |batch, key| batch.delete(key, u64::MAX));
        let state = commit(&tree, &all);
        assert_eq!((state.height(), state.live_bytes()), (0, 0));
        assert_holds(&tree, &Model::new());
    }
}

fn own((key, value): (&Vec<u8>, &(u64, Vec<u8>))) -> (Vec<u8>, (u64, Vec<u8>)) {
    (key.clone(), value.clone())
}

#[test]
fn small_pages_agree_with_a_map() {
    for seed in 1..6 {
        Shape {
            seed,
            config: config(4096, 1 << 20),
            rounds: 25,
            batch: 1500,
            keys: 4000,
            key_bytes: 40,
            value_bytes: 3000,
        }
        .run();
    }
}

#[test]
fn compressed_pages_agree_with_a_map() {
    for (compression, seed) in SETTINGS.into_iter().zip(200..) {
        Shape {
            seed,
            config: TreeConfig {
                compression,
                ..config(16 << 10, 1 << 20)
            },
            rounds: 8,
            batch: 3000,
            keys: 8000,
            key_bytes: 300,
            value_bytes: 6000,
        }
        .run();
    }
}

#[test]
fn many_small_batches_agree_with_a_map() {
    Shape {
        seed: 77,
        config: config(4096, 1 << 20),
        rounds: 150,
        batch: 25,
        keys: 1500,
        key_bytes: 300,
        value_bytes: 1500,
    }
    .run();
}

#[test]
fn a_cache_of_a_few_pages_is_enough() {
    Shape {
        seed: 11,
        config: config(4096, 3 * 4096),
        rounds: 12,
        batch: 800,
        keys: 3000,
        key_bytes: 100,
        value_bytes: 9000,
    }
    .run();
}

#[test]
fn keys_of_64_kib_fit_pages_of_4_kib() {
    Shape {
        seed: 21,
        config: config(4096, 1 << 20),
        rounds: 12,
        batch: 120,
        keys: 400 * 7 * 233,
        key_bytes: 65_532,
        value_bytes: 5000,
    }
    .run();
}

#[test]
fn large_pages_agree_with_a_map() {
    Shape {
        seed: 31,
        config: config(64 << 10, 4 << 20),
        rounds: 12,
        batch: 3000,
        keys: 20_000,
        key_bytes: 30,
        value_bytes: 40_000,
    }
    .run();
}

#[test]
fn values_of_several_pieces_survive() {
    let env = TestEnv::default();
    let config = config(16 << 10, 1 << 20);
    let (tree, _) = create(&env, config);
    let value = |len: usize| -> Vec<u8> { (0..=252u8).cycle().take(len).collect() };
    let piece = super::super::blob::PIECE_BYTES;
    let mut model = Model::new();
    let lengths = [
        piece - 64,
        piece - 63,
        piece,
        3 * piece + 17,
        5000,
        4096,
        4097,
    ];
    let batch = lengths
        .iter()
        .zip(0u64..)
        .fold(Batch::default(), |batch, (&len, number)| {
            batch.put(format!("{number}").as_bytes(), 1 + number, &value(len))
        });
    batch.apply_to(&mut model);
    let state = commit(&tree, &batch);
    assert_holds(&tree, &model);
    let tree = open(&env, config, &state).unwrap();
    assert_holds(&tree, &model);
    assert_eq!(verified(&tree).large_values, 6);
}

#[test]
fn a_sequential_load_fills_its_pages() {
    let env = TestEnv::default();
    let (tree, _) = create(&env, config(16 << 10, 1 << 20));
    let batch = (0..40_000u64).fold(Batch::default(), |batch, number| {
        batch.put(format!("user{number:012}").as_bytes(), 1, &[7; 100])
    });
    let state = commit(&tree, &batch);
    let report = verified(&tree);
    assert_eq!(report.damages, vec![]);
    let net = 40_000 * 128;
    assert!(
        state.live_bytes() < net * 115 / 100,
        "{} bytes",
        state.live_bytes()
    );
    // Adjacent pages went out together.
    let writes = env.plan.writes.borrow();
    assert!(writes.len() < 20, "{} writes", writes.len());
}

#[test]
fn scattered_updates_keep_pages_filled_and_reuse_space() {
    let env = TestEnv::default();
    let (tree, _) = create(&env, config(4096, 1 << 20));
    let key = |number: usize| format!("{number:08}").into_bytes();
    let load = (0..20_000).fold(Batch::default(), |batch, number| {
        batch.put(&key(number), 1, &[1; 60])
    });
    commit(&tree, &load);
    let mut random = Random(9);
    for round in 2..60u64 {
        let mut batch = Batch::default();
        for _ in 0..300 {
            let number = random.below(20_000);
            batch = if round % 2 == 0 {
                batch.delete(&key(number), round)
            } else {
                batch.put(&key(number), round, &[2; 60])
            };
        }
        commit(&tree, &batch.sorted());
    }
    let report = verified(&tree);
    assert_eq!(report.damages, vec![]);
    let stats = tree.stats();
    let net = stats.entries * 96;
    assert!(stats.live_bytes < net * 2, "{} for {net}", stats.live_bytes);
    assert!(stats.file_bytes < 3 * stats.live_bytes, "{stats:?}");
}

#[test]
fn the_newest_version_of_a_batch_wins_and_an_older_batch_changes_nothing() {
    let env = TestEnv::default();
    let (tree, _) = create(&env, config(4096, 1 << 20));
    commit(
        &tree,
        &Batch::default()
            .put(b"a", 9, b"nine")
            .put(b"a", 3, b"three")
            .put(b"b", 5, b""),
    );
    let stale = Batch::default().put(b"a", 4, b"four").delete(b"b", 4);
    commit(&tree, &stale);
    let mut model = Model::new();
    model.insert(b"a".to_vec(), (9, b"nine".to_vec()));
    model.insert(b"b".to_vec(), (5, Vec::new()));
    assert_holds(&tree, &model);
    let view = tree.view();
    assert!(
        block_on(tree.get(&view, b"a", Timestamp(8)))
            .unwrap()
            .is_none()
    );
    assert!(
        block_on(tree.get(&view, b"a", Timestamp(9)))
            .unwrap()
            .is_some()
    );
    assert!(is_cached(
        &tree.try_get(&view, b"a", Timestamp::MAX).unwrap()
    ));
    assert!(matches!(
        tree.try_get(&view, b"c", Timestamp::MAX),
        Ok(Lookup::Absent)
    ));
}

fn numbered(number: usize) -> Vec<u8> {
    format!("{number:08}").into_bytes()
}

/// Six thousand keys in leaves of about forty, three levels.
fn three_levels(env: &TestEnv) -> (Tree<TestEnv>, Model) {
    let (tree, _) = create(env, config(4096, 1 << 20));
    let load = (0..6000).fold(Batch::default(), |batch, number| {
        batch.put(&numbered(number), 1, &[1; 60])
    });
    let mut model = Model::new();
    load.apply_to(&mut model);
    let state = commit(&tree, &load);
    assert_eq!(state.height(), 3);
    (tree, model)
}

#[test]
fn ranges_that_vanish_leave_no_gap() {
    let env = TestEnv::default();
    for seed in 0..12 {
        let mut random = Random(seed);
        let (tree, mut model) = three_levels(&env);
        for timestamp in 2..12 {
            let len = [30, 100, 700, 3000][random.below(4)];
            // The edges of the tree more often than chance would have it.
            let from = [0, 6000 - len, random.below(6000 - len)][random.below(3)];
            let range = from..from + len;
            let batch = range.fold(Batch::default(), |batch, number| {
                batch.delete(&numbered(number), timestamp)
            });
            batch.apply_to(&mut model);
            commit(&tree, &batch);
            assert_holds(&tree, &model);
        }
    }
}

#[test]
fn leaves_thinned_out_one_by_one_join_their_neighbours() {
    let env = TestEnv::default();
    for backwards in [false, true] {
        let (tree, mut model) = three_levels(&env);
        for step in 0..150 {
            let first = 40 * if backwards { 149 - step } else { step };
            let batch = (first + 1..first + 40).fold(Batch::default(), |batch, number| {
                batch.delete(&numbered(number), 2)
            });
            batch.apply_to(&mut model);
            commit(&tree, &batch);
        }
        assert_holds(&tree, &model);
        let report = verified(&tree);
        assert!(
            report.leaves <= 12,
            "{} leaves for 150 entries",
            report.leaves
        );
    }
}

#[test]
fn a_last_leaf_that_shrinks_joins_the_one_before_it() {
    let env = TestEnv::default();
    let (tree, mut model) = three_levels(&env);
    let before = verified(&tree).leaves;
    // From the end down, one entry a batch: the last leaf gets thin over and over.
    for number in (5900..6000).rev() {
        let batch = Batch::default().delete(&numbered(number), 2);
        batch.apply_to(&mut model);
        commit(&tree, &batch);
        let state = *tree.view().state();
        let mut last = state.base.page;
        for level in (0..state.height()).rev() {
            let page = block_on(tree.shared.store.read_page(last, level)).unwrap();
            if level == 0 {
                assert!(page.leaf().count() >= 8, "{} entries", page.leaf().count());
            } else {
                last = page.inner().child(page.inner().count() - 1);
            }
        }
    }
    assert_holds(&tree, &model);
    assert!(verified(&tree).leaves < before);
}
