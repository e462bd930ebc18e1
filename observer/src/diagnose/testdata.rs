//! Recorded views: a healthy process in a limited cgroup, observed for a minute.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::model::view::{
    CallsiteSample, CallsiteView, CgroupSample, CgroupView, CpuView, GoroutinesView, HugePages, Io, Limit,
    Memory, ObserverView, Pids, RuntimeView, TargetSample, TargetState, TargetView, View,
};

/// Observations in [`healthy`], one every two seconds.
pub(super) const TICKS: u32 = 30;

/// A web server at work: nothing about it is wrong.
pub(super) fn healthy() -> View {
    View {
        taken_at: SystemTime::UNIX_EPOCH + Duration::from_secs(10_000),
        interval: Some(Duration::from_secs(2)),
        targets: vec![target()],
        cgroups: vec![cgroup()],
        observer: ObserverView::default(),
        findings: Vec::new(),
        totals: Vec::new(),
    }
}

/// A value for each observation.
pub(super) fn ticks<T>(sample: impl FnMut(u32) -> T) -> Vec<T> {
    (0..TICKS).map(sample).collect()
}

/// Seconds of an observation.
pub(super) fn at(tick: u32) -> f64 {
    f64::from(tick) * 2.0
}

fn target() -> TargetView {
    TargetView {
        pid: 4242,
        start_time: 1_000.0,
        process: "server".into(),
        exe: "/usr/bin/server".into(),
        owner: Default::default(),
        cgroup_path: "/app".into(),
        container_id: None,
        slice: None,
        inner_pid: None,
        cgroup: Some(0),
        go_version: Some("go1.24.11".into()),
        usable_cpus: Some(8),
        folded: false,
        state: TargetState::Observed,
        reason: None,
        goroutines: Some(GoroutinesView {
            user: 10_300,
            system: 6,
            states: BTreeMap::from([("runnable", 4), ("running", 2), ("syscall", 3), ("waiting", 10_291)]),
            complete: true,
            ..GoroutinesView::default()
        }),
        runtime: Some(RuntimeView {
            gomaxprocs: Some(4),
            gogc_percent: Some(100),
            heap_live_bytes: Some(60 << 20),
            heap_marked_bytes: Some(50 << 20),
            gc_cycles: Some(2),
            threads_idle: Some(4),
            heap_goal_bytes: Some(100 << 20),
            threads: Some(12),
            run_queue_goroutines: Some(4),
            ..RuntimeView::default()
        }),
        probes: None,
        on_cpu: None,
        waits: None,
        callsites: vec![
            callsite("net/http.(*Server).Serve", "IO wait", |tick| 10_000 + 5 * u64::from(tick)),
            callsite("main.newPool", "chan receive", |_| 200),
            callsite("main.(*API).call", "select", |tick| [90, 130, 80, 160][tick as usize % 4]),
        ],
        recent: ticks(|tick| TargetSample {
            at: at(tick),
            threads: Some(12),
            runnable: 4,
            syscall: 3,
            gc_cycles: Some(u64::from(tick / 10)),
        }),
    }
}

/// A callsite whose goroutines all wait for one reason.
pub(super) fn callsite(created_by: &str, reason: &str, live: impl Fn(u32) -> u64) -> CallsiteView {
    let now = live(TICKS - 1);
    CallsiteView {
        created_by: created_by.into(),
        entry: format!("{created_by}.func1").into(),
        file: "/src/main.go".into(),
        line: 7,
        gopc: 0x40_0000,
        live: now,
        created_total: Some(now),
        exited_total: Some(0),
        created_per_second: None,
        parks_per_second: None,
        exited_per_second: None,
        growth_per_second: None,
        oldest_wait_seconds: Some(58.0),
        wait_reasons: BTreeMap::from([(Arc::from(reason), now)]),
        states: BTreeMap::from([("waiting", now)]),
        stacks_bytes: 2048 * now,
        busy_seconds: None,
        own_series: true,
        recent: ticks(|tick| CallsiteSample { at: at(tick), live: live(tick), exited: Some(0) }),
    }
}

/// A limit of the own cgroup.
pub(super) fn limit<T>(value: T) -> Option<Limit<T>> {
    Some(Limit { value, binding: "/app".into(), level: 0 })
}

fn cgroup() -> CgroupView {
    CgroupView {
        path: "/app".into(),
        cpu: Some(CpuView { limit_cores: limit(4.0), ..CpuView::default() }),
        // Nearly full with page cache, as of any program that reads files.
        memory: Some(Memory {
            limit_bytes: limit(512 << 20),
            usage_bytes: Some(500 << 20),
            ..Memory::default()
        }),
        pids: Some(Pids { limit: limit(100), current: Some(20), refused: Some(0), ..Pids::default() }),
        io: Some(Io { weight: Some(100), default_weight: Some(100), ..Io::default() }),
        hugetlb: vec![HugePages {
            size: "2MB",
            page_bytes: 2 << 20,
            limit_bytes: limit(10 << 20),
            usage_bytes: Some(0),
            refused: Some(0),
        }],
        cpuset_cpus: Some(8),
        recent: ticks(|tick| CgroupSample {
            at: at(tick),
            periods: Some(20 * u64::from(tick)),
            throttled_periods: Some(0),
            throttled_seconds: Some(0.0),
            oom_kills: Some(0),
            memory_limit_hits: Some(u64::from(tick)),
            forks_refused: Some(0),
            io_waiting: Some(0.01 * at(tick)),
            io_stalled: Some(0.0),
        }),
        ..CgroupView::default()
    }
}
