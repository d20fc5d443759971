//! The filters of runs in memory.
//!
//! # Ownership
//! A filter is read when a read first needs it, or is there already when this process made its run.
//! All versions that have the run share it. What the filters of the current version take is taken
//! off the budget of the page cache.

use lightning_io::Env;

use super::address::PageRef;
use super::blob::BlobKind;
use super::filter::Filter;
use super::run::{Phase, Run, RunList};
use super::tree::Shared;
use crate::Error;

/// The filter of a run that grows, for the tree with this root alone.
#[derive(Debug)]
pub(super) struct GrowingFilter {
    pub(super) page: PageRef,
    pub(super) filter: Filter,
}

impl<E: Env> Shared<E> {
    /// Takes the filters of the current version off the page cache's budget.
    pub(super) fn reserve_filters(&self) {
        let versions = self.versions.borrow();
        let resident = versions.current().list.runs.iter();
        let resident = resident.filter_map(|run| run.resident.get());
        let mut bytes = resident.flatten().map(Filter::size_bytes).sum();
        if let Some(growing) = &*self.growing_filter.borrow() {
            bytes += growing.filter.size_bytes();
        }
        self.store.cache.borrow_mut().reserve(bytes);
    }

    /// Reads the filter of a run. One that is damaged says of every key that it may be there, as
    /// nothing that is stored is lost with it; the verifier reports it.
    async fn load_filter(&self, run: &Run) {
        let store = &self.store;
        let content = store.read_blob(run.filter, BlobKind::Filter).await;
        let filter = content.and_then(|content| {
            Filter::from_bytes(&content).map_err(|what| store.damage(run.filter.unit, what))
        });
        let resident = match filter {
            Ok(filter) => Some(filter),
            Err(error @ Error::Corruption(_)) => {
                tracing::warn!(run = run.id, %error, "reads do without the filter of a run");
                None
            }
            Err(error) => {
                tracing::warn!(run = run.id, %error, "the filter of a run cannot be read now");
                return;
            }
        };
        // Another read may have been faster.
        if run.resident.set(resident).is_ok() {
            self.reserve_filters();
        }
    }

    /// Whether a run may have a key; reads its filter if that is not in memory.
    pub(super) async fn may_hold(&self, run: &Run, hash: u64) -> bool {
        if run.resident.get().is_none() {
            self.load_filter(run).await;
        }
        run.may_hold(hash).unwrap_or(true)
    }
}

impl Run {
    /// What the filter in memory says of a key; `None` when there is none.
    #[inline]
    pub(super) fn may_hold(&self, hash: u64) -> Option<bool> {
        let filter = self.resident.get()?;
        Some(
            filter
                .as_ref()
                .is_none_or(|filter| filter.may_contain(hash)),
        )
    }
}

/// A run that a lookup has to ask, and who speaks for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) run: &'a Run,
    /// The runs whose filters together say whether it may have the key.
    pub(super) speakers: &'a [std::rc::Rc<Run>],
}

impl RunList {
    /// The runs that may have a key by their bounds alone, newest first.
    pub(super) fn candidates<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = Candidate<'a>> {
        let count = self.runs.len();
        let newest_first = move |at: usize| {
            if planted!("runs_oldest_first") {
                at
            } else {
                count - 1 - at
            }
        };
        let runs = (0..count).map(newest_first);
        runs.map(|at| (at, &self.runs[at]))
            .filter(move |(_, run)| run.covers(key))
            .map(|(at, run)| {
                let inputs = if run.phase == Phase::Growing {
                    let rest = &self.runs[at + 1..];
                    let inputs = rest.iter().take_while(|run| run.phase == Phase::IntoRun);
                    &rest[..inputs.count()]
                } else {
                    &self.runs[at..=at]
                };
                Candidate {
                    run,
                    speakers: inputs,
                }
            })
    }
}
