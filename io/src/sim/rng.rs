//! The only source of chance in the simulated world: a small seeded generator, one stream a
//! purpose.
//!
//! # Algorithm
//! xoshiro256** by Blackman and Vigna ("Scrambled Linear Pseudorandom Number Generators", 2018),
//! whose state is filled by splitmix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
//! Generators", 2014), as its authors advise. Not for secrets.
//!
//! Every purpose draws from a stream of its own, so that a draw more in one of them leaves all the
//! others as they were, and a seed keeps its meaning while the code around it grows.

use crate::{to_u64, to_usize};

/// One million: rates are integers in parts of it, so that no rounding can differ.
pub const PPM: u32 = 1_000_000;

/// A seeded generator of pseudo-random numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// Starts the stream that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        let mut mixer = seed;
        Self {
            state: std::array::from_fn(|_| splitmix64(&mut mixer)),
        }
    }

    /// Starts the stream that belongs to `seed` and a purpose, independent of every other purpose.
    pub fn stream(seed: u64, purpose: u64) -> Self {
        let mut mixer = purpose;
        Self::new(seed ^ splitmix64(&mut mixer))
    }

    /// The next sixty-four bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let [s0, s1, s2, s3] = &mut self.state;
        let result = s1.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *s1 << 17;
        *s2 ^= *s0;
        *s3 ^= *s1;
        *s1 ^= *s2;
        *s0 ^= *s3;
        *s2 ^= shifted;
        *s3 = s3.rotate_left(45);
        result
    }

    /// A number below `bound`, or zero when `bound` is zero.
    ///
    /// Multiply and shift: the bias is below `bound / 2^64`, which no simulation can notice.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        (wide >> 64) as u64
    }

    /// An index below `len`, or zero when `len` is zero.
    #[inline]
    pub fn index(&mut self, len: usize) -> usize {
        to_usize(self.below(to_u64(len)))
    }

    /// True in `rate_ppm` cases of a million.
    #[inline]
    pub fn chance(&mut self, rate_ppm: u32) -> bool {
        self.below(u64::from(PPM)) < u64::from(rate_ppm)
    }

    /// True in half of the cases.
    #[inline]
    pub fn coin(&mut self) -> bool {
        self.next_u64() >> 63 == 1
    }

    /// One of `choices`, which must not be empty.
    #[inline]
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// Fills `bytes` with noise.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let noise = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&noise[..chunk.len()]);
        }
    }
}

/// One step of splitmix64.
fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of splitmix64 from state 1234567, as its authors publish them.
    #[test]
    fn splitmix64_agrees_with_its_published_vector() {
        let mut state = 1_234_567;
        let found: [u64; 3] = std::array::from_fn(|_| splitmix64(&mut state));
        assert_eq!(
            found,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    /// The first outputs of xoshiro256** from state 1, 2, 3, 4, as the reference program gives
    /// them.
    #[test]
    fn xoshiro_agrees_with_its_published_vector() {
        let mut rng = Rng {
            state: [1, 2, 3, 4],
        };
        let found: [u64; 4] = std::array::from_fn(|_| rng.next_u64());
        assert_eq!(found, [11_520, 0, 1_509_978_240, 1_215_971_899_390_074_240]);
    }

    #[test]
    fn streams_of_one_seed_differ() {
        assert_ne!(Rng::stream(7, 1).next_u64(), Rng::stream(7, 2).next_u64());
        assert_eq!(Rng::stream(7, 1).next_u64(), Rng::stream(7, 1).next_u64());
    }

    #[test]
    fn draws_stay_in_range_and_reach_both_ends() {
        let mut rng = Rng::new(3);
        let drawn: Vec<u64> = (0..1000).map(|_| rng.below(4)).collect();
        assert!((0..4).all(|value| drawn.contains(&value)));
        assert!(drawn.iter().all(|&value| value < 4));
        assert!(!rng.chance(0));
        assert!(rng.chance(PPM));
        assert_eq!(rng.below(0), 0);
    }
}
