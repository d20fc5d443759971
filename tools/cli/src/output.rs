//! Standard output and standard error, as every command writes them.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use crate::error::CliError;

/// Bytes gathered before they are written: a pipe's usual capacity.
const BUFFER_BYTES: usize = 64 << 10;

/// Standard output, buffered.
///
/// A command that is done calls [`Output::flush`]: dropping it would hide a failure to write.
#[derive(Debug)]
pub(crate) struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    pub(crate) fn new() -> Self {
        Self(BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock()))
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.0.get_ref().is_terminal()
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        Ok(self.0.write_all(bytes)?)
    }

    /// Writes a line of text.
    pub(crate) fn line(&mut self, line: impl fmt::Display) -> Result<(), CliError> {
        Ok(writeln!(self.0, "{line}")?)
    }

    /// Hands everything to whoever reads it.
    pub(crate) fn flush(&mut self) -> Result<(), CliError> {
        Ok(self.0.flush()?)
    }
}

/// Writes a line to standard error.
pub(crate) fn note(message: impl fmt::Display) {
    // There is nowhere left to report that standard error cannot be written.
    drop(writeln!(io::stderr().lock(), "{message}"));
}
