//! `observer doctor` on programs with one thing wrong, and on healthy ones.

use crate::support::{cause, doctor, finding, findings, incident};
use anyhow::{Context, Result, ensure};
use observer_tests::build::{Variant, build};
use observer_tests::cgroup::Child;
use observer_tests::fixture::Fixture;
use observer_tests::gate::{Need, have, root};
use observer_tests::go::Go;
use observer_tests::observer::run;
use observer_tests::wait;
use serde_json::Value;
use std::process::Command;

/// A leak is found with its exact callsite, the line, and what its goroutines wait for; and nothing else is.
#[test]
fn a_leak() -> Result<()> {
    if root() { finds_a_leak(&[]) } else { Ok(()) }
}

/// The same with further arguments for the doctor.
pub(crate) fn finds_a_leak(more: &[&str]) -> Result<()> {
    let leak = Fixture::start("leak", Go::USUAL, Variant::Static, &["-rate", "200"])?;
    let findings = findings(&doctor(leak.pid(), 10, more)?)?;
    let found = cause(&findings, "goroutine-growth")?;
    ensure!(findings.len() == 1, "more than the leak: {findings:?}");
    let evidence = &found["evidence"];
    assert_eq!(evidence["created_by"], "main.(*Reconciler).reconcile");
    assert_eq!(evidence["entry"], "main.(*Reconciler).reconcile.func1");
    assert_eq!(evidence["line"], 29);
    assert_eq!(evidence["wait_reason"], "chan send");
    // The runtime gives new goroutines the mean size of all stacks, 2 KiB at least.
    let (stacks, live) = (evidence["stacks_bytes"].as_u64(), evidence["live"].as_u64());
    ensure!(stacks.zip(live).is_some_and(|(stacks, live)| stacks >= live * 2048), "{evidence}");
    ensure!(found["summary"].as_str().is_some_and(|summary| summary.contains("main.go:29")), "{found}");
    Ok(())
}

/// Of three checkers that one function starts, the two that nobody hears any more are found, each with its line, and
/// not the third.
#[test]
fn two_leaks_of_one_function() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let webhook = Fixture::start("webhook", Go::USUAL, Variant::Static, &["-rate", "100"])?;
    let found = findings(&doctor(webhook.pid(), 10, &[])?)?;
    let mut leaks: Vec<_> = found
        .iter()
        .map(|finding| {
            let evidence = &finding["evidence"];
            let told = ["created_by", "entry", "line", "wait_reason"].map(|key| evidence[key].clone());
            (finding["rule"].clone(), told)
        })
        .collect();
    leaks.sort_by_key(|(_, told)| told[2].as_u64());
    let created_by = "main.(*Webhook).validate";
    let expected =
        [("main.(*Webhook).validate.func2", 35), ("main.(*Webhook).checkPolicy", 38)].map(|(entry, line)| {
            ("goroutine-growth".into(), [created_by.into(), entry.into(), line.into(), "chan send".into()])
        });
    assert_eq!(leaks, expected, "{found:?}");
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
    cause(&findings(&late)?, "goroutine-growth").map(drop)
}

/// A CPU quota that throttles is found, with the limit, and with who set a GOMAXPROCS above it.
#[test]
fn a_throttled_burst() -> Result<()> {
    if !have(&[Need::Root, Need::Controller("cpu")]) {
        return Ok(());
    }
    let group = Child::create("cpu")?;
    group.set_cpu_quota(20_000)?;
    let path = build("incident", Go::USUAL, Variant::Static)?;
    let burst = Fixture::spawn(Command::new(path).arg("burst").env("GOMAXPROCS", "8"))?;
    group.add(burst.pid())?;
    let before = group.stat("cpu.stat", "nr_throttled")?;
    let ran = doctor(burst.pid(), 8, &[])?;
    let throttled = group.stat("cpu.stat", "nr_throttled")? - before;
    let findings = findings(&ran)?;
    let found = cause(&findings, "cpu-throttled")?;
    ensure!(
        found["advice"].as_str().is_some_and(|advice| advice.starts_with("Set GOMAXPROCS=2")),
        "{findings:?}"
    );
    let found = &found["evidence"];
    // The burst may just have ended when the last snapshot was taken.
    if found["runnable"].as_u64().is_some_and(|runnable| runnable > 0) {
        ensure!(
            found["runnable_callsites"]
                .as_str()
                .is_some_and(|most| most.contains("main.burst.func1 started by main.burst")),
            "{found}"
        );
    }
    assert_eq!(found["cpu_limit_cores"], 0.2);
    assert_eq!(found["limit_set_by"], group.name());
    let (share, periods) = (found["throttled_periods_ratio"].as_f64(), found["periods"].as_f64());
    let counted = share.zip(periods).map(|(share, periods)| share * periods).context("no numbers")?;
    ensure!(counted > 0.0 && counted <= throttled as f64, "{counted} of the kernel's {throttled}");
    let found = &finding(&findings, "gomaxprocs-above-limit")?["evidence"];
    assert_eq!((&found["gomaxprocs"], &found["gomaxprocs_source"]), (&8.into(), &"environment".into()));
    assert_eq!(found["gomaxprocs_fitting"], 2);

    // The same for people.
    let ran = run(&["doctor", &burst.pid().to_string(), "--duration", "6s"])?;
    let first = ran.stdout.lines().nth(1).unwrap_or_default();
    ensure!(first.starts_with("  critical cpu-throttled: "), "{ran:?}");
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
    let tasks = settled_threads(&mut threads, &group)?;
    group.write("pids.max", &(tasks + 8).to_string())?;
    let near = findings(&doctor(threads.pid(), 3, &[])?)?;
    let found = &cause(&near, "pids-near-limit")?["evidence"];
    assert_eq!(found["pids_limit"].as_u64(), Some(tasks + 8));
    assert_eq!(found["goroutines_locked"], 70);
    ensure!(
        found["syscall_callsites"].as_str().is_some_and(|most| most.starts_with("70 main.block")),
        "{found}"
    );
    ensure!(near.iter().all(|finding| finding["rule"] != "forks-refused"), "{near:?}");

    // Without room for one more, whatever the runtime does meanwhile; with room for what it may need later.
    group.write("pids.max", &group.read("pids.current")?)?;
    ensure!(threads.ask("fork")?["refused"] == true, "the kernel allowed a fork");
    group.write("pids.max", &(tasks + 2).to_string())?;
    let refused = findings(&doctor(threads.pid(), 3, &[])?)?;
    cause(&refused, "pids-near-limit")?;
    let found = &finding(&refused, "forks-refused")?["evidence"];
    assert_eq!(found["forks_refused"].as_u64(), Some(group.stat("pids.events", "max")?));
    Ok(())
}

/// Waits until the incident `threads` holds all its threads, and lets it start a process: a runtime that still
/// needs a thread when there may be no more ends the program. Returns how many tasks its group has then.
pub(crate) fn settled_threads(threads: &mut Fixture, group: &Child) -> Result<u64> {
    wait::until("70 threads", || {
        let truth = threads.truth()?;
        let holders = truth.callsites.iter().filter(|site| site.entry == "main.block");
        let states = holders.flat_map(|site| &site.states);
        let held: u64 =
            states.filter(|(state, _)| state.starts_with("syscall")).map(|(_, count)| count).sum();
        Ok((held == 70).then_some(()))
    })?;
    ensure!(threads.ask("fork")?["refused"] == false, "a fork fails without a limit, too");
    group.number("pids.current")
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
    let found = &cause(&findings, "gomaxprocs-below-cpus")?["evidence"];
    assert_eq!((&found["gomaxprocs"], &found["gomaxprocs_source"]), (&1.into(), &"environment".into()));
    ensure!(found["runnable"].as_u64().is_some_and(|n| (11_900..=12_000).contains(&n)), "{found}");
    ensure!(
        found["runnable_callsites"]
            .as_str()
            .is_some_and(|most| most.contains("main.busy started by main.start")),
        "{found}"
    );
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
    let found = &cause(&findings, "lock-convoy")?["evidence"];
    assert_eq!((&found["waiting"], &found["live"]), (&300.into(), &300.into()));
    assert_eq!(found["wait_reason"], "sync.Mutex.Lock");
    assert_eq!(found["entry"], "main.handle");
    Ok(())
}

/// Healthy programs raise nothing for a minute: load that swings, and a server with kept-alive connections. Both
/// are in a cgroup with limits that they keep.
#[test]
fn healthy_programs() -> Result<()> {
    if !have(&[Need::Root, Need::Controller("cpu"), Need::Controller("pids")]) {
        return Ok(());
    }
    let groups = [Child::create("cpu")?, Child::create("pids")?];
    groups[0].set_cpu_quota(400_000)?;
    groups[1].write("pids.max", "200")?;
    let load = incident("load")?;
    let server =
        Fixture::start("healthy", Go::USUAL, Variant::Static, &["-conns", "500", "-workers", "200"])?;
    let mut looks = Vec::new();
    for pid in [load.pid(), server.pid()] {
        groups.iter().try_for_each(|group| group.add(pid))?;
        looks.push(std::thread::spawn(move || findings(&doctor(pid, 60, &[])?)));
    }
    for look in looks {
        assert_eq!(look.join().expect("it doesn't panic")?, Vec::<Value>::new());
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
