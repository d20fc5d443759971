//! Figures of the sweeps.

use super::Settings;
use super::part::{Part, Required};
use super::seeds::Progress;
use super::table::{Row, Stopwatch, Table, grouped};
use crate::sweep::{
    ByteFigures, CallFigures, Extent, sweep_bytes, sweep_calls, sweep_swaps, sweep_syncs,
};

/// Runs one sweep and adds its row.
pub(super) fn sweep(
    part: Part,
    settings: &Settings,
    table: &mut Table,
    progress: &mut dyn FnMut(&str),
) {
    let watch = Stopwatch::start();
    let required = Required::of(settings.long);
    let (seed, jobs) = (settings.first_seed, settings.jobs);
    let (needed, reached, note) = match part {
        Part::Bytes => {
            let found = sweep_bytes(seed, required.bytes, jobs);
            let found = damaged(part, found, table);
            let (all, unread) = (grouped(found.bytes), grouped(found.total().unread));
            let note = format!(
                "changes; two databases of {all} bytes in all, 10 changes a byte; {unread} of them in \
                 blocks that nothing reads"
            );
            (required.bytes_least, good(&found), note)
        }
        Part::Swaps => {
            let found = damaged(part, sweep_swaps(seed, required.swaps, jobs), table);
            (required.swaps_least, good(&found), "swaps".to_owned())
        }
        _ => {
            let sweep = if part == Part::Syncs {
                sweep_syncs
            } else {
                sweep_calls
            };
            let last = seed + required.programs;
            let mut progress = Progress::new(progress);
            let (mut cases, mut good, mut done) = (0, 0, 0);
            for seed in seed..last {
                let found = failed(part, sweep(seed, Extent::Whole, jobs), table);
                // A program that could not be run would have had at least one case.
                cases += found.cases.max(1);
                good += found.cases.saturating_sub(found.violation_count);
                done += 1;
                progress.tell(|| format!("{done} of {} programs", required.programs));
            }
            let note = format!("all n of the programs of the seeds {seed}..{last}");
            (cases, good, note)
        }
    };
    table.rows.push(Row {
        what: part.what().to_owned(),
        required: needed,
        reached,
        note,
        took: watch.elapsed(),
    });
}

/// Cases in which nothing was violated.
fn good(found: &ByteFigures) -> u64 {
    found.cases.saturating_sub(found.violation_count)
}

fn damaged(part: Part, found: Result<ByteFigures, String>, table: &mut Table) -> ByteFigures {
    let found = found.unwrap_or_else(|error| {
        table.violate(format!("{}: {error}", part.name()));
        ByteFigures::default()
    });
    table.violate_often(part.name(), found.violation_count, &found.violations);
    found
}

fn failed(part: Part, found: Result<CallFigures, String>, table: &mut Table) -> CallFigures {
    let found = found.unwrap_or_else(|error| {
        table.violate(format!("{}: {error}", part.name()));
        CallFigures::default()
    });
    table.violate_often(part.name(), found.violation_count, &found.violations);
    found
}
