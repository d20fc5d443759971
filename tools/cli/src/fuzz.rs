//! The parsers of input files and the escapes, as a fuzzer needs them.

use std::io::{self, Read};

use crate::escape;
use crate::import::{Format, Source, Step};

/// How an input is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// Comma-separated values.
    Csv,
    /// Tab-separated values.
    Tsv,
    /// JSON lines.
    Jsonl,
}

/// What a row of an input becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// An entry.
    Row {
        /// Its key.
        key: Vec<u8>,
        /// Its value, which is JSON.
        value: Vec<u8>,
    },
    /// A message about a row that cannot be used.
    Bad(String),
}

/// Hands out at most `piece` bytes at a time, as a slow pipe would.
struct Pieces {
    bytes: io::Cursor<Vec<u8>>,
    piece: usize,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let room = into.len().min(self.piece);
        self.bytes.read(&mut into[..room])
    }
}

/// Parses a whole input that arrives in pieces.
///
/// # Errors
/// The message about a header that cannot be used.
pub fn parse(
    syntax: Syntax,
    key: &[String],
    bytes: &[u8],
    piece: usize,
) -> Result<Vec<Parsed>, String> {
    let format = match syntax {
        Syntax::Csv => Format::Csv,
        Syntax::Tsv => Format::Tsv,
        Syntax::Jsonl => Format::Jsonl,
    };
    let input = Pieces {
        bytes: io::Cursor::new(bytes.to_vec()),
        piece: piece.max(1),
    };
    let mut source = Source::new("input", Box::new(input), format, key.to_vec())
        .map_err(|error| error.to_string())?;
    let mut parsed = Vec::new();
    loop {
        match source.step() {
            Step::NeedInput => source.refill().map_err(|error| error.to_string())?,
            Step::Header => return Err("a second header".to_owned()),
            Step::Row(row) => parsed.push(Parsed::Row {
                key: row.key,
                value: row.value,
            }),
            Step::Bad(bad) => parsed.push(Parsed::Bad(bad.to_string())),
            Step::End => return Ok(parsed),
        }
    }
}

/// The escaped form of bytes.
pub fn escaped(bytes: &[u8]) -> String {
    escape::escaped(bytes)
}
