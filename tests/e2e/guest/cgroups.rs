//! Shapes of a unified hierarchy: nested limits, namespaces, threaded groups, partial mounts, groups that come and
//! go; and every metric against the kernel's own file.

use super::support::{close, leak, limits};
use anyhow::{Context, Result, ensure};
use observer_tests::build::{Variant, build};
use observer_tests::cgroup::Child;
use observer_tests::fixture::Fixture;
use observer_tests::go::Go;
use observer_tests::metrics::Samples;
use observer_tests::observer::{Attach, binary, run_command};
use observer_tests::serve::{Machine, Serve};
use observer_tests::wait;
use serde_json::Value;
use std::process::Command;

/// Three levels, each of which binds for another resource: the limit in force and whose it is.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn each_resource_has_its_binding_group() -> Result<()> {
    let outer = Child::create("memory")?;
    let middle = outer.nested()?;
    let inner = middle.nested()?;
    for (group, cpu, memory, pids) in [
        (&outer, "30000 100000", "300M", "500"),
        (&middle, "max 100000", "200M", "600"),
        (&inner, "50000 100000", "max", "400"),
    ] {
        group.write("cpu.max", cpu)?;
        group.write("memory.max", memory)?;
        group.write("pids.max", pids)?;
    }
    let leak = leak("5")?;
    inner.add(leak.pid())?;
    let line = Attach::start(leak.pid(), "200ms")?.line()?;
    let cgroup = &line["cgroup"];
    assert_eq!(cgroup["path"], inner.name());
    ensure!(close(cgroup["cpu_limit_cores"].as_f64().unwrap_or_default(), 0.3), "{line}");
    assert_eq!(cgroup["cpu_limit_set_by"], outer.name());
    assert_eq!(cgroup["memory_limit_bytes"], 200 << 20);
    assert_eq!(cgroup["memory_limit_set_by"], middle.name());
    assert_eq!((&cgroup["pids_limit"], &cgroup["pids_limit_set_by"]), (&400.into(), &inner.name().into()));
    Ok(())
}

/// A process that moves is shown with its new group's limits from the next report on.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn a_process_moves() -> Result<()> {
    let (first, second) = (Child::create("memory")?, Child::create("memory")?);
    first.write("memory.max", "100M")?;
    second.write("memory.max", "150M")?;
    let leak = leak("5")?;
    first.add(leak.pid())?;
    let mut attach = Attach::start(leak.pid(), "200ms")?;
    assert_eq!(attach.line()?["cgroup"]["memory_limit_bytes"], 100 << 20);
    second.add(leak.pid())?;
    first.remove()?;
    let line = attach.fresh_line()?;
    assert_eq!(line["cgroup"]["memory_limit_bytes"], 150 << 20, "{line}");
    assert_eq!(line["cgroup"]["path"], second.name());
    Ok(())
}

/// Groups are made and removed while their process is looked at: nothing of a group that is gone is shown, and
/// the observer goes on.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn groups_come_and_go() -> Result<()> {
    let leak = leak("5")?;
    let mut attach = Attach::start(leak.pid(), "100ms")?;
    attach.line()?;
    for round in 1..=20_u64 {
        let group = Child::create("memory")?;
        let limit = (100 + round) << 20;
        group.write("memory.max", &limit.to_string())?;
        group.add(leak.pid())?;
        if round % 4 == 0 {
            assert_eq!(attach.fresh_line()?["cgroup"]["memory_limit_bytes"], limit);
        }
        group.remove()?;
    }
    let line = attach.fresh_line()?;
    ensure!(line["cgroup"].get("memory_limit_bytes").is_none(), "a limit of a group that is gone: {line}");
    Ok(())
}

/// A threaded group has no memory of its own: what limits its process there is the domain's.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn a_threaded_group() -> Result<()> {
    let domain = Child::create("memory")?;
    domain.write("memory.max", "250M")?;
    let threaded = domain.named("threaded")?;
    threaded.write("cgroup.type", "threaded")?;
    domain.write("cgroup.subtree_control", "+cpu")?;
    threaded.write("cpu.max", "60000 100000")?;
    let leak = leak("5")?;
    domain.add(leak.pid())?;
    threaded.add(leak.pid())?;
    let line = Attach::start(leak.pid(), "200ms")?.line()?;
    let cgroup = &line["cgroup"];
    assert_eq!(cgroup["path"], threaded.name());
    assert_eq!(cgroup["memory_limit_bytes"], 250 << 20, "{line}");
    assert_eq!(cgroup["memory_limit_set_by"], domain.name());
    ensure!(close(cgroup["cpu_limit_cores"].as_f64().unwrap_or_default(), 0.6), "{line}");
    assert_eq!(cgroup["cpu_limit_set_by"], threaded.name());
    leak.stop()
}

/// A target in a cgroup namespace of its own calls its group `/`; the observer knows better.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn a_target_in_a_namespace() -> Result<()> {
    let group = Child::create("memory")?;
    group.write("memory.max", "180M")?;
    let script = r#"echo $$ >"$1/cgroup.procs" && exec /bin/unshare --cgroup "$2" -rate 0 -total 5"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(group.path()).arg(build("leak", Go::USUAL, Variant::Static)?);
    let leak = Fixture::spawn(&mut command)?;
    let line = Attach::start(leak.pid(), "200ms")?.line()?;
    assert_eq!(line["cgroup"]["path"], group.name(), "{line}");
    assert_eq!(line["cgroup"]["memory_limit_set_by"], group.name());
    Ok(())
}

/// Runs `observer list` behind a shell script that changes what it sees, and returns a process's row.
fn listed(script: &str, group: &Child, flags: &[&str], pid: u32) -> Result<Value> {
    let mut command = Command::new("unshare");
    command.args(flags).args(["sh", "-c", script, "sh"]).arg(group.path()).arg(binary()?);
    let list = run_command(&mut command)?.json()?;
    let row = list.as_array().and_then(|rows| rows.iter().find(|row| row["pid"] == pid));
    row.cloned().with_context(|| format!("no {pid} in {list}"))
}

/// An observer that has only a part of the hierarchy mounted reads what lies in it, and of what lies outside
/// shows nothing rather than the part's own values.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn a_part_of_the_hierarchy_is_mounted() -> Result<()> {
    let outer = Child::create("memory")?;
    let inner = outer.nested()?;
    outer.write("memory.max", "220M")?;
    inner.write("memory.max", "120M")?;
    let (inside, outside) = (leak("5")?, leak("5")?);
    inner.add(inside.pid())?;
    let script = r#"mount --bind "$1" /sys/fs/cgroup && exec "$2" list --output json"#;
    let row = |pid| listed(script, &outer, &["--mount"], pid);
    assert_eq!(row(inside.pid())?["memory_limit_bytes"], 120 << 20);
    let row = row(outside.pid())?;
    ensure!(row.get("memory_limit_bytes").is_none() && row["goroutines"] == 6, "{row}");
    Ok(())
}

/// An observer in a cgroup namespace with a mount of that: groups in it and their limits are found.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn an_observer_in_a_namespace() -> Result<()> {
    let outer = Child::create("memory")?;
    let inner = outer.nested()?;
    outer.write("memory.max", "220M")?;
    let own = outer.nested()?;
    let inside = leak("5")?;
    inner.add(inside.pid())?;
    let script =
        r#"umount /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$2" list --output json"#;
    // The namespace's root is the group that unshare is in.
    let enter = format!(
        r#"echo $$ >"$1/cgroup.procs" && exec /bin/unshare --mount --cgroup sh -c '{script}' sh "$@""#
    );
    let row = listed(&enter, &own, &["--mount"], inside.pid())?;
    ensure!(row["goroutines"] == 6, "{row}");
    Ok(())
}

/// Every cgroup metric of a group with limits is what the kernel's files say.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn metrics_are_the_kernels() -> Result<()> {
    let _machine = Machine::alone()?;
    let group = Child::create("memory")?;
    group.write("cpu.max", "50000 100000")?;
    group.write("memory.max", "123456789")?;
    group.write("pids.max", "321")?;
    group.write("hugetlb.2MB.max", "12345678")?;
    let mut limits = limits()?;
    group.add(limits.pid())?;
    limits.ask("hold 20")?;
    limits.ask("huge 2")?;
    let unit = group.name().trim_start_matches('/').to_owned();
    let labels = [("unit", unit.as_str())];
    let serve = Serve::start(&["--interval", "200ms"])?;
    let there = |samples: &Samples| samples.sum("observer_cgroup_memory_limit_bytes", &labels).is_some();
    let samples = serve.until("the group", there)?;
    let shows = |name: &str, more: &[(&str, &str)], expected: f64| {
        let shown = samples.sum(&format!("observer_cgroup_{name}"), &[&labels, more].concat());
        let equal = shown.is_some_and(|shown| close(shown, expected));
        ensure!(equal, "{name} is {shown:?}, the kernel says {expected}\n{}", samples.text);
        Ok(())
    };
    shows("cpu_limit_cores", &[], 0.5)?;
    shows("memory_limit_bytes", &[], group.number("memory.max")? as f64)?;
    shows("pids_limit", &[], 321.0)?;
    shows("pids", &[], group.number("pids.current")? as f64)?;
    shows("pids_rejected_total", &[], group.stat("pids.events", "max")? as f64)?;
    for event in ["low", "high", "max", "oom", "oom_kill"] {
        shows("memory_events_total", &[("event", event)], group.stat("memory.events", event)? as f64)?;
    }
    shows("hugetlb_limit_bytes", &[("pagesize", "2MB")], group.number("hugetlb.2MB.max")? as f64)?;
    shows("hugetlb_usage_bytes", &[("pagesize", "2MB")], group.number("hugetlb.2MB.current")? as f64)?;
    for resource in ["cpu", "memory", "pids"] {
        shows("limit_info", &[("resource", resource), ("level", "0")], 1.0)?;
    }
    // What moves all the time lies between what it was and what it is.
    let used = |samples: &Samples| samples.sum("observer_cgroup_cpu_usage_seconds_total", &labels);
    let kernel = || Ok::<_, anyhow::Error>(group.stat("cpu.stat", "usage_usec")? as f64 / 1e6);
    let before = kernel()?;
    let shown = used(&serve.until("another look", |samples| used(samples) >= Some(before))?);
    ensure!(shown.is_some_and(|shown| shown <= kernel().unwrap_or_default()), "{shown:?}");
    for pressure in ["cpu_waiting", "memory_waiting", "io_waiting"] {
        let name = format!("observer_cgroup_pressure_{pressure}_seconds_total");
        ensure!(samples.sum(&name, &labels).is_some(), "no {name}");
    }
    Ok(())
}

/// A quota's periods, throttled ones and their time lie between what the kernel counted before and after.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn throttling_is_the_kernels() -> Result<()> {
    let group = Child::create("cpu")?;
    group.write("cpu.max", "20000 100000")?;
    let burst = Fixture::start("incident", Go::USUAL, Variant::Static, &["burst"])?;
    group.add(burst.pid())?;
    wait::until("throttling", || Ok((group.stat("cpu.stat", "nr_throttled")? > 3).then_some(())))?;
    let kernel = |key| Ok::<_, anyhow::Error>(group.stat("cpu.stat", key)? as f64);
    let keys = [
        ("cpu_periods_total", "nr_periods", 1.0),
        ("cpu_throttled_periods_total", "nr_throttled", 1.0),
        ("cpu_throttled_seconds_total", "throttled_usec", 1e6),
        ("cpu_usage_seconds_total", "usage_usec", 1e6),
    ];
    let before = keys.map(|(_, key, _)| kernel(key));
    let line = Attach::start(burst.pid(), "200ms")?.line()?;
    for ((ours, key, unit), before) in keys.into_iter().zip(before) {
        let (before, after) = (before? / unit, kernel(key)? / unit);
        let shown = line["cgroup"][ours].as_f64().with_context(|| format!("no {ours} in {line}"))?;
        ensure!(shown > 0.0 && (before..=after).contains(&shown), "{ours}: {before} {shown} {after}");
    }
    Ok(())
}
