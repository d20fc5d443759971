//! Changes of an input that keep most of what makes it interesting.

use std::ops::Range;

use lightning_io::sim::Rng;

/// No input grows beyond this: what is decoded is a page or less, and time goes into many inputs.
pub(crate) const INPUT_BYTES_MAX: usize = 64 << 10;

/// The most bytes that one step moves.
const SPAN_BYTES_MAX: usize = 64;

const NUMBERS: &[u64] = &[
    0,
    1,
    2,
    7,
    0x7f,
    0x80,
    0xff,
    0x100,
    0xfff,
    0x1000,
    0x7fff,
    0xffff,
    0x1_0000,
    0x00ff_ffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 32,
    1 << 40,
    u64::MAX >> 1,
    u64::MAX - 1,
    u64::MAX,
];

/// Changes an input in one to sixteen steps; `other` is there to be spliced in.
pub(crate) fn mutate(input: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    for _ in 0..1 << rng.below(5) {
        step(input, other, rng);
    }
    input.truncate(INPUT_BYTES_MAX);
}

fn step(input: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    if input.is_empty() {
        input.push(rng.next_u64().to_le_bytes()[0]);
    }
    match rng.below(12) {
        0 | 1 => {
            let at = place(input.len(), rng);
            input[at] ^= 1 << rng.below(8);
        }
        2 | 3 => {
            let at = place(input.len(), rng);
            input[at] = rng.next_u64().to_le_bytes()[0];
        }
        4 | 5 => overwrite_number(input, rng),
        6 => {
            let from = span(input.len(), rng);
            let to = place(input.len(), rng).min(input.len() - from.len());
            input.copy_within(from, to);
        }
        7 => {
            let range = span(input.len(), rng);
            let fill = if rng.coin() { 0 } else { 0xff };
            input[range].fill(fill);
        }
        8 => drop(input.drain(span(input.len(), rng))),
        9 => {
            let copy = input[span(input.len(), rng)].to_vec();
            let at = place(input.len() + 1, rng);
            input.splice(at..at, copy);
        }
        10 => {
            let mut noise = vec![0; 1 + rng.index(8)];
            rng.fill(&mut noise);
            let at = place(input.len() + 1, rng);
            input.splice(at..at, noise);
        }
        _ if !other.is_empty() => {
            let piece = other[span(other.len(), rng)].to_vec();
            let at = place(input.len(), rng);
            let end = input.len().min(at + piece.len());
            input.splice(at..end, piece);
        }
        _ => input.truncate(place(input.len(), rng)),
    }
}

/// A place, near the front more often: headers are there.
fn place(len: usize, rng: &mut Rng) -> usize {
    rng.index(len) >> rng.pick(&[0, 0, 0, 3, 5])
}

fn span(len: usize, rng: &mut Rng) -> Range<usize> {
    let start = place(len, rng);
    let count = 1 + rng.index(SPAN_BYTES_MAX.min(len - start));
    start..start + count
}

fn overwrite_number(input: &mut [u8], rng: &mut Rng) {
    let width = rng.pick(&[1, 2, 4, 8]).min(input.len());
    let mut at = place(input.len() - width + 1, rng);
    if rng.coin() {
        at -= at % width;
    }
    let mut bytes = [0; 8];
    bytes[..width].copy_from_slice(&input[at..at + width]);
    let old = u64::from_le_bytes(bytes);
    let new = match rng.below(3) {
        0 => old.wrapping_add(1 + rng.below(16)),
        1 => old.wrapping_sub(1 + rng.below(16)),
        _ => rng.pick(NUMBERS),
    };
    input[at..at + width].copy_from_slice(&new.to_le_bytes()[..width]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_input_can_be_mutated_and_stays_bounded() {
        let mut rng = Rng::new(1);
        for len in [0, 1, 2, 3, 9, 4096, INPUT_BYTES_MAX] {
            let mut input = vec![7; len];
            for _ in 0..2_000 {
                mutate(&mut input, &[1, 2, 3], &mut rng);
                assert!(input.len() <= INPUT_BYTES_MAX);
            }
        }
    }
}
