//! Which runs are merged next: a function of the list of runs alone.
//!
//! # Algorithm
//! The debt of the runs is what merging them into the base would read. A merge into the base is due
//! when the debt has come to a fifth of the base: each merge rewrites most of the base, so that
//! every byte is written about five times over on its way there. It is due as well when there are
//! as many runs of the second tier, or as many runs in all, as reads can bear. It takes all whole
//! runs at the old end of the list.
//!
//! Between two merges into a large base many runs pile up. When there are `fan` of the first tier,
//! they become one of the second: a write more for each byte, and a fraction of the runs for each
//! read. Where a merge into the base is about to be due anyway, that is left out.
//!
//! One merge of each kind is under way at most; with one of each, their steps alternate.

use std::ops::Range;

use crate::tree::{MergeStep, MergeTarget, RUNS_MAX, RunInfo, RunPhase};

/// A merge into the base is due when the debt is one part in so many of the base.
const BASE_PARTS: u64 = 5;

/// The debt from which on writers are slowed, in quarters of that at which a merge is due: 35 % of
/// the base. From here on merging has not kept up with writing.
const SLOW_QUARTERS: u64 = 7;

/// What a policy goes by besides the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Runs of one tier that are merged; 0 for none at any time.
    pub(crate) fan: usize,
    /// The least debt at which a merge into the base is due, so that a small base is not rewritten
    /// with every flush.
    pub(crate) debt_bytes_min: u64,
    /// Whether everything is to be merged into the base, whatever it costs.
    pub(crate) everything: bool,
}

/// The debt of all runs.
pub(super) fn debt_bytes(runs: &[RunInfo]) -> u64 {
    runs.iter().map(|run| run.debt_bytes).sum()
}

/// The debt at which a merge into the base is due.
pub(super) fn due_bytes(base_bytes: u64, settings: &Settings) -> u64 {
    (base_bytes / BASE_PARTS)
        .max(settings.debt_bytes_min)
        .max(1)
}

/// How much writers are slowed, in thousandths: nothing up to 35 %, and in proportion from there to
/// twice that much, and no more beyond.
pub(super) fn pressure(runs: &[RunInfo], base_bytes: u64, settings: &Settings) -> u64 {
    let slow_from = due_bytes(base_bytes, settings) * SLOW_QUARTERS / 4;
    let beyond = debt_bytes(runs).saturating_sub(slow_from);
    (beyond.saturating_mul(1000) / slow_from).min(1000)
}

/// The merge whose next step is to be taken, and its inputs; `last` is the one that had its turn
/// before.
pub(super) fn next_merge(
    runs: &[RunInfo],
    base_bytes: u64,
    settings: &Settings,
    last: Option<MergeTarget>,
) -> Option<(MergeTarget, Range<usize>)> {
    let into_base = into_base(runs, base_bytes, settings);
    let into_run = into_run(runs, base_bytes, settings, into_base.is_some());
    let into_base = into_base.map(|inputs| (MergeTarget::Base, inputs));
    let into_run = into_run.map(|inputs| (MergeTarget::Run, inputs));
    match last {
        Some(MergeTarget::Base) => into_run.or(into_base),
        _ => into_base.or(into_run),
    }
}

/// The step to take before another run can be written, when there are as many as there may be.
pub(super) fn step_for_room(runs: &[RunInfo], bytes_max: usize) -> Option<MergeStep> {
    if runs.len() < RUNS_MAX {
        return None;
    }
    let settings = Settings {
        fan: 0,
        debt_bytes_min: 0,
        everything: true,
    };
    let (target, inputs) = next_merge(runs, 0, &settings, None)?;
    Some(MergeStep {
        target,
        inputs,
        bytes_max,
    })
}

fn into_base(runs: &[RunInfo], base_bytes: u64, settings: &Settings) -> Option<Range<usize>> {
    let begun = stretch(runs, |run| run.phase == RunPhase::IntoBase);
    if !begun.is_empty() {
        return Some(begun);
    }
    let whole = runs.iter().take_while(|run| run.phase == RunPhase::Whole);
    let oldest = &runs[..whole.count()];
    let due = due_bytes(base_bytes, settings);
    let is_other_under_way = oldest.len() < runs.len();
    let has_most = debt_bytes(oldest) >= due / 2;
    let second_tier = oldest.iter().filter(|run| run.tier > 0);
    let is_due = settings.everything
        || settings.fan == 0
        || runs.len() >= RUNS_MAX / 2
        || second_tier.count() >= settings.fan
        || debt_bytes(runs) >= due && (has_most || !is_other_under_way);
    (is_due && !oldest.is_empty()).then_some(0..oldest.len())
}

fn into_run(
    runs: &[RunInfo],
    base_bytes: u64,
    settings: &Settings,
    is_base_merged: bool,
) -> Option<Range<usize>> {
    let begun = stretch(runs, |run| run.phase == RunPhase::IntoRun);
    if !begun.is_empty() {
        return Some(begun);
    }
    if settings.everything || settings.fan == 0 {
        return None;
    }
    let first_tier = stretch(runs, |run| run.tier == 0 && run.phase == RunPhase::Whole);
    let is_base_begun = runs
        .first()
        .is_some_and(|run| run.phase == RunPhase::IntoBase);
    if is_base_merged && !is_base_begun {
        // It takes these, too.
        return None;
    }
    // The target is a run more as long as it grows.
    let has_room = runs.len() < RUNS_MAX;
    let is_worth_it = is_base_begun
        || first_tier.len() >= 2 * settings.fan
        || debt_bytes(runs) < due_bytes(base_bytes, settings) / 2;
    (first_tier.len() >= settings.fan && is_worth_it && has_room).then_some(first_tier)
}

/// The first neighbours for which something holds.
fn stretch(runs: &[RunInfo], holds: impl Fn(&RunInfo) -> bool) -> Range<usize> {
    let start = runs.iter().position(&holds).unwrap_or(runs.len());
    let count = runs[start..].iter().take_while(|run| holds(run)).count();
    start..start + count
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        fan: 4,
        debt_bytes_min: 40,
        everything: false,
    };

    fn run(tier: u8, phase: RunPhase) -> RunInfo {
        RunInfo {
            id: 0,
            tier,
            phase,
            entries: 1,
            debt_bytes: 10,
        }
    }

    fn whole(tiers: &[u8]) -> Vec<RunInfo> {
        let runs = tiers.iter().map(|&tier| run(tier, RunPhase::Whole));
        runs.collect()
    }

    fn next(runs: &[RunInfo], base_bytes: u64) -> Option<(MergeTarget, Range<usize>)> {
        next_merge(runs, base_bytes, &SETTINGS, None)
    }

    #[test]
    fn nothing_is_merged_before_it_is_due() {
        assert_eq!(next(&[], 0), None);
        assert_eq!(next(&whole(&[0, 0, 0]), 0), None);
        assert_eq!(next(&whole(&[1, 1, 1, 0, 0, 0]), 1000), None);
    }

    #[test]
    fn a_fifth_of_the_base_is_due() {
        let base = Some((MergeTarget::Base, 0..4));
        assert_eq!(next(&whole(&[0, 0, 0, 0]), 0), base);
        assert_eq!(next(&whole(&[0, 0, 0, 0]), 200), base);
        assert_eq!(next(&whole(&[1, 1, 1, 1]), 10_000), base);
        assert_eq!(
            next(&whole(&[0; 32]), 10_000),
            Some((MergeTarget::Base, 0..32))
        );
    }

    #[test]
    fn runs_of_the_first_tier_become_one_unless_the_base_takes_them_soon() {
        assert_eq!(
            next(&whole(&[1, 0, 0, 0, 0]), 1000),
            Some((MergeTarget::Run, 1..5))
        );
        // A debt of 50 of 60: more than half.
        assert_eq!(next(&whole(&[1, 0, 0, 0, 0]), 300), None);
        let many = whole(&[0; 8]);
        assert_eq!(next(&many, 500), Some((MergeTarget::Run, 0..8)));
    }

    #[test]
    fn a_merge_goes_on_with_its_own_inputs_and_kinds_alternate() {
        let mut runs = vec![run(1, RunPhase::IntoBase), run(0, RunPhase::IntoBase)];
        runs.extend(whole(&[0, 0, 0]));
        assert_eq!(next(&runs, 1000), Some((MergeTarget::Base, 0..2)));
        runs.extend(whole(&[0]));
        let after = |last| next_merge(&runs, 1000, &SETTINGS, Some(last));
        assert_eq!(after(MergeTarget::Base), Some((MergeTarget::Run, 2..6)));
        assert_eq!(after(MergeTarget::Run), Some((MergeTarget::Base, 0..2)));
        let mut runs = whole(&[1]);
        runs.extend([run(1, RunPhase::Growing), run(0, RunPhase::IntoRun)]);
        runs.extend(whole(&[0; 9]));
        // All that is older than the target would be little: the target is waited for.
        assert_eq!(next(&runs, 500), Some((MergeTarget::Run, 2..3)));
        assert_eq!(
            next_merge(&runs, 500, &SETTINGS, Some(MergeTarget::Run)),
            Some((MergeTarget::Run, 2..3))
        );
    }

    #[test]
    fn with_everything_to_be_merged_all_whole_runs_go_into_the_base() {
        let all = Settings {
            everything: true,
            ..SETTINGS
        };
        let none = Settings { fan: 0, ..SETTINGS };
        for settings in [all, none] {
            let next = |runs: &[RunInfo]| next_merge(runs, 1_000_000, &settings, None);
            assert_eq!(next(&whole(&[0])), Some((MergeTarget::Base, 0..1)));
            let grows = [run(1, RunPhase::Growing), run(0, RunPhase::IntoRun)];
            assert_eq!(next(&grows), Some((MergeTarget::Run, 1..2)));
        }
    }

    #[test]
    fn pressure_rises_smoothly_and_ends() {
        let at = |debt_bytes| {
            let runs = [RunInfo {
                debt_bytes,
                ..run(0, RunPhase::Whole)
            }];
            pressure(&runs, 1000, &SETTINGS)
        };
        assert_eq!(at(0), 0);
        assert_eq!(at(350), 0);
        assert_eq!(at(525), 500);
        assert_eq!(at(700), 1000);
        assert_eq!(at(u64::MAX), 1000);
    }
}
