//! Offering a window what the trees of a file have: those that a superblock leads to, and leaves
//! that nothing leads to.

use lightning_io::Env;

use super::ranges::Ranges;
use super::source::Source;
use super::window::{Origin, Window};
use crate::superblock::Checkpoint;
use crate::tree::{Page, TreePart, TreeReader, WalkStep};
use crate::{KeyRange, Result, Timestamp};

/// Whether a page whose keys begin at `lower` lies behind the end of a window.
pub(super) fn is_behind(lower: &[u8], to: Option<&[u8]>) -> bool {
    to.is_some_and(|to| lower >= to)
}

/// Up to which timestamp the older generation knows every commit, and where it cannot say it.
pub(super) struct Covered {
    newest: Timestamp,
    except: Ranges,
}

impl Covered {
    /// Whether a version would be in the older generation if it still counted then.
    fn knows(&self, key: &[u8], timestamp: Timestamp) -> bool {
        timestamp <= self.newest && !self.except.contains(key)
    }
}

pub(super) async fn offer_older<E: Env>(
    tree: &TreeReader<Source<E>>,
    older: Option<&Checkpoint>,
    lost: &Ranges,
    window: &mut Window,
) -> Result<Covered> {
    let mut covered = Covered {
        newest: Timestamp::ZERO,
        except: Ranges::default(),
    };
    let Some(older) = older else {
        covered.except.insert(&(None, None));
        return Ok(covered);
    };
    covered.newest = older.newest;
    let mut parts = vec![TreePart::base(&older.tree)];
    match tree.runs(&older.tree).await {
        Ok(runs) => parts.extend(runs),
        Err(_) => covered.except.insert(&(None, None)),
    }
    for part in &parts {
        let damaged = offer_part(tree, part, Origin::Older, lost, window).await;
        for keys in &damaged {
            covered.except.insert(keys);
        }
    }
    Ok(covered)
}

/// Offers the entries of a run, as they are: its large values are read when they are written.
pub(super) fn offer_run(run: &TreePart, page: &Page, window: &mut Window) {
    let mut key = Vec::new();
    for index in 0..page.entry_count() {
        let entry = page.entry_at(index, &mut key);
        if run.has(entry.key) {
            window.offer(entry, Origin::Run);
        }
    }
}

/// Offers what a tree has of the lost keys; returns the ranges of its damaged pages.
pub(super) async fn offer_part<E: Env>(
    tree: &TreeReader<Source<E>>,
    part: &TreePart,
    origin: Origin,
    lost: &Ranges,
    window: &mut Window,
) -> Vec<KeyRange> {
    let mut damaged = Vec::new();
    for (from, to) in lost.iter() {
        let mut walk = tree.walk(part, from.as_deref().unwrap_or_default());
        while let Some(step) = walk.next().await {
            match step {
                WalkStep::Page(_, page) => {
                    if is_behind(page.fences().lower, to.as_deref()) {
                        break;
                    }
                    if page.level() == 0 {
                        let offer = |key: &[u8], _| lost.contains(key) && part.has(key);
                        offer_leaf(tree, &page, origin, window, &offer).await;
                    }
                }
                WalkStep::Damage { keys, .. } => {
                    if is_behind(keys.0.as_deref().unwrap_or_default(), to.as_deref()) {
                        break;
                    }
                    damaged.push(keys);
                }
            }
            tree.yield_if_needed().await;
        }
    }
    damaged
}

pub(super) async fn offer_found<E: Env>(
    tree: &TreeReader<Source<E>>,
    lost: &Ranges,
    covered: &Covered,
    window: &mut Window,
) -> Result<()> {
    let mut leaves = tree.leaves();
    while let Some(page) = leaves.next().await? {
        let offer = |key: &[u8], timestamp| lost.contains(key) && !covered.knows(key, timestamp);
        offer_leaf(tree, &page, Origin::Found, window, &offer).await;
    }
    Ok(())
}

/// Offers the entries of a leaf that pass; a large value has to be readable.
async fn offer_leaf<E: Env>(
    tree: &TreeReader<Source<E>>,
    page: &Page,
    origin: Origin,
    window: &mut Window,
    passes: &impl Fn(&[u8], Timestamp) -> bool,
) {
    let mut key = Vec::new();
    for index in 0..page.entry_count() {
        let entry = page.entry_at(index, &mut key);
        if passes(entry.key, entry.timestamp)
            && window.wants(entry.key, entry.timestamp, origin)
            && tree.value(entry.flags, entry.value).await.is_ok()
        {
            window.offer(entry, origin);
        }
    }
}
