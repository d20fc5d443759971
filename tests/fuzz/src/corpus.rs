//! Saved inputs: `corpus/<target>-<why>-<checksum>`, each a regression or a seed that reaches deep.

#![expect(
    clippy::disallowed_methods,
    reason = "that list is for shards; a fuzzer keeps its inputs in ordinary files"
)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The corpus of the repository.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The inputs of a target below a directory, by name; none where there is no directory.
///
/// # Errors
/// Those of reading.
pub fn load(directory: &Path, target: &str) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut inputs = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let owner = name
            .and_then(|name| name.split_once('-'))
            .map(|parts| parts.0);
        if owner == Some(target) {
            let bytes = fs::read(&path)?;
            inputs.push((path, bytes));
        }
    }
    inputs.sort();
    Ok(inputs)
}

/// Saves an input; one that is there already stays as it is.
///
/// # Errors
/// Those of writing.
pub fn save(directory: &Path, target: &str, why: &str, input: &[u8]) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let path = directory.join(format!("{target}-{why}-{:08x}", crc32fast::hash(input)));
    fs::write(&path, input)?;
    Ok(path)
}
