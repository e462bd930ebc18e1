//! `cargo xtask build`: the release binary, statically linked.

use std::path::PathBuf;

use anyhow::Result;

use crate::{process, setup};

/// Sets up and builds; returns the binary's path.
pub(crate) fn run() -> Result<PathBuf> {
    let program = ["rustc", "--release", "--package=observer", "--bin=observer"];
    // Static, so that one file runs on every machine and alone in a container image. Only the last step of the build
    // gets the flag: procedural macros can't be built with it.
    let compile =
        || process::run(process::cargo().args(program).args(["--", "-Ctarget-feature=+crt-static"]));
    setup::beside(compile)?;
    Ok(process::target_dir()?.join("release/observer"))
}
