//! `cargo xtask test`: every check and test.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::process::{self, cargo};
use crate::{build, fuzz, setup, toolchain, tools, vm};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run only tests whose name contains this, and no checks of the source
    filter: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    let strict = std::env::var_os("CI").is_some();
    if !setup::tests()? && strict {
        bail!("not everything that the tests use is here");
    }
    if args.filter.is_none() {
        check_source()?;
    }
    let binary = build::run()?;
    let tests = |packages: &[&str]| {
        let mut command = cargo();
        command.arg("test").args(packages).args(&args.filter);
        if strict {
            // What needs root or BPF fails where it would be skipped.
            command.env("OBSERVER_REQUIRE", "1");
        }
        command
    };
    process::run(&mut tests(&["--workspace", "--exclude=observer-tests"]))?;
    let mut end_to_end = tests(&["--package=observer-tests"]);
    end_to_end.env("OBSERVER_BIN", &binary).env("OBSERVER_CACHE", toolchain::cache()).env("PATH", path()?);
    process::run(&mut end_to_end)?;
    if args.filter.is_none() {
        benches(&binary, strict)?;
        guests(&binary, strict)?;
        if !fuzz::short()? && strict {
            bail!("the fuzz targets were not run");
        }
    }
    let what = if args.filter.is_some() { "tests that match" } else { "checks and tests" };
    println!("all {what} passed in {} s", start.elapsed().as_secs());
    Ok(())
}

/// Every bench in its short mode, so that none rots; what its figures are says `cargo xtask bench`.
fn benches(binary: &Path, strict: bool) -> Result<()> {
    let mut bench = cargo();
    bench.args(["run", "--package=observer-tests", "--bin=bench", "--", "--short"]);
    bench.env("OBSERVER_BIN", binary).env("OBSERVER_CACHE", toolchain::cache());
    if strict {
        bench.env("OBSERVER_REQUIRE", "1");
    }
    process::run(&mut bench)
}

/// Tests inside other kernels, where these and an emulator are to be had.
fn guests(binary: &Path, strict: bool) -> Result<()> {
    if setup::guests()? {
        return vm::usual(binary);
    }
    if strict {
        bail!("the tests inside other kernels must not be left out");
    }
    println!("skipped: the tests inside other kernels, for the reason above");
    Ok(())
}

/// `PATH`, and behind it the tools that the set-up fetched.
fn path() -> Result<OsString> {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&own).chain([tools::folder()]);
    Ok(std::env::join_paths(folders)?)
}

/// Format, lints, and that observer builds without probes.
fn check_source() -> Result<()> {
    let checks: [&[&str]; 3] = [
        &["fmt", "--all", "--check"],
        &["clippy", "--workspace", "--all-targets", "--", "-Dwarnings"],
        &["check", "--package=observer", "--no-default-features"],
    ];
    setup::beside(|| checks.iter().try_for_each(|args| process::run(Command::args(&mut cargo(), *args))))
}
