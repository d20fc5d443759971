//! What an import tells while it goes on.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::row::BadRow;
use crate::error::CliError;
use crate::output::{Output, note};

/// Skipped rows that are told one by one; of the others only the number is told.
const SKIPPED_SHOWN_MAX: u64 = 10;

/// Redraws of a bar whose input is waited for.
const TICK: Duration = Duration::from_millis(120);

/// What an import tells while it goes on: a bar on a terminal, acknowledgements where they were
/// asked for, and the first bad rows.
#[derive(Debug)]
pub(crate) struct Progress {
    file: String,
    bar: ProgressBar,
    /// Where acknowledgements go, until nobody reads them any more.
    acks: Option<Output>,
    /// The first failure to write one, other than a closed pipe.
    ack_failure: Option<CliError>,
    skipped: u64,
}

impl Progress {
    /// Tells nothing but bad rows.
    pub(crate) fn quiet(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            bar: ProgressBar::hidden(),
            acks: None,
            ack_failure: None,
            skipped: 0,
        }
    }

    /// Shows a bar when standard error is a terminal; `length` is the input's, where it is known.
    pub(super) fn bar(file: &str, length: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        let template = match length {
            Some(_) => "{bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {msg}",
            None => "{spinner} {binary_bytes} {binary_bytes_per_sec} {msg}",
        };
        bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant"));
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Self {
            bar,
            ..Self::quiet(file)
        }
    }

    /// Prints `acked N` for every outcome from now on.
    pub(super) fn acknowledge(&mut self) {
        self.acks = Some(Output::new());
    }

    /// The first `rows` rows are durable; they reach up to byte `position` of the input.
    pub(super) fn durable(&mut self, rows: u64, position: u64) {
        self.bar.set_position(position);
        self.bar.set_message(format!("{rows} rows"));
        let Some(mut out) = self.acks.take() else {
            return;
        };
        let written = self.bar.suspend(|| {
            out.line(format_args!("acked {rows}"))
                .and_then(|()| out.flush())
        });
        match written {
            Ok(()) => self.acks = Some(out),
            // Nobody listens any more, which is no reason to leave the rest of the input out.
            Err(CliError::OutputClosed) => {}
            Err(error) => self.ack_failure = Some(error),
        }
    }

    /// A row is left out.
    pub(super) fn skipped(&mut self, bad: &BadRow) {
        self.skipped += 1;
        if self.skipped <= SKIPPED_SHOWN_MAX {
            let file = &self.file;
            self.bar
                .suspend(|| note(format_args!("lightning: skipped: {file}, {bad}")));
        }
    }

    /// Takes the bar away, and tells how many skipped rows were not shown.
    ///
    /// # Errors
    /// An acknowledgement could not be written.
    pub(super) fn finish(self) -> Result<u64, CliError> {
        self.bar.finish_and_clear();
        if self.skipped > SKIPPED_SHOWN_MAX {
            let more = self.skipped - SKIPPED_SHOWN_MAX;
            note(format_args!(
                "lightning: skipped: {more} more rows of {}",
                self.file
            ));
        }
        self.ack_failure.map_or(Ok(self.skipped), Err)
    }
}
