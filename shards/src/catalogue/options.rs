//! How a keyspace is set up, for as long as it exists.
//!
//! # On-disk layout
//! Options are written one after the other by ascending tag, each at most once; one that is not set
//! is not there. A build refuses a keyspace with an option that it does not know: to leave it out
//! could give its data another meaning.
//! ```text
//! option: offset  bytes  field
//!              0      1  tag: 1 time to live, 2 merge operator
//!              1      1  length
//!              2      .  what the option is set to
//!
//! time to live: 8 bytes, microseconds
//! merge operator: its name, 1 to 128 bytes of UTF-8 without control characters
//! ```

use std::time::Duration;

use super::name::check_operator_name;
use crate::{Result, Ttl};

const TTL: u8 = 1;
const MERGE_OPERATOR: u8 = 2;

/// Options of a keyspace, chosen when it is created and fixed from then on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyspaceOptions {
    /// How long what is written lives, unless the write says otherwise; for ever by default.
    pub ttl: Option<Duration>,
    /// The name of the operator that merges use; without one there are none.
    pub merge_operator: Option<String>,
}

impl KeyspaceOptions {
    /// The options of a keyspace for which none is set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Has everything that is written expire after a time, counted from its commit, unless the
    /// write says otherwise; from a microsecond to about 142 years. Each write of a key begins a
    /// new life.
    #[must_use]
    pub fn ttl(mut self, time: Duration) -> Self {
        self.ttl = Some(time);
        self
    }

    /// Has merges use the operator of this name: [`crate::ADD_U64`], [`crate::APPEND`], or one that
    /// the database is opened with.
    #[must_use]
    pub fn merge_operator(mut self, name: impl Into<String>) -> Self {
        self.merge_operator = Some(name.into());
        self
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for the first option that is out of its bounds.
    pub(crate) fn validate(&self) -> Result<()> {
        self.default_ttl()?;
        let operator = self.merge_operator.as_deref();
        operator.map_or(Ok(()), check_operator_name)
    }

    /// How long what is written lives by default.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when it is out of its bounds, which is found when a keyspace is
    /// created.
    pub fn default_ttl(&self) -> Result<Option<Ttl>> {
        self.ttl.map(Ttl::new).transpose()
    }

    /// Appends the stored form of options that were validated.
    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        if let Ok(Some(ttl)) = self.default_ttl() {
            put(TTL, &ttl.to_bytes(), into);
        }
        if let Some(operator) = &self.merge_operator {
            put(MERGE_OPERATOR, operator.as_bytes(), into);
        }
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self, String> {
        let (mut options, mut last) = (Self::default(), 0);
        while let Some((tag, value)) = take(&mut bytes)? {
            if tag <= last {
                return Err(format!("its option {tag} comes behind option {last}"));
            }
            last = tag;
            let unsound = || {
                format!(
                    "its option {tag} is set to {} bytes that say nothing",
                    value.len()
                )
            };
            match tag {
                TTL => {
                    let ttl = Ttl::of(value).filter(|_| value.len() == Ttl::BYTES);
                    options.ttl = Some(ttl.ok_or_else(unsound)?.time());
                }
                MERGE_OPERATOR => {
                    let name = str::from_utf8(value).ok();
                    let name = name.filter(|name| check_operator_name(name).is_ok());
                    options.merge_operator = Some(name.ok_or_else(unsound)?.to_owned());
                }
                _ => {
                    return Err(format!(
                        "it has an option {tag}, which this build does not know"
                    ));
                }
            }
        }
        Ok(options)
    }
}

/// Appends an option.
fn put(tag: u8, value: &[u8], into: &mut Vec<u8>) {
    let length = u8::try_from(value.len()).expect("validated options are short");
    into.extend_from_slice(&[tag, length]);
    into.extend_from_slice(value);
}

/// Takes the next option off the bytes.
fn take<'a>(bytes: &mut &'a [u8]) -> Result<Option<(u8, &'a [u8])>, String> {
    let Some((&tag, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let cut_off = || format!("its option {tag} is cut off");
    let (&length, rest) = rest.split_first().ok_or_else(cut_off)?;
    let (value, rest) = rest.split_at_checked(length.into()).ok_or_else(cut_off)?;
    *bytes = rest;
    Ok(Some((tag, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(options: &KeyspaceOptions) -> Vec<u8> {
        let mut bytes = Vec::new();
        options.encode(&mut bytes);
        bytes
    }

    #[test]
    fn what_was_encoded_is_decoded_and_the_bytes_are_the_documented_ones() {
        let none = KeyspaceOptions::new();
        assert_eq!(encoded(&none), []);
        let expiring = KeyspaceOptions::new().ttl(Duration::from_micros(0x0102));
        assert_eq!(encoded(&expiring), [1, 8, 2, 1, 0, 0, 0, 0, 0, 0]);
        let counting = KeyspaceOptions::new().merge_operator("add");
        assert_eq!(encoded(&counting), b"\x02\x03add");
        let both = counting.clone().ttl(Duration::from_secs(1));
        for options in [none, expiring, counting, both] {
            assert_eq!(KeyspaceOptions::decode(&encoded(&options)), Ok(options));
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        let whole = encoded(&KeyspaceOptions::new().ttl(Duration::from_secs(1)));
        for len in 1..whole.len() {
            assert!(
                KeyspaceOptions::decode(&whole[..len]).is_err(),
                "cut at {len}"
            );
        }
        for bytes in [
            &[1, 8, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &[1, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0],
            &[2, 0],
            &[2, 1, 0xff],
            &[2, 1, b'\n'],
            &[99, 0],
            &[&whole[..], &whole[..]].concat(),
        ] {
            assert!(KeyspaceOptions::decode(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn options_out_of_their_bounds_are_refused() {
        assert!(KeyspaceOptions::new().validate().is_ok());
        let expiring = |time| KeyspaceOptions::new().ttl(time).validate();
        assert!(expiring(Duration::from_micros(1)).is_ok());
        assert!(expiring(Duration::ZERO).is_err());
        assert!(expiring(Duration::MAX).is_err());
        assert!(
            KeyspaceOptions::new()
                .merge_operator("")
                .validate()
                .is_err()
        );
    }
}
