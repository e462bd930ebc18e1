//! A recorded view that has everything in it that is hard to show, and golden files of what is made of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::model::view::{
    CallsiteCpuView, CallsiteView, CgroupView, CpuView, Durations, Evidence, Fact, Finding, GoroutinesView,
    GroupView, HugePages, Io, Limit, Memory, MemoryEvents, ObserverView, OnCpuView, Pids, Pressure,
    ProbesView, ReasonWaitsView, RuntimeView, SeriesView, Severity, Source, Stall, TargetState, TargetView,
    Throttling, TotalsView, View, WaitsView,
};
use crate::model::waits::{Wait, Waits};
pub(crate) use crate::testing::assert_golden;

/// Escape sequence, line break, quotes, backslash, braces, a right-to-left override, HTML.
pub(crate) const HOSTILE: &str = "evil\u{1b}[31m\n\"quoted\\\"{},=\u{202e}<b>&'\u{9b}2J";

/// Two processes of one deployment that leak, a healthy service in an unlimited cgroup with a hostile
/// name, and a binary that can't be read.
pub(crate) fn view() -> View {
    View {
        taken_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_750_000_015_250),
        interval: Some(Duration::from_secs(15)),
        targets: vec![leaking(4242, 183_742), leaking(4243, 12), hostile(), unreadable()],
        cgroups: vec![limited(), unlimited()],
        totals: vec![totals()],
        observer: observer(),
        findings: vec![finding()],
    }
}

/// The view one interval before [`view`].
pub(crate) fn previous_view() -> View {
    let mut view = view();
    view.taken_at -= Duration::from_secs(15);
    let cpu = view.cgroups[0].cpu.as_mut().unwrap();
    cpu.usage_seconds = Some(1226.5);
    cpu.binding =
        Some(Throttling { periods: 39_850, throttled_periods: 31_875, throttled_seconds: 8_993.75 });
    view
}

fn finding() -> Finding {
    Finding {
        rule: "goroutine-growth",
        severity: Severity::Critical,
        target: 0,
        summary: "goroutines of one go statement grow".to_owned(),
        advice: "Stop it.".to_owned(),
        evidence: Evidence::from([("live", Fact::Number(183_742.0)), ("entry", Fact::from(HOSTILE))]),
    }
}

fn leaking(pid: u32, live: u64) -> TargetView {
    let mut target = target(pid, "controller");
    target.owner.namespace = Some("kube-system".into());
    target.owner.pod = Some("controller-0".into());
    target.owner.container = Some("manager".into());
    target.cgroup_path = "/kubepods/pod1/c1".into();
    target.container_id = Some("c1".into());
    target.inner_pid = Some(1);
    target.cgroup = Some(0);
    target.goroutines = Some(GoroutinesView {
        user: live + 25,
        system: 6,
        states: BTreeMap::from([("runnable", 3), ("running", 1), ("waiting", live + 21)]),
        wait_reasons: BTreeMap::from([("chan send".into(), live), ("select".into(), 21)]),
        torn: 1,
        complete: true,
        locked: 3,
        stacks_bytes: 2048 * (live + 31),
        duration: Duration::from_micros(41_500),
    });
    target.runtime = Some(RuntimeView {
        gomaxprocs: Some(64),
        gomaxprocs_source: Some(Source::Environment),
        gogc_percent: Some(if pid == 4242 { -1 } else { 100 }),
        gomemlimit_bytes: Some(1 << 30),
        heap_live_bytes: Some(734_003_200),
        heap_marked_bytes: Some(524_288_000),
        heap_goal_bytes: Some(1_048_576_000),
        threads: Some(71),
        run_queue_goroutines: Some(2),
        gogc_source: Some(Source::Call),
        gomemlimit_source: Some(Source::Environment),
        gc_cycles: Some(311),
        threads_idle: Some(60),
        ..RuntimeView::default()
    });
    target.probes = Some(ProbesView {
        created: 190_100,
        exited: 6_333,
        drift: (pid == 4242).then_some(2),
        estimated: pid != 4242,
        groups: vec![if pid == 4242 { always_on() } else { in_windows() }],
    });
    let on_cpu = |created_by: &str, entry: &str, cores| CallsiteCpuView {
        created_by: created_by.into(),
        entry: entry.into(),
        cores: Some(cores),
        recent_seconds: 60.0 * cores,
    };
    target.on_cpu = Some(OnCpuView {
        callsites: vec![
            on_cpu("net/http.(*Server).Serve", "net/http.(*conn).serve", 0.36),
            on_cpu("runtime", "runtime", 0.12),
        ],
    });
    target.waits = Some(WaitsView {
        reasons: vec![
            ReasonWaitsView {
                reason: "chan send".into(),
                parks_per_second: 1250.5,
                blocked_p50_seconds: Some(0.000_131_072),
                blocked_p99_seconds: Some(f64::INFINITY),
            },
            ReasonWaitsView { reason: "select".into(), parks_per_second: 0.25, ..ReasonWaitsView::default() },
        ],
        run_queue_p50_seconds: Some(0.000_004_096),
        run_queue_p99_seconds: Some(0.008_388_608),
        coverage: 0.0315,
        longest_seconds: 0.1,
    });
    target.callsites = vec![leak(live), busy(), folded("main.serve", 3), folded("main.(*pool).grow", 2)];
    target
}

/// A thousand parks, of which most were short.
fn wait() -> Wait {
    let mut wait = Wait { parks: 1000.25, ..Wait::default() };
    wait.until_run.buckets[0] = 900.5;
    wait.until_run.buckets[20] = 90.25;
    wait.until_run.buckets[27] = 1.0;
    wait.until_run.seconds = 177.125;
    wait.queued.buckets[3] = 990.75;
    wait.queued.seconds = 0.006;
    wait
}

fn always_on() -> GroupView {
    GroupView {
        probe: "lifecycle",
        state: "on",
        decision: "always on".into(),
        coverage: 1.0,
        overhead: 0.0031,
        hits: 1_000_000,
        spent_seconds: 1.25,
    }
}

fn in_windows() -> GroupView {
    GroupView {
        state: "windows",
        decision: "on for 120 ms every 9.6 s".into(),
        coverage: 0.0125,
        overhead: 0.0097,
        ..always_on()
    }
}

/// What the two leaking processes, and some that have ended, created.
fn totals() -> TotalsView {
    let series = |callsite: CallsiteView| SeriesView {
        created_by: callsite.created_by,
        entry: callsite.entry,
        created: 2 * callsite.created_total.unwrap_or(0),
        exited: 2 * callsite.exited_total.unwrap_or(0),
    };
    let target = leaking(4242, 183_742);
    TotalsView {
        owner: target.owner,
        process: target.process,
        series: vec![series(leak(183_742)), series(busy())],
        other: Some((1800, 1790)),
        cpu_seconds: vec![
            ("net/http.(*Server).Serve".into(), "net/http.(*conn).serve".into(), 918.5),
            ("other".into(), "other".into(), 1.25),
            ("runtime".into(), "runtime".into(), 305.75),
        ],
        parks: vec![
            ("net/http.(*Server).Serve".into(), "net/http.(*conn).serve".into(), 900.25),
            ("other".into(), "other".into(), 100.0),
        ],
        waits: Waits::from([("chan send".into(), wait()), (HOSTILE.into(), Wait::default())]),
        gc_cycles: Some(622),
        oom_kills: Some(1),
    }
}

fn hostile() -> TargetView {
    let mut target = target(7, HOSTILE);
    target.exe = format!("/opt/{HOSTILE}").into();
    target.owner.unit = Some(HOSTILE.into());
    target.cgroup_path = format!("/system.slice/{HOSTILE}").into();
    target.slice = Some("system.slice".into());
    target.cgroup = Some(1);
    target.state = TargetState::SnapshotOnly;
    target.reason = Some("its Go version has no probe sites".into());
    target.goroutines = Some(GoroutinesView {
        user: 1,
        states: BTreeMap::from([("waiting", 1)]),
        wait_reasons: BTreeMap::from([(HOSTILE.into(), 1)]),
        complete: false,
        ..GoroutinesView::default()
    });
    target.callsites = vec![CallsiteView {
        created_by: HOSTILE.into(),
        entry: "é".repeat(300).into(),
        file: HOSTILE.into(),
        ..folded("", 1)
    }];
    target.callsites[0].own_series = true;
    target
}

fn unreadable() -> TargetView {
    let mut target = target(99, "future");
    target.go_version = None;
    target.state = TargetState::Unreadable;
    target.reason = Some("go9.99 is unknown, and reading it as go1.27 failed its self-checks".into());
    target
}

fn target(pid: u32, process: &str) -> TargetView {
    TargetView {
        pid,
        start_time: 1_749_999_000.25,
        process: process.into(),
        exe: format!("/usr/bin/{process}").into(),
        owner: Default::default(),
        cgroup_path: "/".into(),
        container_id: None,
        slice: None,
        inner_pid: None,
        cgroup: None,
        go_version: Some("go1.24.11".into()),
        folded: false,
        state: TargetState::Observed,
        reason: None,
        goroutines: None,
        runtime: None,
        probes: None,
        on_cpu: None,
        waits: None,
        usable_cpus: Some(8),
        recent: Vec::new(),
        callsites: Vec::new(),
    }
}

fn leak(live: u64) -> CallsiteView {
    CallsiteView {
        created_by: "example.com/ctl/pkg/sync.(*Reconciler).reconcile".into(),
        entry: "example.com/ctl/pkg/sync.(*Reconciler).reconcile.func1".into(),
        file: "/src/ctl/pkg/sync/reconcile.go".into(),
        line: 118,
        gopc: 0x47_11aa,
        live,
        created_total: Some(live + 8),
        exited_total: Some(8),
        created_per_second: Some(101.25),
        parks_per_second: Some(10.0),
        exited_per_second: Some(0.0),
        growth_per_second: Some(101.2),
        oldest_wait_seconds: Some(live as f64 / 100.0),
        wait_reasons: BTreeMap::from([("chan send".into(), live)]),
        states: BTreeMap::from([("waiting", live)]),
        stacks_bytes: 2048 * live,
        busy_seconds: None,
        own_series: true,
        recent: Vec::new(),
    }
}

/// Two `go` statements of one function on different lines are one series; this is one of them.
fn busy() -> CallsiteView {
    CallsiteView {
        created_by: "net/http.(*Server).Serve".into(),
        entry: "net/http.(*conn).serve".into(),
        file: "/usr/lib/go/src/net/http/server.go".into(),
        line: 3454,
        gopc: 0x50_0000,
        live: 20,
        created_total: Some(5_000),
        exited_total: Some(4_980),
        created_per_second: Some(0.5),
        parks_per_second: Some(1240.75),
        exited_per_second: Some(12.0),
        growth_per_second: Some(-11.5),
        oldest_wait_seconds: Some(0.75),
        wait_reasons: BTreeMap::from([("select".into(), 14), ("IO wait".into(), 6)]),
        states: BTreeMap::from([("waiting", 20)]),
        stacks_bytes: 20 << 12,
        busy_seconds: None,
        own_series: true,
        recent: Vec::new(),
    }
}

fn folded(created_by: &str, live: u64) -> CallsiteView {
    CallsiteView {
        created_by: created_by.into(),
        entry: Arc::from("main.worker"),
        file: "main.go".into(),
        line: 7,
        gopc: 0x40_0000,
        live,
        created_total: None,
        exited_total: None,
        created_per_second: None,
        parks_per_second: None,
        exited_per_second: None,
        growth_per_second: None,
        oldest_wait_seconds: Some(live as f64),
        wait_reasons: BTreeMap::new(),
        states: BTreeMap::from([("running", live)]),
        stacks_bytes: 2048 * live,
        busy_seconds: Some(2.5),
        own_series: false,
        recent: Vec::new(),
    }
}

fn limited() -> CgroupView {
    let mut cgroup = CgroupView { path: "/kubepods/pod1/c1".into(), ..CgroupView::default() };
    cgroup.owner.namespace = Some("kube-system".into());
    cgroup.owner.pod = Some("controller-0".into());
    cgroup.owner.container = Some("manager".into());
    cgroup.cpu = Some(CpuView {
        limit_cores: Some(Limit { value: 0.5, binding: "/kubepods/pod1".into(), level: 1 }),
        usage_seconds: Some(1_234.0),
        throttling: Some(Throttling { periods: 0, throttled_periods: 0, throttled_seconds: 0.0 }),
        binding: Some(Throttling { periods: 40_000, throttled_periods: 32_000, throttled_seconds: 9_000.5 }),
        burst_seconds: None,
        weight: Some(0.5),
    });
    cgroup.memory = Some(Memory {
        limit_bytes: Some(Limit { value: 2 << 30, binding: "/kubepods/pod1/c1".into(), level: 0 }),
        usage_bytes: Some(1_610_612_736),
        events: MemoryEvents { max: Some(112), oom: Some(2), oom_kill: Some(1), ..MemoryEvents::default() },
        ..Memory::default()
    });
    cgroup.pids = Some(Pids {
        limit: Some(Limit { value: 100, binding: "/".into(), level: 12 }),
        current: Some(98),
        refused: Some(3),
        ..Pids::default()
    });
    cgroup.io = Some(Io { weight: Some(50), default_weight: Some(100), ..Io::default() });
    cgroup.cpuset_cpus = Some(8);
    cgroup.hugetlb = vec![HugePages {
        size: "2MB",
        page_bytes: 2 << 20,
        limit_bytes: Some(Limit { value: 10_485_760, binding: "/kubepods/pod1/c1".into(), level: 0 }),
        usage_bytes: Some(2_097_152),
        refused: Some(1),
    }];
    let stall = |seconds| Some(Stall { waiting_seconds: seconds, stalled_seconds: Some(seconds / 4.0) });
    cgroup.pressure = Pressure { cpu: stall(80.0), memory: stall(8.0), io: stall(0.5) };
    cgroup
}

fn unlimited() -> CgroupView {
    let mut cgroup = CgroupView { path: format!("/system.slice/{HOSTILE}").into(), ..CgroupView::default() };
    cgroup.owner.unit = Some(HOSTILE.into());
    cgroup.cpu = Some(CpuView {
        usage_seconds: Some(1.5),
        throttling: Some(Throttling::default()),
        ..CpuView::default()
    });
    cgroup.memory = Some(Memory { usage_bytes: Some(4096), ..Memory::default() });
    cgroup
}

fn observer() -> ObserverView {
    let mut durations = Durations::default();
    for micros in [90, 2_500, 41_500, 5_000_000] {
        durations.observe(Duration::from_micros(micros));
    }
    ObserverView {
        probe_hits: BTreeMap::from([("create", 380_200), ("exit", 12_666)]),
        events_lost: BTreeMap::from([("counts_full", 0), ("processes_full", 3)]),
        snapshot_errors: BTreeMap::from([("deadline", 1)]),
        cgroup_errors: BTreeMap::from([("removed", 2)]),
        snapshot_durations: durations,
        series_folded: 4,
        workloads_folded: 2,
        container_lookups: BTreeMap::from([("named", 2), ("failed", 1)]),
        features: BTreeMap::from([("probes", true), ("exec_events", false)]),
        cpu_seconds: 12.5,
        resident_bytes: 20_971_520,
        open_fds: 42,
    }
}
