//! How much about lies in a range of base and runs, without reading what is between its ends.

use lightning_io::Env;

use super::page::Page;
use super::root::Root;
use super::store::Caching;
use super::tree::Tree;
use super::versions::TreeView;
use crate::estimate::{Step, entries_between, sample_position};
use crate::{Direction, Result, StoredRange, Timestamp};

/// Sample ways, of a read or two each when nothing is cached: the spread of their mean is a third
/// of that of a page's filling, which lies between a half and the whole.
const SAMPLES: usize = 8;

/// A way down from the root, and the entry that it leads to as the last step.
type Way = Vec<Step>;

/// What about lies in a range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TreeEstimate {
    /// Entries.
    pub(crate) entries: u64,
    /// Bytes of pages and large values.
    pub(crate) bytes: u64,
}

impl<E: Env> Tree<E> {
    /// Estimates what lies in a range, from the pages on the way to both of its ends and on a few
    /// sample ways, in the base and in each run. A key that several of them have counts in each.
    ///
    /// # Errors
    /// `Corruption` for a damaged page on the way, with the keys that it covers.
    ///
    /// # Cancel safety
    /// Dropping the future is harmless.
    pub(crate) async fn estimate(
        &self,
        view: &TreeView,
        range: &StoredRange,
    ) -> Result<TreeEstimate> {
        let version = &view.version;
        let base = &version.state.base;
        let mut total = self.estimate_part(base, range).await?;
        for run in &version.list.runs {
            let is_whole = range.contains_all((&run.smallest).max(&run.merged_to), &run.largest);
            let part = if is_whole {
                share(&run.root, run.left)
            } else {
                let mut range = range.clone();
                range.clip_from(&run.merged_to);
                self.estimate_part(&run.root, &range).await?
            };
            total.entries += part.entries;
            total.bytes += part.bytes;
        }
        Ok(total)
    }

    async fn estimate_part(&self, root: &Root, range: &StoredRange) -> Result<TreeEstimate> {
        if root.entries == 0 || range.is_empty() {
            return Ok(TreeEstimate::default());
        }
        let start = self.way_to(root, range, Direction::Forward).await?;
        let end = self.way_to(root, range, Direction::Reverse).await?;
        let mut samples = Vec::with_capacity(SAMPLES);
        // A tree of one inner page at the most has no averages to be guessed.
        let needed = if root.height > 2 { SAMPLES } else { 1 };
        for sample in 0..needed {
            let turn = |page: &Page, depth| sample_position((sample, SAMPLES), depth, count(page));
            samples.push(self.way_down(root, turn).await?);
        }
        let entries = entries_between(&start, &end, &samples, root.entries);
        Ok(share(root, entries))
    }

    /// The way to one end of a range: to where a walk in the given direction begins.
    async fn way_to(&self, root: &Root, range: &StoredRange, direction: Direction) -> Result<Way> {
        let key = range.start(direction);
        let turn = |page: &Page, _| match direction {
            _ if page.level() == 0 => page.leaf().lower_bound(key, Timestamp::MAX),
            Direction::Forward => page.inner().child_index(key),
            Direction::Reverse => page.inner().child_below(key),
        };
        self.way_down(root, turn).await
    }

    /// Goes down from the root; `turn` gives the position in each page, with its depth.
    async fn way_down(&self, root: &Root, turn: impl Fn(&Page, usize) -> usize) -> Result<Way> {
        let (mut reference, mut level) = (root.page, root.height);
        let mut way = Way::with_capacity(usize::from(root.height));
        let mut parent = None;
        while level > 0 {
            level -= 1;
            let parent_page = parent.as_ref();
            let page = self
                .child_page(reference, level, parent_page, Caching::Keep)
                .await?;
            let position = turn(&page, way.len());
            let count = count(&page);
            way.push(Step { position, count });
            if level > 0 {
                reference = page.inner().child(position);
                parent = Some((page, position));
            }
        }
        Ok(way)
    }
}

/// So many of a tree's entries, and their share of its bytes.
fn share(root: &Root, entries: u64) -> TreeEstimate {
    let bytes = u128::from(root.live_bytes) * u128::from(entries);
    let bytes = bytes / u128::from(root.entries.max(1));
    let bytes = u64::try_from(bytes).unwrap_or(root.live_bytes);
    TreeEstimate { entries, bytes }
}

fn count(page: &Page) -> usize {
    if page.level() == 0 {
        page.leaf().count()
    } else {
        page.inner().count()
    }
}
