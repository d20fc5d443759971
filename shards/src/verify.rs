//! Reading everything that a shard has on disk, and checking it.

use crate::Corruption;

/// What a check of the stored bytes found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Live keys that could be read.
    pub entries: u64,
    /// Damages, in the order in which they were found.
    pub damages: Vec<Corruption>,
}
