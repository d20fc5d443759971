//! Little-endian numbers at fixed places of a page.
//!
//! The readers index: a place comes from a layout constant or from an offset that the structure
//! check of its page has bounded.

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N]
        .try_into()
        .expect("the slice was cut to the array's length")
}

#[inline]
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

#[inline]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

#[inline]
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

/// Takes a 32-bit length or count into memory.
#[inline]
pub(super) fn usize_at(bytes: &[u8], at: usize) -> usize {
    lightning_io::to_usize(u64::from(u32_at(bytes, at)))
}

#[inline]
pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// The number that sorts like the first eight bytes of `suffix`, shorter ones padded with zeros.
#[inline]
pub(super) fn head_of(suffix: &[u8]) -> u64 {
    if let Some(first) = suffix.first_chunk::<8>() {
        return u64::from_be_bytes(*first);
    }
    let mut padded = [0; 8];
    padded[..suffix.len()].copy_from_slice(suffix);
    u64::from_be_bytes(padded)
}

/// How many leading bytes two keys share.
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    // Whole words first: long keys that differ late are compared once for every entry written.
    const WORD: usize = 8;
    let words = a
        .chunks_exact(WORD)
        .zip(b.chunks_exact(WORD))
        .take_while(|(a, b)| a == b)
        .count();
    let start = words * WORD;
    let tail = a[start..].iter().zip(&b[start..]);
    start + tail.take_while(|(a, b)| a == b).count()
}

/// The first index in `from..to` for which `before` no longer holds.
#[inline]
pub(super) fn partition(from: usize, to: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (from, to);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_sort_like_the_bytes_they_stand_for() {
        let keys: [&[u8]; 6] = [b"", b"\0", b"a", b"a\0b", b"ab", b"abcdefgh"];
        for pair in keys.windows(2) {
            assert!(head_of(pair[0]) <= head_of(pair[1]));
        }
        assert_eq!(head_of(b"abcdefgh"), head_of(b"abcdefghi"));
    }

    #[test]
    fn a_common_prefix_ends_at_the_first_difference() {
        let a = vec![7u8; 40];
        for at in 0..40 {
            let mut b = a.clone();
            b[at] = 8;
            assert_eq!(common_prefix(&a, &b), at);
            assert_eq!(common_prefix(&a, &a[..at]), at);
        }
    }
}
