//! `cargo xtask image`: the observer as a container image.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{build, process};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name and tag of the image (default: localhost/observer:VERSION)
    #[arg(long)]
    name: Option<String>,
    /// File to write (default: observer-VERSION.tar in the target directory)
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// Pack this program instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let binary = args.binary.clone().map_or_else(build::run, Ok)?;
    let output = match &args.output {
        Some(output) => std::path::absolute(output)?,
        None => process::target_dir()?.join(format!("observer-{version}.tar")),
    };
    let mut pack = process::cargo();
    pack.args(["run", "--quiet", "--package=observer-image", "--"])
        .args([&std::path::absolute(binary)?, &output]);
    if let Some(name) = &args.name {
        pack.args(["--name", name]);
    }
    // It takes our place, so that its error is the only one.
    Err(pack.exec()).context("cannot start cargo")
}
