//! When changes of directory entries become durable, and when they are lost for good.

use std::path::Path;

use super::image::{EntryOp, Image, Node, NodeId, not_a_directory};
use super::rng::Rng;
use crate::IoErrorKind;

impl Image {
    /// Operations on entries from this mark on are not covered by a sync that is asked for now.
    pub(super) fn entry_mark(&self) -> u64 {
        self.next_seq
    }

    /// Makes the entries of a directory durable that were changed before `mark` was taken.
    pub(super) fn sync_dir(&mut self, path: &Path, mark: u64) -> Result<(), IoErrorKind> {
        let dir = self.resolve(path)?;
        self.dir(dir).ok_or_else(not_a_directory)?;
        let ops = std::mem::take(&mut self.entry_ops);
        for op in ops {
            if op.touches(dir) && op.seq < mark && !op.doomed {
                self.make_durable(&op);
            } else {
                self.entry_ops.push(op);
            }
        }
        for node in 0..self.nodes.len() {
            self.collect(node);
        }
        Ok(())
    }

    /// A sync of a directory failed: each change before `mark` is lost for good with even odds.
    pub(super) fn doom_entries(&mut self, path: &Path, mark: u64, rng: &mut Rng) {
        if let Ok(dir) = self.resolve(path) {
            let covered = |op: &&mut EntryOp| op.touches(dir) && op.seq < mark;
            for op in self.entry_ops.iter_mut().filter(covered) {
                op.doomed |= rng.coin();
            }
        }
    }

    /// Loses the changes that a failed sync of a directory did not save.
    pub(super) fn drop_doomed_entries(&mut self) {
        if !self.entry_ops.iter().any(|op| op.doomed) {
            return;
        }
        self.entry_ops.retain(|op| !op.doomed);
        for node in self.nodes.iter_mut().flatten() {
            match node {
                Node::Dir(dir) => dir.visible.clone_from(&dir.durable),
                Node::File(file) => file.links = 0,
            }
        }
        for op in self.entry_ops.clone() {
            if let Some(dir) = op.from.as_ref().and_then(|from| self.dir_mut(from.0)) {
                dir.visible.retain(|_, &mut held| held != op.node);
            }
            if let Some((dir, name)) = op.to
                && let Some(dir) = self.dir_mut(dir)
            {
                dir.visible.insert(name, op.node);
            }
        }
        let dirs = self.nodes.iter().flatten().filter_map(|node| match node {
            Node::Dir(dir) => Some(&dir.visible),
            Node::File(_) => None,
        });
        let named: Vec<NodeId> = dirs.flat_map(|names| names.values().copied()).collect();
        for node in named {
            if let Some(file) = self.file_mut(node) {
                file.links += 1;
            }
        }
    }

    /// Applies one change to the durable entries. A node has at most one durable name.
    pub(super) fn make_durable(&mut self, op: &EntryOp) {
        if op.doomed {
            return;
        }
        let node = op.node;
        for dir in [&op.from, &op.to]
            .into_iter()
            .flatten()
            .map(|entry| entry.0)
        {
            if let Some(dir) = self.dir_mut(dir) {
                dir.durable.retain(|_, &mut held| held != node);
            }
        }
        if let Some((dir, name)) = &op.to
            && let Some(dir) = self.dir_mut(*dir)
        {
            dir.durable.insert(name.clone(), node);
        }
    }
}
