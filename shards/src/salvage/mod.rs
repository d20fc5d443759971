//! Reading whatever is sound of a database that does not open, or that has damaged pages.
//!
//! A salvage is asked for, and never a part of opening. It takes the database's lock, changes
//! nothing (`source`), hands every entry that it can read to a [`Sink`], and reports what it could
//! not read.
//!
//! Per shard, the sources are, in this order: the superblock's generations (`generations`), the tree
//! under the newest sound one, then the records of the log behind its checkpoint (`log`); for ranges
//! that are lost in the tree, the older generation's tree and every sound leaf in the file (`shard`
//! has the steps). The newest version of a key counts, by its timestamp, and each key is handed on
//! once.
//!
//! # Limits
//! * A segment of the log that is gone together with its file leaves no trace but durable marks: if
//!   it was the last one, and no mark speaks of its records, nobody knows of them.
//! * What is lost of a log may have deleted or replaced keys: what is handed on is then older than
//!   what was acknowledged, and the report says so by the records that are missing.
//! * Memory is bounded by the window, but for the list of lost ranges, which grows with the number of
//!   damaged places. The log is read again for each window, and so is the tree's file if anything in
//!   it is lost.

mod generations;
mod identity;
mod log;
mod offers;
mod ranges;
mod report;
#[expect(
    clippy::module_inception,
    reason = "the salvage is what the module is about"
)]
mod salvage;
mod shard;
mod source;
#[cfg(test)]
mod tests;
mod window;
mod writer;

pub use report::{Loss, Lost, SalvageReport, ShardSalvage};
pub use salvage::{Salvage, SalvageConfig};
pub use writer::Sink;
