//! `cargo xtask build`: the release binary.

use std::path::PathBuf;

use anyhow::Result;

use crate::{process, setup};

/// Sets up and builds; returns the binary's path.
pub(crate) fn run() -> Result<PathBuf> {
    setup::bpf()?;
    process::run(process::cargo().args(["build", "--release", "--package=observer"]))?;
    Ok(process::target_dir()?.join("release/observer"))
}
