//! What can be set about compression.

use crate::{Error, Result};

/// How new pages of the tree are compressed. Every page says how it was written, so the setting may
/// differ each time that a database is opened, and pages of all kinds lie side by side.
///
/// Space is taken in units of 4 KiB: a page that would not save a unit is stored as it is. In
/// memory pages are never compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Compression {
    /// Pages are stored as they are in memory.
    #[default]
    None,
    /// LZ4: little work for most of what there is to save.
    Lz4,
    /// Zstandard: the least space, for more work.
    Zstd {
        /// 1 to 19: higher takes less space and much more time to write, not to read.
        level: u8,
    },
    /// Snappy: of the kind of LZ4.
    Snappy,
    /// LZ4, and Zstandard for those pages where it is likely to save another unit; neither, for a
    /// while, on data that does not shrink.
    Adaptive,
}

impl Compression {
    /// The highest level of Zstandard. The levels above it enlarge what a compressor remembers
    /// beyond the largest page, and with it the memory of a flush.
    pub const ZSTD_LEVEL_MAX: u8 = 19;

    /// Checks every bound.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a level out of bounds.
    pub fn validate(self) -> Result<()> {
        match self {
            Self::Zstd { level } if !(1..=Self::ZSTD_LEVEL_MAX).contains(&level) => {
                let most = Self::ZSTD_LEVEL_MAX;
                Err(Error::Invalid {
                    what: "compression level",
                    reason: format!("{level} for Zstandard, whose levels are 1 to {most}"),
                })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_out_of_bounds_are_refused() {
        for level in 0..=u8::MAX {
            let accepted = Compression::Zstd { level }.validate().is_ok();
            assert_eq!(accepted, (1..=19).contains(&level), "level {level}");
        }
        for setting in [
            Compression::None,
            Compression::Lz4,
            Compression::Snappy,
            Compression::Adaptive,
        ] {
            assert_eq!(setting.validate(), Ok(()));
        }
    }
}
