//! Programs that the kernel kills for lack of memory.

use crate::support::start_as;
use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use observer_tests::cgroup::Child;
use observer_tests::gate::{Need, have};
use observer_tests::metrics::Samples;
use observer_tests::serve::{Machine, Serve};
use tempfile::tempdir;

const LIMIT: u64 = 64 << 20;

/// A program that meets the limit of its group is counted as often as the kernel counts, also when the group is gone; one
/// that ends otherwise is not. The log names it.
#[test]
fn a_killed_program_is_counted() -> Result<()> {
    if !have(&[Need::Root, Need::Controller("memory")]) {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let group = limited()?;
    let directory = tempdir()?;
    let mut doomed = start_as(directory.path(), "doomed", "limits", &[])?;
    let spared = start_as(directory.path(), "spared", "limits", &[])?;
    group.add(doomed.pid())?;
    let serve = Serve::start(&["--interval", "200ms", "--include", "process=doomed|spared"])?;
    let kills = |samples: &Samples, name| samples.sum("observer_oom_kills_total", &[("process", name)]);
    serve.until("counters that are 0", |samples| {
        ["doomed", "spared"].iter().all(|name| kills(samples, name) == Some(0.0))
    })?;
    drop(spared);
    doomed.tell("hold 200")?;
    let samples = serve.until("the kill", |samples| kills(samples, "doomed") > Some(0.0))?;
    let file = if group.is_v2() { "memory.events" } else { "memory.oom_control" };
    assert_eq!(kills(&samples, "doomed"), Some(group.stat(file, "oom_kill")? as f64));
    group.remove()?;
    let later =
        serve.until("the end of both", |samples| samples.sum("observer_target_info", &[]).is_none())?;
    assert_eq!((kills(&later, "doomed"), kills(&later, "spared")), (Some(1.0), Some(0.0)));
    let (status, log) = serve.end_by(Signal::SIGTERM)?;
    let named = |line: &str| line.contains("killed a process for lack of memory") && line.contains("=doomed");
    ensure!(status.success() && log.lines().filter(|line| named(line)).count() == 1, "{log}");
    Ok(())
}

/// A group with little memory and no swap.
fn limited() -> Result<Child> {
    let group = Child::create("memory")?;
    let (memory, swap) = if group.is_v2() {
        ("memory.max", ("memory.swap.max", 0))
    } else {
        ("memory.limit_in_bytes", ("memory.memsw.limit_in_bytes", LIMIT))
    };
    group.write(memory, &LIMIT.to_string())?;
    // Kernels that account for no swap lack it.
    if group.path().join(swap.0).exists() {
        group.write(swap.0, &swap.1.to_string())?;
    }
    Ok(group)
}
