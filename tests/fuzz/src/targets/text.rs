//! The parsers of input files and the escapes of the `lightning` command.

use lightning_cli::fuzz::{Parsed, Syntax, escaped, parse};
use lightning_io::sim::Rng;

use crate::target::{Target, Verdict};

/// The reader's buffer is 1 MiB, and an input is parsed two times.
const HEAP_BYTES: usize = 4 << 20;
/// A short field becomes a member with its column's whole name, in each row.
const HEAP_FACTOR: usize = 4 << 10;

/// One syntax of tables.
#[derive(Debug)]
pub(crate) struct TableTarget {
    syntax: Syntax,
    /// What separates fields, and what values are made of.
    separator: &'static str,
}

impl TableTarget {
    pub(crate) fn csv() -> Self {
        Self {
            syntax: Syntax::Csv,
            separator: ",",
        }
    }

    pub(crate) fn tsv() -> Self {
        Self {
            syntax: Syntax::Tsv,
            separator: "\t",
        }
    }

    pub(crate) fn jsonl() -> Self {
        Self {
            syntax: Syntax::Jsonl,
            separator: ", ",
        }
    }

    fn field(&self, rng: &mut Rng) -> &'static str {
        match self.syntax {
            Syntax::Csv => rng.pick(&["", "a", "x y", "\"q\"", "\"a,\n\"\"b\"", "\\", "ß", "1e9"]),
            Syntax::Tsv => rng.pick(&["", "a", "\"", "ß\u{1}", "1,2", "\\t"]),
            Syntax::Jsonl => rng.pick(&[
                "1",
                "-0.10e+3",
                "\"a\\u00e9\\n\"",
                "null",
                "true",
                "[1, {\"k\": 2}]",
                "{}",
                "\"\"",
            ]),
        }
    }
}

impl Target for TableTarget {
    fn make(&mut self, rng: &mut Rng) -> Vec<u8> {
        let names = ["k", "l", "m"];
        let count = 1 + rng.index(3);
        let mut text = String::new();
        if rng.below(8) == 0 {
            text.push('\u{feff}');
        }
        if self.syntax != Syntax::Jsonl {
            text += &names[..count].join(self.separator);
            text.push('\n');
        }
        for _ in 0..rng.below(6) {
            let fields = (0..count).map(|at| match self.syntax {
                Syntax::Jsonl => format!("\"{}\": {}", names[at], self.field(rng)),
                Syntax::Csv | Syntax::Tsv => self.field(rng).to_owned(),
            });
            let row = fields.collect::<Vec<_>>().join(self.separator);
            let (open, close) = match self.syntax {
                Syntax::Jsonl => ("{", "}"),
                Syntax::Csv | Syntax::Tsv => ("", ""),
            };
            text.extend([open, &row, close]);
            text += rng.pick(&["\n", "\r\n", "\n\n", "\r"]);
        }
        text.into_bytes()
    }

    fn run(&mut self, input: &[u8]) -> Result<Verdict, String> {
        let key = ["k".to_owned()];
        let whole = parse(self.syntax, &key, input, usize::MAX);
        let piece = 1 + input.len() % 7;
        let pieces = parse(self.syntax, &key, input, piece);
        if whole != pieces {
            return Err(format!(
                "pieces of {piece} bytes: {pieces:?}, not {whole:?}"
            ));
        }
        let parsed = match whole {
            Ok(parsed) => parsed,
            // What the header says instead is not the same for any two.
            Err(why) => {
                let why = why.split(" in the header: ").next();
                return Ok(Verdict::Refused(why.unwrap_or_default().to_owned()));
            }
        };
        let lines = input.iter().filter(|&&byte| byte == b'\n' || byte == b'\r');
        if parsed.len() > lines.count() + 1 {
            return Err(format!("{} rows of too few lines", parsed.len()));
        }
        let (mut rows, mut first_bad) = (0, None);
        for row in parsed {
            match row {
                Parsed::Row { key, value } => {
                    check_row(&key, &value)?;
                    rows += 1;
                }
                Parsed::Bad(why) => first_bad = first_bad.or(Some(why)),
            }
        }
        Ok(match (rows, first_bad) {
            (0, None) => Verdict::Refused("no rows".to_owned()),
            (0, Some(why)) => Verdict::Refused(why),
            (_, None) => Verdict::Accepted("rows".to_owned()),
            (_, Some(why)) => Verdict::Accepted(format!("rows, and {why}")),
        })
    }

    fn heap_bytes_max(&self, input_bytes: usize) -> usize {
        HEAP_BYTES + HEAP_FACTOR * input_bytes
    }
}

/// A value is a JSON object that says its key again.
fn check_row(key: &[u8], value: &[u8]) -> Result<(), String> {
    let value: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(value).map_err(|error| format!("no JSON object: {error}"))?;
    let found = value.get("k").ok_or("the key's column is gone")?;
    if key.is_empty() {
        return Err("an empty key".to_owned());
    }
    match found {
        serde_json::Value::String(text) if text.as_bytes() != key => {
            Err(format!("the key of {text:?} is {key:?}"))
        }
        _ => Ok(()),
    }
}

/// The escapes of output: one line of text from which the bytes can be had back.
#[derive(Debug)]
pub(crate) struct EscapeTarget;

impl Target for EscapeTarget {
    fn make(&mut self, rng: &mut Rng) -> Vec<u8> {
        let parts = [
            &b"a"[..],
            b"\t",
            b"\n",
            b"\r",
            b"\\",
            b"\\x41",
            b"\xff",
            b"\xc3",
            "ß".as_bytes(),
        ];
        (0..rng.below(30))
            .flat_map(|_| rng.pick(&parts).to_vec())
            .collect()
    }

    fn run(&mut self, input: &[u8]) -> Result<Verdict, String> {
        let text = escaped(input);
        if text.contains(['\t', '\n', '\r']) {
            return Err(format!("more than one field of one line: {text:?}"));
        }
        if unescaped(&text).as_deref() != Some(input) {
            return Err(format!("other bytes come back of {text:?}"));
        }
        let is_plain = text.as_bytes() == input;
        let what = if is_plain { "plain" } else { "escaped" };
        Ok(Verdict::Accepted(what.to_owned()))
    }

    fn heap_bytes_max(&self, input_bytes: usize) -> usize {
        (64 << 10) + 64 * input_bytes
    }
}

/// The inverse, written from the description of the escapes.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (&escape, after) = rest.split_first()?;
        rest = after;
        bytes.push(match escape {
            b't' => b'\t',
            b'n' => b'\n',
            b'r' => b'\r',
            b'\\' => b'\\',
            b'x' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?
            }
            _ => return None,
        });
    }
    Some(bytes)
}
