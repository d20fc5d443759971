//! One of the trees that a verifier walks side by side.

use std::rc::Rc;

use lightning_io::Env;

use super::address::PageRef;
use super::census::PagesByCodec;
use super::filter::{Filter, hash_of};
use super::leaf::LeafEntry;
use super::page::Page;
use super::root::Root;
use super::run::Run;
use super::store::Store;
use super::walk::Walk;
use crate::EntryFlags;

/// The walk over one tree, and what it met so far.
pub(super) struct Stream<E: Env> {
    pub(super) walk: Walk<E>,
    pub(super) root: Root,
    /// `None` for the base.
    pub(super) run: Option<Rc<Run>>,
    pub(super) filter: Option<Filter>,
    /// The leaf at hand and the entry in it that comes next, whose key is `key`.
    pub(super) leaf: Option<(PageRef, Rc<Page>, usize)>,
    pub(super) key: Vec<u8>,
    previous: Option<Vec<u8>>,
    pub(super) ended: bool,
    /// Entries, and those of them that a merge has not taken yet.
    pub(super) entries: u64,
    pub(super) left: u64,
    pub(super) bytes: u64,
    pub(super) pages: PagesByCodec,
}

impl<E: Env> Stream<E> {
    pub(super) fn new(store: &Rc<Store<E>>, root: Root, run: Option<Rc<Run>>) -> Self {
        Self {
            walk: Walk::new(store, &root, b""),
            root,
            run,
            filter: None,
            leaf: None,
            key: Vec::new(),
            previous: None,
            ended: false,
            entries: 0,
            left: 0,
            bytes: 0,
            pages: PagesByCodec::NONE,
        }
    }

    pub(super) fn open_leaf(&mut self, reference: PageRef, page: Rc<Page>) {
        page.leaf().key_into(0, &mut self.key);
        self.previous = None;
        self.leaf = Some((reference, page, 0));
    }

    pub(super) fn entry(&self) -> Option<LeafEntry<'_>> {
        let (_, page, index) = self.leaf.as_ref()?;
        Some(page.leaf().entry(*index))
    }

    pub(super) fn advance(&mut self) {
        let previous = self.previous.get_or_insert_default();
        previous.clear();
        previous.extend_from_slice(&self.key);
        if let Some((_, page, index)) = &mut self.leaf {
            *index += 1;
            if *index < page.leaf().count() {
                page.leaf().key_into(*index, &mut self.key);
            } else {
                self.leaf = None;
            }
        }
    }

    /// Whether a merge has taken the entry at hand into its target.
    pub(super) fn is_taken(&self) -> bool {
        let run = self.run.as_ref();
        run.is_some_and(|run| self.key < run.merged_to)
    }

    /// What holds for every entry of this tree, beyond what holds for any leaf.
    pub(super) fn check_entry(&self, entry: &LeafEntry<'_>) -> Result<(), String> {
        let known = match entry.flags.without(EntryFlags::EXPIRING) {
            EntryFlags::VALUE | EntryFlags::OVERFLOW => true,
            EntryFlags::TOMBSTONE => self.run.is_some() && entry.value.is_empty(),
            _ => false,
        };
        if !known {
            return Err(format!(
                "an entry with flags {:#04x} in a tree",
                entry.flags.to_byte()
            ));
        }
        if self.previous.as_ref() == Some(&self.key) {
            return Err("two versions of one key in a tree".to_owned());
        }
        let Some(run) = &self.run else {
            return Ok(());
        };
        if !run.spans(&self.key) || entry.timestamp > run.newest {
            return Err(format!("an entry outside of the bounds of run {}", run.id));
        }
        let missed = |filter: &Filter| !filter.may_contain(hash_of(&self.key));
        if self.filter.as_ref().is_some_and(missed) {
            return Err(format!("a key that the filter of run {} misses", run.id));
        }
        Ok(())
    }
}
