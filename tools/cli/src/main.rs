//! The `lightning` command; the library of this package is all of it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    lightning_cli::main()
}
