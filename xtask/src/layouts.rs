//! `cargo xtask layouts`: has the Go runtime's structs measured, and writes the layout table.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::go::{self, Release};
use crate::{process, setup};

const TABLE: &str = "observer/src/gobin/layout/generated.rs";

/// Early patch releases, to see what moves within a minor version.
const EARLY: [&str; 5] = ["1.23.1", "1.24.3", "1.25.0", "1.26.0", "1.27.0"];

/// Needs nothing but the runtime.
const PROGRAM: &str = "package main\n\nfunc main() { println() }\n";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only say whether the committed table is what would be written
    #[arg(long)]
    check: bool,
    /// Measure this toolchain too (a folder with bin/go); may be repeated
    #[arg(long)]
    goroot: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let executables = build_all(&args.goroot, folder.path())?;
    let measure = ["run", "--quiet", "--package=observer-layouts", "--"];
    // What moved is said on standard error.
    let table = process::output(process::cargo().args(measure).args(executables).stderr(Stdio::inherit()))?;
    let path = process::root().join(TABLE);
    if !args.check {
        fs::write(&path, table)?;
        println!("wrote {TABLE}");
    } else if fs::read_to_string(&path)? != table {
        bail!("{TABLE} is not what these toolchains have: run `cargo xtask layouts`");
    } else {
        println!("{TABLE} is what these toolchains have");
    }
    Ok(())
}

/// A program of each toolchain, in an order in which later ones of a minor version come behind earlier ones.
fn build_all(extra: &[PathBuf], folder: &Path) -> Result<Vec<PathBuf>> {
    if !setup::go(Release::all())? {
        bail!("the table covers the toolchains named above too: without them it would lose versions");
    }
    let early = EARLY.iter().map(|version| go::wheel(version)).collect::<Result<Vec<_>>>()?;
    let roots = early.into_iter().chain(Release::all().iter().map(|release| release.root()));
    let versions = roots.chain(extra.iter().cloned()).map(|root| Ok((version(&root)?, root)));
    let mut toolchains = versions.collect::<Result<Vec<_>>>()?;
    toolchains.sort_by_key(|(version, _)| numbers(version));
    // Two toolchains may be of the same version.
    let folders = (0..).map(|number: u32| folder.join(number.to_string()));
    toolchains.iter().zip(folders).map(|((version, root), folder)| build(version, root, &folder)).collect()
}

/// The numbers of a version, up to what marks it as none that is released yet: `[1, 24, 11]` of `go1.24.11`, `[1, 28]`
/// of `go1.28rc1`.
fn numbers(version: &str) -> Vec<u32> {
    let digits = version.trim_start_matches("go").split(|c: char| c.is_ascii_alphabetic()).next();
    digits.unwrap_or_default().split('.').filter_map(|number| number.parse().ok()).collect()
}

/// A program with DWARF, called as its toolchain, in a folder that isn't there yet.
fn build(version: &str, root: &Path, folder: &Path) -> Result<PathBuf> {
    println!("building with {version}");
    fs::create_dir(folder)?;
    fs::write(folder.join("main.go"), PROGRAM)?;
    let executable = folder.join(version);
    process::run(
        go::command(root)
            .args(["build", "-ldflags=-compressdwarf=false", "-o"])
            .args([&executable, Path::new("main.go")])
            .current_dir(folder)
            .env("CGO_ENABLED", "0"),
    )?;
    Ok(executable)
}

/// First line of the file `VERSION`: `go1.24.11`.
fn version(root: &Path) -> Result<String> {
    let file: PathBuf = root.join("VERSION");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::numbers;

    /// Patch releases are in the order of their numbers, behind what came before the release.
    #[test]
    fn order_of_versions() {
        let versions = ["go1.9", "go1.24rc2", "go1.24.0", "go1.24.3", "go1.24.11", "go1.25.0"];
        assert!(versions.is_sorted_by_key(|version| numbers(version)));
    }
}
