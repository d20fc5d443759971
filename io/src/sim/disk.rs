//! The disk of a running world: what an operation does, once its time has come.
//!
//! An operation takes effect at one moment, when it completes. Until then it is in flight: a crash
//! may find it done, half done or not done. What it does to the image, apart from faults, is in
//! [`super::image`] and [`super::pending`]; transfers of data and their faults are in
//! [`super::transfer`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::cut::Pending;
use super::faults::{Damage, Fault, FaultConfig, Faults};
use super::image::{Image, NodeId};
use super::pending::{Durability, FileNode};
use super::rng::Rng;
use super::trace::hash_name;
use crate::{Access, BLOCK_BYTES, Creation, DirEntry, FileKind, IoBuf, IoError, IoErrorKind, IoOp};
use crate::{round_up, to_u64};

/// Kinds of operation; [`IoOp::Start`] is the last.
const OP_COUNT: usize = IoOp::Start as usize + 1;

/// A path that was used, with its hash for the trace.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) path: Rc<Path>,
    pub(super) hash: u64,
    id: usize,
}

/// What an open file is to the disk.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub(super) node: NodeId,
    pub(super) place: Place,
    pub(super) access: Access,
}

/// What a program asks of the disk.
#[derive(Debug)]
pub(super) enum Call {
    Open(Creation),
    CreateDir,
    ReadDir,
    Remove,
    Rename(Place),
    SyncDir {
        mark: u64,
    },
    Lock,
    Read {
        node: NodeId,
        offset: u64,
        len: usize,
    },
    Write {
        file: Opened,
        offset: u64,
        buf: IoBuf,
    },
    Sync {
        node: NodeId,
        mark: u64,
    },
    Preallocate {
        file: Opened,
        len: u64,
    },
    Length {
        node: NodeId,
    },
}

/// A call and the path that it is about.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) call: Call,
    pub(super) place: Place,
}

/// What the disk answers.
#[derive(Debug)]
pub(super) enum Reply {
    Done,
    Opened(NodeId),
    Locked(NodeId),
    Entries(Vec<DirEntry>),
    Buf(IoBuf),
    Length(u64),
}

pub(super) type Outcome = Result<Reply, IoError>;

impl Request {
    pub(super) fn op(&self) -> IoOp {
        match &self.call {
            Call::Open(Creation::MustExist) => IoOp::Open,
            Call::Open(Creation::MustCreate) | Call::CreateDir => IoOp::Create,
            Call::ReadDir => IoOp::List,
            Call::Remove => IoOp::Remove,
            Call::Rename(_) => IoOp::Rename,
            Call::SyncDir { .. } => IoOp::SyncDir,
            Call::Lock => IoOp::Lock,
            Call::Read { .. } => IoOp::Read,
            Call::Write { .. } => IoOp::Write,
            Call::Sync { .. } => IoOp::Sync,
            Call::Preallocate { .. } => IoOp::Resize,
            Call::Length { .. } => IoOp::Stat,
        }
    }

    /// What of it a crash could take back once it is done.
    pub(super) fn pending_kind(&self) -> Option<Pending> {
        match &self.call {
            Call::Write { file, .. } if file.access == Access::ReadWrite => Some(Pending::Write),
            Call::Preallocate { .. } => Some(Pending::Length),
            Call::Open(Creation::MustCreate) | Call::CreateDir | Call::Remove | Call::Rename(_) => {
                Some(Pending::Entry)
            }
            _ => None,
        }
    }

    /// Whether it is a write that nothing can take back once it is done.
    pub(super) fn is_durable_write(&self) -> bool {
        match &self.call {
            Call::Write { file, .. } => file.access == Access::ReadWriteDurable,
            _ => false,
        }
    }

    /// First byte and byte count, for transfers.
    pub(super) fn range(&self) -> Option<(u64, usize)> {
        match &self.call {
            Call::Read { offset, len, .. } => Some((*offset, *len)),
            Call::Write { offset, buf, .. } => Some((*offset, buf.len())),
            _ => None,
        }
    }

    /// What was asked, for the trace: the range, and a checksum of what is to be written.
    pub(super) fn words(&self) -> [u64; 3] {
        let (offset, len) = self.range().unwrap_or_default();
        let content = match &self.call {
            Call::Write { buf, .. } => u64::from(crc32fast::hash(buf)),
            Call::Preallocate { len, .. } => *len,
            Call::Rename(to) => to.hash,
            _ => 0,
        };
        [offset, to_u64(len), content]
    }
}

/// The disk of a running world.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) image: Image,
    pub(super) faults: Faults,
    /// Locks that are held; a crash or the end of the process releases them.
    locks: BTreeSet<NodeId>,

    /// Until when each shard's files stand still, by shard number.
    stalled_until: Vec<u64>,
    latency_ns: u64,
    latency_rng: Rng,

    places: Vec<Place>,
    place_ids: FxHashMap<Rc<Path>, usize>,
    /// Calls by place and kind.
    calls: Vec<[u64; OP_COUNT]>,
    /// The blocks that were read, by file, when that is asked for.
    pub(super) blocks_read: Option<BlocksRead>,
}

/// Numbers of blocks of [`BLOCK_BYTES`], by the path of their file.
pub type BlocksRead = BTreeMap<PathBuf, BTreeSet<u64>>;

/// When an operation reaches the device, and when it completes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    pub(super) dispatched_at: u64,
    pub(super) done_at: u64,
}

/// The longest that an operation waits before it reaches the device: 10 us, a turn of an executor.
const QUEUE_NS_MAX: u64 = 10_000;

impl Disk {
    pub(super) fn new(image: Image, faults: Faults, latency_ns: u64, latency_rng: Rng) -> Self {
        Self {
            image,
            faults,
            locks: BTreeSet::new(),
            stalled_until: Vec::new(),
            latency_ns: latency_ns.max(4),
            latency_rng,
            places: Vec::new(),
            place_ids: FxHashMap::default(),
            calls: Vec::new(),
            blocks_read: None,
        }
    }

    /// Notes that a range of a file is read, if anybody wants to know.
    fn note_read(&mut self, path: &Path, offset: u64, len: usize) {
        let Some(files) = &mut self.blocks_read else {
            return;
        };
        let block = to_u64(BLOCK_BYTES);
        let blocks = offset / block..(offset + to_u64(len)).div_ceil(block);
        // As the image names its files: from the root, which it does not write.
        let path = path.strip_prefix("/").unwrap_or(path);
        files.entry(path.to_path_buf()).or_default().extend(blocks);
    }

    /// Interns a path.
    pub(super) fn place(&mut self, path: &Path) -> Place {
        if let Some(&id) = self.place_ids.get(path) {
            return self.places[id].clone();
        }
        let place = Place {
            path: Rc::from(path),
            hash: hash_name(&path.to_string_lossy()),
            id: self.places.len(),
        };
        self.place_ids.insert(Rc::clone(&place.path), place.id);
        self.places.push(place.clone());
        self.calls.push([0; OP_COUNT]);
        place
    }

    /// Calls of one kind so far on paths that contain `text`.
    pub(super) fn calls(&self, op: IoOp, text: &str) -> u64 {
        let counted = self.places.iter().zip(&self.calls);
        counted
            .filter(|(place, _)| place.path.to_string_lossy().contains(text))
            .map(|(_, counts)| counts[op as usize])
            .sum()
    }

    pub(super) fn set_faults(&mut self, config: FaultConfig) {
        self.faults.config = config;
    }

    /// Stops all files of one shard until a moment.
    pub(super) fn stall(&mut self, shard: usize, until: u64) {
        if self.stalled_until.len() <= shard {
            self.stalled_until.resize(shard + 1, 0);
        }
        self.stalled_until[shard] = self.stalled_until[shard].max(until);
    }

    /// Counts a call and decides how long it takes.
    pub(super) fn submit(&mut self, request: &mut Request, now: u64) -> Schedule {
        self.calls[request.place.id][request.op() as usize] += 1;
        match &mut request.call {
            Call::Sync { node, mark } => {
                *mark = self.image.file(*node).map_or(0, FileNode::sync_mark);
            }
            Call::SyncDir { mark } => *mark = self.image.entry_mark(),
            _ => {}
        }
        let shard = self.shard_of(&request.call);
        let path = &request.place.path;
        if self.faults.strike(Fault::ShardStall, path) {
            let rng = self.faults.rng(Fault::ShardStall);
            let stall = 100_000_000 + rng.below(29_900_000_000);
            self.stall(shard, now + stall);
        }
        let mut service = self.latency_ns / 4 + self.latency_rng.below(self.latency_ns * 3 / 2);
        if self.faults.strike(Fault::LatencySpike, path) {
            service *= 10 + self.faults.rng(Fault::LatencySpike).below(990);
        }
        let start = now.max(self.stalled_until.get(shard).copied().unwrap_or(0));
        let dispatched_at = start + self.latency_rng.below(QUEUE_NS_MAX);
        Schedule {
            dispatched_at,
            done_at: dispatched_at + 1 + service,
        }
    }

    /// Carries an operation out.
    pub(super) fn perform(&mut self, request: Request, now: u64) -> Outcome {
        self.rot(now);
        let (op, range) = (request.op(), request.range());
        let place = request.place;
        let scripted = self.faults.scripted(op, &place.path, range, now);
        let result = match request.call {
            Call::Read { node, offset, len } => {
                self.note_read(&place.path, offset, len);
                let read = self.read(node, &place, offset, len, scripted, now);
                read.map(Reply::Buf)
            }
            Call::Write { file, offset, buf } => {
                let written = self.write(&file, offset, &buf, scripted, now);
                written.map(|()| Reply::Done)
            }
            Call::Sync { node, mark } => self.sync(node, &place, mark, scripted, now),
            Call::SyncDir { mark } => self.sync_dir(&place, mark, scripted, now),
            call => match scripted {
                Some(error) => Err(error),
                None => self.change(call, &place, now),
            },
        };
        result.map_err(|kind| match range {
            Some((offset, len)) => IoError::at(op, &place.path, offset, len, kind),
            None => IoError::new(op, &place.path, kind),
        })
    }

    /// A crash or a kill finds an operation in flight: what it may have done is pending.
    pub(super) fn settle(&mut self, request: Request) {
        let path = request.place.path;
        match request.call {
            Call::Write { file, offset, buf } => {
                if let Some(node) = self.image.file_mut(file.node)
                    && is_aligned(offset)
                    && file.access != Access::Read
                {
                    node.write(offset, &buf, Durability::Later);
                }
            }
            Call::Preallocate { file, len } => {
                if let Some(node) = self.image.file_mut(file.node) {
                    node.extend(len);
                }
            }
            // Whether these succeed makes no difference: nobody is left to be told.
            Call::Open(Creation::MustCreate) => {
                drop(self.image.create(&path, FileKind::File));
            }
            Call::CreateDir => drop(self.image.create(&path, FileKind::Directory)),
            Call::Remove => drop(self.image.remove(&path)),
            Call::Rename(to) => drop(self.image.rename(&path, &to.path)),
            _ => {}
        }
    }

    pub(super) fn unlock(&mut self, node: NodeId) {
        self.locks.remove(&node);
    }

    /// A handle came into being.
    pub(super) fn opened(&mut self, node: NodeId) {
        if let Some(file) = self.image.file_mut(node) {
            file.opens += 1;
        }
    }

    /// A handle is gone.
    pub(super) fn closed(&mut self, node: NodeId) {
        if let Some(file) = self.image.file_mut(node) {
            file.opens -= 1;
        }
        self.image.collect(node);
    }

    /// True when `extra` bytes more fit on the disk.
    pub(super) fn has_space(&mut self, extra: u64, path: &Path, now: u64) -> bool {
        if extra > 0 && self.faults.strike(Fault::NoSpace, path) {
            return false;
        }
        let Some(space) = self.faults.config.space else {
            return true;
        };
        let returned = |at: Duration| now >= nanos(at);
        if extra == 0 || space.returns_at.is_some_and(returned) {
            return true;
        }
        let fits = self.image.used_bytes().saturating_add(extra) <= space.capacity_bytes;
        if !fits {
            self.faults.fire(Fault::NoSpace);
        }
        fits
    }

    /// Writes a damage into the ledger.
    pub(super) fn record(
        &mut self,
        fault: Fault,
        node: NodeId,
        path: &Path,
        range: (u64, u64),
        now: u64,
    ) {
        self.image.ledger.push(Damage {
            fault,
            path: path.to_path_buf(),
            offset: range.0,
            len: range.1,
            at: Duration::from_nanos(now),
            live: fault.is_lasting(),
            node,
            buried: false,
            taken: false,
        });
    }

    /// Opens, creates, lists, removes, renames, locks: all that moves no data.
    fn change(&mut self, call: Call, place: &Place, now: u64) -> Result<Reply, IoErrorKind> {
        let path = &place.path;
        match call {
            Call::Open(Creation::MustExist) => {
                let node = self.image.resolve(path)?;
                self.image.file(node).ok_or_else(not_a_file)?;
                Ok(Reply::Opened(node))
            }
            Call::Open(Creation::MustCreate) => {
                self.create(path, FileKind::File, now).map(Reply::Opened)
            }
            Call::CreateDir => {
                self.create(path, FileKind::Directory, now)?;
                Ok(Reply::Done)
            }
            Call::ReadDir => self.image.list(path).map(Reply::Entries),
            Call::Remove => self.image.remove(path).map(|()| Reply::Done),
            Call::Rename(to) => self.image.rename(path, &to.path).map(|()| Reply::Done),
            Call::Lock => {
                let node = match self.image.resolve(path) {
                    Err(IoErrorKind::NotFound) => self.create(path, FileKind::File, now)?,
                    found => found?,
                };
                if !self.locks.insert(node) {
                    return Err(IoErrorKind::Locked);
                }
                Ok(Reply::Locked(node))
            }
            Call::Preallocate { file, len } => {
                if file.access == Access::Read {
                    return Err(IoErrorKind::PermissionDenied);
                }
                let node = self.image.file(file.node).ok_or(IoErrorKind::NotFound)?;
                let extra = growth(node.data.len(), len);
                if !self.has_space(extra, path, now) {
                    return Err(IoErrorKind::NoSpace);
                }
                if let Some(node) = self.image.file_mut(file.node) {
                    node.extend(len);
                }
                Ok(Reply::Done)
            }
            Call::Length { node } => {
                let file = self.image.file(node).ok_or(IoErrorKind::NotFound)?;
                Ok(Reply::Length(file.data.len()))
            }
            Call::Read { .. } | Call::Write { .. } | Call::Sync { .. } | Call::SyncDir { .. } => {
                unreachable!("transfers and syncs are told apart by the caller")
            }
        }
    }

    fn create(&mut self, path: &Path, kind: FileKind, now: u64) -> Result<NodeId, IoErrorKind> {
        if self.image.resolve(path).is_ok() {
            return Err(IoErrorKind::AlreadyExists);
        }
        if !self.has_space(to_u64(BLOCK_BYTES), path, now) {
            return Err(IoErrorKind::NoSpace);
        }
        self.image.create(path, kind)
    }

    fn shard_of(&self, call: &Call) -> usize {
        let node = match call {
            Call::Read { node, .. } | Call::Sync { node, .. } | Call::Length { node } => *node,
            Call::Write { file, .. } | Call::Preallocate { file, .. } => file.node,
            _ => return 0,
        };
        self.image.file(node).map_or(0, |file| file.shard)
    }
}

/// The whole nanoseconds of a duration: 584 years fit.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The space that growing from one length to another takes.
pub(super) fn growth(from: u64, to: u64) -> u64 {
    let block = to_u64(BLOCK_BYTES);
    round_up(to.min(u64::MAX - block), block).saturating_sub(round_up(from, block))
}

/// The offset suits direct I/O.
pub(super) fn is_aligned(offset: u64) -> bool {
    offset.is_multiple_of(to_u64(BLOCK_BYTES))
}

fn not_a_file() -> IoErrorKind {
    IoErrorKind::Device {
        errno: Some(21),
        message: "Is a directory".to_owned(),
    }
}
