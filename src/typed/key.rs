//! Keys that keep their order as bytes.

use foundationdb_tuple::{TuplePack, TupleUnpack};

/// A type of keys whose bytes sort as its values do.
///
/// It is there for integers of 16 to 64 bits, `f32`, `f64`, `bool`, `String`, `Vec<u8>` (bytes),
/// `Option`, and tuples and vectors of these, nested as you like; a type of your own becomes one by
/// turning itself into such a tuple and back. Values compare part by part: of two strings, or two
/// vectors, the one that the other begins with comes first; `None` comes before everything, integers
/// by their value whatever their widths, floats by their sign bit and value, with NaNs at the ends.
///
/// The bytes are those of the tuple layer of `FoundationDB`, which its specification documents for all
/// languages: <https://github.com/apple/foundationdb/blob/main/design/tuple.md>.
///
/// ```
/// use lightning_db::Key;
///
/// #[derive(Debug, PartialEq)]
/// struct Edge {
///     from: u64,
///     to: u64,
/// }
///
/// impl Key for Edge {
///     fn to_bytes(&self) -> Vec<u8> {
///         (self.from, self.to).to_bytes()
///     }
///
///     fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
///         let (from, to) = Key::from_bytes(bytes)?;
///         Ok(Self { from, to })
///     }
/// }
///
/// assert!(Edge { from: 2, to: 255 }.to_bytes() < Edge { from: 2, to: 256 }.to_bytes());
/// assert!((-1_i64, "b".to_owned()).to_bytes() < (0_i64, "a".to_owned()).to_bytes());
/// ```
pub trait Key: Sized {
    /// The bytes: for two values they compare as these do, and they differ when these do.
    fn to_bytes(&self) -> Vec<u8>;

    /// The value that has these bytes.
    ///
    /// # Errors
    /// What is wrong with them, when no value has them.
    fn from_bytes(bytes: &[u8]) -> Result<Self, String>;
}

impl<T: TuplePack + for<'bytes> TupleUnpack<'bytes>> Key for T {
    fn to_bytes(&self) -> Vec<u8> {
        foundationdb_tuple::pack(self)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        foundationdb_tuple::unpack(bytes).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_documented_bytes() {
        let documented = [
            &b"\x02a\0"[..],
            b"\x13\xfa",
            b"\0",
            b"\x27",
            b"\x16\x01\0",
            b"\x0c\x7f\xff\xff\xff\xff\xff\xff\xff",
            b"\x05\x01\0\xff\x01\0\0\xff\0",
            b"\x21\xbf\xf8\0\0\0\0\0\0",
            b"\x20\x40\x7f\xff\xff",
        ];
        let key = (
            "a".to_owned(),
            -5_i16,
            None::<bool>,
            true,
            256_u64,
            i64::MIN,
            (vec![0_u8, 1], None::<String>),
            1.5_f64,
            -1.0_f32,
        );
        assert_eq!(key.to_bytes(), documented.concat());
    }
}
