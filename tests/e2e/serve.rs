//! `observer serve` as Prometheus and a kubelet see it.

use crate::support::{goroutines, is_printable, start_as};
use anyhow::{Context, Result, ensure};
use observer_tests::cgroup::Child;
use observer_tests::gate::{Need, have, root};
use observer_tests::metrics::Samples;
use observer_tests::serve::{Machine, Serve};
use std::io::Write;
use std::process::{Command, Stdio};
use tempfile::tempdir;

/// Labels that a target's metrics may have: neither pids nor paths, which would make new series for ever.
const TARGET_LABELS: [&str; 8] =
    ["namespace", "pod", "container", "unit", "process", "created_by", "entry", "wait_reason"];

/// `/metrics` of a machine with targets passes `promtool check metrics`.
#[test]
fn promtool_accepts_the_metrics() -> Result<()> {
    if !have(&[Need::Root, Need::Promtool]) {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let directory = tempdir()?;
    let _leak = start_as(directory.path(), "promtool-leak", "leak", &["-rate", "200"])?;
    let _states = start_as(directory.path(), "promtool-states", "states", &[])?;
    let serve = Serve::start(&["--interval", "200ms"])?;
    let samples = serve.until("the leak's growth", |samples| {
        goroutines(samples, "promtool-leak").is_some_and(|n| n > 100.0)
            && goroutines(samples, "promtool-states").is_some()
    })?;
    let mut check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    check.stdin.take().context("stdin is piped")?.write_all(samples.text.as_bytes())?;
    let output = check.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.trim().is_empty(), "promtool: {said}\n{}", samples.text);
    Ok(())
}

/// The leak is told from everything else by its labels, and its counters move as the program says.
#[test]
fn metrics_tell_the_leak() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let directory = tempdir()?;
    let mut leak = start_as(directory.path(), "labelled-leak", "leak", &["-rate", "0", "-total", "40"])?;
    let serve = Serve::start(&["--interval", "200ms"])?;
    let labels = [
        ("process", "labelled-leak"),
        ("created_by", "main.(*Reconciler).reconcile"),
        ("entry", "main.(*Reconciler).reconcile.func1"),
    ];
    let shows = |samples: &Samples, live, created| {
        samples.sum("observer_goroutines", &labels) == Some(live)
            && samples.sum("observer_goroutines_created_total", &labels) == Some(created)
    };
    serve.until("the leak and its probes", |samples| shows(samples, 40.0, 0.0))?;
    leak.ask("go 15")?;
    let samples = serve.until("its growth", |samples| shows(samples, 55.0, 15.0))?;
    assert_eq!(samples.sum("observer_goroutines_exited_total", &labels), Some(0.0));
    assert_eq!(goroutines(&samples, "labelled-leak"), Some(56.0), "all callsites are NumGoroutine");
    let process = labels[0];
    let waiting = [process, ("wait_reason", "chan send")];
    assert_eq!(samples.sum("observer_goroutines_waiting", &waiting), Some(55.0));
    let info = [process, ("go_version", "go1.24.11")];
    assert_eq!(samples.of("observer_go_info", &info).count(), 1, "{}", samples.text);
    assert!(samples.sum("observer_go_gomaxprocs_threads", &[process]).is_some_and(|n| n >= 1.0));
    assert!(samples.sum("observer_go_heap_live_bytes", &[process]).is_some_and(|n| n > 1000.0));
    assert_eq!(samples.sum("observer_go_gogc_percent", &[process]), Some(100.0));
    assert_eq!(samples.sum("observer_go_gomemlimit_bytes", &[process]), None, "there is no limit");
    labels_are_bounded(&samples)
}

/// Only `observer_target_info` may carry what is different for every process.
fn labels_are_bounded(samples: &Samples) -> Result<()> {
    let of_targets = samples.all.iter().filter(|sample| sample.name.starts_with("observer_goroutine"));
    for sample in of_targets {
        for (key, value) in &sample.labels {
            let known = TARGET_LABELS.contains(&key.as_str()) || key == "state" || key == "le";
            ensure!(known, "label {key} in {sample:?}");
            ensure!(!value.is_empty() && value.len() <= 256, "value of {key} in {sample:?}");
        }
    }
    is_printable(&samples.text)
}

/// GOMAXPROCS, GOGC and GOMEMLIMIT are what the runtime uses.
#[test]
fn runtime_settings_are_the_runtimes_own() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let directory = tempdir()?;
    let path =
        crate::support::private_copy(directory.path(), "tuned", "leak", observer_tests::go::Go::USUAL)?;
    let mut command = Command::new(path);
    command.args(["-rate", "0"]);
    command.env("GOMAXPROCS", "3").env("GOGC", "77").env("GOMEMLIMIT", "123456789B");
    let _tuned = observer_tests::fixture::Fixture::spawn(&mut command)?;
    let serve = Serve::start(&["--interval", "200ms"])?;
    let samples = serve.until("the target", |samples| goroutines(samples, "tuned").is_some())?;
    let value = |name: &str| samples.sum(name, &[("process", "tuned")]);
    assert_eq!(value("observer_go_gomaxprocs_threads"), Some(3.0));
    assert_eq!(value("observer_go_gogc_percent"), Some(77.0));
    assert_eq!(value("observer_go_gomemlimit_bytes"), Some(123_456_789.0));
    Ok(())
}

/// Health, readiness, the landing page, and nothing else.
#[test]
fn http_endpoints() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let serve = Serve::start(&["--interval", "200ms", "--web.telemetry-path", "/elsewhere"])?;
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/", 200), ("/elsewhere", 200)] {
        let response = serve.get(path)?;
        assert_eq!(response.status, status, "{path}: {response:?}");
    }
    assert!(serve.get("/")?.body.contains("/elsewhere"), "the landing page links to the metrics");
    for path in ["/metrics", "/debug/pprof/", "/../etc/passwd", "/%2e%2e/etc/passwd", "/elsewhere/x"] {
        assert_eq!(serve.get(path)?.status, 404, "{path}");
    }
    let content_type = serve.get("/elsewhere")?.head.to_lowercase();
    assert!(content_type.contains("content-type: text/plain; version=0.0.4"), "{content_type}");
    let post = "POST /elsewhere HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(serve.request(post)?.status, 405);
    Ok(())
}

/// Clients that connect and say nothing, or never finish their request, keep nobody else from scraping.
#[test]
fn slow_clients_are_no_trouble() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let serve = Serve::start(&["--interval", "200ms"])?;
    let mut silent = Vec::new();
    for i in 0..50 {
        let mut stream = std::net::TcpStream::connect(serve.address())?;
        if i % 2 == 0 {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ")?;
        }
        silent.push(stream);
    }
    for _ in 0..5 {
        serve.metrics()?;
    }
    Ok(())
}

/// An address that is taken is refused in one line that says so.
#[test]
fn an_address_in_use() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let ran = observer_tests::observer::run(&["serve", "--web.listen-address", &address])?;
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    assert!(ran.stderr.contains(&address), "{ran:?}");
    Ok(())
}

/// Cgroup metrics are what the kernel's files say: limits of the group and of its parent, use, throttling.
#[test]
fn cgroup_metrics_are_the_kernels() -> Result<()> {
    let cpu_is_v1 = std::path::Path::new("/sys/fs/cgroup/cpu").exists();
    if !have(&[Need::Root, Need::Controller("cpu"), Need::Controller("pids")]) || !cpu_is_v1 {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let directory = tempdir()?;
    let (cpu, pids) = (Child::create("cpu")?, Child::create("pids")?);
    cpu.write("cpu.cfs_period_us", "100000")?;
    cpu.write("cpu.cfs_quota_us", "17000")?;
    pids.write("pids.max", "777")?;
    // The limits are the parents': what binds is not always the process's own group.
    let (inner_cpu, inner_pids) = (cpu.nested()?, pids.nested()?);
    let mut churn = start_as(directory.path(), "limited-churn", "churn", &[])?;
    inner_cpu.add(churn.pid())?;
    inner_pids.add(churn.pid())?;
    // More than the quota allows.
    churn.ask("go 400000")?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    churn.ask("quiesce")?;

    let serve = Serve::start(&["--interval", "200ms"])?;
    let limited = |samples: &Samples| {
        let limit = samples.all.iter().find(|sample| {
            sample.name == "observer_cgroup_cpu_limit_cores" && (sample.value - 0.17).abs() < 1e-9
        });
        limit.map(|sample| sample.labels.clone())
    };
    let samples = serve.until("the limit", |samples| limited(samples).is_some())?;
    let labels = limited(&samples).context("the limit")?;
    ensure!(!labels.contains_key("process") && !labels.contains_key("pid"), "{labels:?}");
    let labels: Vec<(&str, &str)> =
        labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let value = |name: &str| samples.sum(name, &labels).with_context(|| format!("{name}\n{}", samples.text));

    assert_eq!(value("observer_cgroup_pids_limit")?, 777.0);
    assert_eq!(value("observer_cgroup_pids")?, inner_pids.read("pids.current")?.trim().parse::<f64>()?);
    let throttled = cpu.stat("cpu.stat", "nr_throttled")?;
    ensure!(throttled > 0, "the kernel did not throttle");
    // The inner group has no quota: what throttles is the parent, whose counters are exported, too.
    let shows = |name: &str, value: f64| {
        let values: Vec<f64> = samples.of(name, &[]).map(|sample| sample.value).collect();
        let shown = values.iter().any(|shown| (shown - value).abs() < 0.001);
        ensure!(shown, "the kernel says {value}, {name} is {values:?}");
        Ok(())
    };
    shows("observer_cgroup_cpu_throttled_periods_total", throttled as f64)?;
    let seconds = cpu.stat("cpu.stat", "throttled_time")? as f64 / 1e9;
    shows("observer_cgroup_cpu_throttled_seconds_total", seconds)?;
    Ok(())
}

/// A cgroup that vanishes while its process is observed, and comes and goes again, is no trouble.
#[test]
fn vanishing_cgroups() -> Result<()> {
    if !have(&[Need::Root, Need::Controller("pids")]) {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let directory = tempdir()?;
    let leak = start_as(directory.path(), "moving-leak", "leak", &["-rate", "0", "-total", "8"])?;
    let serve = Serve::start(&["--interval", "100ms"])?;
    for round in 0..20 {
        let group = Child::create("pids")?;
        group.write("pids.max", &(1000 + round).to_string())?;
        group.add(leak.pid())?;
        serve.metrics()?;
        group.remove()?;
    }
    serve.until("the target", |samples| goroutines(samples, "moving-leak") == Some(9.0))?;
    Ok(())
}
