//! Ranges of typed keys as ranges of bytes.

use std::ops::{Bound, RangeBounds};

use super::Key;
use crate::key_range::Bounds;

/// What follows the last part of every key that goes on behind it: the codes of all types are lower.
const BEHIND_PARTS: u8 = u8::MAX;

pub(super) fn bounds<K: Key>(range: &impl RangeBounds<K>) -> Bounds {
    let end = |bound: Bound<&K>| bound.map(Key::to_bytes);
    (end(range.start_bound()), end(range.end_bound()))
}

/// The keys that begin with these parts. The bytes alone are not enough: those of a string are also
/// the first of a longer one with a zero, which goes on with the byte that ends the range.
pub(super) fn beginning_with<P: Key>(parts: &P) -> Bounds {
    let start = parts.to_bytes();
    let mut end = start.clone();
    end.push(BEHIND_PARTS);
    (Bound::Included(start), Bound::Excluded(end))
}
