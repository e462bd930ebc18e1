//! `promtool`, which checks the metrics: kept in the cache as `CACHE/bin/promtool`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::setup::Missing;
use crate::{apt, process, toolchain};

/// Debian's package that holds it. It is unpacked, not installed: nobody asked for a server.
const PACKAGE: &str = "prometheus";

/// Finds it in `PATH` or in the cache, or fetches it.
pub(crate) fn ensure() -> Result<(), Missing> {
    let cached = toolchain::cache().join("bin/promtool");
    if cached.is_file() || Command::new("promtool").arg("--version").output().is_ok() {
        return Ok(());
    }
    let what = "promtool".to_owned();
    fetch(&cached).map_err(|why| Missing { what, why, help: apt::help(&[PACKAGE]) })
}

fn fetch(cached: &Path) -> Result<()> {
    println!("fetching promtool");
    fs::create_dir_all(cached.with_file_name(""))?;
    let folder = tempfile::tempdir_in(toolchain::cache())?;
    let package = apt::download(PACKAGE, folder.path())?;
    process::output(Command::new("dpkg-deb").arg("-x").arg(package).arg(folder.path()))?;
    let promtool = folder.path().join("usr/bin/promtool");
    fs::rename(&promtool, cached).with_context(|| format!("cannot create {}", cached.display()))
}
