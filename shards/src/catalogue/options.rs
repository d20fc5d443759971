//! How a keyspace is set up, for as long as it exists.

/// Options of a keyspace, chosen when it is created and fixed from then on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyspaceOptions {}

impl KeyspaceOptions {
    /// The options of a keyspace for which none is set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// What is wrong with it: to leave an option out that is not known could give the data another
    /// meaning.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        match bytes.first() {
            Some(tag) => Err(format!(
                "it has an option {tag}, which this build does not know"
            )),
            None => Ok(Self::default()),
        }
    }
}
