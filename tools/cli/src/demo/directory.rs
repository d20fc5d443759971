//! Where the demonstration puts its database.

use std::path::{Path, PathBuf};
use std::{env, fs, io, process};

use crate::error::CliError;

/// Attempts to find a name that is not taken, should earlier processes have had this one's number.
const NAMES_MAX: u32 = 1000;

/// Makes sure of a new or empty directory.
pub(super) fn prepare(directory: Option<PathBuf>) -> Result<PathBuf, CliError> {
    let Some(directory) = directory else {
        return fresh();
    };
    fs::create_dir_all(&directory).map_err(|error| refused(&directory, &error))?;
    let mut entries = fs::read_dir(&directory).map_err(|error| refused(&directory, &error))?;
    if entries.next().is_some() {
        return Err(refused(&directory, &"it is not empty"));
    }
    Ok(directory)
}

fn fresh() -> Result<PathBuf, CliError> {
    let parent = env::temp_dir();
    for number in 0..NAMES_MAX {
        let directory = parent.join(format!("lightning-demo-{}-{number}", process::id()));
        match fs::create_dir(&directory) {
            Ok(()) => return Ok(directory),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(refused(&directory, &error)),
        }
    }
    Err(refused(&parent, &"it is full of earlier demonstrations"))
}

fn refused(path: &Path, reason: &dyn ToString) -> CliError {
    CliError::DemoDirectory {
        path: path.to_path_buf(),
        reason: reason.to_string(),
    }
}
