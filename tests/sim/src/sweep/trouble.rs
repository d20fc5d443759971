//! What goes wrong in a life of the program, and every place where it can.

use std::fmt;
use std::path::Path;

use lightning_io::sim::{Image, Script, SimConfig, World};
use lightning_io::{BLOCK_BYTES, IoErrorKind, IoOp};
use lightning_shards::OpenMode;

use super::contract::is_sync;
use super::program::{Life, Program};
use crate::model::Model;

/// Polls after which a life is taken for a hang; one takes some ten thousand.
const POLLS_MAX: u64 = 500_000;

/// Every kind of call.
const OPS: [IoOp; 12] = [
    IoOp::Open,
    IoOp::Create,
    IoOp::Read,
    IoOp::Write,
    IoOp::Sync,
    IoOp::Resize,
    IoOp::Remove,
    IoOp::Rename,
    IoOp::List,
    IoOp::SyncDir,
    IoOp::Stat,
    IoOp::Lock,
];

/// Which life of the program has the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// The one that creates the database.
    Creating,
    /// The one that opens it again.
    Opening,
}

/// What goes wrong in a life.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// A call fails; with `lasting` so does every later one of its kind.
    Call { script: Script, lasting: bool },
    /// The disk has this size.
    Full { capacity_bytes: u64 },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { script, lasting } => {
                let on = if *lasting { " and all later ones" } else { "" };
                let Script {
                    op,
                    path,
                    nth,
                    error,
                } = script;
                write!(f, "call {nth} of {op:?} {path:?}{on}: {error:?}")
            }
            Self::Full { capacity_bytes } => write!(f, "a disk of {capacity_bytes} bytes"),
        }
    }
}

/// One life with one trouble, and how it ends.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) which: Which,
    pub(super) trouble: Trouble,
    pub(super) power_fails: bool,
}

impl Case {
    fn error(&self) -> &IoErrorKind {
        match &self.trouble {
            Trouble::Call { script, .. } => &script.error,
            Trouble::Full { .. } => &IoErrorKind::NoSpace,
        }
    }

    /// Whether it is about space.
    pub(super) fn is_no_space(&self) -> bool {
        *self.error() == IoErrorKind::NoSpace
    }

    /// Whether it is about a read of less than was asked for.
    pub(super) fn is_short_read(&self) -> bool {
        matches!(self.error(), IoErrorKind::ShortRead { .. })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.power_fails { "power" } else { "kill" };
        write!(f, "{:?}, {}, {end}", self.which, self.trouble)
    }
}

fn eio() -> IoErrorKind {
    IoErrorKind::Device {
        errno: Some(5),
        message: "Input/output error".to_owned(),
    }
}

/// What a kind of call can fail with.
fn errors(op: IoOp) -> Vec<IoErrorKind> {
    let (expected, found) = (2 * BLOCK_BYTES, BLOCK_BYTES);
    match op {
        IoOp::Read => vec![eio(), IoErrorKind::ShortRead { expected, found }],
        IoOp::Write => {
            let short = IoErrorKind::ShortWrite { expected, found };
            vec![eio(), IoErrorKind::NoSpace, short]
        }
        IoOp::Create | IoOp::Sync | IoOp::Resize | IoOp::Rename | IoOp::SyncDir | IoOp::Lock => {
            vec![eio(), IoErrorKind::NoSpace]
        }
        _ => vec![eio()],
    }
}

/// The program without faults, up to where either life begins.
pub(super) struct Baseline {
    pub(super) program: Program,
    /// The database as the first life left it, closed well.
    pub(super) image: Image,
    pub(super) model: Model,
    /// Calls of each life, by kind and by what the path contains.
    calls: Vec<(Which, IoOp, u64)>,
    /// Writes to files of the log, of each life.
    log_writes: Vec<(Which, u64)>,
    /// The space in use at the end of each life.
    used_bytes: Vec<(Which, u64)>,
}

impl Baseline {
    /// Runs both lives.
    ///
    /// # Errors
    /// What went wrong: nothing should.
    pub(super) fn build(seed: u64) -> Result<Self, String> {
        let program = Program::new(seed);
        let world = world(seed, None);
        let mut life = Life::new(&program, &world, program.model(), 0);
        run_to_end(&world, &mut life, OpenMode::OpenOrCreate)?;
        let mut baseline = Self {
            model: life.model.borrow().clone(),
            program,
            image: Image::new(Path::new("")),
            calls: Vec::new(),
            log_writes: Vec::new(),
            used_bytes: Vec::new(),
        };
        drop(life);
        baseline.count(Which::Creating, &world);
        baseline.image = world.shutdown();
        let world = self::world(seed, Some(&baseline.image));
        let model = baseline.model.clone();
        let mut life = Life::new(&baseline.program, &world, model, 1);
        run_to_end(&world, &mut life, OpenMode::Open)?;
        drop(life);
        baseline.count(Which::Opening, &world);
        Ok(baseline)
    }

    fn count(&mut self, which: Which, world: &World) {
        for op in OPS {
            self.calls.push((which, op, world.calls(op, "")));
        }
        let log_writes = world.calls(IoOp::Write, "wal-");
        self.log_writes.push((which, log_writes));
        self.used_bytes.push((which, world.image().used_bytes()));
    }

    /// Every fault of every call, and every size of the disk.
    pub(super) fn all_cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for &(which, op, count) in &self.calls {
            for error in errors(op) {
                for nth in 0..count {
                    for lasting in [false, true] {
                        let script = Script {
                            op,
                            path: String::new(),
                            nth,
                            error: error.clone(),
                        };
                        add(&mut cases, which, &Trouble::Call { script, lasting });
                    }
                }
            }
        }
        let before = self.image.used_bytes();
        for &(which, used_bytes) in &self.used_bytes {
            let from = if which == Which::Opening { before } else { 0 };
            for capacity_bytes in (from..used_bytes).step_by(BLOCK_BYTES) {
                add(&mut cases, which, &Trouble::Full { capacity_bytes });
            }
        }
        cases
    }

    /// One failure of each sync of any kind, and of each write of the log.
    pub(super) fn sync_cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        let syncs = self.calls.iter().filter(|(_, op, _)| is_sync(*op));
        let syncs = syncs.map(|&(which, op, count)| (which, op, "", count));
        let writes = self.log_writes.iter();
        let writes = writes.map(|&(which, count)| (which, IoOp::Write, "wal-", count));
        for (which, op, path, count) in syncs.chain(writes) {
            for nth in 0..count {
                let script = Script {
                    op,
                    path: path.to_owned(),
                    nth,
                    error: eio(),
                };
                let lasting = false;
                add(&mut cases, which, &Trouble::Call { script, lasting });
            }
        }
        cases
    }
}

/// Adds a case with each of the two ends.
fn add(cases: &mut Vec<Case>, which: Which, trouble: &Trouble) {
    for power_fails in [true, false] {
        cases.push(Case {
            which,
            trouble: trouble.clone(),
            power_fails,
        });
    }
}

/// A world for one life.
pub(super) fn world(seed: u64, image: Option<&Image>) -> World {
    let config = SimConfig {
        polls_max: POLLS_MAX,
        ..SimConfig::default()
    };
    match image {
        Some(image) => World::with_image(seed, config, image.clone()),
        None => World::new(seed, config),
    }
}

/// A life without faults, closed well.
fn run_to_end(world: &World, life: &mut Life, mode: OpenMode) -> Result<(), String> {
    let closed = world.run(async {
        if life.open(world, mode).await {
            life.work().await;
        }
        life.close().await
    });
    let closed = closed.map_err(|failure| failure.to_string())?;
    match (&life.violation, life.errors.first()) {
        (Some(what), _) => Err(what.clone()),
        (None, Some((step, error))) => Err(format!("without faults: {step}: {error}")),
        (None, None) if closed => Ok(()),
        (None, None) => Err("without faults: not closed".to_owned()),
    }
}
