//! Merge operators: how an operand and the value that is there become a new value.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::catalogue::check_operator_name;
use crate::{Error, Result};

/// Adds an operand to a counter: both are 8 bytes, a little-endian `u64`; a key that is not there
/// counts as 0.
///
/// A sum beyond the largest number is refused, as is a value or an operand of another length: a
/// counter that starts over, or stands still, would say something wrong and nobody would know.
pub const ADD_U64: &str = "add-u64";

/// Puts an operand behind the value that is there.
pub const APPEND: &str = "append";

/// Makes a new value of the one that is there and an operand.
///
/// It runs on the key's shard, which does nothing else meanwhile: it should be short, and wait for
/// nothing. One call of `merge` calls it once at the most.
pub trait MergeOperator: Send + Sync + 'static {
    /// The new value of a key; `existing` is none when the key is not there.
    ///
    /// # Errors
    /// Why there is no new value, in words: the caller hears it, and nothing is changed.
    fn merge(
        &self,
        key: &[u8],
        existing: Option<&[u8]>,
        operand: &[u8],
    ) -> std::result::Result<Vec<u8>, String>;
}

struct AddU64;

impl MergeOperator for AddU64 {
    fn merge(
        &self,
        _: &[u8],
        existing: Option<&[u8]>,
        operand: &[u8],
    ) -> std::result::Result<Vec<u8>, String> {
        let number = |what: &str, bytes: &[u8]| {
            let bytes = bytes.try_into().map_err(|_| {
                let len = bytes.len();
                format!("the {what} has {len} bytes; a number has 8")
            })?;
            Ok::<_, String>(u64::from_le_bytes(bytes))
        };
        let existing = existing.map_or(Ok(0), |value| number("value", value))?;
        let operand = number("operand", operand)?;
        let sum = existing
            .checked_add(operand)
            .ok_or_else(|| format!("{existing} and {operand} are more than the largest number"))?;
        Ok(sum.to_le_bytes().to_vec())
    }
}

struct Append;

impl MergeOperator for Append {
    fn merge(
        &self,
        _: &[u8],
        existing: Option<&[u8]>,
        operand: &[u8],
    ) -> std::result::Result<Vec<u8>, String> {
        Ok([existing.unwrap_or_default(), operand].concat())
    }
}

/// Merge operators by their names: what is built in, and what a database was opened with.
#[derive(Clone)]
pub struct MergeOperators(BTreeMap<String, Arc<dyn MergeOperator>>);

impl Default for MergeOperators {
    fn default() -> Self {
        let built_in: [(&str, Arc<dyn MergeOperator>); 2] =
            [(ADD_U64, Arc::new(AddU64)), (APPEND, Arc::new(Append))];
        let named = |(name, operator): (&str, _)| (name.to_owned(), operator);
        Self(built_in.into_iter().map(named).collect())
    }
}

impl MergeOperators {
    /// Adds an operator.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that cannot be one of a keyspace either, or that is taken.
    pub fn add(&mut self, name: &str, operator: Arc<dyn MergeOperator>) -> Result<()> {
        check_operator_name(name)?;
        if self.0.contains_key(name) {
            return Err(Error::Invalid {
                what: "merge operator",
                reason: format!("there is one with the name \"{name}\" already"),
            });
        }
        self.0.insert(name.to_owned(), operator);
        Ok(())
    }

    /// The operator that a keyspace needs, if it needs one.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is not there, with both names.
    pub fn for_keyspace(
        &self,
        keyspace: &str,
        operator: Option<&str>,
    ) -> Result<Option<Arc<dyn MergeOperator>>> {
        let Some(name) = operator else {
            return Ok(None);
        };
        let found = self.0.get(name).cloned();
        found.map(Some).ok_or_else(|| Error::Invalid {
            what: "merge operator",
            reason: format!(
                "the keyspace \"{keyspace}\" needs \"{name}\", which the database was not opened with"
            ),
        })
    }
}

impl fmt::Debug for MergeOperators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl PartialEq for MergeOperators {
    /// The same operators under the same names.
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self
                .0
                .iter()
                .zip(&other.0)
                .all(|(one, another)| one.0 == another.0 && Arc::ptr_eq(one.1, another.1))
    }
}

impl Eq for MergeOperators {}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator(name: &str) -> Arc<dyn MergeOperator> {
        let operators = MergeOperators::default();
        let found = operators.for_keyspace("counters", Some(name));
        found.unwrap().expect("it is built in")
    }

    #[test]
    fn numbers_are_added_and_what_is_none_is_refused() {
        let add = |existing: Option<&[u8]>, operand: &[u8]| {
            operator(ADD_U64).merge(b"k", existing, operand)
        };
        let number = |number: u64| number.to_le_bytes();
        assert_eq!(add(None, &number(3)).unwrap(), number(3));
        assert_eq!(
            add(Some(&number(u64::MAX - 3)), &number(3)).unwrap(),
            number(u64::MAX)
        );
        assert!(
            add(Some(&number(u64::MAX)), &number(1))
                .unwrap_err()
                .contains("largest")
        );
        assert!(
            add(Some(b"text"), &number(1))
                .unwrap_err()
                .contains("the value has 4 bytes")
        );
        assert!(
            add(None, b"")
                .unwrap_err()
                .contains("the operand has 0 bytes")
        );
    }

    #[test]
    fn bytes_are_put_behind_each_other() {
        let append =
            |existing: Option<&[u8]>| operator(APPEND).merge(b"k", existing, b"b").unwrap();
        assert_eq!(append(None), b"b");
        assert_eq!(append(Some(b"a")), b"ab");
    }

    #[test]
    fn a_name_is_taken_once_and_a_missing_operator_is_named() {
        let mut operators = MergeOperators::default();
        assert!(operators.add(APPEND, Arc::new(Append)).is_err());
        assert!(operators.add("", Arc::new(Append)).is_err());
        assert!(operators.add("mine", Arc::new(Append)).is_ok());
        assert!(operators.add("mine", Arc::new(Append)).is_err());
        assert_ne!(operators, MergeOperators::default());
        assert_eq!(operators, operators.clone());
        let Err(missing) = operators.for_keyspace("users", Some("yours")) else {
            panic!("there is no such operator");
        };
        let text = missing.to_string();
        assert!(
            text.contains("\"users\"") && text.contains("\"yours\""),
            "{text}"
        );
        assert!(operators.for_keyspace("users", None).unwrap().is_none());
        assert_eq!(format!("{operators:?}"), r#"{"add-u64", "append", "mine"}"#);
    }
}
