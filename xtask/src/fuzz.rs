//! `cargo xtask fuzz`: what is read of executables and of memory, under libFuzzer.
//!
//! Coverage comes from LLVM's own pass, which every Rust compiler has; what begins a corpus comes from Go programs
//! that are built here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::go::{self, Release};
use crate::{process, setup, toolchain};

/// In the order in which they run; the package `observer-fuzz` has them.
const TARGETS: [&str; 5] = ["elf", "buildinfo", "pclntab", "unwinder", "labels"];
/// Versions of Go whose programs are fuzzed: the oldest, the last with labels in a map, the newest.
const VERSIONS: [&str; 3] = ["1.19", "1.23", "1.27"];
/// The Go program.
const PROGRAM: &str = "observer/tests/stacks/program";
/// Seconds for each target in `cargo xtask test`.
const SHORT: u64 = 5;

/// As `cargo fuzz` sets them, without a sanitizer; overflows are errors.
const RUSTFLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
    -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this target
    #[arg(value_parser = TARGETS)]
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Run the target once with this file, which an earlier run has left
    #[arg(long, requires = "target")]
    file: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let fuzzer = Fuzzer::build()?;
    if let (Some(target), Some(file)) = (&args.target, &args.file) {
        return process::run(fuzzer.command(target).arg(file));
    }
    let targets = TARGETS.into_iter().filter(|name| args.target.as_ref().is_none_or(|target| target == name));
    for target in targets {
        fuzzer.run(target, args.seconds)?;
    }
    Ok(())
}

/// A short run of every target; false when something that it needs is missing.
pub(crate) fn short() -> Result<bool> {
    if Command::new("c++").arg("--version").output().is_err() {
        eprintln!("missing: a C++ compiler for the fuzz targets; this helps: apt-get install g++");
        return Ok(false);
    }
    let fuzzer = Fuzzer::build()?;
    for target in TARGETS {
        fuzzer.run(target, SHORT)?;
    }
    Ok(true)
}

struct Fuzzer {
    binary: PathBuf,
    programs: Vec<PathBuf>,
    /// Where inputs that failed are put.
    folder: PathBuf,
}

impl Fuzzer {
    fn build() -> Result<Self> {
        let folder = process::target_dir()?.join("fuzz");
        fs::create_dir_all(&folder)?;
        let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let mut build = process::cargo();
        build
            .args(["build", "--release", "--package=observer-fuzz", "--features=libfuzzer", "--bin=fuzz"])
            // Named, so that build scripts are built without the flags.
            .args(["--target", &triple, "--target-dir"])
            .arg(&folder)
            .env("RUSTFLAGS", RUSTFLAGS);
        process::run(&mut build)?;
        let programs = programs(&folder)?;
        Ok(Self { binary: folder.join(triple).join("release/fuzz"), programs, folder })
    }

    fn command(&self, target: &str) -> Command {
        let mut command = Command::new(&self.binary);
        let programs = std::env::join_paths(&self.programs).unwrap_or_default();
        command.env("OBSERVER_FUZZ_TARGET", target).env("OBSERVER_FUZZ_PROGRAMS", programs);
        command
    }

    fn run(&self, target: &str, seconds: u64) -> Result<()> {
        let corpus = toolchain::cache().join("fuzz").join(target);
        let failed = self.folder.join("failed");
        for folder in [&corpus, &failed] {
            fs::create_dir_all(folder).with_context(|| format!("cannot write to {}", folder.display()))?;
        }
        println!("fuzzing {target} for {seconds} s");
        let mut command = self.command(target);
        command
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/{target}-", failed.display()))
            .args([
                "-timeout=20",
                "-rss_limit_mb=2048",
                "-max_len=32768",
                "-print_final_stats=1",
                "-verbosity=0",
            ])
            .arg(&corpus)
            .env("OBSERVER_FUZZ_SEEDS", &corpus);
        if !command.status().with_context(|| format!("cannot start {}", self.binary.display()))?.success() {
            bail!(
                "target {target} failed; repeat it with `cargo xtask fuzz {target} --file FILE`, the newest of {}",
                failed.display()
            );
        }
        Ok(())
    }
}

/// Builds the Go programs.
fn programs(folder: &Path) -> Result<Vec<PathBuf>> {
    let releases = VERSIONS.into_iter().map(Release::parse).collect::<Result<Vec<_>>>()?;
    if !setup::go(&releases)? {
        bail!("the fuzz targets begin with programs of the Go versions named above");
    }
    VERSIONS
        .into_iter()
        .zip(&releases)
        .map(|(version, release)| {
            let program = folder.join(format!("program-{version}"));
            process::run(
                go::command(&release.root())
                    .args(["build", "-trimpath", "-ldflags=-s -w", "-o"])
                    .args([program.as_path(), Path::new(".")])
                    .current_dir(process::root().join(PROGRAM))
                    .env("CGO_ENABLED", "0"),
            )?;
            Ok(program)
        })
        .collect()
}
