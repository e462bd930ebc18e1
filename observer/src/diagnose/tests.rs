use super::testdata::{TICKS, at, callsite, healthy, limit, ticks};
use super::{RULES, Thresholds, diagnose, rules_reference};
use crate::cgroup::{Problem, Reason};
use crate::model::view::{
    CallsiteCpuView, CgroupView, Fact, Finding, OnCpuView, RuntimeView, Severity, Source, TargetView, View,
};
use crate::testing::assert_golden;

/// How a view becomes one in which a rule fires, and from there one in which it must not: because what is wrong
/// is gone, or because it can't be seen any more.
struct Example {
    rule: &'static str,
    sick: fn(&mut View),
    well: fn(&mut View),
    blind: fn(&mut View),
}

fn target(view: &mut View) -> &mut TargetView {
    &mut view.targets[0]
}

fn runtime(view: &mut View) -> &mut RuntimeView {
    view.targets[0].runtime.as_mut().unwrap()
}

fn cgroup(view: &mut View) -> &mut CgroupView {
    &mut view.cgroups[0]
}

fn throttled(view: &mut View) {
    for (tick, sample) in cgroup(view).recent.iter_mut().enumerate() {
        sample.throttled_periods = Some(5 * tick as u64);
        sample.throttled_seconds = Some(0.5 * tick as f64);
    }
}

fn above_limit(view: &mut View) {
    throttled(view);
    runtime(view).gomaxprocs = Some(8);
}

fn leak(view: &mut View) {
    target(view).callsites.push(callsite("main.reconcile", "chan send", |tick| 100 + 20 * u64::from(tick)));
}

fn io(view: &mut View) {
    for sample in &mut cgroup(view).recent {
        sample.io_waiting = Some(0.4 * sample.at);
    }
}

fn nothing(_: &mut View) {}

const EXAMPLES: &[Example] = &[
    Example {
        rule: "oom-killed",
        sick: |view| {
            cgroup(view).memory.as_mut().unwrap().events.oom_kill = Some(3);
            cgroup(view).recent.last_mut().unwrap().oom_kills = Some(3);
        },
        well: |view| cgroup(view).memory.as_mut().unwrap().events.oom_kill = Some(0),
        blind: |view| cgroup(view).memory.as_mut().unwrap().events.oom_kill = None,
    },
    Example {
        rule: "forks-refused",
        sick: |view| cgroup(view).pids.as_mut().unwrap().refused = Some(34),
        well: |view| cgroup(view).pids.as_mut().unwrap().refused = Some(0),
        blind: |view| cgroup(view).pids = None,
    },
    Example {
        rule: "goroutine-growth",
        sick: leak,
        // As many end as are started: that is load.
        well: |view| {
            for (tick, sample) in target(view).callsites[3].recent.iter_mut().enumerate() {
                sample.exited = Some(100 * tick as u64);
            }
        },
        blind: |view| drop(target(view).callsites[3].recent.drain(..TICKS as usize - 5)),
    },
    Example {
        rule: "goroutine-stuck",
        sick: |view| {
            let mut stuck = callsite("main.fanOut", "chan send", |_| 400);
            stuck.oldest_wait_seconds = Some(580.0);
            for sample in &mut stuck.recent {
                sample.at *= 10.0;
            }
            target(view).callsites.push(stuck);
        },
        // Workers that wait for work.
        well: |view| {
            target(view).callsites[3].wait_reasons = [("chan receive".into(), 400)].into();
        },
        blind: |view| target(view).callsites[3].recent.clear(),
    },
    Example {
        rule: "lock-convoy",
        sick: |view| target(view).callsites.push(callsite("main.handle", "sync.Mutex.Lock", |_| 300)),
        well: |view| target(view).callsites[3].oldest_wait_seconds = Some(0.2),
        blind: |view| target(view).callsites[3].wait_reasons.clear(),
    },
    Example {
        rule: "cpu-throttled",
        sick: throttled,
        well: |view| cgroup(view).recent.iter_mut().for_each(|sample| sample.throttled_periods = Some(7)),
        blind: |view| drop(cgroup(view).recent.drain(1..)),
    },
    Example {
        rule: "gomaxprocs-above-limit",
        sick: above_limit,
        well: |view| runtime(view).gomaxprocs = Some(4),
        blind: |view| target(view).runtime = None,
    },
    Example {
        rule: "runtime-older-than-container-awareness",
        sick: above_limit,
        well: |view| target(view).go_version = Some("go1.25.0".into()),
        blind: |view| target(view).go_version = None,
    },
    Example {
        rule: "gomaxprocs-below-cpus",
        sick: |view| {
            runtime(view).gomaxprocs = Some(1);
            runtime(view).gomaxprocs_source = Some(Source::Environment);
            target(view).recent.iter_mut().for_each(|sample| sample.runnable = 12_000);
        },
        well: |view| cgroup(view).cpu.as_mut().unwrap().limit_cores = limit(0.5),
        blind: |view| target(view).usable_cpus = None,
    },
    Example {
        rule: "memory-near-limit",
        sick: |view| runtime(view).heap_live_bytes = Some(400 << 20),
        well: |view| cgroup(view).memory.as_mut().unwrap().usage_bytes = Some(420 << 20),
        blind: |view| runtime(view).heap_live_bytes = None,
    },
    Example {
        rule: "gomemlimit-above-limit",
        sick: |view| runtime(view).gomemlimit_bytes = Some(1 << 30),
        well: |view| runtime(view).gomemlimit_bytes = Some(400 << 20),
        blind: |view| cgroup(view).memory = None,
    },
    Example {
        rule: "gomemlimit-unset",
        sick: |view| runtime(view).heap_marked_bytes = Some(240 << 20),
        well: |view| runtime(view).gomemlimit_bytes = Some(400 << 20),
        blind: |view| runtime(view).gogc_percent = None,
    },
    Example {
        rule: "gomemlimit-thrash",
        sick: |view| {
            runtime(view).gomemlimit_bytes = Some(55 << 20);
            for (tick, sample) in target(view).recent.iter_mut().enumerate() {
                sample.gc_cycles = Some(8 * tick as u64);
            }
        },
        well: |view| runtime(view).gomemlimit_bytes = Some(200 << 20),
        blind: |view| target(view).recent.iter_mut().for_each(|sample| sample.gc_cycles = None),
    },
    Example {
        rule: "memory-limit-unaligned",
        sick: |view| {
            runtime(view).heap_live_bytes = Some(70 << 20);
            cgroup(view).memory.as_mut().unwrap().limit_bytes = limit(123_453_440);
        },
        // 150 MB, rounded by the kernel.
        well: |view| cgroup(view).memory.as_mut().unwrap().limit_bytes = limit(149_999_616),
        blind: |view| runtime(view).heap_live_bytes = None,
    },
    Example {
        rule: "pids-near-limit",
        sick: |view| cgroup(view).pids.as_mut().unwrap().current = Some(98),
        well: |view| cgroup(view).pids.as_mut().unwrap().limit = limit(200),
        blind: |view| cgroup(view).pids.as_mut().unwrap().current = None,
    },
    Example {
        rule: "threads-growing",
        sick: |view| {
            for (tick, sample) in target(view).recent.iter_mut().enumerate() {
                sample.threads = Some(60 + tick as u64);
            }
        },
        well: |view| target(view).recent.iter_mut().for_each(|sample| sample.threads = Some(700)),
        blind: |view| target(view).recent[7].threads = None,
    },
    Example {
        rule: "io-pressure",
        sick: io,
        well: |view| cgroup(view).recent.iter_mut().for_each(|sample| sample.io_waiting = Some(9.0)),
        blind: |view| cgroup(view).recent.iter_mut().for_each(|sample| sample.io_waiting = None),
    },
    Example {
        rule: "io-weight-missing",
        sick: io,
        well: |view| cgroup(view).io.as_mut().unwrap().weight = Some(500),
        blind: |view| cgroup(view).recent.clear(),
    },
    Example {
        rule: "hugetlb-limit-unaligned",
        sick: |view| cgroup(view).hugetlb[0].refused = Some(2),
        well: |view| cgroup(view).hugetlb[0].refused = Some(0),
        blind: |view| cgroup(view).hugetlb[0].refused = None,
    },
    Example {
        rule: "observer-limited",
        sick: |view| target(view).goroutines.as_mut().unwrap().complete = false,
        well: |view| target(view).goroutines.as_mut().unwrap().complete = true,
        blind: |view| target(view).goroutines = None,
    },
];

fn findings(changes: &[fn(&mut View)]) -> Vec<Finding> {
    let mut view = healthy();
    changes.iter().for_each(|change| change(&mut view));
    diagnose(&view, &Thresholds::default())
}

fn fires(rule: &str, changes: &[fn(&mut View)]) -> bool {
    findings(changes).iter().any(|finding| finding.rule == rule)
}

/// A healthy process raises nothing: keep-alive connections that become more, idle workers, load that swings,
/// page cache up to the limit.
#[test]
fn a_healthy_process_has_no_finding() {
    assert_eq!(findings(&[nothing]), []);
}

/// Each rule fires where something is wrong, and neither where it isn't nor where that can't be seen.
#[test]
fn every_rule_fires_when_it_should() {
    for example in EXAMPLES {
        assert!(fires(example.rule, &[example.sick]), "{} doesn't fire", example.rule);
        assert!(
            !fires(example.rule, &[example.sick, example.well]),
            "{} fires on a healthy view",
            example.rule
        );
        assert!(!fires(example.rule, &[example.sick, example.blind]), "{} fires blindly", example.rule);
    }
}

/// Every rule has an example, and what it says there is complete: numbers, and sentences that can be joined.
#[test]
fn every_rule_says_something_useful() {
    let exampled: Vec<_> = EXAMPLES.iter().map(|example| example.rule).collect();
    let named: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
    assert!(named.iter().all(|name| exampled.contains(name)), "{named:?}");
    for example in EXAMPLES {
        let all = findings(&[example.sick]);
        let finding = all.iter().find(|finding| finding.rule == example.rule).expect("it fires");
        assert!(!finding.summary.ends_with('.') && !finding.summary.contains("  "), "{}", finding.summary);
        assert!(finding.advice.ends_with('.') && !finding.advice.contains("  "), "{}", finding.advice);
        assert!(
            finding.evidence.values().any(|fact| matches!(fact, Fact::Number(_)))
                || example.rule == "io-weight-missing",
            "{finding:?}"
        );
    }
}

/// A process that starts up, and a ramp that comes to its end, are no leak.
#[test]
fn growth_at_the_start_is_no_leak() {
    let young = |view: &mut View| target(view).start_time = 9_945.0 + at(TICKS) - 10.0;
    assert!(!fires("goroutine-growth", &[leak, young]));
    let ramp = |view: &mut View| {
        let live = |tick: u32| 2000 - (2000.0 * (-f64::from(tick) / 4.0).exp()) as u64;
        target(view).callsites.push(callsite("main.ramp", "chan send", live));
    };
    assert!(!fires("goroutine-growth", &[ramp]));
    let without_probes = |view: &mut View| {
        target(view).callsites[3].recent.iter_mut().for_each(|sample| sample.exited = None);
    };
    assert!(!fires("goroutine-growth", &[leak, without_probes]), "58 s are too short without probes");
}

/// A leak names its callsite, and the time to the memory limit follows from their stacks.
#[test]
fn a_leak_is_measured() {
    let all = findings(&[leak]);
    let [finding] = &all[..] else { panic!("one finding: {all:?}") };
    let number = |name| match finding.evidence.get(name) {
        Some(Fact::Number(number)) => *number,
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!((number("live"), number("growth_per_second"), number("line")), (680.0, 10.0, 7.0));
    assert_eq!(number("stacks_bytes"), 680.0 * 2048.0);
    assert_eq!(number("memory_limit_reached_seconds_at_most"), f64::from(12 << 20) / (10.0 * 2048.0));
    assert_eq!(finding.severity, Severity::Critical, "the limit is ten minutes away");
    assert!(
        finding.summary.contains("680 goroutines started by main.reconcile (/src/main.go:7)"),
        "{finding:?}"
    );
}

/// Exits that were counted only since a while ago still tell a leak from a load, if that while is long enough.
#[test]
fn a_leak_needs_exits_of_its_last_seconds_only() {
    fn uncounted(view: &mut View, from: u32, to: u32) {
        leak(view);
        for sample in
            &mut target(view).callsites.iter_mut().last().unwrap().recent[from as usize..to as usize]
        {
            sample.exited = None;
        }
    }
    assert_eq!(findings(&[|view| uncounted(view, 0, TICKS - 8)]).len(), 1, "counted for 14 s");
    assert_eq!(findings(&[|view| uncounted(view, TICKS - 3, TICKS)]).len(), 0, "not counted any more");
}

fn burn(view: &mut View) {
    let used = |created_by: &str, entry: &str, recent_seconds| CallsiteCpuView {
        created_by: created_by.into(),
        entry: entry.into(),
        cores: None,
        recent_seconds,
    };
    let callsites = vec![
        used("main.start", "main.resize", 6.0),
        used("runtime", "runtime", 3.0),
        used("", "main.main", 0.5),
        used("main.start", "main.idle", 0.5),
    ];
    target(view).on_cpu = Some(OnCpuView { callsites });
}

/// Throttling names those who used most of the CPU time, and says nothing of it where it isn't sampled.
#[test]
fn throttling_names_who_used_the_cpu() {
    let found = |changes: &[fn(&mut View)]| {
        let all = findings(changes);
        all.into_iter().find(|finding| finding.rule == "cpu-throttled").unwrap()
    };
    let named = found(&[throttled, burn]);
    let who = "main.resize started by main.start (60 %), the Go runtime itself (30 %)";
    assert_eq!(named.evidence["cpu_used_by"], Fact::from(who));
    assert!(named.summary.ends_with(who), "{}", named.summary);
    assert!(!found(&[throttled]).evidence.contains_key("cpu_used_by"));
}

/// Values of the cgroup that can't be read are named, with the reason.
#[test]
fn unread_values_are_named() {
    let unread = |view: &mut View| {
        let problem = Problem { file: "memory.max", path: "/app".into(), reason: Reason::Denied };
        cgroup(view).problems.push(problem);
    };
    let all = findings(&[unread]);
    let [finding] = &all[..] else { panic!("one finding: {all:?}") };
    assert_eq!((finding.rule, finding.severity), ("observer-limited", Severity::Info));
    assert!(finding.summary.contains("memory.max of cgroup /app: permission denied"), "{finding:?}");
}

/// The worst comes first.
#[test]
fn findings_are_sorted() {
    let all = findings(&[io, throttled, leak]);
    let severities: Vec<_> = all.iter().map(|finding| finding.severity).collect();
    assert!(all.len() >= 4 && severities.is_sorted(), "{severities:?}");
}

/// A cause comes before its symptoms though they are worse, but not before what it doesn't explain, and not where
/// it is only worth knowing.
#[test]
fn causes_come_before_their_symptoms() {
    fn near(view: &mut View) {
        runtime(view).heap_live_bytes = Some(400 << 20);
    }
    fn above(view: &mut View) {
        runtime(view).gomemlimit_bytes = Some(1 << 30);
    }
    fn filling(view: &mut View) {
        runtime(view).heap_marked_bytes = Some(240 << 20);
    }
    let rules = |changes: &[fn(&mut View)]| -> Vec<_> {
        findings(changes).iter().map(|finding| (finding.rule, finding.severity)).collect()
    };
    let cause = ("gomemlimit-above-limit", Severity::Warning);
    let symptom = ("memory-near-limit", Severity::Critical);
    assert_eq!(rules(&[near, above, filling]), [cause, symptom]);
    assert_eq!(rules(&[near, above]), [symptom, ("gomemlimit-above-limit", Severity::Info)]);
    fn full(view: &mut View) {
        cgroup(view).pids.as_mut().unwrap().current = Some(98);
    }
    assert_eq!(rules(&[full, above, filling]), [("pids-near-limit", Severity::Critical), cause]);
}

/// What a rule explains are rules that come later, and all that those explain, so that the order has no way back.
#[test]
fn explanations_are_in_order() {
    for (place, rule) in RULES.iter().enumerate() {
        for name in rule.explains {
            let symptom = RULES[place + 1..].iter().find(|other| other.name == *name);
            let symptom =
                symptom.unwrap_or_else(|| panic!("{} explains {name}, which isn't later", rule.name));
            assert!(symptom.explains.iter().all(|further| rule.explains.contains(further)), "{}", rule.name);
        }
    }
}

/// Names are unique and stable in form, and the documentation is what the rules say.
#[test]
fn rules_are_documented() {
    let mut names: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), RULES.len());
    assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')), "{names:?}");
    assert!(RULES.iter().all(|rule| rule.when.ends_with('.') && rule.why.ends_with('.')));
    assert_golden("../docs/rules.md", &rules_reference());
}

/// The recorded samples are what the builders say, so that the examples test what they seem to.
#[test]
fn samples_are_in_order() {
    let times: Vec<f64> = ticks(at);
    assert_eq!((times.len(), times[0], times[29]), (30, 0.0, 58.0));
}
