//! Compresses the shipped data set, so that `lightning demo` carries it wherever it runs.
//!
//! Three megabytes of plain text would be most of the binary; deflated they are a tenth of that.
//! The repository keeps the readable table, and only it.

#![expect(
    clippy::disallowed_methods,
    reason = "a build script reads and writes ordinary files"
)]

use std::path::Path;
use std::{env, fs, io};

/// Relative to this package.
const DATA: &str = "../../examples/data/unicode.csv";

/// Deflate's usual level: a higher one saves under a tenth and takes several times as long.
const LEVEL: u8 = 6;

fn main() -> io::Result<()> {
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let out = env::var_os("OUT_DIR").unwrap_or_default();
    let data = fs::read(Path::new(&package).join(DATA))?;
    let packed = miniz_oxide::deflate::compress_to_vec_zlib(&data, LEVEL);
    fs::write(Path::new(&out).join("unicode.csv.zlib"), packed)?;
    let instructions =
        format!("cargo::rerun-if-changed={DATA}\ncargo::rerun-if-changed=build.rs\n");
    io::Write::write_all(&mut io::stdout(), instructions.as_bytes())
}
