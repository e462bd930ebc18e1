//! `cargo xtask setup`: finds or installs what building and testing need.

use std::fs::{self, File};
use std::thread;

use anyhow::{Context, Error, Result, bail};

use crate::go::Release;
use crate::toolchain::BUILDING;
use crate::tools::{TOOLS, Tool};
use crate::{bpf, toolchain, vm};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Go versions to install, for example 1.24,1.27 (default: all that the tests use)
    #[arg(long, value_delimiter = ',', value_parser = Release::parse)]
    go: Vec<Release>,
    /// Build bpf-linker again, for the LLVM of the Rust toolchain that is found now
    #[arg(long)]
    rebuild_linker: bool,
}

/// Something that is needed, is not there, and could not be installed.
#[derive(Debug)]
pub(crate) struct Missing {
    /// What it is.
    pub(crate) what: String,
    /// Why it could not be installed.
    pub(crate) why: Error,
    /// The command that helps.
    pub(crate) help: String,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let releases = if args.go.is_empty() { Release::all() } else { &args.go };
    let bpf = {
        let _lock = lock(BUILDING)?;
        bpf::ensure(args.rebuild_linker)
    };
    let _lock = lock(TESTING)?;
    let missing: Vec<Missing> = [bpf, vm::ensure()]
        .into_iter()
        .chain(TOOLS.iter().map(Tool::ensure))
        .chain(releases.iter().map(|release| release.ensure()))
        .filter_map(Result::err)
        .collect();
    report(&missing);
    if !missing.is_empty() {
        bail!("{} of the things named above could not be installed", missing.len());
    }
    println!("nothing is missing");
    Ok(())
}

/// Finds or installs what building needs while `work` compiles what doesn't need it: where the BPF toolchain comes in,
/// the build script of `observer` waits for us. An error names the command that helps.
pub(crate) fn beside<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let lock = lock(BUILDING)?;
    let ensure = move || {
        let done = bpf::ensure(false);
        report(done.as_ref().err());
        drop(lock);
        done.is_ok()
    };
    thread::scope(|scope| {
        let ensured = scope.spawn(ensure);
        let worked = work();
        if !ensured.join().unwrap_or(false) {
            bail!("observer cannot be built with probes");
        }
        worked
    })
}

/// The Go toolchains of these releases, as far as they can be had; whether all can.
pub(crate) fn go(releases: &[Release]) -> Result<bool> {
    let _lock = lock(TESTING)?;
    let missing: Vec<Missing> = releases.iter().filter_map(|release| release.ensure().err()).collect();
    report(&missing);
    Ok(missing.is_empty())
}

/// What the tests use, as far as it can be had; whether all can.
pub(crate) fn tests() -> Result<bool> {
    let go = go(Release::all())?;
    let _lock = lock(TESTING)?;
    let missing: Vec<Missing> = TOOLS.iter().filter_map(|tool| tool.ensure().err()).collect();
    report(&missing);
    Ok(go && missing.is_empty())
}

/// What the tests in guests need; whether it is there.
pub(crate) fn guests() -> Result<bool> {
    let _lock = lock(TESTING)?;
    let guests = vm::ensure();
    report(guests.as_ref().err());
    Ok(guests.is_ok())
}

fn report<'a>(missing: impl IntoIterator<Item = &'a Missing>) {
    for Missing { what, why, help } in missing {
        eprintln!("missing: {what} ({why:#}); this helps: {help}");
    }
}

/// Of what tests and demo need, which waits for nothing that building needs.
const TESTING: &str = "setup-testing.lock";
/// Of the machine's packages: apt-get doesn't wait for another.
pub(crate) const PACKAGES: &str = "setup-packages.lock";

/// Two set-ups of the same at a time would install everything twice.
pub(crate) fn lock(name: &str) -> Result<File> {
    let folder = toolchain::cache();
    let create = fs::create_dir_all(&folder).and_then(|()| File::create(folder.join(name)));
    let file = create.with_context(|| format!("cannot write to {}", folder.display()))?;
    file.lock()?;
    Ok(file)
}
