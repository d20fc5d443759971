//! One change of the file: of the base or of a run, and of the list of runs and the space map with
//! it.
//!
//! # Algorithm
//! 1. The new pages and large values of one tree are written (`update.rs`); a flush writes the base
//!    or a new run, a step of a merge its target (`merge.rs`). The filter of a run is written when
//!    the run is complete.
//! 2. If the list of runs is another one, it is written anew.
//! 3. The space map is written: what the new base and the new list reach. Then the file is synced.
//! 4. The owner writes the superblock that names base, list and map, and publishes the edit.
//!
//! # Ownership of units
//! A unit belongs to the base, to one run (its pages, its filter, the large values of its entries
//! from `merged_to` on), or is the list's or the map's. What an edit takes belongs to it until it
//! is published or discarded. What an edit frees, pages that were replaced, values that were
//! replaced or deleted, the old list and map, the inputs of a finished merge, waits behind the
//! version that had it until no view holds that version or an older one.
//!
//! # Crash argument
//! Only units that the published version does not reach are written. The new roots are known to
//! nobody but the owner until the superblock is durable: a crash before that leaves the old base,
//! the old list and every page they reach; a crash after it leaves the new ones. There is no state
//! in between, so a merge that was stopped goes on with the `merged_to` of the list that counts,
//! and an entry is at no time in neither the input nor the target of its merge.

use std::rc::Rc;

use lightning_io::Env;

use super::blob::{BlobKind, BlobRef};
use super::filter::Filter;
use super::root::Root;
use super::run::{Phase, Run, RunList};
use super::space::Bitmap;
use super::state::TreeState;
use super::tree::{Shared, Tree};
use super::update::Update;
use super::versions::{Freed, Version};
use super::writer::{Taken, Writer};
use crate::{EntrySource, Result};

/// A changed file that nobody sees yet: publish it or discard it.
///
/// Dropping it does neither. Its units and those that it frees then stay taken, and no other edit
/// can begin; so does an owner that cannot know whether its superblock was written.
#[derive(Debug)]
#[must_use = "an edit is to be published or discarded"]
pub(crate) struct TreeUpdate {
    pub(super) next: Version,
    pub(super) taken: Taken,
    pub(super) freed: Freed,
    /// Bytes that were written for it.
    pub(super) written_bytes: u64,
}

impl TreeUpdate {
    /// What the superblock has to say for the edit to be there after a restart.
    pub(crate) fn state(&self) -> &TreeState {
        &self.next.state
    }

    /// Bytes that were written for it, in whole units.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }
}

/// An edit under way.
pub(super) struct Edit<'a, E: Env> {
    pub(super) shared: &'a Shared<E>,
    /// What is published.
    pub(super) state: TreeState,
    pub(super) list: RunList,
    flushes: u64,
    pub(super) writer: Writer<E>,
}

/// What an edit makes of the file, before list and map are written.
pub(super) struct Outcome {
    pub(super) base: Root,
    pub(super) list: RunList,
    /// Whether it has entries that the file did not have.
    pub(super) is_flush: bool,
}

impl<E: Env> Tree<E> {
    /// Writes a new base that has the batch in it: of each key the newest version, and no key whose
    /// newest version is a tombstone. A version that is older than what the base has is passed
    /// over. There must be no runs: what they have is newer than the base.
    ///
    /// # Panics
    /// When the edit before was neither published nor discarded: two versions cannot both follow
    /// one.
    ///
    /// # Errors
    /// `Invalid` for a batch out of order or out of bounds, `Corruption` for a damaged page in its
    /// way, otherwise what the device says. Everything is as it was before; the batch was consumed
    /// in part. After an error of the final sync nothing that this file wrote may be trusted to be
    /// durable: the owner stops taking writes.
    ///
    /// # Cancel safety
    /// Run it in a task of its own. If the future is dropped, the file is as it was, but the units
    /// that were taken stay so until it is opened again.
    pub(crate) async fn apply(&self, source: &mut impl EntrySource) -> Result<TreeUpdate> {
        let mut edit = self.begin();
        assert!(edit.list.runs.is_empty(), "a batch goes on top of the runs");
        // In a box: the machinery of an update is large, and one allocation an edit is nothing.
        let outcome = Box::pin(edit.apply_to_base(source)).await;
        edit.end(outcome).await
    }

    /// Writes a run that has the newest version of each key of the batch, and puts it on top of the
    /// others. The filter is made for about `keys` keys.
    ///
    /// # Panics, Errors, Cancel safety
    /// As [`Self::apply`].
    pub(crate) async fn apply_as_run(
        &self,
        source: &mut impl EntrySource,
        keys: u64,
    ) -> Result<TreeUpdate> {
        let mut edit = self.begin();
        let outcome = Box::pin(edit.write_run(source, keys)).await;
        edit.end(outcome).await
    }

    pub(super) fn begin(&self) -> Edit<'_, E> {
        self.reclaim();
        let shared = &*self.shared;
        let version = Rc::clone(shared.versions.borrow().current());
        Edit {
            shared,
            state: version.state,
            list: version.list.clone(),
            flushes: version.flushes,
            writer: Writer::new(&shared.store, shared.compression),
        }
    }
}

impl<E: Env> Edit<'_, E> {
    async fn apply_to_base(&mut self, source: &mut impl EntrySource) -> Result<Outcome> {
        let update = Update::new(self.shared, &mut self.writer, self.state.base);
        let updated = update.run(source).await?;
        Ok(Outcome {
            base: updated.root,
            list: self.list.clone(),
            is_flush: true,
        })
    }

    async fn write_run(&mut self, source: &mut impl EntrySource, keys: u64) -> Result<Outcome> {
        let smallest = source.peek().map(|entry| entry.key.to_vec());
        let mut filter = Filter::for_keys(keys);
        let update = Update::new(self.shared, &mut self.writer, Root::EMPTY);
        let updated = update.of_run(&mut filter).run(source).await?;
        let mut list = self.list.clone();
        if let (Some(smallest), Some(largest)) = (smallest, updated.last_key) {
            let run = Run {
                id: list.next_id,
                root: updated.root,
                filter: self.write_filter(&filter).await?,
                newest: updated.newest,
                left: updated.root.entries,
                tier: 0,
                phase: Phase::Whole,
                smallest,
                largest,
                merged_to: Vec::new(),
                resident: Rc::new(Some(filter).into()),
            };
            list.next_id += 1;
            list.runs.push(Rc::new(run));
        }
        Ok(Outcome {
            base: self.state.base,
            list,
            is_flush: true,
        })
    }

    pub(super) async fn write_filter(&mut self, filter: &Filter) -> Result<BlobRef> {
        let fill = |start, piece: &mut [u8]| filter.write_piece(start, piece);
        self.writer
            .write_blob(BlobKind::Filter, filter.size_bytes(), fill)
            .await
    }

    /// Steps 2 and 3, or the way back after an error.
    pub(super) async fn end(mut self, outcome: Result<Outcome>) -> Result<TreeUpdate> {
        let next = match outcome {
            Ok(outcome) => self.seal(outcome).await,
            Err(error) => Err(error),
        };
        match next {
            Ok(next) => {
                let (taken, freed) = self.writer.finish();
                let written = taken.extents.iter().map(|extent| extent.bytes());
                Ok(TreeUpdate {
                    next,
                    written_bytes: written.sum(),
                    taken,
                    freed,
                })
            }
            Err(error) => {
                self.writer.give_back();
                Err(error)
            }
        }
    }

    async fn seal(&mut self, outcome: Outcome) -> Result<Version> {
        let Outcome {
            base,
            list,
            is_flush,
        } = outcome;
        let mut state = TreeState { base, ..self.state };
        let is_new_list = !list.is_same(&self.list);
        if base != self.state.base || is_new_list {
            debug_assert_eq!(list.check(), Ok(()));
            if is_new_list {
                state.runs = self.write_list(&list).await?;
            }
            if !self.state.space_map.is_none() {
                self.writer.free_blob(self.state.space_map)?;
            }
            state.space_map = self.write_space_map().await?;
            state.file_units = self.shared.store.space.borrow().file_units();
            self.shared.store.sync().await?;
        }
        Ok(Version {
            state,
            list,
            flushes: self.flushes + u64::from(is_flush),
        })
    }

    /// Writes the list of runs, if there are any, and frees the one before.
    async fn write_list(&mut self, list: &RunList) -> Result<BlobRef> {
        if !self.state.runs.is_none() {
            self.writer.free_blob(self.state.runs)?;
        }
        if list.runs.is_empty() {
            return Ok(BlobRef::NONE);
        }
        let content = list.encode();
        let fill = |start: usize, piece: &mut [u8]| {
            piece.copy_from_slice(&content[start..start + piece.len()]);
        };
        self.writer
            .write_blob(BlobKind::RunList, content.len(), fill)
            .await
    }

    /// Writes the units that the new version reaches, without those of the map itself.
    async fn write_space_map(&mut self) -> Result<BlobRef> {
        let map = self.live_units();
        let words = map.to_words();
        self.writer
            .write_blob(BlobKind::SpaceMap, words.len() * 8, |start, piece| {
                let first = start / 8;
                for (word, bytes) in words[first..].iter().zip(piece.chunks_exact_mut(8)) {
                    bytes.copy_from_slice(&word.to_le_bytes());
                }
            })
            .await
    }

    fn live_units(&self) -> Bitmap {
        let mut map = self.shared.store.space.borrow().used().clone();
        for extent in self.shared.versions.borrow().waiting() {
            map.remove(extent);
        }
        for &extent in self.shared.store.quarantine.borrow().iter() {
            map.remove(extent);
        }
        for extent in self.writer.freed.extents() {
            map.remove(extent);
        }
        map
    }
}
