//! Integer conversions that cannot lose anything on the 64-bit targets that this project supports.

const _: () = assert!(
    usize::BITS == 64,
    "lightning-db supports 64-bit targets only"
);

/// Widens a length or an index to its on-disk width.
#[inline]
pub const fn to_u64(value: usize) -> u64 {
    value as u64
}

/// Takes a stored 64-bit length or index into memory.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "usize has 64 bits, asserted above"
)]
pub const fn to_usize(value: u64) -> usize {
    value as usize
}

/// Narrows a length that a named bound keeps under 4 GiB.
///
/// # Panics
/// When the value does not fit, which means that the bound its caller relies on was not enforced.
#[inline]
pub fn to_u32(value: usize) -> u32 {
    u32::try_from(value).expect("a bound on this length keeps it under 4 GiB")
}

/// The smallest multiple of `unit` that is not below `value`.
#[inline]
pub const fn round_up(value: u64, unit: u64) -> u64 {
    value.div_ceil(unit) * unit
}
