//! systemd for a guest: as much of Debian's package as it takes to start the unit of `deploy/systemd` as on a machine
//! that has booted with it.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::image::{Archive, libraries};
use crate::process;

/// The first process; that it is in a guest tells the guest's init to start it.
const SYSTEMD: &str = "/lib/systemd/systemd";
/// What starts services since systemd 255; part of the above before.
const EXECUTOR: &str = "/lib/systemd/systemd-executor";
const SYSTEMCTL: &str = "/bin/systemctl";
const UNITS: &str = "/lib/systemd/system";

/// Runs the tests, as a service among others.
const TESTS: &str = "\
[Unit]
Description=the tests
[Service]
Type=oneshot
ExecStart=/bin/busybox sh /guest/tests.sh
";

/// Whether there is a systemd to take.
pub(super) fn is_there() -> bool {
    [SYSTEMD, SYSTEMCTL, UNITS].iter().all(|path| Path::new(path).exists())
}

/// What a guest is given besides everything else to be one with systemd.
pub(super) fn archive() -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    let programs: Vec<&Path> =
        [SYSTEMD, EXECUTOR, SYSTEMCTL].iter().map(Path::new).filter(|path| path.exists()).collect();
    for file in programs.iter().copied().chain(libraries(&programs)?.iter().map(AsRef::as_ref)) {
        archive.copy(&file.to_string_lossy()[1..], file)?;
    }
    for unit in fs::read_dir(UNITS)? {
        let unit = unit?.path();
        if unit.extension() == Some(OsStr::new("target")) {
            archive.copy(&unit.to_string_lossy()[1..], &unit)?;
        }
    }
    // Empty: the machine has a new one with each boot.
    archive.file("etc/machine-id", b"")?;
    archive.file("etc/systemd/system/guest.service", TESTS.as_bytes())?;
    let own = process::root().join("deploy/systemd/observer.service");
    archive.copy("etc/systemd/system/observer.service", &own).context("the unit is missing")?;
    archive.finish()
}
