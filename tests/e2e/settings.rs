//! The runtime's settings as the observer reads them, against what the runtime says itself.

use crate::support::{number, start_as};
use anyhow::{Result, ensure};
use observer_tests::build::{Variant, build};
use observer_tests::fixture::Fixture;
use observer_tests::gate::root;
use observer_tests::go::Go;
use observer_tests::metrics::Samples;
use observer_tests::observer::Attach;
use observer_tests::serve::Serve;
use serde_json::Value;
use std::process::Command;

/// Checks one report against the runtime's own answer, which nothing changes meanwhile.
fn compare(runtime: &Value, own: &Value, source: &str) -> Result<()> {
    for (ours, theirs) in [
        ("gomaxprocs", "gomaxprocs"),
        ("gogc_percent", "gogc"),
        ("gomemlimit_bytes", "gomemlimit"),
        ("gc_cycles_total", "num_gc"),
    ] {
        assert_eq!(runtime[ours], own[theirs], "{ours}: {runtime}");
    }
    for name in ["gomaxprocs_source", "gogc_source", "gomemlimit_source"] {
        assert_eq!(runtime[name], source, "{name}: {runtime}");
    }
    let (stacks, in_use) = (number(runtime, "stacks_bytes")?, number(own, "stacks")?);
    ensure!((2048..=in_use).contains(&stacks), "stacks of {stacks} bytes in spans of {in_use}");
    ensure!(number(runtime, "threads_idle")? <= number(runtime, "threads")?, "{runtime}");
    Ok(())
}

/// What the environment set, and what the program set itself later, is read live, with where it came from; in old
/// and new versions of Go, and in stripped executables.
#[test]
fn settings_are_read_live() -> Result<()> {
    if !root() {
        return Ok(());
    }
    for (go, variant) in
        [(Go(19), Variant::Static), (Go::USUAL, Variant::Stripped), (Go::NEWEST, Variant::Pie)]
    {
        let path = build("incident", go, variant)?;
        let environment = [("GOMAXPROCS", "3"), ("GOGC", "50"), ("GOMEMLIMIT", "1GiB")];
        let mut fixture = Fixture::spawn(Command::new(path).arg("idle").envs(environment))?;
        let mut attach = Attach::start(fixture.pid(), "200ms")?;
        // The first question may be answered by a garbage collection that is still under way.
        fixture.ask("gc")?;
        let own = fixture.ask("settings")?;
        compare(&attach.fresh_line()?["runtime"], &own, "environment")?;
        let own = fixture.ask("set 2 77 536870912")?;
        compare(&attach.fresh_line()?["runtime"], &own, "call")?;
    }
    Ok(())
}

/// Without any setting the runtime chose by itself, and the build says whether it knows CPU limits.
#[test]
fn defaults_are_the_runtimes_own() -> Result<()> {
    if !root() {
        return Ok(());
    }
    for (go, debug, aware) in [
        (Go::USUAL, "", false),
        (Go::NEWEST, "containermaxprocs=1", true),
        (Go::NEWEST, "containermaxprocs=0", false),
    ] {
        let mut command = Command::new(build("incident", go, Variant::Static)?);
        command.arg("idle").env("GODEBUG", debug);
        for name in ["GOMAXPROCS", "GOGC", "GOMEMLIMIT"] {
            command.env_remove(name);
        }
        let fixture = Fixture::spawn(&mut command)?;
        let runtime = Attach::start(fixture.pid(), "200ms")?.fresh_line()?["runtime"].clone();
        assert_eq!((&runtime["gogc_source"], &runtime["gogc_percent"]), (&"default".into(), &100.into()));
        assert_eq!(runtime["gomemlimit_source"], "default");
        ensure!(runtime.get("gomemlimit_bytes").is_none(), "{runtime}");
        assert_eq!(runtime["container_aware"], aware, "{go:?} with GODEBUG={debug}");
        if !debug.is_empty() {
            assert_eq!(runtime["gomaxprocs_source"], "default");
        }
    }
    Ok(())
}

/// Garbage collections count from the first look on, as the runtime counts them.
#[test]
fn garbage_collections_are_counted() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let mut fixture = start_as(directory.path(), "collected", "incident", &["idle"])?;
    fixture.ask("gc")?;
    let before = number(&fixture.ask("settings")?, "num_gc")?;
    let serve = Serve::start(&["--interval", "200ms"])?;
    let counted = |samples: &Samples| samples.sum("observer_go_gc_cycles_total", &[("process", "collected")]);
    let samples = serve.until("the first look", |samples| counted(samples).is_some())?;
    assert_eq!(counted(&samples), Some(0.0));
    for _ in 0..3 {
        fixture.ask("gc")?;
    }
    let more = number(&fixture.ask("settings")?, "num_gc")? - before;
    ensure!(more >= 3, "{more} collections");
    serve.until("the collections", |samples| counted(samples) == Some(more as f64)).map(drop)
}
