//! Pages of the tree in memory, under a byte budget.

mod page_cache;
mod policy;

pub(crate) use page_cache::{CacheStats, PageCache};
pub(crate) use policy::{Clock, Policy};
