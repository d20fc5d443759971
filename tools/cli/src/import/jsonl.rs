//! Rows of JSON, one object a line.
//!
//! A value is the object as it was written, without the white space between its tokens: numbers
//! keep every digit, members their order.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::row::{ROW_BYTES_MAX, Row, RowFault, Step, entry};

/// A parser of JSON lines; fed like [`super::csv::CsvRows`].
#[derive(Debug)]
pub(crate) struct JsonRows {
    key: Vec<String>,
    /// The line that is being read, from 1 on.
    line: u64,
    /// What was read of it so far.
    text: Vec<u8>,
    /// It broke the bound: the rest of it is read and dropped.
    too_long: bool,
}

impl JsonRows {
    pub(super) fn new(key: Vec<String>) -> Self {
        Self {
            key,
            line: 1,
            text: Vec::new(),
            too_long: false,
        }
    }

    /// Takes bytes from the front of `input` up to the end of one line that is not blank. With
    /// `last`, nothing comes after them.
    pub(super) fn step(&mut self, input: &mut &[u8], last: bool) -> Step {
        loop {
            let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
                let rest = std::mem::take(input);
                self.take_in(rest);
                if !last {
                    return Step::NeedInput;
                }
                return self.finish_line().unwrap_or(Step::End);
            };
            let (line, rest) = input.split_at(end);
            self.take_in(line);
            *input = &rest[1..];
            let step = self.finish_line();
            self.line += 1;
            if let Some(step) = step {
                return step;
            }
        }
    }

    fn take_in(&mut self, bytes: &[u8]) {
        if self.text.len() + bytes.len() > ROW_BYTES_MAX {
            self.too_long = true;
            self.text = Vec::new();
        }
        if !self.too_long {
            self.text.extend_from_slice(bytes);
        }
    }

    /// What the line is; `None` for a blank one.
    fn finish_line(&mut self) -> Option<Step> {
        let text = std::mem::take(&mut self.text);
        let row = if std::mem::take(&mut self.too_long) {
            Err(RowFault::LongRow)
        } else if text.trim_ascii().is_empty() {
            return None;
        } else {
            to_row(&text, &self.key)
        };
        Some(match row {
            Ok(row) => Step::Row(row),
            Err(fault) => Step::Bad(fault.on(self.line)),
        })
    }
}

fn to_row(text: &[u8], key: &[String]) -> Result<Row, RowFault> {
    let broken = |error: serde_json::Error| RowFault::Json(without_line(&error));
    let text = str::from_utf8(text).map_err(|_| RowFault::NotUtf8)?;
    // The whole line is checked before its kind is judged.
    let whole: &RawValue = serde_json::from_str(text).map_err(broken)?;
    if !whole.get().starts_with('{') {
        return Err(RowFault::NotAnObject(kind(whole)));
    }
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(broken)?;
    let part = |column: &String| -> Result<String, RowFault> {
        let value = members
            .get(column)
            .ok_or_else(|| RowFault::NoKeyColumn(column.clone()))?;
        match value.get().as_bytes().first() {
            Some(b'"') => serde_json::from_str(value.get()).map_err(broken),
            Some(b'{' | b'[') => Err(RowFault::KeyNotScalar {
                column: column.clone(),
                found: kind(value),
            }),
            _ => Ok(value.get().to_owned()),
        }
    };
    let parts = key.iter().map(part).collect::<Result<Vec<_>, _>>()?;
    entry(parts.iter().map(String::as_str), compact(whole.get()))
}

/// The message of a JSON error. A row is one line to the parser, so only its column says something.
fn without_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) => format!("{what} at column {}", error.column()),
        None => text,
    }
}

fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// Valid JSON without the white space between its tokens.
fn compact(json: &str) -> Vec<u8> {
    let mut compact = Vec::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for &byte in json.as_bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            in_string = byte == b'"';
        }
        compact.push(byte);
    }
    compact
}

#[cfg(test)]
mod tests;
