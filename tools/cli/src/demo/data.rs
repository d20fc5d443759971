//! The shipped data, and what a database made of it must hold.
//!
//! The table is inside the binary (see `build.rs`), so that the demonstration runs wherever the
//! binary does.

use std::collections::BTreeMap;
use std::io::Cursor;

use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use crate::error::CliError;
use crate::import::{Format, Source, Step};

/// What messages call it.
pub(super) const NAME: &str = "the Unicode character database 15.0.0 (unicode.csv)";

/// The key's columns. All characters of a script stand together, and in a script by code point.
const KEY: [&str; 2] = ["script", "code_point"];

/// The table, deflated.
const PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/unicode.csv.zlib"));

/// More than the table may ever have: it is to stay under 3 MB.
const BYTES_MAX: usize = 8 << 20;

/// Coprime to the number of rows, so that steps of it meet every one.
const STRIDE: usize = 15_485_863;

/// Everything that the database must hold.
pub(super) type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// The table's text.
pub(super) fn unpack() -> Result<Vec<u8>, CliError> {
    decompress_to_vec_zlib_with_limit(PACKED, BYTES_MAX)
        .map_err(|error| CliError::Demo(format!("cannot unpack the data of this binary: {error}")))
}

/// The table as an input to import.
pub(super) fn source(text: Vec<u8>) -> Result<Source, CliError> {
    let key = KEY.map(str::to_owned).to_vec();
    Ok(Source::new(
        NAME,
        Box::new(Cursor::new(text)),
        Format::Csv,
        key,
    )?)
}

/// The entries that the table makes.
pub(super) fn model(text: &[u8]) -> Result<Model, CliError> {
    let mut source = source(text.to_vec())?;
    let mut model = Model::new();
    loop {
        match source.step() {
            Step::NeedInput => source
                .refill()
                .map_err(|error| CliError::Demo(format!("cannot read the data: {error}")))?,
            Step::Row(row) => {
                model.insert(row.key, row.value);
            }
            Step::Header => {}
            Step::Bad(bad) => return Err(CliError::Demo(format!("the data: {bad}"))),
            Step::End => return Ok(model),
        }
    }
}

/// All entries, in an order that has nothing to do with that of their keys.
pub(super) fn scattered(model: &Model) -> Vec<(&[u8], &[u8])> {
    let sorted: Vec<_> = model.iter().collect();
    let place = |index: usize| (index * STRIDE) % sorted.len();
    (0..sorted.len())
        .map(|index| sorted[place(index)])
        .map(|(key, value)| (&key[..], &value[..]))
        .collect()
}

/// A count as the library's figures are.
pub(super) fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_data_has_a_key_for_each_row() {
        let text = unpack().unwrap();
        let model = model(&text).unwrap();
        let lines = std::str::from_utf8(&text).unwrap().lines().count();
        assert_eq!(model.len(), lines - 1);
        assert_eq!(model.len(), 34_888);
        let alpha = std::str::from_utf8(&model[&b"Greek/0003B1"[..]]).unwrap();
        assert!(
            alpha.contains("\"name\":\"GREEK SMALL LETTER ALPHA\""),
            "{alpha}"
        );
    }

    #[test]
    fn scattering_meets_every_entry_once() {
        let model = model(&unpack().unwrap()).unwrap();
        let scattered = scattered(&model);
        assert_ne!(
            scattered.iter().map(|&(key, _)| key).nth(1),
            model.keys().map(|key| &key[..]).nth(1)
        );
        let again: Model = scattered
            .iter()
            .map(|&(k, v)| (k.to_vec(), v.to_vec()))
            .collect();
        assert_eq!(again, model);
    }
}
