//! Debian packages, where we may install them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process;

/// Installs packages; an error where there is no apt-get, or no right to use it.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("only root may install packages");
    }
    if apt_get(&["--version"]).stdout(Stdio::null()).status().is_err() {
        bail!("there is no apt-get");
    }
    println!("installing {}", packages.join(" "));
    // A fresh image knows no packages, an old one only versions that are gone.
    if install_known(packages).is_ok() {
        return Ok(());
    }
    update()?;
    install_known(packages)
}

/// Fetches a package's file into a folder, which needs no rights; returns its path.
pub(crate) fn download(package: &str, folder: &Path) -> Result<PathBuf> {
    let fetch = || process::output(apt_get(&["-qq", "download", package]).current_dir(folder));
    if fetch().is_err() {
        update()?;
        fetch()?;
    }
    fetched(package, folder)
}

/// Fetches a package's file from Debian unstable into a folder. The machine's own lists stay as they are.
pub(crate) fn download_unstable(package: &str, folder: &Path) -> Result<PathBuf> {
    let lists = folder.join("lists");
    fs::create_dir_all(lists.join("partial"))?;
    fs::write(folder.join("sources.list"), "deb http://deb.debian.org/debian sid main\n")?;
    let own = |name: &str, value: &Path| format!("-oDir::{name}={}", value.display());
    let options = [
        own("Etc::SourceList", &folder.join("sources.list")),
        own("Etc::SourceParts", Path::new("/nonexistent")),
        own("State::Lists", &lists),
        own("Cache", &folder.join("cache")),
    ];
    let run = |args: &[&str]| process::output(apt_get(args).args(&options).current_dir(folder));
    run(&["-qq", "update"])?;
    run(&["-qq", "download", package])?;
    fetched(package, folder)
}

fn fetched(package: &str, folder: &Path) -> Result<PathBuf> {
    let files = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let file = files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    file.with_context(|| format!("apt-get left no file of {package}"))
}

/// The command that installs them, for a person.
pub(crate) fn help(packages: &[&str]) -> String {
    format!("apt-get install {}", packages.join(" "))
}

fn update() -> Result<()> {
    process::output(&mut apt_get(&["-qq", "update"])).map(drop)
}

fn install_known(packages: &[&str]) -> Result<()> {
    let mut command = apt_get(&["-qq", "-y", "install", "--no-install-recommends"]);
    process::output(command.args(packages)).map(drop)
}

fn apt_get(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
    command
}
