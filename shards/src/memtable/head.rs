//! Heads: eight bytes of a key as a number that orders like the bytes.

/// The eight bytes of a key that follow its first `prefix` bytes, as a number; bytes beyond the
/// end of the key count as zero.
///
/// So heads order keys that share the prefix, except that equal heads say nothing: the keys may
/// differ later, or one may end where the other has zeros.
#[inline]
pub(super) fn head_at(key: &[u8], prefix: usize) -> u64 {
    if let Some(bytes) = key.get(prefix..).and_then(<[u8]>::first_chunk) {
        return u64::from_be_bytes(*bytes);
    }
    let rest = key.len().saturating_sub(prefix);
    if rest == 0 {
        return 0;
    }
    let missing_bits = (size_of::<u64>() - rest) * 8;
    let last = key.last_chunk().map_or_else(
        || {
            key.iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte))
        },
        |bytes| u64::from_be_bytes(*bytes),
    );
    last << missing_bits
}

/// How many leading bytes two keys share.
pub(super) fn shared_bytes(a: &[u8], b: &[u8]) -> usize {
    let (a_words, _) = a.as_chunks::<8>();
    let (b_words, _) = b.as_chunks::<8>();
    let words = a_words
        .iter()
        .zip(b_words)
        .take_while(|(a, b)| a == b)
        .count();
    let start = words * 8;
    let rest = a[start..].iter().zip(&b[start..]);
    start + rest.take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_the_bytes_after_the_prefix_padded_with_zeros() {
        let key: Vec<u8> = (1..=20).collect();
        for length in 0..=key.len() {
            for prefix in 0..=length {
                let mut expected = [0; 8];
                let rest = &key[prefix..length.min(prefix + 8)];
                expected[..rest.len()].copy_from_slice(rest);
                let head = head_at(&key[..length], prefix);
                assert_eq!(head, u64::from_be_bytes(expected), "{prefix} of {length}");
            }
        }
    }

    #[test]
    fn shared_bytes_stop_at_the_first_difference_or_the_shorter_end() {
        let a: Vec<u8> = (0..40).collect();
        for length in 0..=a.len() {
            assert_eq!(shared_bytes(&a, &a[..length]), length);
            let mut b = a.clone();
            if let Some(byte) = b.get_mut(length) {
                *byte ^= 0x80;
            }
            assert_eq!(shared_bytes(&a, &b), length);
            assert_eq!(shared_bytes(&b, &a), length);
        }
    }
}
