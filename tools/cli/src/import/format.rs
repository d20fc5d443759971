//! How an input file is written.

use std::ffi::OsStr;
use std::path::Path;

use crate::error::CliError;

/// How an input file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Comma-separated values with a header line; fields may be quoted
    Csv,
    /// Tab-separated values with a header line; fields are never quoted
    Tsv,
    /// One JSON object a line
    Jsonl,
}

impl Format {
    /// Tells the format from the file's name.
    pub(crate) fn of(path: &Path) -> Result<Self, CliError> {
        let extension = path.extension().map(OsStr::to_ascii_lowercase);
        match extension.as_deref().and_then(|text| text.to_str()) {
            Some("csv") => Ok(Self::Csv),
            Some("tsv") => Ok(Self::Tsv),
            Some("jsonl") => Ok(Self::Jsonl),
            _ => Err(CliError::Usage(format!(
                "cannot tell the format of {} from its name: say --format csv, tsv or jsonl",
                path.display()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_tells_the_format() {
        assert_eq!(Format::of(Path::new("a/b.CSV")).unwrap(), Format::Csv);
        assert_eq!(Format::of(Path::new("b.tsv")).unwrap(), Format::Tsv);
        assert_eq!(Format::of(Path::new("b.x.jsonl")).unwrap(), Format::Jsonl);
        for unknown in ["-", "b", "b.txt", "csv", ".csv"] {
            let error = Format::of(Path::new(unknown)).unwrap_err();
            assert_eq!(error.exit_status(), 2, "{unknown}");
        }
    }
}
