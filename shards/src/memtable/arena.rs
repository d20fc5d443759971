//! The bump arena: chunks of anonymous memory that are filled from the front and freed together.
//!
//! Chunks double from [`FIRST_CHUNK_BYTES`] to [`CHUNK_BYTES`], so that a memtable of few records
//! stays small and a large one stays on huge pages. An allocation too long to share a chunk gets
//! one of its own, of its own length.

use memmap2::MmapMut;

/// The first chunk: sixteen pages, what a memtable with a handful of records may cost.
const FIRST_CHUNK_BYTES: usize = 64 << 10;

/// Chunks grow to this: two huge pages of 2 MiB, so that the part that is not yet used stays small
/// against a budget of 16 to 32 MiB.
const CHUNK_BYTES: usize = 4 << 20;

/// The longest allocation that shares a chunk. The end of a chunk that is left over because the
/// next allocation does not fit is then below an eighth of it.
const SHARED_BYTES_MAX: usize = CHUNK_BYTES / 8;

/// From here on a chunk asks for huge pages: the length of one.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Allocations begin at multiples of this, so that 32 bits address 32 GiB.
const GRANULE_BYTES: usize = 8;

/// Bits of an address that count granules within a chunk.
const OFFSET_BITS: u32 = (CHUNK_BYTES / GRANULE_BYTES).trailing_zeros();
const OFFSET_MASK: u32 = (1 << OFFSET_BITS) - 1;

/// As many chunks as the other bits of an address can tell apart.
const CHUNKS_MAX: usize = 1 << (u32::BITS - OFFSET_BITS);

/// What the arena takes for certain, whatever the lengths: a full arena consists of chunks that
/// hold more than `SHARED_BYTES_MAX` each, but for the few small ones at the start.
pub(super) const ARENA_BYTES_MIN: usize = (CHUNKS_MAX - 16) * SHARED_BYTES_MAX;

const _: () = assert!(CHUNK_BYTES.is_power_of_two() && FIRST_CHUNK_BYTES.is_power_of_two());
const _: () = assert!((CHUNK_BYTES / FIRST_CHUNK_BYTES).trailing_zeros() < 16);

/// Where an allocation begins: the chunk in the upper bits, granules from its start in the lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address(u32);

impl Address {
    /// No allocation: the last granule of the last chunk, which is too short for a record.
    pub(super) const NONE: Self = Self(u32::MAX);

    /// The address as the records store it.
    pub(super) fn to_u32(self) -> u32 {
        self.0
    }

    /// Reads what [`Address::to_u32`] gave.
    pub(super) fn from_u32(raw: u32) -> Self {
        Self(raw)
    }

    fn chunk(self) -> usize {
        (self.0 >> OFFSET_BITS) as usize
    }

    fn offset(self) -> usize {
        (self.0 & OFFSET_MASK) as usize * GRANULE_BYTES
    }
}

/// Memory that only grows, until it is dropped.
#[derive(Default)]
pub(super) struct Arena {
    chunks: Vec<MmapMut>,
    /// The chunk that shared allocations come from, and how much of it is taken; a full one of
    /// no length before the first allocation.
    current: usize,
    current_used: usize,
    current_bytes: usize,
    /// Bytes handed out, with what rounding to granules adds.
    used_bytes: usize,
}

impl Arena {
    /// Bytes handed out so far.
    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Takes zeroed memory.
    ///
    /// # Panics
    /// When the operating system has no more memory, as every allocation does, or when more than
    /// [`ARENA_BYTES_MIN`] was taken.
    pub(super) fn allocate(&mut self, bytes: usize) -> (Address, &mut [u8]) {
        let length = bytes.next_multiple_of(GRANULE_BYTES);
        self.used_bytes += length;
        let (chunk, start) = if length > SHARED_BYTES_MAX {
            (self.add_chunk(length), 0)
        } else {
            if length > self.current_bytes - self.current_used {
                self.add_shared_chunk(length);
            }
            let start = self.current_used;
            self.current_used += length;
            (self.current, start)
        };
        let chunk_bits = lightning_io::to_u32(chunk) << OFFSET_BITS;
        let address = Address(chunk_bits | lightning_io::to_u32(start / GRANULE_BYTES));
        (address, &mut self.chunks[chunk][start..start + bytes])
    }

    /// The memory from an address to the end of its chunk.
    #[inline]
    pub(super) fn bytes_from(&self, address: Address) -> &[u8] {
        &self.chunks[address.chunk()][address.offset()..]
    }

    fn add_shared_chunk(&mut self, length: usize) {
        let next = (self.current_bytes * 2).clamp(FIRST_CHUNK_BYTES, CHUNK_BYTES);
        self.current_bytes = next.max(length.next_power_of_two());
        self.current = self.add_chunk(self.current_bytes);
        self.current_used = 0;
    }

    fn add_chunk(&mut self, bytes: usize) -> usize {
        let index = self.chunks.len();
        assert!(
            index < CHUNKS_MAX,
            "a memtable was filled far beyond its budget"
        );
        let map = MmapMut::map_anon(bytes).unwrap_or_else(|error| {
            panic!("no memory for {bytes} bytes of a memtable: {error}");
        });
        #[cfg(target_os = "linux")]
        if bytes >= HUGE_PAGE_BYTES
            && let Err(error) = map.advise(memmap2::Advice::HugePage)
        {
            tracing::debug!(%error, "no huge pages for the memtable: lookups will be slower");
        }
        self.chunks.push(map);
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_keep_apart_and_keep_their_bytes() {
        let mut arena = Arena::default();
        let lengths = [
            1,
            7,
            8,
            9,
            100,
            70_000,
            SHARED_BYTES_MAX,
            SHARED_BYTES_MAX + 1,
            24,
        ];
        let mut taken = Vec::new();
        for round in 0..20_u8 {
            for length in lengths {
                let (address, bytes) = arena.allocate(length);
                assert!(bytes.iter().all(|byte| *byte == 0));
                bytes.fill(round + 1);
                taken.push((address, length, round + 1));
            }
        }
        for (address, length, fill) in taken {
            let bytes = &arena.bytes_from(address)[..length];
            assert!(bytes.iter().all(|byte| *byte == fill));
            assert_ne!(address, Address::NONE);
        }
        let rounded: usize = lengths
            .iter()
            .map(|l| l.next_multiple_of(GRANULE_BYTES))
            .sum();
        assert_eq!(arena.used_bytes(), 20 * rounded);
    }

    #[test]
    fn nothing_is_mapped_before_the_first_allocation_and_little_for_a_small_one() {
        let mut arena = Arena::default();
        assert!(arena.chunks.is_empty());
        arena.allocate(10);
        assert_eq!(arena.chunks[0].len(), FIRST_CHUNK_BYTES);
    }

    #[test]
    fn a_long_allocation_leaves_the_shared_chunk_in_use() {
        let mut arena = Arena::default();
        arena.allocate(10);
        arena.allocate(64 << 20);
        arena.allocate(10);
        assert_eq!(arena.chunks.len(), 2);
        assert_eq!(arena.chunks[1].len(), 64 << 20);
    }
}
