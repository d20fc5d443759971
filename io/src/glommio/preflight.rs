//! A look at the machine before anything starts.
//!
//! What makes a start impossible is an error that says what to change; what makes the database
//! slower or its promises narrower is a warning, and a field that a report can show.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::executors::{not_started, try_executor};
use super::slice;
use crate::{BLOCK_BYTES, IoBuf, IoError, IoErrorKind, IoOp};

/// The oldest kernel that has every operation which the executor submits.
const KERNEL_MIN: (u32, u32) = (5, 8);

/// The lockable memory without which glommio refuses to start.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// Open files below which a database does not start: a shard holds about 20 (segments, runs of two
/// tiers, the tree, value files, three rings), and a process has descriptors of its own.
const OPEN_FILES_MIN: u64 = 256;

/// Open files that the soft limit is raised to, as far as the hard one allows: 256 shards.
const OPEN_FILES_WANTED: u64 = 8192;

/// `TMPFS_MAGIC` of the kernel's interface.
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Whether a directory's file system does direct I/O.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectIo {
    /// It does.
    Yes,
    /// It does not; files go through the page cache.
    No {
        /// Why not.
        reason: String,
    },
}

/// The limit on open files, as it is now and as it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// The soft limit now; `None` is no limit.
    pub limit: Option<u64>,
    /// The soft limit that was found.
    pub found: Option<u64>,
}

/// What the machine can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preflight {
    /// The kernel's release, as it names itself.
    pub kernel: String,
    /// Whether the directory's file system does direct I/O.
    pub direct_io: DirectIo,
    /// Whether the kernel gives an executor the long scheduling slice.
    pub long_slice: bool,
    /// The limit on open files.
    pub open_files: OpenFiles,
    /// What is lost on this machine, in sentences.
    pub warnings: Vec<String>,
}

impl Preflight {
    /// Examines the machine and the file system of `directory`, which must exist, and raises the
    /// soft limit on open files if it is low.
    ///
    /// Blocks for some milliseconds: call it once, before executors start.
    ///
    /// # Errors
    /// [`IoErrorKind::Unsupported`] with a remedy when the database cannot run here; otherwise what
    /// the directory said.
    pub fn check(directory: &Path) -> Result<Self, IoError> {
        let machine = Machine::look();
        machine.judge()?;
        let open_files = raise_open_files(machine.open_files)?;
        let direct_io = probe_direct_io(directory)?;
        let long_slice = on_short_thread(|| Ok(slice::lengthen()))?;
        on_short_thread(try_executor)?;
        let mut warnings = Vec::new();
        if let DirectIo::No { reason } = &direct_io {
            warnings.push(format!(
                "no direct I/O in {}: {reason}. Durable writes stay durable, but files pass \
                 through the page cache: memory is used twice and the memory budget does not bound it",
                directory.display()
            ));
        }
        if let Err(error) = &long_slice {
            warnings.push(format!(
                "no long scheduling slice: {error}. A durable write may take milliseconds while \
                 the other cores are busy"
            ));
        }
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        Ok(Self {
            kernel: machine.kernel,
            direct_io,
            long_slice: long_slice.is_ok(),
            open_files,
            warnings,
        })
    }

    /// Whether files are to be opened for direct I/O.
    pub fn does_direct_io(&self) -> bool {
        self.direct_io == DirectIo::Yes
    }
}

/// What was found, apart from any judgement.
#[derive(Debug, Clone)]
struct Machine {
    kernel: String,
    /// The kernel's switch: 0 on, 1 for privileged processes, 2 off; absent in old kernels.
    io_uring_disabled: Option<u32>,
    /// `None` is no limit, in both.
    memlock_bytes: Option<u64>,
    open_files: Rlimit,
}

impl Machine {
    fn look() -> Self {
        let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
        let uname = rustix::system::uname();
        Self {
            kernel: uname.release().to_string_lossy().into_owned(),
            io_uring_disabled: disabled.ok().and_then(|text| text.trim().parse().ok()),
            memlock_bytes: getrlimit(Resource::Memlock).current,
            open_files: getrlimit(Resource::Nofile),
        }
    }

    /// Refuses a machine on which no executor can run, with a better word than the executor has.
    fn judge(&self) -> Result<(), IoError> {
        // A release that does not parse is left to the trial of a real executor.
        if parse_release(&self.kernel).is_some_and(|release| release < KERNEL_MIN) {
            let (major, minor) = KERNEL_MIN;
            return Err(unsupported(
                format!("Linux {} is too old for io_uring", self.kernel),
                format!("run Linux {major}.{minor} or later, better 6.12 or later"),
            ));
        }
        if self.io_uring_disabled.is_some_and(|switch| switch >= 2) {
            return Err(unsupported(
                "io_uring is switched off on this machine".to_owned(),
                "set the sysctl kernel.io_uring_disabled to 0".to_owned(),
            ));
        }
        if let Some(limit) = self
            .memlock_bytes
            .filter(|&limit| limit < MEMLOCK_BYTES_MIN)
        {
            return Err(unsupported(
                format!("the limit on locked memory is {limit} bytes"),
                format!("raise it to {MEMLOCK_BYTES_MIN} or more (ulimit -l, LimitMEMLOCK)"),
            ));
        }
        Ok(())
    }
}

fn unsupported(what: String, remedy: String) -> IoError {
    let kind = IoErrorKind::Unsupported { what, remedy };
    IoError::new(IoOp::Start, Path::new("io_uring"), kind)
}

/// The first two numbers of a kernel release.
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|byte: char| !byte.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The soft limit to set, if the present one is low and the hard one leaves room.
fn wanted_open_files(found: Rlimit) -> Option<u64> {
    let soft = found.current?;
    let wanted = found
        .maximum
        .map_or(OPEN_FILES_WANTED, |hard| hard.min(OPEN_FILES_WANTED));
    (wanted > soft).then_some(wanted)
}

fn raise_open_files(found: Rlimit) -> Result<OpenFiles, IoError> {
    let mut limit = found.current;
    if let Some(wanted) = wanted_open_files(found) {
        let raised = Rlimit {
            current: Some(wanted),
            maximum: found.maximum,
        };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = Some(wanted);
        }
    }
    if let Some(limit) = limit.filter(|&limit| limit < OPEN_FILES_MIN) {
        return Err(unsupported(
            format!("the limit on open files is {limit}"),
            format!("raise it to {OPEN_FILES_MIN} or more (ulimit -n, LimitNOFILE)"),
        ));
    }
    Ok(OpenFiles {
        limit,
        found: found.current,
    })
}

/// Runs a probe on a thread of its own: an executor, a scheduling slice or a panic stays there.
fn on_short_thread<T: Send>(
    probe: impl FnOnce() -> Result<T, IoError> + Send,
) -> Result<T, IoError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("lightning-probe".to_owned());
        let thread = thread
            .spawn_scoped(scope, probe)
            .map_err(|error| not_started(&error.to_string()))?;
        let panicked = |_| Err(not_started("the probe panicked"));
        thread.join().unwrap_or_else(panicked)
    })
}

/// Writes and reads a block past the page cache in a nameless-to-be file of the directory.
fn probe_direct_io(directory: &Path) -> Result<DirectIo, IoError> {
    let fail = |op, path: &Path, error: rustix::io::Errno| {
        IoError::from_os(op, path, &io::Error::from(error))
    };
    let status = rustix::fs::statfs(directory).map_err(|e| fail(IoOp::Stat, directory, e))?;
    if status.f_type == TMPFS_MAGIC {
        let reason = "it is a tmpfs, which keeps files in memory".to_owned();
        return Ok(DirectIo::No { reason });
    }
    let path = probe_path(directory);
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    // Without the flag first: a failure of this one is the directory's.
    let plain = rustix::fs::open(&path, flags, mode).map_err(|e| fail(IoOp::Create, &path, e))?;
    let direct = rustix::fs::open(
        &path,
        OFlags::RDWR | OFlags::CLOEXEC | OFlags::DIRECT,
        Mode::empty(),
    );
    // The name goes before anything can fail; the descriptors keep the file.
    rustix::fs::unlink(&path).map_err(|e| fail(IoOp::Remove, &path, e))?;
    drop(plain);
    let tried = direct.and_then(|file| {
        let mut written = IoBuf::zeroed(BLOCK_BYTES);
        written.fill(0xA5);
        let mut read = IoBuf::zeroed(BLOCK_BYTES);
        let put = rustix::io::pwrite(&file, &written, 0)?;
        let got = rustix::io::pread(&file, &mut *read, 0)?;
        Ok((put, got) == (BLOCK_BYTES, BLOCK_BYTES) && *read == *written)
    });
    match tried {
        Ok(true) => Ok(DirectIo::Yes),
        Ok(false) => Ok(DirectIo::No {
            reason: "a block did not come back as it was written".to_owned(),
        }),
        // A full disk is no property of the file system, and the open that follows needs space too.
        Err(
            error @ (rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT | rustix::io::Errno::IO),
        ) => Err(fail(IoOp::Write, &path, error)),
        Err(error) => Ok(DirectIo::No {
            reason: format!("the file system says: {}", io::Error::from(error)),
        }),
    }
}

/// A name that no other probe of this or another process uses.
fn probe_path(directory: &Path) -> PathBuf {
    static PROBES: AtomicU64 = AtomicU64::new(0);
    let number = PROBES.fetch_add(1, Ordering::Relaxed);
    directory.join(format!(".lightning-probe-{}-{number}", process::id()))
}

impl fmt::Display for DirectIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes => f.write_str("yes"),
            Self::No { reason } => write!(f, "no: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            kernel: "6.12.1".to_owned(),
            io_uring_disabled: Some(0),
            memlock_bytes: Some(8 << 20),
            open_files: Rlimit {
                current: Some(1024),
                maximum: Some(4096),
            },
        }
    }

    fn remedy(machine: &Machine) -> String {
        let error = machine.judge().unwrap_err();
        assert_eq!(error.op(), IoOp::Start);
        match error.kind() {
            IoErrorKind::Unsupported { remedy, .. } => remedy.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_machine_that_cannot_run_is_told_what_to_change() {
        machine().judge().unwrap();
        let old = Machine {
            kernel: "5.4.0-150-generic".to_owned(),
            ..machine()
        };
        assert!(remedy(&old).contains("6.12"));
        let off = Machine {
            io_uring_disabled: Some(2),
            ..machine()
        };
        assert!(remedy(&off).contains("io_uring_disabled"));
        let tight = Machine {
            memlock_bytes: Some(65_536),
            ..machine()
        };
        assert!(remedy(&tight).contains("LimitMEMLOCK"));
        let unlimited = Machine {
            memlock_bytes: None,
            io_uring_disabled: None,
            kernel: "strange".to_owned(),
            ..machine()
        };
        unlimited.judge().unwrap();
    }

    #[test]
    fn releases_are_read_as_kernels_write_them() {
        assert_eq!(parse_release("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(parse_release("5.15.0-1051-aws"), Some((5, 15)));
        assert_eq!(parse_release("6"), None);
        assert_eq!(parse_release(""), None);
    }

    #[test]
    fn the_limit_on_open_files_is_raised_as_far_as_it_may_be() {
        let limit = |current, maximum| wanted_open_files(Rlimit { current, maximum });
        assert_eq!(limit(Some(1024), Some(4096)), Some(4096));
        assert_eq!(limit(Some(1024), None), Some(OPEN_FILES_WANTED));
        assert_eq!(limit(Some(1024), Some(1024)), None);
        assert_eq!(limit(Some(1 << 20), Some(1 << 20)), None);
        assert_eq!(limit(None, None), None);
        let low = Rlimit {
            current: Some(64),
            maximum: Some(64),
        };
        assert!(raise_open_files(low).is_err());
    }

    #[test]
    fn a_tmpfs_has_no_direct_io() {
        let shm = Path::new("/dev/shm");
        if !shm.is_dir() {
            return;
        }
        let found = Preflight::check(shm).unwrap();
        assert!(!found.does_direct_io());
        assert!(found.warnings[0].contains("page cache"), "{found:?}");
    }

    #[test]
    fn a_missing_directory_is_reported() {
        let error = Preflight::check(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(error.kind(), &IoErrorKind::NotFound);
    }
}
