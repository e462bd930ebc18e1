//! `cargo xtask bench`: speed and size.

use anyhow::{Result, bail};

use crate::go::Release;
use crate::process::{self, cargo};
use crate::{build, setup, toolchain};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Options of the bench program
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    bench: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if !setup::go(&[Release::newest()])? {
        bail!("the bench's programs need the newest Go");
    }
    let binary = build::run()?;
    let mut bench = cargo();
    bench.args(["run", "--release", "--package=observer-tests", "--bin=bench", "--"]).args(&args.bench);
    process::run(bench.env("OBSERVER_BIN", binary).env("OBSERVER_CACHE", toolchain::cache()))
}
