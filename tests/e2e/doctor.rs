//! `observer doctor` on programs with one thing wrong, and on healthy ones.

use anyhow::{Context, Result, ensure};
use observer_tests::build::{Variant, build};
use observer_tests::cgroup::Child;
use observer_tests::fixture::Fixture;
use observer_tests::gate::{Need, have, root};
use observer_tests::go::Go;
use observer_tests::observer::{Ran, run};
use observer_tests::wait;
use serde_json::Value;
use std::process::Command;

/// Starts the incident of that name.
fn incident(name: &str) -> Result<Fixture> {
    Fixture::start("incident", Go::USUAL, Variant::Static, &[name])
}

/// Runs the doctor on a process for some seconds. A fixture is young: what grows in it counts from 2 s on.
pub(crate) fn doctor(pid: u32, seconds: u32, more: &[&str]) -> Result<Ran> {
    let (pid, duration) = (pid.to_string(), format!("{seconds}s"));
    let args =
        ["doctor", &pid, "--duration", &duration, "--output", "json", "--threshold", "start_up_seconds=2"];
    run(&[&args, more].concat())
}

/// The findings, after checking that the exit status says whether there are any.
pub(crate) fn findings(ran: &Ran) -> Result<Vec<Value>> {
    let report: Value = serde_json::from_str(&ran.stdout).with_context(|| format!("not JSON: {ran:?}"))?;
    let findings = report["findings"].as_array().context("no findings")?.clone();
    let expected = i32::from(!findings.is_empty());
    ensure!(ran.status.code() == Some(expected), "the exit status should be {expected}: {ran:?}");
    Ok(findings)
}

/// The only finding of a rule.
pub(crate) fn finding<'a>(findings: &'a [Value], rule: &str) -> Result<&'a Value> {
    findings
        .iter()
        .find(|finding| finding["rule"] == rule)
        .with_context(|| format!("no {rule} in {findings:?}"))
}

/// A leak is found with its exact callsite, the line, and what its goroutines wait for; and nothing else is.
#[test]
fn a_leak() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let leak = Fixture::start("leak", Go::USUAL, Variant::Static, &["-rate", "200"])?;
    let findings = findings(&doctor(leak.pid(), 10, &[])?)?;
    let found = finding(&findings, "goroutine-growth")?;
    ensure!(findings.len() == 1, "more than the leak: {findings:?}");
    let evidence = &found["evidence"];
    assert_eq!(evidence["created_by"], "main.(*Reconciler).reconcile");
    assert_eq!(evidence["entry"], "main.(*Reconciler).reconcile.func1");
    assert_eq!(evidence["line"], 29);
    assert_eq!(evidence["wait_reason"], "chan send");
    assert_eq!(evidence["stacks_bytes_at_least"].as_u64(), evidence["live"].as_u64().map(|live| live * 2048));
    ensure!(found["summary"].as_str().is_some_and(|summary| summary.contains("main.go:29")), "{found}");
    Ok(())
}

/// Without probes a few seconds are too short to tell a leak from load: nothing is said.
#[test]
fn a_leak_without_probes_needs_time() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let leak = Fixture::start("leak", Go::USUAL, Variant::Static, &["-rate", "200"])?;
    let early = doctor(leak.pid(), 6, &["--no-probes"])?;
    assert_eq!(findings(&early)?.len(), 0);
    let late = doctor(leak.pid(), 6, &["--no-probes", "--threshold", "growth_seconds_without_probes=2"])?;
    finding(&findings(&late)?, "goroutine-growth")?;
    Ok(())
}

/// A CPU quota that throttles is found, with the limit, and with who set a GOMAXPROCS above it.
#[test]
fn a_throttled_burst() -> Result<()> {
    if !have(&[Need::Root, Need::Controller("cpu")]) {
        return Ok(());
    }
    let group = Child::create("cpu")?;
    if group.write("cpu.cfs_quota_us", "50000").is_err() {
        group.write("cpu.max", "50000 100000")?;
    }
    let path = build("incident", Go::USUAL, Variant::Static)?;
    let burst = Fixture::spawn(Command::new(path).arg("burst").env("GOMAXPROCS", "8"))?;
    group.add(burst.pid())?;
    let before = group.stat("cpu.stat", "nr_throttled")?;
    let ran = doctor(burst.pid(), 8, &[])?;
    let throttled = group.stat("cpu.stat", "nr_throttled")? - before;
    let findings = findings(&ran)?;
    let found = &finding(&findings, "cpu-throttled")?["evidence"];
    assert_eq!(found["cpu_limit_cores"], 0.5);
    assert_eq!(found["limit_set_by"], group.name());
    let (share, periods) = (found["throttled_periods_ratio"].as_f64(), found["periods"].as_f64());
    let counted = share.zip(periods).map(|(share, periods)| share * periods).context("no numbers")?;
    ensure!(counted > 0.0 && counted <= throttled as f64, "{counted} of the kernel's {throttled}");
    let found = &finding(&findings, "gomaxprocs-above-limit")?["evidence"];
    assert_eq!((&found["gomaxprocs"], &found["gomaxprocs_source"]), (&8.into(), &"environment".into()));
    assert_eq!(found["gomaxprocs_fitting"], 2);
    Ok(())
}

/// Threads near the limit of tasks are found, and the fork that it refuses.
#[test]
fn a_refused_fork() -> Result<()> {
    if !have(&[Need::Root, Need::Controller("pids")]) {
        return Ok(());
    }
    let group = Child::create("pids")?;
    let mut threads = incident("threads")?;
    group.add(threads.pid())?;
    let tasks = settled_threads(&group)?;
    group.write("pids.max", &(tasks + 8).to_string())?;
    let near = findings(&doctor(threads.pid(), 3, &[])?)?;
    let found = &finding(&near, "pids-near-limit")?["evidence"];
    assert_eq!(found["pids_limit"].as_u64(), Some(tasks + 8));
    ensure!(near.iter().all(|finding| finding["rule"] != "forks-refused"), "{near:?}");

    // Without room for one more, whatever the runtime does meanwhile.
    group.write("pids.max", &group.read("pids.current")?)?;
    ensure!(threads.ask("fork")?["refused"] == true, "the kernel allowed a fork");
    let refused = findings(&doctor(threads.pid(), 3, &[])?)?;
    let found = &finding(&refused, "forks-refused")?["evidence"];
    assert_eq!(found["forks_refused"].as_u64(), Some(group.stat("pids.events", "max")?));
    Ok(())
}

/// Waits until the incident `threads` holds all its threads; returns how many tasks its group has then.
pub(crate) fn settled_threads(group: &Child) -> Result<u64> {
    wait::until("70 threads", || Ok(Some(group.number("pids.current")?).filter(|tasks| *tasks > 70)))
}

/// Runnable goroutines that wait for a GOMAXPROCS below the CPUs are found, with who set it.
#[test]
fn too_few_processors() -> Result<()> {
    if !root() || std::thread::available_parallelism()?.get() < 2 {
        return Ok(());
    }
    let path = build("incident", Go::USUAL, Variant::Static)?;
    let runnable = Fixture::spawn(Command::new(path).arg("runnable").env("GOMAXPROCS", "1"))?;
    let findings = findings(&doctor(runnable.pid(), 5, &[])?)?;
    let found = &finding(&findings, "gomaxprocs-below-cpus")?["evidence"];
    assert_eq!((&found["gomaxprocs"], &found["gomaxprocs_source"]), (&1.into(), &"environment".into()));
    ensure!(found["runnable"].as_u64().is_some_and(|n| (11_900..=12_000).contains(&n)), "{found}");
    Ok(())
}

/// A mutex that is never unlocked is found, with how many queue for it and where they were started.
#[test]
fn a_lock_convoy() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let convoy = incident("convoy")?;
    let findings = findings(&doctor(convoy.pid(), 5, &[])?)?;
    let found = &finding(&findings, "lock-convoy")?["evidence"];
    assert_eq!((&found["waiting"], &found["live"]), (&300.into(), &300.into()));
    assert_eq!(found["wait_reason"], "sync.Mutex.Lock");
    assert_eq!(found["entry"], "main.handle");
    Ok(())
}

/// Healthy programs raise nothing: load that swings, and a server with kept-alive connections.
#[test]
fn healthy_programs() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let load = incident("load")?;
    let server =
        Fixture::start("healthy", Go::USUAL, Variant::Static, &["-conns", "500", "-workers", "200"])?;
    for pid in [load.pid(), server.pid()] {
        assert_eq!(findings(&doctor(pid, 15, &[])?)?, Vec::<Value>::new());
    }
    Ok(())
}

/// What can't be looked at is status 2 and one sentence, and so is a threshold that doesn't exist.
#[test]
fn refusals() -> Result<()> {
    ensure!(run(&["doctor", "1999999999"])?.refused()?.contains("there is no process"));
    ensure!(run(&["doctor", &std::process::id().to_string()])?.refused()?.contains("no Go program"));
    let ran = run(&["doctor", "--threshold", "nonsense=1"])?;
    ensure!(ran.status.code() == Some(2) && ran.stderr.contains("there is no threshold"), "{ran:?}");
    Ok(())
}
