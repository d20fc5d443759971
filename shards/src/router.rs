//! The one function that maps a key to its shard.

use crate::ShardId;

/// Which function a database was created with; stored in its identity, so that it can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Partitioning {
    /// The CRC-32 of the stored key, scaled to the number of shards.
    Crc32,
}

impl Partitioning {
    /// The number on disk.
    pub(crate) fn to_byte(self) -> u8 {
        match self {
            Self::Crc32 => 1,
        }
    }

    /// Reads the number on disk.
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        (byte == 1).then_some(Self::Crc32)
    }
}

/// Maps keys to shards for one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Router {
    shards: u16,
    partitioning: Partitioning,
}

impl Router {
    pub(crate) fn new(shards: u16, partitioning: Partitioning) -> Self {
        assert!(shards > 0, "a database has at least one shard");
        Self {
            shards,
            partitioning,
        }
    }

    /// The number of shards.
    pub fn shards(self) -> u16 {
        self.shards
    }

    /// Every shard, in order.
    pub fn all(self) -> impl Iterator<Item = ShardId> {
        (0..self.shards).map(ShardId)
    }

    /// The shard that owns a stored key.
    pub fn shard_of(self, stored_key: &[u8]) -> ShardId {
        if self.shards == 1 {
            return ShardId(0);
        }
        let Partitioning::Crc32 = self.partitioning;
        // Multiply-shift: the hash as a fraction of 2^32, times the number of shards.
        let scaled = (u64::from(crc32fast::hash(stored_key)) * u64::from(self.shards)) >> 32;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the product is below shards * 2^32"
        )]
        ShardId(scaled as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mapping_is_the_one_on_disk() {
        let router = Router::new(8, Partitioning::Crc32);
        let shards: Vec<u16> = [
            &b"\0\0\0\x01a"[..],
            b"\0\0\0\x01b",
            b"key",
            b"\0\0\0",
            b"lightning",
        ]
        .iter()
        .map(|key| router.shard_of(key).0)
        .collect();
        assert_eq!(
            shards, GOLDEN,
            "a changed mapping loses every key of existing databases"
        );
    }

    const GOLDEN: [u16; 5] = [7, 3, 4, 7, 4];

    #[test]
    fn short_sequential_keys_spread_over_all_shards() {
        let router = Router::new(5, Partitioning::Crc32);
        let mut counts = [0_u32; 5];
        for number in 0..10_000 {
            let key = format!("user:{number}");
            counts[router.shard_of(key.as_bytes()).index()] += 1;
        }
        assert!(
            counts.iter().all(|&count| (1_800..2_200).contains(&count)),
            "{counts:?}"
        );
    }
}
