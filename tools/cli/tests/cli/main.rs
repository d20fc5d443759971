//! The `lightning` command as its users meet it: the built binary, real files, exit statuses.

#![expect(
    clippy::disallowed_methods,
    reason = "these lists are for shards; the tests make and damage ordinary files"
)]
#![expect(
    clippy::unwrap_used,
    clippy::format_collect,
    clippy::format_push_string,
    reason = "helpers of tests are tests, and need no speed"
)]

mod crash;
mod demo;
mod entries;
mod import;
mod salvage;

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a run of the command left behind.
#[derive(Debug)]
struct Ran {
    status: i32,
    out: Vec<u8>,
    err: String,
}

impl Ran {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    /// Checks the status, and hands on what was printed.
    #[track_caller]
    fn ends_with(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        if status == 0 {
            assert_eq!(self.err, "", "a success is silent on standard error");
        } else {
            assert_ne!(self.err, "", "a failure says why on standard error");
        }
        self
    }
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_lightning"))
}

fn lightning<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    lightning_with(args, b"")
}

/// Runs the command with `input` as its standard input.
fn lightning_with<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>, input: &[u8]) -> Ran {
    let mut child = command()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that needs no input may be gone before it is written.
    drop(stdin.write_all(input));
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    Ran {
        status: output.status.code().expect("the command ends by itself"),
        out: output.stdout,
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A directory that is gone when the test ends, and paths in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// A database with the rows of a CSV text, whose key column is `k`.
    fn database(&self, csv: &str) -> String {
        let (db, file) = (self.path("made.db"), self.file("made.csv", csv));
        lightning(["import", &db, &file, "--key", "k"]).ends_with(0);
        db
    }
}

/// The shipped table.
fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/unicode.csv")
}
