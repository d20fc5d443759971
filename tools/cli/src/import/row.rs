//! One row of an input: the entry that it becomes, or what is wrong with it.

/// The longest key that the database takes.
pub(super) const KEY_BYTES_MAX: usize = 64 << 10;

/// The longest value that the database takes.
pub(super) const VALUE_BYTES_MAX: usize = 64 << 20;

/// The longest row that is held in memory. A row of this length makes a value that is longer
/// still, so nothing is refused that could have been stored.
pub(super) const ROW_BYTES_MAX: usize = VALUE_BYTES_MAX;

/// The entry that a row becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// What a parser made of the bytes that it was given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// All were taken in; more are needed to go on.
    NeedInput,
    /// The header was read, and has the key's columns.
    Header,
    /// A row.
    Row(Row),
    /// A row that cannot be used; the next step begins behind it.
    Bad(BadRow),
    /// There is nothing left.
    End,
}

/// A row that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub(crate) struct BadRow {
    /// The line that it begins on, from 1 on.
    pub(crate) line: u64,
    pub(crate) fault: RowFault,
}

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RowFault {
    #[error("expected {expected} fields, found {found}")]
    FieldCount { expected: usize, found: usize },
    #[error("not valid UTF-8")]
    NotUtf8,
    #[error("a quoted field is not closed before the end of the file")]
    OpenQuote,
    #[error("broken JSON: {0}")]
    Json(String),
    #[error("expected a JSON object, found {0}")]
    NotAnObject(&'static str),
    #[error("the key column \"{0}\" is absent")]
    NoKeyColumn(String),
    #[error("the key column \"{column}\" holds {found}, which has no text form")]
    KeyNotScalar { column: String, found: &'static str },
    #[error("the key is empty")]
    EmptyKey,
    #[error("the key has {bytes} bytes, more than the {KEY_BYTES_MAX} that a key may have")]
    LongKey { bytes: usize },
    #[error("the value has {bytes} bytes, more than the {VALUE_BYTES_MAX} that a value may have")]
    LongValue { bytes: usize },
    #[error("the row is longer than {ROW_BYTES_MAX} bytes or has too many fields")]
    LongRow,
}

impl RowFault {
    pub(super) fn on(self, line: u64) -> BadRow {
        BadRow { line, fault: self }
    }
}

/// Joins the key's parts, and checks what the database would refuse.
pub(super) fn entry<'a>(
    key_parts: impl IntoIterator<Item = &'a str>,
    value: Vec<u8>,
) -> Result<Row, RowFault> {
    let mut key = Vec::new();
    for (index, part) in key_parts.into_iter().enumerate() {
        if index > 0 {
            key.push(b'/');
        }
        key.extend_from_slice(part.as_bytes());
    }
    if key.is_empty() {
        return Err(RowFault::EmptyKey);
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(RowFault::LongKey { bytes: key.len() });
    }
    if value.len() > VALUE_BYTES_MAX {
        return Err(RowFault::LongValue { bytes: value.len() });
    }
    Ok(Row { key, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_parts_are_joined_by_a_slash() {
        assert_eq!(
            entry(["a", "", "ü"], vec![]).unwrap().key,
            "a//ü".as_bytes()
        );
        assert_eq!(entry(["a"], vec![]).unwrap().key, b"a");
        assert_eq!(entry([""], vec![]), Err(RowFault::EmptyKey));
    }

    #[test]
    fn the_bounds_of_the_database_are_the_bounds_of_a_row() {
        let longest = "k".repeat(KEY_BYTES_MAX);
        assert!(entry([longest.as_str()], vec![]).is_ok());
        let bytes = KEY_BYTES_MAX + 2;
        assert_eq!(
            entry(["x", &longest], vec![]),
            Err(RowFault::LongKey { bytes })
        );
        let bytes = VALUE_BYTES_MAX + 1;
        assert_eq!(
            entry(["x"], vec![0; bytes]),
            Err(RowFault::LongValue { bytes })
        );
    }
}
