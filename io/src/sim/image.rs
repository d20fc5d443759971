//! A simulated file system at one moment: directories, files, and what of both is not durable yet.
//!
//! # Invariants
//! * A directory has two maps: the names that a program sees, and the durable ones. The list of
//!   pending entry operations, applied in order to the durable maps, gives the visible ones.
//! * Entries and contents are separate: a crash takes a synced file whose entry is not durable.
//! * A rename is one operation: a crash leaves the old name or the new one, never neither.
//!
//! A copy shares its blocks with the original, so many crashes can be tried from one image.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::crash::CrashReport;
use super::faults::Damage;
use super::pending::FileNode;
use crate::{BLOCK_BYTES, DirEntry, FileKind, IoErrorKind, round_up, to_u64};

/// The place of a file or directory in its image.
pub(super) type NodeId = usize;

/// The directory that every path starts from, absolute or not.
const ROOT: NodeId = 0;

#[derive(Debug, Clone)]
pub(super) enum Node {
    File(Box<FileNode>),
    Dir(DirNode),
}

#[derive(Debug, Clone, Default)]
pub(super) struct DirNode {
    pub(super) visible: BTreeMap<String, NodeId>,
    pub(super) durable: BTreeMap<String, NodeId>,
    pub(super) shard: usize,
}

/// A change of directory entries that a crash may or may not keep.
#[derive(Debug, Clone)]
pub(super) struct EntryOp {
    pub(super) seq: u64,
    /// A sync of the directory failed on it; see [`super::pending::PendingOp`].
    pub(super) doomed: bool,
    pub(super) node: NodeId,
    /// The entry that went away.
    pub(super) from: Option<(NodeId, String)>,
    /// The entry that came.
    pub(super) to: Option<(NodeId, String)>,
}

impl EntryOp {
    pub(super) fn touches(&self, dir: NodeId) -> bool {
        let in_dir = |entry: &Option<(NodeId, String)>| entry.as_ref().is_some_and(|e| e.0 == dir);
        in_dir(&self.from) || in_dir(&self.to)
    }

    /// The directory by whose odds a crash decides.
    pub(super) fn dir(&self) -> NodeId {
        let entry = self.to.as_ref().or(self.from.as_ref());
        entry.map_or(ROOT, |entry| entry.0)
    }
}

/// A whole simulated disk, with what is pending on it.
#[derive(Debug, Clone)]
pub struct Image {
    pub(super) nodes: Vec<Option<Node>>,
    pub(super) entry_ops: Vec<EntryOp>,
    pub(super) next_seq: u64,
    /// Where the database lives: its subdirectories are the shards.
    root: Vec<String>,
    /// Names of shards by number; number 0 is everything outside of a subdirectory.
    pub(super) shards: Vec<String>,
    pub(super) ledger: Vec<Damage>,
    pub(super) last_crash: CrashReport,
}

/// The names on a path, `.` and `..` resolved.
fn components(path: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => drop(names.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    names
}

/// The error that the operating system has for a file in place of a directory or the reverse.
fn wrong_kind(errno: i32, message: &str) -> IoErrorKind {
    IoErrorKind::Device {
        errno: Some(errno),
        message: message.to_owned(),
    }
}

fn is_a_directory() -> IoErrorKind {
    wrong_kind(21, "Is a directory")
}

pub(super) fn not_a_directory() -> IoErrorKind {
    wrong_kind(20, "Not a directory")
}

impl Image {
    /// An empty disk on which the database will live at `root`, which is not created.
    pub fn new(root: &Path) -> Self {
        Self {
            nodes: vec![Some(Node::Dir(DirNode::default()))],
            entry_ops: Vec::new(),
            next_seq: 0,
            root: components(root),
            shards: vec![String::new()],
            ledger: Vec::new(),
            last_crash: CrashReport::default(),
        }
    }

    /// The newest bytes of a file, durable or not.
    pub fn read_file(&self, path: &Path) -> Option<Vec<u8>> {
        let node = self.resolve(path).ok()?;
        self.file(node).map(|file| file.data.to_vec())
    }

    /// Puts a durable file in place, with durable directories above it.
    ///
    /// # Panics
    /// When the path leads through a file or names a directory: a mistake of the test.
    pub fn write_file(&mut self, path: &Path, bytes: &[u8]) {
        let mut names = components(path);
        let name = names.pop().expect("a file has a name");
        let mut dir = ROOT;
        let mut so_far = Vec::new();
        for parent in names {
            so_far.push(parent.clone());
            let found = self.dir(dir).and_then(|node| node.visible.get(&parent));
            let node = if let Some(&node) = found {
                node
            } else {
                let shard = self.shard_of(&so_far);
                self.add(Node::Dir(DirNode {
                    shard,
                    ..DirNode::default()
                }))
            };
            self.link_durably(dir, parent, node);
            dir = node;
        }
        let shard = self.shard_of(&so_far);
        let old = self.dir(dir).expect("a path leads through directories");
        let old = old.visible.get(&name).copied();
        let node = old.unwrap_or_else(|| self.add(Node::File(Box::default())));
        let file = self.file_mut(node).expect("a directory is no file");
        *file = FileNode {
            shard,
            links: if old.is_some() { file.links } else { 1 },
            opens: file.opens,
            ..FileNode::durable(bytes)
        };
        self.link_durably(dir, name, node);
    }

    /// Flips one bit at rest; false when the file or the byte is not there.
    pub fn flip_bit(&mut self, path: &Path, offset: u64, bit: u8) -> bool {
        self.flip_bits(path, offset, 1 << (bit % 8))
    }

    /// Every file by path, without a leading slash, sorted.
    pub fn list_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        self.walk(ROOT, Path::new(""), &mut files);
        files.sort();
        files
    }

    /// Everything that was damaged on purpose, oldest first; a test's oracle knows the truth by it.
    pub fn damage(&self) -> &[Damage] {
        &self.ledger
    }

    /// What the last crash of this image took.
    pub fn last_crash(&self) -> CrashReport {
        self.last_crash
    }

    /// Operations that a crash could still take: of contents and of directory entries.
    pub fn pending_count(&self) -> usize {
        let of_files: usize = self
            .nodes
            .iter()
            .flatten()
            .map(|node| match node {
                Node::File(file) => file.pending.len(),
                Node::Dir(_) => 0,
            })
            .sum();
        of_files + self.entry_ops.len()
    }

    /// The space in use: each name costs a block, each file its length in whole blocks.
    pub fn used_bytes(&self) -> u64 {
        let block = to_u64(BLOCK_BYTES);
        self.nodes
            .iter()
            .flatten()
            .map(|node| match node {
                Node::Dir(_) => block,
                Node::File(file) if file.links == 0 && file.opens == 0 => 0,
                Node::File(file) => block + round_up(file.data.len(), block),
            })
            .sum()
    }

    /// Every handle is gone, as at the end of a process. What a failed sync did not save shows now
    /// at the latest: the next process reads what the device has.
    pub(super) fn close_all(&mut self) {
        self.drop_doomed_entries();
        for node in self.nodes.iter_mut().flatten() {
            if let Node::File(file) = node {
                file.drop_doomed();
            }
        }
        for id in 0..self.nodes.len() {
            if let Some(file) = self.file_mut(id) {
                file.opens = 0;
            }
            self.collect(id);
        }
    }

    pub(super) fn file(&self, node: NodeId) -> Option<&FileNode> {
        match self.nodes.get(node)?.as_ref()? {
            Node::File(file) => Some(file),
            Node::Dir(_) => None,
        }
    }

    pub(super) fn file_mut(&mut self, node: NodeId) -> Option<&mut FileNode> {
        match self.nodes.get_mut(node)?.as_mut()? {
            Node::File(file) => Some(file),
            Node::Dir(_) => None,
        }
    }

    pub(super) fn dir(&self, node: NodeId) -> Option<&DirNode> {
        match self.nodes.get(node)?.as_ref()? {
            Node::Dir(dir) => Some(dir),
            Node::File(_) => None,
        }
    }

    pub(super) fn dir_mut(&mut self, node: NodeId) -> Option<&mut DirNode> {
        match self.nodes.get_mut(node)?.as_mut()? {
            Node::Dir(dir) => Some(dir),
            Node::File(_) => None,
        }
    }

    /// Finds what a path names now.
    pub(super) fn resolve(&self, path: &Path) -> Result<NodeId, IoErrorKind> {
        self.descend(&components(path))
    }

    /// Finds the directory that holds a path's last name, and that name.
    fn resolve_parent(&self, path: &Path) -> Result<(NodeId, String), IoErrorKind> {
        let mut names = components(path);
        let name = names.pop().ok_or_else(is_a_directory)?;
        let dir = self.descend(&names)?;
        self.dir(dir).ok_or_else(not_a_directory)?;
        Ok((dir, name))
    }

    fn descend(&self, names: &[String]) -> Result<NodeId, IoErrorKind> {
        names.iter().try_fold(ROOT, |node, name| {
            let dir = self.dir(node).ok_or_else(not_a_directory)?;
            dir.visible.get(name).copied().ok_or(IoErrorKind::NotFound)
        })
    }

    /// Creates an empty file or a directory, not yet durable.
    pub(super) fn create(&mut self, path: &Path, kind: FileKind) -> Result<NodeId, IoErrorKind> {
        let (dir, name) = self.resolve_parent(path)?;
        if self.dir(dir).is_some_and(|d| d.visible.contains_key(&name)) {
            return Err(IoErrorKind::AlreadyExists);
        }
        let mut names = components(path);
        let node = if kind == FileKind::Directory {
            let shard = self.shard_of(&names);
            self.add(Node::Dir(DirNode {
                shard,
                ..DirNode::default()
            }))
        } else {
            names.pop();
            let shard = self.shard_of(&names);
            self.add(Node::File(Box::new(FileNode {
                shard,
                ..FileNode::default()
            })))
        };
        self.change(node, None, Some((dir, name)));
        Ok(node)
    }

    /// Removes a file's name.
    pub(super) fn remove(&mut self, path: &Path) -> Result<(), IoErrorKind> {
        let node = self.resolve(path)?;
        self.file(node).ok_or_else(is_a_directory)?;
        let entry = self.resolve_parent(path)?;
        self.change(node, Some(entry), None);
        Ok(())
    }

    /// Gives a file or directory another name, replacing a file that has it.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> Result<(), IoErrorKind> {
        let node = self.resolve(from)?;
        let old = self.resolve_parent(from)?;
        let new = self.resolve_parent(to)?;
        if old == new {
            return Ok(());
        }
        if components(to).starts_with(&components(from)) {
            return Err(wrong_kind(22, "Invalid argument"));
        }
        let target = self.dir(new.0).and_then(|dir| dir.visible.get(&new.1));
        if let Some(&target) = target {
            self.file(target).ok_or_else(is_a_directory)?;
            self.file(node).ok_or_else(not_a_directory)?;
        }
        self.change(node, Some(old), Some(new));
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> Result<Vec<DirEntry>, IoErrorKind> {
        let dir = self.resolve(path)?;
        let dir = self.dir(dir).ok_or_else(not_a_directory)?;
        let entry = |(name, &node): (&String, &NodeId)| DirEntry {
            name: name.clone(),
            kind: match self.file(node) {
                Some(_) => FileKind::File,
                None => FileKind::Directory,
            },
        };
        Ok(dir.visible.iter().map(entry).collect())
    }

    /// Forgets a file that no name, handle or pending change can bring back.
    pub(super) fn collect(&mut self, node: NodeId) {
        let dead = self
            .file(node)
            .is_some_and(|file| file.links == 0 && file.opens == 0);
        if !dead || self.entry_ops.iter().any(|op| op.node == node) {
            return;
        }
        let mut dirs = self.nodes.iter().flatten();
        let named = dirs.any(|other| match other {
            Node::Dir(dir) => dir.durable.values().any(|&held| held == node),
            Node::File(_) => false,
        });
        if !named {
            self.nodes[node] = None;
            let inside = |damage: &&mut Damage| damage.node == node;
            self.ledger.iter_mut().filter(inside).for_each(Damage::bury);
        }
    }

    /// The path by which a program reaches a node now, if it does.
    pub(super) fn path_of(&self, node: NodeId) -> Option<PathBuf> {
        self.find(ROOT, Path::new(""), node)
    }

    /// The number of a shard by its directory's name.
    pub(super) fn shard_named(&mut self, name: &str) -> usize {
        let known = self.shards.iter().position(|shard| shard == name);
        known.unwrap_or_else(|| {
            self.shards.push(name.to_owned());
            self.shards.len() - 1
        })
    }

    /// The shard of a directory: the first name below the database's root, or below `/` elsewhere.
    fn shard_of(&mut self, names: &[String]) -> usize {
        let below = names.strip_prefix(self.root.as_slice()).unwrap_or(names);
        let name = below.first().cloned().unwrap_or_default();
        self.shard_named(&name)
    }

    fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(Some(node));
        self.nodes.len() - 1
    }

    fn link_durably(&mut self, dir: NodeId, name: String, node: NodeId) {
        let dir = self.dir_mut(dir).expect("a path leads through directories");
        dir.visible.insert(name.clone(), node);
        dir.durable.insert(name, node);
    }

    /// Changes the visible entries and remembers the change as pending.
    fn change(
        &mut self,
        node: NodeId,
        from: Option<(NodeId, String)>,
        to: Option<(NodeId, String)>,
    ) {
        if let Some((dir, name)) = &from {
            if let Some(dir) = self.dir_mut(*dir) {
                dir.visible.remove(name);
            }
            if let Some(file) = self.file_mut(node) {
                file.links -= 1;
            }
        }
        if let Some((dir, name)) = &to {
            let dir = self.dir_mut(*dir);
            let replaced = dir.and_then(|dir| dir.visible.insert(name.clone(), node));
            if let Some(file) = replaced.and_then(|old| self.file_mut(old)) {
                file.links -= 1;
            }
            if let Some(file) = self.file_mut(node) {
                file.links += 1;
            }
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        self.entry_ops.push(EntryOp {
            seq,
            doomed: false,
            node,
            from,
            to,
        });
    }

    fn walk(&self, dir: NodeId, path: &Path, files: &mut Vec<PathBuf>) {
        for (name, &node) in self.dir(dir).iter().flat_map(|dir| &dir.visible) {
            let path = path.join(name);
            match self.file(node) {
                Some(_) => files.push(path),
                None => self.walk(node, &path, files),
            }
        }
    }

    fn find(&self, dir: NodeId, path: &Path, wanted: NodeId) -> Option<PathBuf> {
        let entries = &self.dir(dir)?.visible;
        entries.iter().find_map(|(name, &node)| {
            let path = path.join(name);
            if node == wanted {
                Some(path)
            } else {
                self.find(node, &path, wanted)
            }
        })
    }
}
