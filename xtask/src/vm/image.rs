//! What a guest is booted with: an initramfs, in two parts that are written one behind the other. The base is
//! the same for all guests of a run; the rest is one guest's own.

use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use cpio::newc::{Builder, trailer};
use serde_json::Value;

use super::kernel::Kernel;
use crate::process::{self, cargo};
use crate::toolchain;

/// What the kernel starts.
const INIT: &str = include_str!("init.sh");
/// What it starts in turn.
const TESTS: &str = include_str!("tests.sh");

/// Folders that the guest mounts something on, or that hold what follows.
const FOLDERS: [&str; 10] = ["bin", "dev", "etc", "fixtures", "lib", "modules", "proc", "sys", "tmp", "work"];

/// Type bits of a file's mode.
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;

/// An archive that the kernel unpacks: files by their path in the guest.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
}

impl Archive {
    fn folder(&mut self, path: &str) -> Result<()> {
        if path.is_empty() || !self.folders.insert(path.to_owned()) {
            return Ok(());
        }
        self.folder(path.rsplit_once('/').map_or("", |(above, _)| above))?;
        self.entry(path, FOLDER | 0o755, &[])
    }

    pub(super) fn file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        self.folder(path.rsplit_once('/').map_or("", |(above, _)| above))?;
        self.entry(path, FILE | 0o755, content)
    }

    /// Copies a file, following links.
    pub(super) fn copy(&mut self, path: &str, from: &Path) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.file(path, &content)
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let mut entry = Builder::new(path).mode(mode).write(&mut self.bytes, u32::try_from(content.len())?);
        std::io::copy(&mut Cursor::new(content), &mut entry)?;
        entry.finish().map(drop).context("cannot write an initramfs")
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        trailer(&mut self.bytes)?;
        // The kernel looks for the next archive at a multiple of four.
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        Ok(self.bytes)
    }
}

/// Everything that is the same for all guests: shell (whose own `unshare` knows too little), observer, tests, and the programs that they start.
pub(super) fn base(observer: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in FOLDERS {
        archive.folder(folder)?;
    }
    archive.file("init", INIT.as_bytes())?;
    archive.file("guest/tests.sh", TESTS.as_bytes())?;
    archive.copy("bin/busybox", &busybox()?)?;
    let (tests, unshare) = (test_program()?, find("unshare")?);
    let programs = [("guest/observer", observer), ("guest/e2e", &tests), ("bin/unshare", &unshare)];
    for (path, from) in programs {
        archive.copy(path, from)?;
    }
    for library in libraries(&programs.map(|(_, from)| from))? {
        archive.copy(&library.to_string_lossy()[1..], &library)?;
    }
    for fixture in fs::read_dir(fixtures()?)? {
        let fixture = fixture?;
        archive.copy(&format!("fixtures/{}", fixture.file_name().to_string_lossy()), &fixture.path())?;
    }
    archive.finish()
}

/// What one guest is given: the kernel's modules, and the arguments of the tests.
pub(super) fn own(kernel: &Kernel, arguments: &[&str]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for (place, module) in kernel.modules.iter().enumerate() {
        archive.copy(&format!("modules/{place}.ko"), module)?;
    }
    archive.file("guest/arguments", arguments.join(" ").as_bytes())?;
    archive.finish()
}

/// A busybox that needs no library.
pub(super) fn busybox() -> Result<PathBuf> {
    let path = find("busybox")?;
    if libraries(&[&path])?.is_empty() { Ok(path) } else { bail!("{} is not static", path.display()) }
}

/// A program in `PATH`.
fn find(name: &str) -> Result<PathBuf> {
    let found = process::output(Command::new("sh").args(["-c", &format!("command -v {name}")]));
    Ok(PathBuf::from(found.with_context(|| format!("there is no {name}"))?.trim()))
}

/// Builds the end-to-end tests; returns the program.
fn test_program() -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["test", "--package=observer-tests", "--test=e2e", "--no-run", "--quiet"]);
    let messages = process::output(build.arg("--message-format=json"))?;
    let of_tests = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == "e2e").then_some(())?;
        message["executable"].as_str().map(PathBuf::from)
    };
    messages.lines().find_map(of_tests).context("cargo built no end-to-end tests")
}

/// Builds the Go programs that tests in guests start, where there is no Go; returns their folder.
fn fixtures() -> Result<PathBuf> {
    let folder = process::target_dir()?.join("vm/fixtures");
    let mut build = cargo();
    build.args(["run", "--quiet", "--package=observer-tests", "--bin=prebuild", "--"]).arg(&folder);
    process::run(build.env("OBSERVER_CACHE", toolchain::cache()))?;
    Ok(folder)
}

/// The libraries of programs and the loader, as the loader finds them.
pub(super) fn libraries(programs: &[&Path]) -> Result<BTreeSet<PathBuf>> {
    let mut all = BTreeSet::new();
    for program in programs {
        // It fails for a program without any.
        let output = Command::new("ldd").arg(program).output().context("cannot start ldd")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        all.extend(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from));
    }
    Ok(all)
}
