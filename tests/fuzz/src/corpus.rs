//! Saved inputs: `corpus/<target>-<outcome>-<checksum>`, one for each way in which a target was seen
//! to refuse or to accept, with the outcome that it has to have again; and
//! `corpus/<target>-regression_<what>-<checksum>`, which broke something once.

#![expect(
    clippy::disallowed_methods,
    reason = "that list is for shards; a fuzzer keeps its inputs in ordinary files"
)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How the middle of a name begins that says no outcome.
const REGRESSION: &str = "regression_";

/// The middle of the name of what a run found.
pub(crate) const CRASH: &str = "crash";

/// One saved input.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Saved {
    /// Where it is.
    pub path: PathBuf,
    /// The target that takes it.
    pub target: String,
    /// What has to become of it; nothing where its name says something else.
    pub outcome: Option<String>,
    /// The input itself.
    pub bytes: Vec<u8>,
}

/// The corpus of the repository.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The inputs below a directory, by name; none where there is no directory.
///
/// # Errors
/// Those of reading.
pub fn load(directory: &Path) -> io::Result<Vec<Saved>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut inputs = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let parts: Vec<&str> = name.unwrap_or_default().split('-').collect();
        let [target, outcome, _] = parts[..] else {
            let what = format!("{} is not named as a saved input", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        };
        let is_outcome = outcome != CRASH && !outcome.starts_with(REGRESSION);
        inputs.push(Saved {
            target: target.to_owned(),
            outcome: is_outcome.then(|| outcome.to_owned()),
            bytes: fs::read(&path)?,
            path,
        });
    }
    inputs.sort();
    Ok(inputs)
}

/// Saves an input; one that is there already stays as it is.
///
/// # Errors
/// Those of writing.
pub fn save(directory: &Path, target: &str, outcome: &str, input: &[u8]) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let path = directory.join(format!("{target}-{outcome}-{:08x}", crc32fast::hash(input)));
    fs::write(&path, input)?;
    Ok(path)
}
