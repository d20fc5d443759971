//! An input and the parser of its format.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use super::csv::CsvRows;
use super::error::{HeaderError, ImportError};
use super::format::Format;
use super::jsonl::JsonRows;
use super::row::Step;

/// Bytes read at once: large enough that a system call and a partial chunk cost nothing beside
/// parsing them.
const BUFFER_BYTES: usize = 1 << 20;

/// What some programs put in front of UTF-8 text.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// An input and the parser of its format.
///
/// [`Source::step`] never waits; [`Source::refill`] may. A caller that is told to refill can first
/// pass on what it has.
pub(crate) struct Source {
    name: String,
    input: Box<dyn Read + Send>,
    rows: Rows,
    /// `buffer[start..end]` was read and not yet taken in; `last` when nothing comes after it.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    last: bool,
    /// Bytes read in all.
    bytes_read: u64,
}

enum Rows {
    Csv(Box<CsvRows>),
    Json(JsonRows),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// Opens a file, or standard input for `-`, and reads its header.
    pub(super) fn open(
        path: &Path,
        format: Format,
        key: Vec<String>,
    ) -> Result<(Self, Option<u64>), ImportError> {
        if path == Path::new("-") {
            let source = Self::new("standard input", Box::new(io::stdin()), format, key)?;
            return Ok((source, None));
        }
        let name = path.display().to_string();
        let opened = std::fs::File::open(path).and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = match opened {
            Ok((metadata, _)) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            other => other,
        }
        .map_err(|error| ImportError::Open {
            file: name.clone(),
            error,
        })?;
        let length = metadata.is_file().then_some(metadata.len());
        Ok((Self::new(&name, Box::new(file), format, key)?, length))
    }

    /// Takes any input, and reads its header.
    pub(crate) fn new(
        name: &str,
        input: Box<dyn Read + Send>,
        format: Format,
        key: Vec<String>,
    ) -> Result<Self, ImportError> {
        let rows = match format {
            Format::Csv => Rows::Csv(Box::new(CsvRows::csv(key))),
            Format::Tsv => Rows::Csv(Box::new(CsvRows::tsv(key))),
            Format::Jsonl => Rows::Json(JsonRows::new(key)),
        };
        let mut source = Self {
            name: name.to_owned(),
            input,
            rows,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            last: false,
            bytes_read: 0,
        };
        source.begin().map_err(|error| ImportError::Header {
            file: name.to_owned(),
            error,
        })?;
        Ok(source)
    }

    /// What messages call it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Bytes taken in so far.
    pub(super) fn position(&self) -> u64 {
        self.bytes_read - u64::try_from(self.end - self.start).unwrap_or(0)
    }

    fn begin(&mut self) -> Result<(), HeaderError> {
        while self.end < BYTE_ORDER_MARK.len() && !self.last {
            self.refill()?;
        }
        if self.buffer[..self.end].starts_with(BYTE_ORDER_MARK) {
            self.start = BYTE_ORDER_MARK.len();
        }
        if let Rows::Json(_) = self.rows {
            return Ok(());
        }
        while self.try_step()? == Step::NeedInput {
            self.refill()?;
        }
        Ok(())
    }

    /// Goes one step on in what was read.
    pub(crate) fn step(&mut self) -> Step {
        self.try_step()
            .expect("the header was read when the source was opened")
    }

    fn try_step(&mut self) -> Result<Step, HeaderError> {
        let mut input = &self.buffer[self.start..self.end];
        let step = match &mut self.rows {
            Rows::Csv(rows) => rows.step(&mut input, self.last)?,
            Rows::Json(rows) => rows.step(&mut input, self.last),
        };
        self.start = self.end - input.len();
        Ok(step)
    }

    /// Waits for more input.
    pub(crate) fn refill(&mut self) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        // What is left is at most the few bytes in which the byte order mark is looked for.
        let count = loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.last = count == 0;
        self.end += count;
        self.bytes_read += u64::try_from(count).unwrap_or(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out its bytes one at a time, as a slow pipe would.
    struct Slow(io::Cursor<&'static str>);

    impl Read for Slow {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let room = into.len().min(1);
            self.0.read(&mut into[..room])
        }
    }

    fn keys(format: Format, text: &'static str) -> Vec<String> {
        let input = Box::new(Slow(io::Cursor::new(text)));
        let mut source = Source::new("test", input, format, vec!["k".to_owned()]).unwrap();
        let mut keys = Vec::new();
        loop {
            match source.step() {
                Step::NeedInput => source.refill().unwrap(),
                Step::Row(row) => keys.push(String::from_utf8(row.key).unwrap()),
                Step::End => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(source.position(), text.len() as u64);
        keys
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        assert_eq!(keys(Format::Csv, "\u{feff}k,v\n1,2\n"), ["1"]);
        assert_eq!(keys(Format::Tsv, "k\tv\n1\t2"), ["1"]);
        assert_eq!(
            keys(Format::Jsonl, "\u{feff}{\"k\":1}\n{\"k\":2}"),
            ["1", "2"]
        );
        assert!(keys(Format::Jsonl, "").is_empty());
    }

    #[test]
    fn a_file_without_a_header_is_refused() {
        for text in ["", "\n\r\n", "\u{feff}"] {
            let input = Box::new(io::Cursor::new(text));
            let error = Source::new("a.csv", input, Format::Csv, vec!["k".to_owned()]);
            assert_eq!(
                error.unwrap_err().to_string(),
                "a.csv: there is no header line"
            );
        }
    }
}
