//! Debian packages, where we may install them.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

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
    process::run(&mut apt_get(&["-qq", "update"]))?;
    install_known(packages)
}

/// The command that does the same for a person.
pub(crate) fn help(packages: &[&str]) -> String {
    format!("apt-get install {}", packages.join(" "))
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
