//! The base of a shard: a copy-on-write B+tree in one file, in units of 4 KiB.
//!
//! Readers pin a published tree with a [`TreeView`]. One writer at a time applies a sorted batch,
//! which writes a new tree beside the old one and shares with it whatever did not change; the owner
//! makes the new root durable in its superblock, and publishes it.
//!
//! From the disk upwards: where things are (`address`, `file_header`, `state`), what they are
//! (`page`, `leaf`, `inner`, `blob`), how many of each codec (`census`), which units are taken
//! (`space`, `versions`), reading and writing (`store`, `writer`), compressing what is written
//! (`packer`, `adaptive`), the tree itself (`tree`, `lookup`, `cursor`, `level`, `update`), and
//! reading all of it whatever its state (`walk`, `verify`, `reader`).

mod adaptive;
mod address;
mod blob;
mod census;
mod cursor;
mod edit;
mod estimate;
mod file_header;
mod filter;
mod filters;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod inner;
mod leaf;
mod leaf_builder;
mod level;
mod lookup;
mod merge;
mod open_leaf;
mod packer;
mod page;
mod reader;
mod root;
mod run;
mod space;
mod state;
mod store;
mod stream;
#[cfg(test)]
mod tests;
#[expect(
    clippy::module_inception,
    reason = "the tree is what the module is about"
)]
mod tree;
mod update;
mod verify;
mod versions;
mod view_cursor;
mod walk;
mod wire;
mod writer;

pub(crate) use address::PageRef;
pub use census::{PageCount, PagesByCodec};
pub(crate) use edit::TreeUpdate;
pub(crate) use lookup::{Lookup, TreeValue};
pub(crate) use merge::{MergeStep, MergeTarget};
pub(crate) use page::Page;
pub(crate) use reader::{TreePart, TreeReader, large_value_extent};
pub(crate) use run::{Phase as RunPhase, RUNS_MAX, RunInfo};
pub(crate) use state::TreeState;
pub(crate) use tree::{Tree, TreeConfig};
pub(crate) use versions::TreeView;
pub(crate) use view_cursor::TreeCursor;
pub(crate) use walk::WalkStep;
