//! Targets that see another file system and other pids than the observer.

use crate::support::{goroutines, number};
use anyhow::{Result, ensure};
use observer_tests::build::{Variant, build};
use observer_tests::fixture::Fixture;
use observer_tests::gate::{Need, have};
use observer_tests::go::Go;
use observer_tests::observer::Attach;
use observer_tests::serve::{Machine, Serve};
use observer_tests::truth::compare;
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

/// A leak in a PID and mount namespace of its own: its binary is on a file system that only it can see.
fn contained_leak(mount_point: &Path) -> Result<Fixture> {
    let binary = build("leak", Go::USUAL, Variant::Stripped)?;
    let script =
        r#"mount -t tmpfs none "$1" && cp "$2" "$1/contained" && exec "$1/contained" -rate 0 -total 25"#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh"]);
    let mut fixture = Fixture::spawn(command.arg(mount_point).arg(binary))?;
    fixture.descend()?;
    Ok(fixture)
}

/// A target in a mount and PID namespace is counted by both engines, under its pid on this machine.
#[test]
fn attach_to_a_contained_target() -> Result<()> {
    if !have(&[Need::Root, Need::Command("unshare")]) {
        return Ok(());
    }
    let directory = tempdir()?;
    let mut fixture = contained_leak(directory.path())?;
    ensure!(!directory.path().join("contained").exists(), "the binary should be out of sight");
    // Exact whatever a hit costs here: emulated processors are slow.
    let mut attach = Attach::within(fixture.pid(), "200ms", "unlimited")?;
    compare(&fixture.truth()?, &attach.fresh_line()?)?;
    fixture.ask("go 3")?;
    let line = attach.fresh_line()?;
    compare(&fixture.truth()?, &line)?;
    assert_eq!(number(&line["probes"], "created_total")?, 3, "{line}");
    assert_eq!(line["pid"], fixture.pid());
    Ok(())
}

/// `serve` finds it, too.
#[test]
fn serve_finds_a_contained_target() -> Result<()> {
    if !have(&[Need::Root, Need::Command("unshare")]) {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let directory = tempdir()?;
    let _fixture = contained_leak(directory.path())?;
    let serve = Serve::start(&["--interval", "200ms"])?;
    serve.until("the contained target", |samples| goroutines(samples, "contained") == Some(26.0))?;
    Ok(())
}
