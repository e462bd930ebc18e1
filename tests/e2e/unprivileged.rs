//! Without root: what needs privileges is off and named, the rest works.

use anyhow::{Context, Result, ensure};
use observer_tests::build::{Variant, build};
use observer_tests::fixture::Fixture;
use observer_tests::gate::{Need, have};
use observer_tests::go::Go;
use observer_tests::observer::{Ran, command_as_nobody, run, run_command};
use observer_tests::proc::copy_executable;
use observer_tests::serve::{Machine, Serve};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

const NEEDS: [Need; 2] = [Need::Root, Need::Command("setpriv")];

fn as_nobody(directory: &Path, args: &[&str]) -> Result<Ran> {
    run_command(&mut command_as_nobody(directory, args)?)
}

/// A leak that belongs to nobody, as the observer then does.
fn nobodys_leak(directory: &Path) -> Result<Fixture> {
    let path = directory.join("nobodys-leak");
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    copy_executable(&build("leak", Go::USUAL, Variant::Static)?, &path)?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(path);
    Fixture::spawn(command.args(["-rate", "0", "-total", "31"]))
}

/// `check` says what is there and what is missing, to root and to nobody, and the two differ.
#[test]
fn check_tells_the_difference() -> Result<()> {
    if !have(&NEEDS) {
        return Ok(());
    }
    let directory = tempdir()?;
    let nobody = as_nobody(directory.path(), &["check"])?;
    ensure!(nobody.status.code().is_some() && !nobody.stderr.contains("panicked"), "{nobody:?}");
    ensure!(nobody.stdout.contains("CAP_"), "it should name what would help: {nobody:?}");
    let root = run(&["check"])?;
    ensure!(root.status.success(), "{root:?}");
    ensure!(root.stdout != nobody.stdout, "root and nobody can't do the same: {root:?}");
    let json = as_nobody(directory.path(), &["check", "--output", "json"])?;
    serde_json::from_str::<Value>(&json.stdout).with_context(|| format!("{json:?}"))?;
    Ok(())
}

/// `list` shows what it can read with its counts, and everything else with a reason.
#[test]
fn list_without_privileges() -> Result<()> {
    if !have(&NEEDS) {
        return Ok(());
    }
    let directory = tempdir()?;
    let mut own = nobodys_leak(directory.path())?;
    let other = Fixture::start("leak", Go::USUAL, Variant::Static, &["-rate", "0"])?;
    let rows = as_nobody(directory.path(), &["list", "--output", "json"])?.json()?;
    let row = |pid: u32| rows.as_array().and_then(|rows| rows.iter().find(|row| row["pid"] == pid));
    let row_own = row(own.pid()).with_context(|| format!("its own process is missing in {rows}"))?;
    assert_eq!(row_own["goroutines"], own.truth()?.num_goroutine, "{row_own}");
    if let Some(row) = row(other.pid()) {
        ensure!(row["goroutines"].is_null() && row["reason"].is_string(), "{row}");
    }
    Ok(())
}

/// `attach` to somebody else's process is refused in one line; to one's own it works, by snapshots.
#[test]
fn attach_without_privileges() -> Result<()> {
    if !have(&NEEDS) {
        return Ok(());
    }
    let directory = tempdir()?;
    let other = Fixture::start("leak", Go::USUAL, Variant::Static, &["-rate", "0"])?;
    as_nobody(directory.path(), &["attach", &other.pid_text(), "--duration", "1s"])?.refused()?;

    let mut own = nobodys_leak(directory.path())?;
    let pid = own.pid_text();
    let args = ["attach", &pid, "--interval", "200ms", "--duration", "600ms", "--output", "json"];
    let ran = as_nobody(directory.path(), &args)?;
    let lines = ran.json_lines()?;
    let line = lines.last().with_context(|| format!("{ran:?}"))?;
    observer_tests::truth::compare(&own.truth()?, line)?;
    ensure!(line["probes"].is_null(), "nobody can't probe: {line}");
    Ok(())
}

/// `inspect` of a file needs no privilege.
#[test]
fn inspect_without_privileges() -> Result<()> {
    if !have(&NEEDS) {
        return Ok(());
    }
    let directory = tempdir()?;
    let path = directory.path().join("leak");
    copy_executable(&build("leak", Go::NEWEST, Variant::Stripped)?, &path)?;
    let ran = as_nobody(directory.path(), &["inspect", path.to_str().context("path")?, "--output", "json"])?;
    assert!(ran.json()?.to_string().contains(&Go::NEWEST.toolchain()?.version), "{ran:?}");
    Ok(())
}

/// `serve` works by snapshots, and one line of its log and a metric say what is off.
#[test]
fn serve_without_privileges() -> Result<()> {
    if !have(&NEEDS) {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let directory = tempdir()?;
    let _own = nobodys_leak(directory.path())?;
    let serve = Serve::spawn(|address| {
        let args = ["serve", "--web.listen-address", address, "--interval", "200ms"];
        command_as_nobody(directory.path(), &args)
    })?;
    let samples = serve.until("its own process", |samples| {
        crate::support::goroutines(samples, "nobodys-leak") == Some(32.0)
    })?;
    let off =
        samples.all.iter().any(|sample| sample.name == "observer_feature_enabled" && sample.value == 0.0);
    ensure!(off, "no feature is said to be off: {}", samples.text);
    let (status, log) = serve.end_by(nix::sys::signal::Signal::SIGTERM)?;
    ensure!(status.code() == Some(0), "{status}: {log}");
    ensure!(
        log.contains("CAP_") || log.contains("observer check"),
        "the log doesn't say what would help: {log}"
    );
    Ok(())
}
