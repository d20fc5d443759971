//! The filter of a run: a set of keys that may say yes too often, and never no wrongly.
//!
//! # On-disk layout
//! The content of a blob: blocks of 32 bytes, each eight little-endian words of 32 bits.
//!
//! # Algorithm
//! A split-block Bloom filter: the upper half of a key's hash chooses a block, the lower half one
//! bit in each of the block's eight words. So a lookup touches one half of a cache line.
//! Sources: Putze, Sanders and Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007;
//! the multipliers are those of the Parquet format, which are odd and random.

use lightning_io::{to_u64, to_usize};

use super::wire::u32_at;

const BLOCK_BYTES: usize = 32;
const WORDS: usize = 8;

/// Bits a key: about one wrong yes in a hundred.
const BITS_PER_KEY: usize = 11;

/// The longest filter: a reference to a blob has 32 bits for its length, and a run of so many keys
/// is far above what is merged into one.
const BYTES_MAX: usize = 1 << 30;

const MULTIPLIERS: [u32; WORDS] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

/// The hash by which a filter knows a key: xxHash3 of its stored form, with 64 bits and no seed.
#[inline]
pub(crate) fn hash_of(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// A filter in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    blocks: Vec<[u32; WORDS]>,
}

impl Filter {
    /// An empty filter for about so many keys.
    pub(super) fn for_keys(count: u64) -> Self {
        let bits = to_usize(count).saturating_mul(BITS_PER_KEY);
        let bytes = (bits / 8).min(BYTES_MAX);
        Self {
            blocks: vec![[0; WORDS]; bytes.div_ceil(BLOCK_BYTES).max(1)],
        }
    }

    fn block_of(&self, hash: u64) -> usize {
        // The product's upper half is uniform over the blocks: Lemire, "Fast Random Integer
        // Generation in an Interval", 2019.
        to_usize(((hash >> 32) * to_u64(self.blocks.len())) >> 32)
    }

    fn bits(hash: u64) -> [u32; WORDS] {
        let low = u32::from_le_bytes(hash.to_le_bytes()[..4].try_into().expect("half of a word"));
        MULTIPLIERS.map(|multiplier| 1 << (low.wrapping_mul(multiplier) >> 27))
    }

    /// Adds a key by its hash.
    pub(super) fn insert(&mut self, hash: u64) {
        let block = self.block_of(hash);
        for (word, bit) in self.blocks[block].iter_mut().zip(Self::bits(hash)) {
            *word |= bit;
        }
    }

    /// Whether a key may have been added.
    #[inline]
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        let block = &self.blocks[self.block_of(hash)];
        let missing = block.iter().zip(Self::bits(hash));
        missing.fold(0, |missing, (word, bit)| missing | (!word & bit)) == 0
    }

    /// The memory that it takes.
    pub(super) fn size_bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    /// Writes the bytes from `start` on, a multiple of a word, into `piece`.
    pub(super) fn write_piece(&self, start: usize, piece: &mut [u8]) {
        let words = self.blocks.as_flattened();
        for (bytes, word) in piece.chunks_exact_mut(4).zip(&words[start / 4..]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }

    /// Reads the content of a filter's blob.
    ///
    /// # Errors
    /// When it is not whole blocks.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (blocks, rest) = bytes.as_chunks::<BLOCK_BYTES>();
        if blocks.is_empty() || !rest.is_empty() {
            return Err(format!("a filter of {} bytes", bytes.len()));
        }
        let words = |block: &[u8; BLOCK_BYTES]| std::array::from_fn(|at| u32_at(block, at * 4));
        Ok(Self {
            blocks: blocks.iter().map(words).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> u64 {
        hash_of(format!("key {number}").as_bytes())
    }

    #[test]
    fn every_key_is_found_and_few_others_are() {
        let mut filter = Filter::for_keys(20_000);
        (0..20_000).for_each(|number| filter.insert(key(number)));
        assert!((0..20_000).all(|number| filter.may_contain(key(number))));
        let wrong = (20_000..120_000).filter(|&number| filter.may_contain(key(number)));
        let wrong = wrong.count();
        assert!(wrong < 1_500, "{wrong} of 100,000 absent keys");
    }

    #[test]
    fn a_filter_survives_in_pieces_and_half_a_block_is_refused() {
        let mut filter = Filter::for_keys(1000);
        (0..1000).for_each(|number| filter.insert(key(number)));
        let mut bytes = vec![0; filter.size_bytes()];
        let (first, second) = bytes.split_at_mut(64);
        filter.write_piece(0, first);
        filter.write_piece(64, second);
        assert_eq!(Filter::from_bytes(&bytes), Ok(filter));
        assert!(Filter::from_bytes(&bytes[..33]).is_err());
        assert!(Filter::from_bytes(&[]).is_err());
    }

    #[test]
    fn the_bits_are_the_documented_ones() {
        let mut filter = Filter::for_keys(1);
        filter.insert(0x0123_4567_89ab_cdef);
        let mut bytes = [0; BLOCK_BYTES];
        filter.write_piece(0, &mut bytes);
        let ones: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
        assert_eq!(ones, 8);
        // The first is a published value of the algorithm.
        assert_eq!(hash_of(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(hash_of(b"alpha"), 0xbe69_03b5_f625_ab5a);
    }
}
