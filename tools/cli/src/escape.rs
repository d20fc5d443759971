//! Keys and values as one line of text each, such that the bytes can be had back.
//!
//! Tab, newline, carriage return and backslash become `\t`, `\n`, `\r` and `\\`; each byte that is
//! no part of valid UTF-8 becomes `\x` and two hexadecimal digits; everything else is itself.

/// Appends the escaped form of `bytes` to `into`.
pub(crate) fn escape(bytes: &[u8], into: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        for &byte in chunk.valid().as_bytes() {
            match byte {
                b'\t' => into.extend_from_slice(b"\\t"),
                b'\n' => into.extend_from_slice(b"\\n"),
                b'\r' => into.extend_from_slice(b"\\r"),
                b'\\' => into.extend_from_slice(b"\\\\"),
                other => into.push(other),
            }
        }
        for &byte in chunk.invalid() {
            into.extend_from_slice(format!("\\x{byte:02X}").as_bytes());
        }
    }
}

/// The escaped form of `bytes`.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len());
    escape(bytes, &mut text);
    // Nothing is lost: what is not UTF-8 was escaped.
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The inverse, written from the module's description.
    fn unescape(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('\\') {
            bytes.extend_from_slice(&rest.as_bytes()[..at]);
            let (byte, used) = match rest.as_bytes()[at + 1] {
                b't' => (b'\t', 2),
                b'n' => (b'\n', 2),
                b'r' => (b'\r', 2),
                b'\\' => (b'\\', 2),
                b'x' => (u8::from_str_radix(&rest[at + 2..at + 4], 16).unwrap(), 4),
                other => panic!("unknown escape {other}"),
            };
            bytes.push(byte);
            rest = &rest[at + used..];
        }
        bytes.extend_from_slice(rest.as_bytes());
        bytes
    }

    #[test]
    fn text_stays_readable() {
        assert_eq!(escaped("ключ/1 ✓".as_bytes()), "ключ/1 ✓");
        assert_eq!(escaped(b"a\tb\nc\rd\\"), r"a\tb\nc\rd\\");
        assert_eq!(escaped(b"\xff\x00\xc3(\xe2\x82"), "\\xFF\0\\xC3(\\xE2\\x82");
    }

    #[test]
    fn every_pair_of_bytes_comes_back() {
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let bytes = [first, second, b'x', b'\\', first];
                let text = escaped(&bytes);
                assert!(!text.contains(['\t', '\n', '\r']), "{bytes:?}");
                assert_eq!(unescape(&text), bytes);
            }
        }
    }
}
