//! The one function that maps a key to its shard.

use crate::{KeyspaceId, ShardId};

/// Which function a database was created with; stored in its identity, so that it can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Partitioning {
    /// The CRC-32 of keyspace and key, scaled to the number of shards.
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

    /// The shard that owns a key.
    pub fn shard_of(self, keyspace: KeyspaceId, key: &[u8]) -> ShardId {
        let Partitioning::Crc32 = self.partitioning;
        let mut hasher = crc32fast::Hasher::new_with_initial(keyspace.0);
        hasher.update(key);
        // Multiply-shift: the hash as a fraction of 2^32, times the number of shards.
        let scaled = (u64::from(hasher.finalize()) * u64::from(self.shards)) >> 32;
        ShardId(u16::try_from(scaled).expect("a hash below 2^32 scales to below the shard count"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mapping_is_the_one_on_disk() {
        let router = Router::new(8, Partitioning::Crc32);
        let shards: Vec<u16> = [&b""[..], b"a", b"key", b"\0\0\0", b"lightning"]
            .iter()
            .map(|key| router.shard_of(KeyspaceId::DEFAULT, key).0)
            .collect();
        assert_eq!(
            shards, GOLDEN,
            "a changed mapping loses every key of existing databases"
        );
    }

    const GOLDEN: [u16; 5] = [0, 4, 4, 7, 4];

    #[test]
    fn short_sequential_keys_spread_over_all_shards() {
        let router = Router::new(5, Partitioning::Crc32);
        let mut counts = [0_u32; 5];
        for number in 0..10_000 {
            let key = format!("user:{number}");
            counts[router.shard_of(KeyspaceId::DEFAULT, key.as_bytes()).index()] += 1;
        }
        assert!(
            counts.iter().all(|&count| (1_800..2_200).contains(&count)),
            "{counts:?}"
        );
    }
}
