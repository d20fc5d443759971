//! The codecs: from bytes to fewer bytes and back, with their working memory kept.
//!
//! # Invariants
//! * What is compressed depends on the input and on what this compressor saw before, on nothing
//!   else: one seed replays one file, byte for byte.
//! * A decompressor takes any bytes at all. It writes into the slice that it is given and nowhere
//!   else, allocates nothing in proportion to what the input claims, and fills the whole slice or
//!   says that it did not.

use std::fmt;

use lz4_flex::block::CompressTable;
use zstd_safe::{CCtx, CParameter, DCtx};

/// How bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// As they are.
    Raw,
    /// An LZ4 block.
    Lz4,
    /// A Zstandard frame.
    Zstd,
    /// A raw Snappy stream.
    Snappy,
}

impl Codec {
    /// Each of them, in the order of their numbers on disk.
    pub const ALL: [Self; 4] = [Self::Raw, Self::Lz4, Self::Zstd, Self::Snappy];

    /// The number on disk.
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
            Self::Snappy => 3,
        }
    }

    /// The codec of a number on disk.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }

    /// Its place in [`Self::ALL`].
    pub(crate) fn index(self) -> usize {
        usize::from(self.to_byte())
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Lz4 => "LZ4",
            Self::Zstd => "Zstandard",
            Self::Snappy => "Snappy",
        })
    }
}

/// Compresses one input after the other.
///
/// The tables of LZ4 and Snappy take some 10 KiB. The context of Zstandard grows with level and
/// input. None is made before it is needed, and all go with the compressor.
#[derive(Default)]
pub struct Compressor {
    lz4: Option<CompressTable>,
    zstd: Option<Zstd>,
    snappy: Option<snap::raw::Encoder>,
}

struct Zstd {
    context: CCtx<'static>,
    level: u8,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    /// Compresses `input` with LZ4 into `output`, writing over it.
    pub fn lz4<'a>(&mut self, input: &[u8], output: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        let table = self.lz4.get_or_insert_default();
        let output = room(
            output,
            lz4_flex::block::get_maximum_output_size(input.len()),
        );
        let len = lz4_flex::block::compress_into_with_table(input, output, table).ok()?;
        Some(&output[..len])
    }

    /// Compresses `input` with Zstandard into `output`, writing over it; `None` when the result
    /// would be longer than the input.
    pub fn zstd<'a>(
        &mut self,
        level: u8,
        input: &[u8],
        output: &'a mut Vec<u8>,
    ) -> Option<&'a [u8]> {
        let zstd = self.zstd.get_or_insert_with(|| Zstd {
            context: CCtx::create(),
            level: 0,
        });
        if zstd.level != level {
            let level = CParameter::CompressionLevel(i32::from(level));
            zstd.context.set_parameter(level).ok()?;
        }
        zstd.level = level;
        let output = room(output, input.len());
        let Ok(len) = zstd.context.compress2(output, input) else {
            // A frame that was begun is in the way of the next setting.
            self.zstd = None;
            return None;
        };
        Some(&output[..len])
    }

    /// Compresses `input` with Snappy into `output`, writing over it.
    pub fn snappy<'a>(&mut self, input: &[u8], output: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        let encoder = self.snappy.get_or_insert_with(snap::raw::Encoder::new);
        let output = room(output, snap::raw::max_compress_len(input.len()));
        let len = encoder.compress(input, output).ok()?;
        Some(&output[..len])
    }
}

/// At least `len` bytes of `output`, whatever they hold.
fn room(output: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if output.len() < len {
        output.resize(len, 0);
    }
    &mut output[..len]
}

/// Why bytes could not be decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The input is not what this codec writes.
    #[error("{codec} content is damaged: {what}")]
    Damaged {
        /// The codec.
        codec: Codec,
        /// What it says.
        what: String,
    },
    /// The input is sound, and longer or shorter than was claimed.
    #[error("{codec} content is of {found} bytes, not of {expected}")]
    Length {
        /// The codec.
        codec: Codec,
        /// What was claimed.
        expected: usize,
        /// What there is.
        found: usize,
    },
}

/// Decompresses one input after the other.
///
/// The context of Zstandard is made when its first input is read, and is of one size, whatever the
/// inputs are.
#[derive(Default)]
pub struct Decompressor {
    zstd: Option<DCtx<'static>>,
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

impl Decompressor {
    /// Fills `output` with what `input` holds.
    ///
    /// # Errors
    /// When the input is not of this codec, or not of exactly this length; what `output` then holds
    /// is open.
    pub fn decompress(
        &mut self,
        codec: Codec,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(), CodecError> {
        let damaged = |what: String| CodecError::Damaged { codec, what };
        let found = match codec {
            Codec::Raw => {
                let len = input.len().min(output.len());
                output[..len].copy_from_slice(&input[..len]);
                input.len()
            }
            Codec::Lz4 => lz4_flex::block::decompress_into(input, output)
                .map_err(|error| damaged(error.to_string()))?,
            Codec::Zstd => {
                let context = self.zstd.get_or_insert_with(DCtx::create);
                let decompressed = context.decompress(output, input);
                decompressed.map_err(|code| damaged(zstd_safe::get_error_name(code).to_owned()))?
            }
            Codec::Snappy => {
                let decompressed = snap::raw::Decoder::new().decompress(input, output);
                decompressed.map_err(|error| damaged(error.to_string()))?
            }
        };
        if found != output.len() {
            return Err(CodecError::Length {
                codec,
                expected: output.len(),
                found,
            });
        }
        Ok(())
    }
}
