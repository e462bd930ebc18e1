//! `cargo xtask vm`: the end-to-end tests inside other kernels, under QEMU.
//!
//! A guest has no disk and no network: a kernel of Debian's, and in its initramfs busybox, the observer, the
//! tests and the Go programs that they start. It has a unified cgroup hierarchy with every controller, where
//! limits, out-of-memory kills and refusals are real. What the tests say comes back over a serial console.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail, ensure};

use crate::go::Release;
use crate::setup::Missing;
use crate::{apt, build, process, setup};
use boot::Outcome;
use kernel::Kernel;
use suite::Boot;

mod boot;
mod image;
mod kernel;
mod suite;
mod systemd;

/// Debian's packages of the emulator, of the guest's shell, and of what starts services in guests.
const PACKAGES: [&str; 3] = ["qemu-system-x86", "busybox-static", "systemd"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernels by version (5.10, 6.1, 6.12, 6.18, …) or `newest`
    #[arg(default_values = suite::KERNELS)]
    kernels: Vec<String>,
    /// Run only tests whose name contains this
    #[arg(long)]
    test: Option<String>,
    /// Look for newer packages of the kernels, even where one is in the cache
    #[arg(long)]
    refresh: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if let Err(Missing { what, why, help }) = ensure_emulator() {
        bail!("there are no guests without {what} ({why:#}); this helps: {help}");
    }
    // What can't be had is named there, and missed where a fixture needs it.
    setup::go(Release::all())?;
    on(&build::run()?, args)
}

/// The kernels that `cargo xtask test` runs; `binary` is the observer.
pub(crate) fn usual(binary: &Path) -> Result<()> {
    let kernels = suite::USUAL.map(str::to_owned).to_vec();
    on(binary, &Args { kernels, test: None, refresh: false })
}

fn on(binary: &Path, args: &Args) -> Result<()> {
    let start = Instant::now();
    let base = image::base(binary)?;
    let mut failed = Vec::new();
    for name in &args.kernels {
        let kernel = Kernel::find(name, args.refresh)?;
        for boot in suite::boots(kernel.version) {
            let Some(arguments) = suite::arguments(&boot, args.test.as_deref()) else { continue };
            let folder = logs(name, &boot)?;
            println!("{}{}: {}", kernel.release, boot.title(), folder.display());
            let (own, systemd) = (image::own(&kernel, &arguments)?, with_systemd(&boot)?);
            let outcome = boot::run(&kernel, boot.parameters, &[&base, &own, &systemd], &folder)?;
            report(&outcome, start);
            if !outcome.passed() {
                failed.push(format!("{name}{}", boot.title()));
            }
        }
    }
    ensure!(failed.is_empty(), "tests failed in {}", failed.join(", "));
    Ok(())
}

/// What makes a guest one with systemd; nothing for the others.
fn with_systemd(boot: &Boot) -> Result<Vec<u8>> {
    if boot.systemd { systemd::archive() } else { Ok(Vec::new()) }
}

/// Where what a guest said is kept until its next run.
fn logs(name: &str, boot: &Boot) -> Result<PathBuf> {
    let folder = process::target_dir()?.join("vm").join(format!("{name}{}", boot.suffix));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn report(outcome: &Outcome, start: Instant) {
    if let Some(wrong) = &outcome.wrong {
        println!("{}\n{}\n{wrong}", outcome.console.trim_end(), outcome.tests.trim_end());
    }
    let results = outcome.tests.lines().filter(|line| line.starts_with("test result:"));
    println!("{} ({} s so far)", results.collect::<Vec<_>>().join("; "), start.elapsed().as_secs());
}

/// Finds or fetches what [`usual`] needs.
pub(crate) fn ensure() -> Result<(), Missing> {
    ensure_emulator()?;
    let missing = |name: &str, why| Missing {
        what: format!("kernel {name}"),
        why,
        help: format!("cargo xtask vm {name}, with a way to Debian's packages"),
    };
    suite::USUAL
        .into_iter()
        .try_for_each(|name| Kernel::find(name, false).map(drop).map_err(|why| missing(name, why)))
}

/// Finds or installs the emulator and what guests are made of.
fn ensure_emulator() -> Result<(), Missing> {
    let there = || image::busybox().is_ok() && boot::qemu().is_ok() && systemd::is_there();
    if there() {
        return Ok(());
    }
    let missing =
        |why| Missing { what: "QEMU, busybox and systemd".to_owned(), why, help: apt::help(&PACKAGES) };
    apt::install(&PACKAGES).map_err(missing)?;
    if there() { Ok(()) } else { Err(missing(anyhow::anyhow!("the packages do not hold them"))) }
}
