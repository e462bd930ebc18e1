//! Counts equal what the program itself says, callsite by callsite.

use crate::support::{callsite, counts, number};
use anyhow::{Context, Result, ensure};
use observer_tests::build::Variant;
use observer_tests::fixture::Fixture;
use observer_tests::gate::{Need, have, root};
use observer_tests::go::Go;
use observer_tests::observer::{Attach, run};
use observer_tests::truth::{Truth, compare};
use serde_json::Value;
use std::collections::BTreeMap;

/// Fixtures at rest, with their arguments.
const AT_REST: [(&str, &[&str]); 5] = [
    ("leak", &["-rate", "0", "-total", "137"]),
    ("webhook", &["-total", "61"]),
    ("healthy", &["-conns", "23"]),
    ("gowrap", &[]),
    ("states", &[]),
];

/// Attaches late to every fixture at rest, compares, and has the leak grow under observation.
fn compare_all(go: Go, variant: Variant) -> Result<()> {
    let mut running = Vec::new();
    for (name, args) in AT_REST {
        let fixture = Fixture::start(name, go, variant, args)?;
        let attach = Attach::start(fixture.pid(), "200ms")?;
        running.push((name, fixture, attach));
    }
    for (name, fixture, attach) in &mut running {
        let context = || format!("{name}, {go:?}, {variant:?}");
        if *name == "states" {
            fixture.ask("quiesce")?;
        }
        let truth = fixture.truth()?;
        let line = attach.fresh_line().with_context(context)?;
        compare(&truth, &line).with_context(context)?;
        if *name != "healthy" {
            // The ticking goroutines of `healthy` are between two states now and then.
            compare_states(&truth, &line).with_context(context)?;
        }
        if *name == "leak" {
            grows_by_ten(fixture, attach).with_context(context)?;
        }
    }
    Ok(())
}

/// Compares states and wait reasons: the runtime's own names, with its own numbers.
fn compare_states(truth: &Truth, line: &Value) -> Result<()> {
    let mut expected = truth.states();
    // The goroutine that took the dump was running then; now it waits for the next command.
    ensure!(expected.remove("running") == Some(1), "{expected:?}");
    let in_syscall = expected.remove("syscall").unwrap_or_default() + 1;
    let seen = counts(&line["wait_reasons"])?;
    ensure!(seen == expected, "wait reasons: target {expected:?}, observer {seen:?}");
    let mut states = BTreeMap::from([("syscall".to_owned(), in_syscall)]);
    let waiting: u64 = expected.values().sum();
    if waiting > 0 {
        states.insert("waiting".to_owned(), waiting);
    }
    let seen = counts(&line["states"])?;
    ensure!(seen == states, "states: target {states:?}, observer {seen:?}");
    Ok(())
}

/// Ten more leaked goroutines are ten creations at the leak's callsite, no exit, and ten more alive.
fn grows_by_ten(fixture: &mut Fixture, attach: &mut Attach) -> Result<()> {
    let leak = |line: &Value| {
        let entry = "main.(*Reconciler).reconcile.func1";
        callsite(line, "main.(*Reconciler).reconcile", entry).cloned().context("the leak is not shown")
    };
    let before = leak(&attach.fresh_line()?)?;
    fixture.ask("go 10")?;
    let line = attach.fresh_line()?;
    let after = leak(&line)?;
    compare(&fixture.truth()?, &line)?;
    ensure!(number(&after, "live")? == number(&before, "live")? + 10, "{before} → {after}");
    ensure!(number(&after, "created_total")? == number(&before, "created_total")? + 10, "{before} → {after}");
    ensure!(number(&after, "exited_total")? == number(&before, "exited_total")?, "{before} → {after}");
    ensure!(number(&line["probes"], "drift")? == 0, "probes and snapshots disagree: {}", line["probes"]);
    Ok(())
}

/// Compares static and stripped builds of one Go version.
fn version(go: Go) -> Result<()> {
    if !root() {
        return Ok(());
    }
    compare_all(go, Variant::Static)?;
    compare_all(go, Variant::Stripped)
}

/// Go 1.19, static and stripped: every fixture's callsites, states and wait reasons are counted as the
/// program counts them.
#[test]
fn go_1_19() -> Result<()> {
    version(Go(19))
}

/// Go 1.21, static and stripped: every fixture's callsites, states and wait reasons are counted as the
/// program counts them.
#[test]
fn go_1_21() -> Result<()> {
    version(Go(21))
}

/// Go 1.24, static and stripped: every fixture's callsites, states and wait reasons are counted as the
/// program counts them.
#[test]
fn go_1_24() -> Result<()> {
    version(Go(24))
}

/// Go 1.26, static and stripped: every fixture's callsites, states and wait reasons are counted as the
/// program counts them.
#[test]
fn go_1_26() -> Result<()> {
    version(Go(26))
}

/// Go 1.27, static and stripped: every fixture's callsites, states and wait reasons are counted as the
/// program counts them.
#[test]
fn go_1_27() -> Result<()> {
    version(Go(27))
}

/// Versions between those of the matrix, and every other way to build, count just as well.
#[test]
fn other_versions_and_variants() -> Result<()> {
    if !have(&[Need::Root, Need::Compiler]) {
        return Ok(());
    }
    for go in [Go(22), Go(23), Go(25)] {
        leak_grows(go, Variant::Stripped)?;
    }
    for variant in [Variant::Pie, Variant::Cgo] {
        compare_all(Go(21), variant)?;
        compare_all(Go(27), variant)?;
    }
    for variant in [Variant::StaticPie, Variant::CgoStripped, Variant::External, Variant::Unoptimised] {
        leak_grows(Go(19), variant)?;
        leak_grows(Go(27), variant)?;
    }
    Ok(())
}

fn leak_grows(go: Go, variant: Variant) -> Result<()> {
    let context = || format!("{go:?}, {variant:?}");
    let mut leak = Fixture::start("leak", go, variant, &["-rate", "0", "-total", "30"])?;
    let mut attach = Attach::start(leak.pid(), "200ms")?;
    compare(&leak.truth()?, &attach.fresh_line().with_context(context)?).with_context(context)?;
    grows_by_ten(&mut leak, &mut attach).with_context(context)
}

/// Coroutines, which no `go` statement starts, are counted from birth to end.
#[test]
fn coroutines() -> Result<()> {
    if !root() {
        return Ok(());
    }
    for go in [Go(23), Go(24), Go(27)] {
        let mut fixture = Fixture::start("coroutine", go, Variant::Static, &[])?;
        fixture.ask("go 5")?;
        let mut attach = Attach::start(fixture.pid(), "200ms")?;
        compare(&fixture.truth()?, &attach.fresh_line()?).with_context(|| format!("{go:?}, late"))?;
        fixture.ask("go 7")?;
        let line = attach.fresh_line()?;
        compare(&fixture.truth()?, &line).with_context(|| format!("{go:?}, grown"))?;
        assert_eq!(number(&line["probes"], "created_total")?, 7, "{go:?}: {line}");
        fixture.ask("quiesce")?;
        let line = attach.fresh_line()?;
        compare(&fixture.truth()?, &line).with_context(|| format!("{go:?}, ended"))?;
        assert_eq!(number(&line["probes"], "exited_total")?, 12, "{go:?}: {line}");
        assert_eq!(number(&line["probes"], "drift")?, 0, "{go:?}: {line}");
    }
    Ok(())
}

/// `list` shows every target with its version and with as many goroutines as it has.
#[test]
fn list_shows_all_targets() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let mut running = Vec::new();
    for go in Go::MATRIX {
        running.push((go, Fixture::start("leak", go, Variant::Stripped, &["-rate", "0", "-total", "9"])?));
    }
    let rows = run(&["list", "--output", "json"])?.json()?;
    for (go, fixture) in &mut running {
        let row = rows.as_array().unwrap().iter().find(|row| row["pid"] == fixture.pid());
        let row = row.with_context(|| format!("{go:?} is missing in {rows}"))?;
        assert_eq!(number(row, "goroutines")?, fixture.truth()?.num_goroutine, "{row}");
        assert_eq!(row["go_version"], go.toolchain()?.version, "{row}");
        assert_eq!(row["exe"], std::fs::read_link(format!("/proc/{}/exe", fixture.pid()))?.to_str().unwrap());
    }
    Ok(())
}

/// 200 000 goroutines are counted to the last one.
#[test]
fn two_hundred_thousand() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let args = ["-rate", "0", "-total", "200000"];
    let fixture = Fixture::start("leak", Go::NEWEST, Variant::Stripped, &args)?;
    let line = Attach::start(fixture.pid(), "500ms")?.fresh_line()?;
    let entry = "main.(*Reconciler).reconcile.func1";
    let site = callsite(&line, "main.(*Reconciler).reconcile", entry).context("not shown")?;
    assert_eq!(number(site, "live")?, 200_000);
    assert_eq!(number(&line, "goroutines")?, 200_001);
    Ok(())
}
