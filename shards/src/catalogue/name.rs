//! Names of keyspaces, and the keys of the catalogue.
//!
//! # On-disk layout
//! ```text
//! key: 00           the number that was last given to a keyspace
//!      01 name      the record of the keyspace with this name
//! ```

use std::ops::Bound;

use crate::{Error, Result};

/// The longest name of a keyspace, in bytes.
pub const KEYSPACE_NAME_BYTES_MAX: usize = 128;

/// The name of the keyspace that every database starts with.
pub const DEFAULT_KEYSPACE_NAME: &str = "default";

/// The key of the number that was given last.
pub(crate) const NEXT_ID_KEY: &[u8] = &[0];

/// What the keys of records begin with, and the first byte behind them.
const RECORD: u8 = 1;
const BEHIND_RECORDS: &[u8] = &[RECORD + 1];

/// Checks a name.
///
/// # Errors
/// [`Error::Invalid`] when it is empty, too long, or holds a control character: names are printed
/// in lines of messages and lists.
pub(crate) fn check_name(name: &str) -> Result<()> {
    check(name, "keyspace name")
}

/// Checks the name of a merge operator, by the same rules.
///
/// # Errors
/// As for [`check_name`].
pub(crate) fn check_operator_name(name: &str) -> Result<()> {
    check(name, "merge operator name")
}

fn check(name: &str, what: &'static str) -> Result<()> {
    let reason = if name.is_empty() {
        "it is empty; a name has at least 1 byte".to_owned()
    } else if name.len() > KEYSPACE_NAME_BYTES_MAX {
        format!(
            "{} bytes; the most is {KEYSPACE_NAME_BYTES_MAX}",
            name.len()
        )
    } else if let Some(control) = name.chars().find(|char| char.is_control()) {
        format!(
            "it holds the control character {}",
            control.escape_default()
        )
    } else {
        return Ok(());
    };
    Err(Error::Invalid { what, reason })
}

/// The key of a name's record.
pub(crate) fn record_key(name: &str) -> Vec<u8> {
    [&[RECORD], name.as_bytes()].concat()
}

/// The range of all records.
pub(crate) fn records() -> (Bound<&'static [u8]>, Bound<&'static [u8]>) {
    (Bound::Included(&[RECORD]), Bound::Excluded(BEHIND_RECORDS))
}

/// The name whose record a key is for; `None` for a key that no name makes.
pub(crate) fn name_of(key: &[u8]) -> Option<&str> {
    let name = str::from_utf8(key.strip_prefix(&[RECORD])?).ok()?;
    check_name(name).is_ok().then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_text_of_one_line() {
        let longest = "n".repeat(KEYSPACE_NAME_BYTES_MAX);
        for name in [
            "u",
            "users",
            "Größe",
            "a/b c",
            DEFAULT_KEYSPACE_NAME,
            &longest,
        ] {
            assert_eq!(check_name(name), Ok(()), "{name}");
            assert_eq!(name_of(&record_key(name)), Some(name));
        }
        let long = "n".repeat(KEYSPACE_NAME_BYTES_MAX + 1);
        // Two bytes a character: the bound is one of bytes.
        let wide = "ö".repeat(KEYSPACE_NAME_BYTES_MAX / 2 + 1);
        for name in ["", "a\nb", "\0", "tab\t", "\u{85}", &long, &wide] {
            let refused = check_name(name).unwrap_err().to_string();
            assert!(refused.starts_with("invalid keyspace name: "), "{refused}");
            assert!(!refused.contains('\n') && refused.len() < 100, "{refused}");
            assert_eq!(name_of(&record_key(name)), None);
        }
        assert_eq!(name_of(NEXT_ID_KEY), None);
        assert_eq!(name_of(b"\x01\xff"), None);
    }
}
