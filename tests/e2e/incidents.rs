//! Incidents of memory, huge pages, disks and threads: what the doctor says of them, against the kernel's files.

use crate::support::{callsite, cause, doctor, finding, findings, incident, number};
use anyhow::{Context, Result, ensure};
use observer_tests::build::{Variant, build};
use observer_tests::cgroup::Child;
use observer_tests::fixture::Fixture;
use observer_tests::gate::{Need, have, root};
use observer_tests::go::Go;
use observer_tests::observer::Attach;
use observer_tests::proc::status_number;
use serde_json::Value;
use std::env;
use std::path::PathBuf;
use std::process::Command;

/// A group in v2's memory hierarchy; in v1's, tests make none.
fn memory_group() -> Result<Option<Child>> {
    if !have(&[Need::Root]) {
        return Ok(None);
    }
    match observer_tests::cgroup::is_v2("memory") {
        true => Child::create("memory").map(Some),
        false => {
            eprintln!("skipped: tests make groups in v2's memory hierarchy only");
            Ok(None)
        }
    }
}

/// Starts the incident `words` in a group, with an environment.
fn start_in(group: &Child, words: &[&str], environment: &[(&str, &str)]) -> Result<Fixture> {
    let mut command = group.command(&build("incident", Go::USUAL, Variant::Static)?);
    Fixture::spawn(command.args(words).envs(environment.iter().copied()))
}

/// A GOMEMLIMIT above the cgroup's limit is found with who set it, and so is a heap that nearly fills memory.
#[test]
fn a_gomemlimit_above_the_limit() -> Result<()> {
    let Some(group) = memory_group()? else { return Ok(()) };
    group.write("memory.max", "134217728")?;
    let hold = start_in(&group, &["hold", "118"], &[("GOMEMLIMIT", "1GiB"), ("GOGC", "20")])?;
    let found = findings(&doctor(hold.pid(), 4, &[])?)?;
    let above = &cause(&found, "gomemlimit-above-limit")?["evidence"];
    assert_eq!(
        (&above["gomemlimit_bytes"], &above["memory_limit_bytes"]),
        (&(1 << 30).into(), &(128 << 20).into())
    );
    assert_eq!(above["gomemlimit_source"], "environment");
    let near = &finding(&found, "memory-near-limit")?["evidence"];
    let used = group.number("memory.current")?;
    ensure!(number(near, "memory_usage_bytes")?.abs_diff(used) < 8 << 20, "{near}: {used}");
    Ok(())
}

/// A live heap just under GOMEMLIMIT is found by the collections per second, which are the runtime's own count.
#[test]
fn a_garbage_collector_that_runs_all_the_time() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let path = build("incident", Go::USUAL, Variant::Static)?;
    let mut thrash = Fixture::spawn(Command::new(path).args(["thrash", "60"]).env("GOMEMLIMIT", "67MiB"))?;
    let before = number(&thrash.ask("settings")?, "num_gc")?;
    let found = findings(&doctor(thrash.pid(), 6, &[])?)?;
    let after = number(&thrash.ask("settings")?, "num_gc")?;
    let found = cause(&found, "gomemlimit-thrash")?;
    let evidence = &found["evidence"];
    let cycles = number(evidence, "gc_cycles")?;
    ensure!((before..=after).contains(&cycles), "{cycles} is not between {before} and {after}");
    ensure!(evidence["gc_cycles_per_second"].as_f64() > Some(1.0), "{found}");
    assert_eq!(
        (&evidence["gomemlimit_bytes"], &evidence["gomemlimit_source"]),
        (&(67 << 20).into(), &"environment".into())
    );
    ensure!(number(evidence, "heap_marked_bytes")? >= 60 << 20, "{found}");
    Ok(())
}

/// A limit of huge pages that is less than one page becomes 0: the doctor shows the value in force, and what may
/// have been written.
#[test]
fn a_refused_huge_page() -> Result<()> {
    if !have(&[Need::Root, Need::Controller("hugetlb")]) {
        return Ok(());
    }
    let group = Child::create("hugetlb")?;
    let (limit, events) = if group.is_v2() {
        ("hugetlb.2MB.max", "hugetlb.2MB.events")
    } else {
        ("hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.failcnt")
    };
    if group.read(limit).is_err() {
        eprintln!("skipped: this kernel has no huge pages of 2 MB");
        return Ok(());
    }
    group.write(limit, "1234567")?;
    let mut fixture = start_in(&group, &["idle"], &[])?;
    let healthy = findings(&doctor(fixture.pid(), 3, &[])?)?;
    assert_eq!(healthy, Vec::<Value>::new(), "a limit alone is no finding");
    assert_eq!(fixture.ask("huge-page")?["refused"], true);
    let found = findings(&doctor(fixture.pid(), 3, &[])?)?;
    let found = &cause(&found, "hugetlb-limit-unaligned")?["evidence"];
    let refused = if group.is_v2() { group.stat(events, "max")? } else { group.number(events)? };
    assert_eq!(found["refused"].as_u64(), Some(refused));
    assert_eq!(
        (&found["pagesize"], found["hugetlb_limit_bytes"].as_u64()),
        (&"2MB".into(), Some(group.number(limit)?))
    );
    ensure!(found["hugetlb_limit_written_bytes_at_most"].as_u64() >= Some(1_234_567), "{found}");
    Ok(())
}

/// Writers that wait for the disk: the pressure is the kernel's, the weight is missing or the default one, and the
/// goroutines are found where they are in system calls. `OBSERVER_TEST_DISK` names a folder on a disk.
#[test]
fn writers_that_wait_for_the_disk() -> Result<()> {
    let controller = ["io", "hugetlb"].into_iter().find(|name| observer_tests::cgroup::is_v2(name));
    let Some(controller) = controller.filter(|_| root()) else {
        eprintln!("skipped: only v2 tells of pressure");
        return Ok(());
    };
    let group = Child::create(controller)?;
    let folder = env::var_os("OBSERVER_TEST_DISK").map_or_else(env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(folder)?;
    let path = folder.path().to_str().context("a path of text")?;
    let fixture = start_in(&group, &["fsync", path], &[])?;
    let before = waiting(&group)?;
    let found = findings(&doctor(fixture.pid(), 8, &["--threshold", "io_waiting_share=0.05"])?)?;
    let waited = waiting(&group)? - before;
    if waited < 1.0 {
        eprintln!("skipped: the disk is so fast that writers waited for {waited} of 8 seconds only");
        return Ok(());
    }
    let pressure = &cause(&found, "io-pressure")?["evidence"];
    let share = pressure["io_waiting_ratio"].as_f64().context("no share")?;
    ensure!(share > 0.05 && share * 7.0 <= waited, "{share} of the time, but {waited} s by the kernel");
    ensure!(
        pressure["syscall_callsites"]
            .as_str()
            .is_none_or(|most| most.contains("main.save started by main.main")),
        "{pressure}"
    );
    finding(&found, "io-weight-missing")?;
    Ok(())
}

/// Seconds for which some task of a group waited for a disk.
fn waiting(group: &Child) -> Result<f64> {
    let text = group.read("io.pressure")?;
    let total = text.lines().find_map(|line| line.strip_prefix("some ")?.split("total=").nth(1));
    Ok(total.context("no total")?.parse::<u64>()? as f64 / 1e6)
}

/// Blocking system calls that hold more and more threads are found with their number and their callsite.
#[test]
fn threads_that_become_more() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let blocking = incident("blocking")?;
    let before = status_number(blocking.pid(), "Threads")?;
    let found = findings(&doctor(blocking.pid(), 10, &[])?)?;
    let after = status_number(blocking.pid(), "Threads")?;
    let found = cause(&found, "threads-growing")?;
    let threads = number(&found["evidence"], "threads")?;
    ensure!((before..=after).contains(&threads), "{threads} is not between {before} and {after}");
    let callsites = found["evidence"]["syscall_callsites"].as_str().context("no callsites")?;
    ensure!(callsites.contains("main.block started by main.blocking"), "{callsites}");
    ensure!(text(found, "summary")?.contains("are in system calls"), "{found}");
    Ok(())
}

/// A loop that nothing but a signal stops has its entry function, its state and how long it was seen so.
#[test]
fn a_spinning_goroutine() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let spin = incident("spin")?;
    let mut attach = Attach::start(spin.pid(), "500ms")?;
    let tight = |line: &Value| callsite(line, "main.main", "main.tight").cloned();
    let line = attach.until("two seconds of spinning", |line| {
        tight(line).is_some_and(|tight| tight["busy_seconds"].as_f64() >= Some(2.0))
    })?;
    let tight = tight(&line).context("the callsite")?;
    assert_eq!(tight["live"], 1);
    let busy = tight["states"]["running"].as_u64().or_else(|| tight["states"]["runnable"].as_u64());
    assert_eq!(busy, Some(1), "{tight}");
    Ok(())
}

fn text<'a>(finding: &'a Value, key: &str) -> Result<&'a str> {
    finding[key].as_str().with_context(|| format!("no {key} in {finding}"))
}
