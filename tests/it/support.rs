//! What several tests need: a place, a watchdog, seeded numbers, and copies of databases.

use std::fs;
use std::future::Future;
use std::io::ErrorKind;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, SystemTime};

use futures_executor::block_on;

/// After this long a step is taken to hang: far beyond what a slow disk and a busy machine make of
/// any of them.
const HANG: Duration = Duration::from_mins(5);

/// A directory for one test's database, removed at its end.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("lightning-")
        .tempdir()
        .expect("a temporary directory")
}

/// Runs a future on a thread of its own, and tells a hang from slowness.
pub(crate) fn run<T: Send + 'static>(
    what: &str,
    future: impl Future<Output = T> + Send + 'static,
) -> T {
    let (sender, receiver) = channel();
    let thread = thread::spawn(move || sender.send(block_on(future)).is_ok());
    match receiver.recv_timeout(HANG) {
        Ok(value) => value,
        Err(RecvTimeoutError::Timeout) => panic!("{what} hangs"),
        Err(RecvTimeoutError::Disconnected) => resume_unwind(
            thread
                .join()
                .expect_err("a thread that sends nothing panicked"),
        ),
    }
}

/// Numbers that follow from a seed: `SplitMix64` (Steele, Lea, Flood, 2014).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap();
        usize::try_from(self.next() % end).unwrap()
    }

    pub(crate) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// Copies a directory with everything in it.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    assert!(
        try_copy_tree(from, to),
        "files vanish while they are copied"
    );
}

/// Copies the files of an open database as a crash would leave them.
///
/// Nobody may write meanwhile, but housekeeping may go on; the copy counts when no file changed
/// while it was made.
pub(crate) fn crash_image(from: &Path, to: &Path) {
    loop {
        let before = look(from);
        let copied = try_copy_tree(from, to);
        if copied && before.is_some() && before == look(from) {
            return;
        }
        fs::remove_dir_all(to).unwrap();
    }
}

/// Every file with its length and when it was changed; nothing when one vanishes meanwhile.
fn look(directory: &Path) -> Option<Vec<(PathBuf, u64, SystemTime)>> {
    let files = files_below(directory).into_iter();
    let look = files.map(|file| {
        let data = fs::metadata(&file).ok()?;
        Some((file, data.len(), data.modified().ok()?))
    });
    look.collect()
}

/// Returns whether every file was still there when its turn came.
fn try_copy_tree(from: &Path, to: &Path) -> bool {
    fs::create_dir(to).unwrap();
    fs::read_dir(from).unwrap().all(|entry| {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            return try_copy_tree(&entry.path(), &target);
        }
        match fs::copy(entry.path(), target) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => panic!("cannot copy {}: {error}", entry.path().display()),
        }
    })
}

/// Every file below a directory, in a fixed order.
pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}
