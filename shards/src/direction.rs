//! The two ways through keys in order, so that whatever walks exists once.

use std::cmp::Ordering;

/// A way through keys in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// From the smallest key to the largest.
    #[default]
    Forward,
    /// From the largest key to the smallest.
    Reverse,
}

impl Direction {
    /// How two keys follow one another: `Less` when `a` comes first.
    #[inline]
    pub fn compare<K: Ord + ?Sized>(self, a: &K, b: &K) -> Ordering {
        match self {
            Self::Forward => a.cmp(b),
            Self::Reverse => b.cmp(a),
        }
    }

    /// The position that comes first of `count` in ascending order, which are at least one.
    pub(crate) fn first(self, count: usize) -> usize {
        match self {
            Self::Forward => 0,
            Self::Reverse => count - 1,
        }
    }

    /// The position behind another one of `count` in ascending order, if there is one.
    #[inline]
    pub(crate) fn after(self, position: usize, count: usize) -> Option<usize> {
        match self {
            Self::Forward => Some(position + 1).filter(|&next| next < count),
            Self::Reverse => position.checked_sub(1),
        }
    }
}
