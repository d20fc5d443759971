//! A leaf of the old tree on its way into the new one, entry by entry.

use std::rc::Rc;

use super::leaf::LeafEntry;
use super::page::Page;

/// The leaf being merged. `key` is that of its entry at `index`.
pub(super) struct OpenLeaf {
    page: Option<Rc<Page>>,
    index: usize,
    pub(super) key: Vec<u8>,
    pub(super) upper: Option<Vec<u8>>,
}

impl OpenLeaf {
    pub(super) fn new(page: Option<Rc<Page>>, upper: Option<Vec<u8>>) -> Self {
        let mut leaf = Self {
            page,
            index: 0,
            key: Vec::new(),
            upper,
        };
        leaf.load_key();
        leaf
    }

    pub(super) fn entry(&self) -> Option<LeafEntry<'_>> {
        let leaf = self.page.as_ref()?.leaf();
        (self.index < leaf.count()).then(|| leaf.entry(self.index))
    }

    fn load_key(&mut self) {
        if let Some(page) = &self.page
            && self.index < page.leaf().count()
        {
            page.leaf().key_into(self.index, &mut self.key);
        }
    }

    pub(super) fn advance(&mut self) {
        self.index += 1;
        self.load_key();
    }
}
