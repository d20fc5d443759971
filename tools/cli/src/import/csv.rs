//! Rows of comma- or tab-separated values under a header line.
//!
//! The parser is fed: it is given what bytes there are and says what it made of them, so that
//! whoever feeds it decides when to wait for more. Fields, quotes and line ends are `csv-core`'s;
//! line numbers are counted here, where blank lines and `\r\n` are seen, and memory is bounded
//! here.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};

use super::error::HeaderError;
use super::row::{ROW_BYTES_MAX, Row, RowFault, Step, entry};

/// The most fields of a row: a table of this width is a mistake, and each costs 8 bytes.
const FIELDS_MAX: usize = 64 << 10;

/// The sizes that a row's memory starts with; both double as needed.
const ROW_BYTES_START: usize = 4 << 10;
const FIELDS_START: usize = 64;

/// A parser of delimited rows.
#[derive(Debug)]
pub(crate) struct CsvRows {
    reader: Reader,
    /// Whether the reader was given anything yet.
    has_begun: bool,
    /// The line that the next byte is on, from 1 on, and the one that the row began on.
    line: u64,
    row_line: u64,
    in_row: bool,
    record: Record,
    /// What the key is made of, until the header tells where its columns are.
    key: Vec<String>,
    columns: Option<Columns>,
}

/// The fields of the row that is being read.
///
/// `bytes[..byte_count]` holds the fields' text on end; `ends[..field_count]` where each ends.
#[derive(Debug)]
struct Record {
    bytes: Vec<u8>,
    byte_count: usize,
    ends: Vec<usize>,
    field_count: usize,
    /// The row broke a bound: the rest of it is read and dropped.
    too_long: bool,
}

/// What the header says.
#[derive(Debug)]
struct Columns {
    /// Each column's name as a JSON member begins: quoted, escaped, and with its colon.
    members: Vec<Vec<u8>>,
    /// The indexes of the key's columns, in the key's order.
    key: Vec<usize>,
}

impl CsvRows {
    /// Fields separated by commas, and quoted where they need it.
    pub(super) fn csv(key: Vec<String>) -> Self {
        Self::new(ReaderBuilder::new().delimiter(b','), key)
    }

    /// Fields separated by tabs, and never quoted: a quotation mark is one more character.
    pub(super) fn tsv(key: Vec<String>) -> Self {
        Self::new(ReaderBuilder::new().delimiter(b'\t').quoting(false), key)
    }

    fn new(builder: &mut ReaderBuilder, key: Vec<String>) -> Self {
        Self {
            reader: builder.terminator(Terminator::CRLF).build(),
            has_begun: false,
            line: 1,
            row_line: 1,
            in_row: false,
            record: Record {
                bytes: vec![0; ROW_BYTES_START],
                byte_count: 0,
                ends: vec![0; FIELDS_START],
                field_count: 0,
                too_long: false,
            },
            key,
            columns: None,
        }
    }

    /// Takes bytes from the front of `input` up to the end of one row. With `last`, nothing comes
    /// after them.
    pub(super) fn step(&mut self, input: &mut &[u8], last: bool) -> Result<Step, HeaderError> {
        if !self.in_row {
            self.skip_line_ends(input);
            if input.is_empty() {
                return match (last, &self.columns) {
                    (false, _) => Ok(Step::NeedInput),
                    (true, Some(_)) => Ok(Step::End),
                    (true, None) => Err(HeaderError::Missing),
                };
            }
            self.in_row = true;
            self.row_line = self.line;
        }
        if self.take_in(input) {
            return self.finish_row();
        }
        if !last {
            return Ok(Step::NeedInput);
        }
        // The file ends without a line end. Were one there, it would end the row, unless a
        // quoted field is still open.
        if self.take_in(&mut &b"\n"[..]) {
            return self.finish_row();
        }
        self.in_row = false;
        match self.columns {
            Some(_) => Ok(Step::Bad(RowFault::OpenQuote.on(self.row_line))),
            None => Err(HeaderError::Row(RowFault::OpenQuote)),
        }
    }

    fn skip_line_ends(&mut self, input: &mut &[u8]) {
        while let [byte @ (b'\r' | b'\n'), rest @ ..] = *input {
            self.line += u64::from(*byte == b'\n');
            *input = rest;
        }
    }

    /// Reads on into the row; returns whether it is complete.
    fn take_in(&mut self, input: &mut &[u8]) -> bool {
        // Without input, `csv-core` would take the file for ended.
        while !input.is_empty() {
            // `csv-core` drops a byte order mark, but only when it comes in one piece. What is one
            // is the source's to say, so its first byte comes alone.
            let end = if self.has_begun { input.len() } else { 1 };
            self.has_begun = true;
            let record = &mut self.record;
            let (result, taken, bytes, fields) = self.reader.read_record(
                &input[..end],
                &mut record.bytes[record.byte_count..],
                &mut record.ends[record.field_count..],
            );
            let (seen, rest) = input.split_at(taken);
            *input = rest;
            #[expect(
                clippy::naive_bytecount,
                reason = "parsing costs far more than counting"
            )]
            let line_ends = seen.iter().filter(|&&byte| byte == b'\n').count();
            self.line += u64::try_from(line_ends).unwrap_or(u64::MAX);
            record.byte_count += bytes;
            record.field_count += fields;
            match result {
                // All of the input, or its first byte.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => record.grow_bytes(),
                ReadRecordResult::OutputEndsFull => record.grow_fields(),
                ReadRecordResult::Record | ReadRecordResult::End => return true,
            }
        }
        false
    }

    fn finish_row(&mut self) -> Result<Step, HeaderError> {
        self.in_row = false;
        let record = &mut self.record;
        let Some(columns) = &self.columns else {
            self.columns = Some(Columns::read(record, &self.key)?);
            record.clear();
            return Ok(Step::Header);
        };
        let row = record.to_row(columns);
        record.clear();
        Ok(match row {
            Ok(row) => Step::Row(row),
            Err(fault) => Step::Bad(fault.on(self.row_line)),
        })
    }
}

impl Record {
    fn grow_bytes(&mut self) {
        if self.bytes.len() < ROW_BYTES_MAX {
            self.bytes.resize(self.bytes.len() * 2, 0);
        } else {
            self.too_long = true;
            self.byte_count = 0;
        }
    }

    fn grow_fields(&mut self) {
        if self.ends.len() < FIELDS_MAX {
            self.ends.resize(self.ends.len() * 2, 0);
        } else {
            self.too_long = true;
            self.field_count = 0;
        }
    }

    fn clear(&mut self) {
        (self.byte_count, self.field_count, self.too_long) = (0, 0, false);
        if self.bytes.len() > ROW_BYTES_START << 8 {
            // One long row does not keep its memory for the rest of the file.
            self.bytes = vec![0; ROW_BYTES_START];
        }
    }

    /// The fields, when there are `expected` of them, or any number for `None`.
    fn fields(&self, expected: Option<usize>) -> Result<Vec<&str>, RowFault> {
        if self.too_long {
            return Err(RowFault::LongRow);
        }
        let ends = &self.ends[..self.field_count];
        if let Some(expected) = expected
            && ends.len() != expected
        {
            let found = ends.len();
            return Err(RowFault::FieldCount { expected, found });
        }
        let text = |(index, &end): (usize, &usize)| {
            let start = index.checked_sub(1).map_or(0, |before| ends[before]);
            str::from_utf8(&self.bytes[start..end]).map_err(|_| RowFault::NotUtf8)
        };
        ends.iter().enumerate().map(text).collect()
    }

    fn to_row(&self, columns: &Columns) -> Result<Row, RowFault> {
        let fields = self.fields(Some(columns.members.len()))?;
        let names: usize = columns.members.iter().map(Vec::len).sum();
        // Two quotes and a comma a field, and the braces; escapes are rare.
        let mut value = Vec::with_capacity(names + self.byte_count + 3 * fields.len() + 2);
        value.push(b'{');
        for (index, (member, field)) in columns.members.iter().zip(&fields).enumerate() {
            if index > 0 {
                value.push(b',');
            }
            value.extend_from_slice(member);
            write_json(field, &mut value);
        }
        value.push(b'}');
        entry(columns.key.iter().map(|&index| fields[index]), value)
    }
}

impl Columns {
    fn read(record: &Record, key: &[String]) -> Result<Self, HeaderError> {
        let names = record.fields(None).map_err(HeaderError::Row)?;
        if let Some(twice) = (1..names.len()).find(|&at| names[..at].contains(&names[at])) {
            return Err(HeaderError::Twice(names[twice].to_owned()));
        }
        let index_of = |column: &String| {
            names
                .iter()
                .position(|name| name == column)
                .ok_or_else(|| HeaderError::NoColumn {
                    column: column.clone(),
                    header: names.join(", "),
                })
        };
        let key = key.iter().map(index_of).collect::<Result<_, _>>()?;
        let member = |name: &&str| {
            let mut member = Vec::new();
            write_json(name, &mut member);
            member.push(b':');
            member
        };
        Ok(Self {
            members: names.iter().map(member).collect(),
            key,
        })
    }
}

fn write_json(text: &str, into: &mut Vec<u8>) {
    serde_json::to_writer(into, text).expect("a string is JSON, and memory takes it");
}

#[cfg(test)]
mod tests;
