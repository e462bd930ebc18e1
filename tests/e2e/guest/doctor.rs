//! `observer doctor` on limits of a unified hierarchy that really bite: what it says is what the kernel's files say.

use super::support::{close, kernel, limits};
use crate::doctor::settled_threads;
use crate::support::{cause, doctor, finding, findings};
use anyhow::{Context, Result, ensure};
use observer_tests::build::{Variant, build};
use observer_tests::cgroup::Child;
use observer_tests::fixture::Fixture;
use observer_tests::go::Go;
use observer_tests::proc::loop_device;
use observer_tests::wait;
use serde_json::Value;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// A number of a finding's evidence.
fn evidence(finding: &Value, key: &str) -> Result<f64> {
    finding["evidence"][key].as_f64().with_context(|| format!("no {key} in {finding}"))
}

fn advises(finding: &Value, what: &str) -> Result<()> {
    let advice = finding["advice"].as_str().unwrap_or_default();
    ensure!(advice.contains(what), "{what:?} is not in the advice: {finding}");
    Ok(())
}

/// The quota of the parent throttles: the finding names the parent, and its shares are of the parent's counters.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn throttled_by_the_parent() -> Result<()> {
    let outer = Child::create("cpu")?;
    outer.write("cpu.max", "40000 100000")?;
    let inner = outer.nested()?;
    let path = build("incident", Go::USUAL, Variant::Static)?;
    let burst = Fixture::spawn(Command::new(path).arg("burst").env("GOMAXPROCS", "8"))?;
    inner.add(burst.pid())?;
    let counters = || Ok::<_, anyhow::Error>((outer.stat("cpu.stat", "nr_periods")?, throttled(&outer)?));
    let before = counters()?;
    let findings = findings(&doctor(burst.pid(), 6, &[])?)?;
    let after = counters()?;
    let found = cause(&findings, "cpu-throttled")?;
    assert_eq!(found["evidence"]["limit_set_by"], outer.name());
    ensure!(close(evidence(found, "cpu_limit_cores")?, 0.4), "{found}");
    let periods = evidence(found, "periods")?;
    ensure!(periods >= 1.0 && periods <= (after.0 - before.0) as f64, "{periods}: {before:?} {after:?}");
    let counted = periods * evidence(found, "throttled_periods_ratio")?;
    ensure!(counted > 0.0 && counted <= (after.1 - before.1) as f64, "{counted}: {before:?} {after:?}");
    advises(found, "GOMAXPROCS=2")?;
    let procs = finding(&findings, "gomaxprocs-above-limit")?;
    assert_eq!(procs["evidence"]["gomaxprocs_source"], "environment");
    Ok(())
}

fn throttled(group: &Child) -> Result<u64> {
    group.stat("cpu.stat", "nr_throttled")
}

/// A limit that is no multiple of a page, of which the garbage collector doesn't know: that comes first, with the
/// limit in force. A process that the kernel kills while the doctor looks is reported with the kernel's own counts.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn an_oom_kill() -> Result<()> {
    let group = Child::create("memory")?;
    group.write("memory.max", "123456789")?;
    let limit = group.number("memory.max")?;
    assert_eq!(limit, 123_456_789 / 4096 * 4096, "the kernel rounds down to whole pages");
    let (mut survivor, mut victim) = (limits()?, limits()?);
    for process in [&survivor, &victim] {
        group.add(process.pid())?;
    }
    fs::write(format!("/proc/{}/oom_score_adj", victim.pid()), "1000")?;
    survivor.ask("hold 63")?;
    let pid = survivor.pid();
    // Without probes the first look is soon taken, also on a slow machine.
    let looking = thread::spawn(move || doctor(pid, 12, &["--no-probes"]));
    thread::sleep(Duration::from_secs(5));
    victim.tell("hold 200")?;
    wait::until("the kill", || Ok((!victim.is_alive()?).then_some(())))?;
    let ran = looking.join().map_err(|_| anyhow::anyhow!("the doctor's thread panicked"))??;
    let findings = findings(&ran)?;
    let unset = cause(&findings, "gomemlimit-unset")?;
    assert_eq!(evidence(unset, "memory_limit_bytes")?, limit as f64);
    advises(unset, &format!("Set GOMEMLIMIT={}MiB", (limit / 10 * 9) >> 20))?;
    let unaligned = finding(&findings, "memory-limit-unaligned")?;
    ensure!(evidence(unaligned, "memory_limit_written_bytes_at_most")? >= 123_456_789.0, "{unaligned}");
    let found = finding(&findings, "oom-killed")?;
    let kernel = |key| group.stat("memory.events", key);
    assert_eq!(kernel("oom_kill")?, 1);
    assert_eq!(found["severity"], "critical", "it happened while the doctor looked: {found}");
    assert_eq!(evidence(found, "oom_kills")?, 1.0);
    assert_eq!(evidence(found, "oom")?, kernel("oom")? as f64);
    assert_eq!(evidence(found, "memory_limit_bytes")?, limit as f64);
    advises(found, "GOMEMLIMIT")?;

    // Later it is what happened before.
    let later = crate::support::findings(&doctor(pid, 3, &[])?)?;
    assert_eq!(finding(&later, "oom-killed")?["severity"], "warning");
    Ok(())
}

/// The parent's limit of tasks refuses a fork. Kernels count that in the group that forked, since 6.11 in the one
/// whose limit it was: found either way.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn a_fork_refused_by_the_parent() -> Result<()> {
    let outer = Child::create("pids")?;
    let inner = outer.nested()?;
    let mut threads = Fixture::start("incident", Go::USUAL, Variant::Static, &["threads"])?;
    inner.add(threads.pid())?;
    let tasks = settled_threads(&mut threads, &outer)?;
    outer.write("pids.max", &tasks.to_string())?;
    ensure!(threads.ask("fork")?["refused"] == true, "the kernel allowed a fork");
    // The runtime may need a thread, asks for it some times more, and dies without.
    let limit = tasks + 2;
    outer.write("pids.max", &limit.to_string())?;
    let refused = (inner.stat("pids.events", "max")?, outer.stat("pids.events", "max")?);
    let of_the_limit = kernel()? >= (6, 11);
    ensure!(if of_the_limit { refused.1 > 0 } else { refused.0 > 0 }, "inner and outer: {refused:?}");
    let findings = findings(&doctor(threads.pid(), 3, &[])?)?;
    let near = cause(&findings, "pids-near-limit")?;
    assert_eq!(near["severity"], "critical");
    let found = finding(&findings, "forks-refused")?;
    assert_eq!(evidence(found, "forks_refused")?, refused.0.max(refused.1) as f64);
    assert_eq!(evidence(found, "pids_limit")?, limit as f64);
    assert_eq!(found["evidence"]["limit_set_by"], outer.name());
    Ok(())
}

/// Goroutines that write and sync to a slow device: pressure is found, as much as the kernel accounts for, and that
/// nobody gave the group a weight.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn io_pressure() -> Result<()> {
    let (device, number) = loop_device()?;
    let group = Child::create("io")?;
    group.write("io.max", &format!("{number} wbps=262144"))?;
    let mut writers = limits()?;
    group.add(writers.pid())?;
    writers.ask(&format!("write {device} 4"))?;
    let waited = || pressure(&group, "io.pressure");
    let before = waited()?;
    let findings = findings(&doctor(writers.pid(), 6, &[])?)?;
    let after = waited()?;
    let found = cause(&findings, "io-pressure")?;
    let share = evidence(found, "io_waiting_ratio")?;
    ensure!(share > 0.2 && share <= 1.05, "{found}");
    ensure!(after - before >= share * 2.0, "{share}, but the kernel counted {} s", after - before);
    advises(found, "weight")?;
    let weight = finding(&findings, "io-weight-missing")?;
    assert_eq!(weight["severity"], "info");
    writers.stop()
}

/// Seconds for which some task waited.
fn pressure(group: &Child, file: &str) -> Result<f64> {
    let text = group.read(file)?;
    let total = text.lines().next().and_then(|line| line.rsplit_once("total="));
    Ok(total.context("no total")?.1.parse::<f64>()? / 1e6)
}

/// A limit of huge pages that is no multiple of their size: the kernel refuses earlier than what was written says.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn a_refused_huge_page() -> Result<()> {
    let group = Child::create("hugetlb")?;
    group.write("hugetlb.2MB.max", "12345678")?;
    let limit = group.number("hugetlb.2MB.max")?;
    assert_eq!(limit, 10_485_760, "the kernel rounds down to huge pages");
    let program = build("limits", Go::USUAL, Variant::Static)?;
    let mut victim = Fixture::spawn(Command::new(program).env("GOTRACEBACK", "none"))?;
    let survivor = limits()?;
    for process in [&survivor, &victim] {
        group.add(process.pid())?;
    }
    // Six would be 12 582 912 bytes; what touches the sixth page dies.
    victim.tell("huge 6")?;
    wait::until("the end of the greedy one", || Ok((!victim.is_alive()?).then_some(())))?;
    let refused = group.stat("hugetlb.2MB.events", "max")?;
    ensure!(refused > 0, "the kernel refused nothing");
    let findings = findings(&doctor(survivor.pid(), 3, &[])?)?;
    let found = cause(&findings, "hugetlb-limit-unaligned")?;
    assert_eq!(evidence(found, "hugetlb_limit_bytes")?, limit as f64);
    assert_eq!(evidence(found, "refused")?, refused as f64);
    assert_eq!(found["evidence"]["limit_set_by"], group.name());
    advises(found, "2MB")
}
