//! Compression of what a shard stores: what can be set, and the codecs that carry it out.
//!
//! Which codec a page gets, and how it lies in its page, is the tree's (`tree/packer.rs`).

mod codec;
mod setting;

pub use codec::{Codec, CodecError, Compressor, Decompressor};
pub use setting::Compression;
