//! A node as in a cluster: containerd with pods, a unit and a bare process, the observer from its image with the
//! privileges of its manifest, and a Prometheus with the shipped rules.

use crate::dashboards;
use crate::support::start_as;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use observer_tests::build::{Variant, build};
use observer_tests::cgroup::Child;
use observer_tests::containerd::{Containerd, Pod};
use observer_tests::cri::Resources;
use observer_tests::fixture::Fixture;
use observer_tests::gate::{Need, have};
use observer_tests::go::Go;
use observer_tests::manifest::{DaemonSet, folder};
use observer_tests::metrics::Samples;
use observer_tests::proc::signal;
use observer_tests::prometheus::{Labels, Prometheus};
use observer_tests::serve::Machine;
use observer_tests::{http, observer, wait};
use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use tempfile::TempDir;

const NEEDS: [Need; 8] = [
    Need::Root,
    Need::Compiler,
    Need::Command("containerd"),
    Need::Command("runc"),
    Need::Command("prometheus"),
    Need::Controller("cpu"),
    Need::Controller("pids"),
    Need::StaticObserver,
];

/// Time passes this much faster than with the rules and the interval that are shipped.
const FASTER: u32 = 20;
/// The shipped interval, so much faster.
const INTERVAL: &str = "750ms";
/// Go statement that leaks, and what it starts.
const LEAK: (&str, &str) = ("main.(*Reconciler).reconcile", "main.(*Reconciler).reconcile.func1");
/// Goroutines that each leak gains in a second.
const RATE: f64 = 20.0;

/// The observer in its pod.
struct Agent {
    address: String,
}

impl Agent {
    /// Starts the observer from its image, as the manifest says, with more arguments.
    fn start(containerd: &mut Containerd, more: &[&str]) -> Result<Self> {
        let manifest = DaemonSet::read()?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("observer.tar");
        let image = observer_image::pack(&observer::binary()?, &file, None)?;
        containerd.import(&image, &file)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut args = manifest.args()?;
        args.extend(["--web.listen-address".to_owned(), address.clone()]);
        args.extend(more.iter().map(ToString::to_string));
        let pod = Pod {
            namespace: "observer",
            name: "observer-x7k2p",
            container: "observer",
            image: &image,
            args,
            capabilities: Some(manifest.capabilities()?),
            host_pid: manifest.host_pid(),
            mounts: manifest.mounts(&containerd.socket())?,
            ..Pod::default()
        };
        containerd.run(&pod)?;
        let agent = Self { address };
        let ready = wait::until("/readyz", || Ok(agent.get("/readyz").ok().filter(|one| one.status == 200)));
        ready.with_context(|| containerd.log(&pod).unwrap_or_default())?;
        Ok(agent)
    }

    fn get(&self, path: &str) -> Result<http::Response> {
        http::request(
            &self.address,
            &format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"),
        )
    }

    fn metrics(&self) -> Result<Samples> {
        Samples::parse(&self.get("/metrics")?.body)
    }
}

/// Programs on the node: what is wrong with them is what the observer must tell, and nothing else.
struct Planted {
    _leaking_unit: Fixture,
    _healthy: Fixture,
    // Removed when nothing is in them any more, the inner ones first.
    _groups: [Child; 3],
    _folder: TempDir,
}

impl Planted {
    fn start(containerd: &mut Containerd) -> Result<Self> {
        for program in ["leak", "incident", "limits"] {
            let path = build(program, Go::USUAL, Variant::Static)?;
            let folder = tempfile::tempdir()?;
            let copy = folder.path().join(program);
            fs::copy(path, &copy)?;
            containerd.import_program(&format!("localhost/{program}:1"), &copy)?;
        }
        containerd.run(&Pod {
            namespace: "shop",
            name: "cart-0",
            container: "cart",
            image: "localhost/leak:1",
            args: vec!["-rate".into(), RATE.to_string()],
            resources: Resources { memory_limit: 256 << 20, ..Resources::default() },
            tasks: Some(200),
            ..Pod::default()
        })?;
        containerd.run(&Pod {
            namespace: "shop",
            name: "search-0",
            container: "search",
            image: "localhost/incident:1",
            args: vec!["runnable".into()],
            environment: &[("GOMAXPROCS", "8")],
            resources: Resources { cpu_period: 100_000, cpu_quota: 20_000, ..Resources::default() },
            ..Pod::default()
        })?;
        containerd.run(&Pod {
            namespace: "shop",
            name: "index-0",
            container: "index",
            image: "localhost/limits:1",
            args: vec!["-on-signal".into(), "200".into()],
            resources: Resources { memory_limit: 64 << 20, ..Resources::default() },
            ..Pod::default()
        })?;
        let folder = tempfile::tempdir()?;
        let group = Child::create("pids")?;
        let slice = group.named("system.slice")?;
        let unit = slice.named("reconciler.service")?;
        let leaking_unit = start_as(folder.path(), "reconciler", "leak", &["-rate", &RATE.to_string()])?;
        unit.add(leaking_unit.pid())?;
        let healthy = start_as(folder.path(), "bare-states", "states", &[])?;
        Ok(Self {
            _leaking_unit: leaking_unit,
            _healthy: healthy,
            _groups: [unit, slice, group],
            _folder: folder,
        })
    }
}

/// Has the pod that may run out of memory do so, once Prometheus knows its counter.
fn run_out_of_memory(prometheus: &Prometheus) -> Result<()> {
    let of_pod = |metric: &str| prometheus.query(&format!("{metric}{{namespace=\"shop\",pod=\"index-0\"}}"));
    wait::until("its counter", || {
        Ok(of_pod("observer_oom_kills_total")?.iter().any(|(_, kills)| *kills == 0.0).then_some(()))
    })?;
    let processes = of_pod("observer_target_info")?;
    let [(info, _)] = &processes[..] else { anyhow::bail!("its processes: {processes:?}") };
    signal(info.get("pid").context("no pid")?.parse()?, Signal::SIGUSR1);
    Ok(())
}

/// The shipped rules with every duration shortened.
fn faster_rules(folder: &Path) -> Result<std::path::PathBuf> {
    let rules = fs::read_to_string(self::folder().join("prometheus/observer.rules.yml"))?;
    let path = folder.join("rules.yml");
    fs::write(&path, faster(&rules))?;
    Ok(path)
}

/// Minutes behind `[` and `for: ` become seconds, and shorter.
fn faster(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = ["[", "for: "].iter().filter_map(|key| Some(rest.find(key)? + key.len())).min() {
        let (before, behind) = rest.split_at(at);
        result.push_str(before);
        let digits = behind.len() - behind.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        rest = behind;
        if let (Ok(minutes), true) = (behind[..digits].parse::<u32>(), behind[digits..].starts_with('m')) {
            result.push_str(&format!("{}s", minutes * 60 / FASTER));
            rest = &behind[digits + 1..];
        }
    }
    result + rest
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The alerts that fire, with only the labels that say what they are about.
fn firing(prometheus: &Prometheus) -> Result<BTreeSet<Labels>> {
    let about = |name: &str| name != "job" && name != "instance" && name != "severity";
    let alerts = prometheus.firing()?.into_iter();
    Ok(alerts.map(|alert| alert.into_iter().filter(|(name, _)| about(name)).collect()).collect())
}

/// What must fire, and nothing else, after the pod has run out of memory.
fn expected() -> BTreeSet<Labels> {
    let index = [
        ("alertname", "GoOOMKilled"),
        ("namespace", "shop"),
        ("pod", "index-0"),
        ("container", "index"),
        ("process", "limits"),
    ];
    &lasting() | &BTreeSet::from([labels(&index)])
}

/// What must fire, and nothing else, before.
fn lasting() -> BTreeSet<Labels> {
    let (created_by, entry) = LEAK;
    let callsite = [("created_by", created_by), ("entry", entry)];
    let cart = [("namespace", "shop"), ("pod", "cart-0"), ("container", "cart")];
    let search = [("namespace", "shop"), ("pod", "search-0"), ("container", "search")];
    let alert = |name: &'static str| [("alertname", name)];
    [
        labels(&[&alert("GoroutineLeak")[..], &cart, &[("process", "leak")], &callsite].concat()),
        labels(
            &[
                &alert("GoroutineLeak")[..],
                &[("unit", "reconciler.service"), ("process", "reconciler")],
                &callsite,
            ]
            .concat(),
        ),
        labels(&[&alert("GoCPUThrottled")[..], &search].concat()),
        labels(&[&alert("GomaxprocsAboveCPULimit")[..], &search, &[("process", "incident")]].concat()),
    ]
    .into()
}

/// Growth by pod and callsite, throttling by pod, limits and alerts are what was planted; every query of the
/// dashboards has data.
#[test]
fn prometheus_tells_what_was_planted() -> Result<()> {
    if !have(&NEEDS) {
        return Ok(());
    }
    let _machine = Machine::alone()?;
    let mut containerd = Containerd::start()?;
    let _planted = Planted::start(&mut containerd)?;
    let options = [
        ["--interval", INTERVAL],
        ["--threshold", "start_up_seconds=2"],
        // Other programs of this machine are nobody's business.
        ["--include", "process=^(leak|incident|limits|reconciler|bare-states)$"],
    ];
    let agent = Agent::start(&mut containerd, options.as_flattened())?;
    let directory = tempfile::tempdir()?;
    let prometheus = Prometheus::start(&agent.address, INTERVAL, &[&faster_rules(directory.path())?])?;
    let first = wait::until("the first alert", || Ok((!firing(&prometheus)?.is_empty()).then_some(())));
    first.with_context(|| {
        format!("{:#?}\n{}", prometheus.query("up"), agent.metrics().unwrap_or_default().text)
    })?;
    fires(&prometheus, &lasting())?;
    run_out_of_memory(&prometheus)?;
    fires(&prometheus, &expected())?;

    growth(&prometheus)?;
    throttling(&prometheus)?;
    limits(&prometheus)?;
    let samples = agent.metrics()?;
    for feature in samples.of("observer_feature_enabled", &[]) {
        ensure!(feature.value == 1.0, "the manifest's privileges don't suffice: {feature:?}");
    }
    dashboards::have_data(&prometheus)
}

/// Waits until these alerts fire, and checks that no others do.
fn fires(prometheus: &Prometheus, expected: &BTreeSet<Labels>) -> Result<()> {
    let fired = wait::until("the alerts", || {
        Ok(Some(firing(prometheus)?).filter(|fired| fired.is_superset(expected)))
    });
    let fired = fired.with_context(|| format!("firing: {:#?}", firing(prometheus)))?;
    assert_eq!(fired, *expected);
    Ok(())
}

/// The leaking callsite of each leaking program grows at its rate, and no other grows.
fn growth(prometheus: &Prometheus) -> Result<()> {
    let query =
        "sum by (namespace, pod, unit, created_by, entry) (observer:goroutines:growth_per_second) > 1";
    let grown = prometheus.query(query)?;
    let (created_by, entry) = LEAK;
    let site = [("created_by", created_by), ("entry", entry)];
    let wanted = BTreeSet::from([
        labels(&[&[("namespace", "shop"), ("pod", "cart-0")][..], &site].concat()),
        labels(&[&[("unit", "reconciler.service")][..], &site].concat()),
    ]);
    assert_eq!(grown.iter().map(|(labels, _)| labels.clone()).collect::<BTreeSet<_>>(), wanted);
    for (labels, rate) in grown {
        ensure!((rate - RATE).abs() < RATE / 4.0, "{rate} each second instead of {RATE}: {labels:?}");
    }
    Ok(())
}

/// Only the pod with a quota is throttled.
fn throttling(prometheus: &Prometheus) -> Result<()> {
    let query = "max by (namespace, pod) (observer:cgroup_cpu_throttled_periods:ratio) > 0.01";
    let throttled = prometheus.query(query)?;
    let [(pod, share)] = &throttled[..] else { anyhow::bail!("throttled: {throttled:?}") };
    assert_eq!(*pod, labels(&[("namespace", "shop"), ("pod", "search-0")]));
    ensure!((0.25..=1.01).contains(share), "{share}");
    Ok(())
}

/// Effective limits are the ones that were set.
fn limits(prometheus: &Prometheus) -> Result<()> {
    for (metric, pod, limit) in [
        ("observer_cgroup_memory_limit_bytes", "cart-0", f64::from(256 << 20)),
        ("observer_cgroup_pids_limit", "cart-0", 200.0),
        ("observer_cgroup_cpu_limit_cores", "search-0", 0.2),
    ] {
        let found = prometheus.query(&format!("{metric}{{namespace=\"shop\",pod=\"{pod}\"}}"))?;
        ensure!(found.len() == 1 && found[0].1 == limit, "{metric} of {pod}: {found:?}");
    }
    Ok(())
}

/// Only durations become shorter.
#[test]
fn rules_are_only_made_faster() {
    assert_eq!(
        faster("rate(x[5m]) > 10 and y[1m]\nfor: 10m\n{a[0]}"),
        "rate(x[15s]) > 10 and y[3s]\nfor: 30s\n{a[0]}"
    );
}
