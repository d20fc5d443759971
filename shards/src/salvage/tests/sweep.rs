//! Damage of every kind at random places, by seed.

use lightning_io::sim::Rng;
use lightning_io::{BLOCK_BYTES, to_u64};

use super::build::{Built, ROOT, path};
use super::judge::{judge, salvage_with, template, template_with_runs};
use crate::SalvageConfig;

/// Damages one place of some file, and says what it did.
fn damage(rng: &mut Rng, image: &mut lightning_io::sim::Image) -> String {
    let files: Vec<_> = image
        .list_files()
        .into_iter()
        .filter(|file| !file.ends_with("LOCK"))
        .collect();
    let file = files[rng.index(files.len())].clone();
    let mut bytes = image.read_file(&file).unwrap();
    // Most of a file is free: aim at what is there, most of the time.
    let used: Vec<usize> = (0..bytes.len() / BLOCK_BYTES)
        .filter(|block| {
            bytes[block * BLOCK_BYTES..][..BLOCK_BYTES]
                .iter()
                .any(|&byte| byte != 0)
        })
        .collect();
    let block = if rng.below(5) == 0 || used.is_empty() {
        rng.index(bytes.len() / BLOCK_BYTES)
    } else {
        used[rng.index(used.len())]
    };
    let start = block * BLOCK_BYTES;
    let kind = rng.below(5);
    match kind {
        0 => bytes[start + rng.index(BLOCK_BYTES)] ^= 1 << rng.below(8),
        1 => rng.fill(&mut bytes[start..start + 512]),
        2 => rng.fill(&mut bytes[start..start + BLOCK_BYTES]),
        3 => bytes[start..start + BLOCK_BYTES].fill(0),
        _ => {
            let from = rng.index(bytes.len() / BLOCK_BYTES) * BLOCK_BYTES;
            bytes.copy_within(from..from + BLOCK_BYTES, start);
        }
    }
    image.write_file(&file, &bytes);
    format!("damage {kind} of block {block} of {}", file.display())
}

fn sweep(built: &Built, seeds: std::ops::Range<u64>, damages_max: u64) -> (u64, u64) {
    let (mut whole, mut hurt) = (0, 0);
    for seed in seeds {
        let mut rng = Rng::new(seed);
        let mut image = built.image.clone();
        let damages = 1 + rng.below(damages_max);
        let done: Vec<String> = (0..damages).map(|_| damage(&mut rng, &mut image)).collect();
        let case = format!("seed {seed}: {}", done.join(", "));
        let config = SalvageConfig {
            window_bytes: rng.pick(&[1 << 10, 50 << 10, 1 << 20]),
            batch_bytes: 1 << 12,
        };
        let (contents, report) =
            salvage_with(image, &config).unwrap_or_else(|error| panic!("{case}: {error}"));
        judge(built, &contents, &report, &[], &case);
        let count = if report.is_whole() {
            &mut whole
        } else {
            &mut hurt
        };
        *count += 1;
    }
    (whole, hurt)
}

#[test]
fn any_single_damage_is_contained_and_told() {
    for (built, seeds) in [(template(), 0..200), (template_with_runs(), 200..400)] {
        let (whole, hurt) = sweep(&built, seeds, 1);
        assert!(whole > 25 && hurt > 25, "{whole} {hurt}");
    }
}

#[test]
fn any_bytes_at_all_are_read_without_a_panic() {
    let builts = [template(), template_with_runs()];
    for seed in 0..40 {
        let built = &builts[seed % builts.len()];
        let seed = to_u64(seed);
        let mut rng = Rng::new(seed);
        let mut image = built.image.clone();
        for file in built.image.list_files() {
            if file.ends_with("LOCK") || file == path("DATABASE") || rng.coin() {
                continue;
            }
            let mut bytes = image.read_file(&file).unwrap();
            for _ in 0..rng.below(200) {
                let at = rng.index(bytes.len());
                let end = bytes.len().min(at + rng.index(600));
                rng.fill(&mut bytes[at..end]);
            }
            image.write_file(&file, &bytes);
        }
        let (contents, report) = salvage_with(image, &SalvageConfig::default()).unwrap();
        assert_eq!(
            report.entries(),
            to_u64(contents.len()),
            "seed {seed} of {ROOT}"
        );
    }
}
