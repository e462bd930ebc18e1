use std::io::Write;
use std::process::{Command, Stdio};

use super::samples::label_value;
use super::*;
use crate::export::testdata::{HOSTILE, assert_golden, view};
use crate::model::view::View;

/// One line of the text format: name, labels, value.
type Line = (String, Vec<(String, String)>, f64);

/// A reader of the text format, written from its specification and not from the encoder.
fn parse(text: &str) -> Vec<Line> {
    text.lines().filter(|line| !line.starts_with('#')).map(parse_line).collect()
}

fn parse_line(line: &str) -> Line {
    let end = line.find(['{', ' ']).unwrap();
    let name = line[..end].to_owned();
    let mut rest = &line[end..];
    let mut labels = Vec::new();
    while let Some(label) = rest.strip_prefix(['{', ',']) {
        let (name, quoted) = label.split_once("=\"").unwrap();
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        let close = loop {
            match chars.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    c => panic!("escape \\{c}"),
                }),
                (_, c) => value.push(c),
            }
        };
        labels.push((name.to_owned(), value));
        rest = &quoted[close + 1..];
    }
    (name, labels, rest.trim_start_matches('}').trim().parse().unwrap())
}

/// The value of the series of `name` that has all of `labels`; `None` when there is none.
fn value(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let mut found = parse(text).into_iter().filter(|(found, has, _)| {
        found == name && labels.iter().all(|(k, v)| has.iter().any(|(name, value)| name == k && value == v))
    });
    let first = found.next();
    assert!(found.next().is_none(), "{name} {labels:?} is not one series");
    first.map(|(_, _, value)| value)
}

/// `/metrics` of the recorded view, byte for byte.
#[test]
fn metrics_of_the_recorded_view() {
    assert_golden("src/export/testdata/metrics.prom", &expose(&view()).unwrap());
}

/// The committed reference is what the definitions say.
#[test]
fn reference_is_up_to_date() {
    assert_golden("../deploy/METRICS.md", &metrics_reference());
}

/// The recorded view gives every metric at least one series, so that the golden file misses none.
#[test]
fn recorded_view_feeds_every_metric() {
    let view = view();
    let silent: Vec<_> = all().filter(|m| family(m, &view).is_none()).map(|m| m.name).collect();
    assert_eq!(silent, [""; 0]);
}

/// Names are unique, counters and only counters end in `_total`, and a HELP is a sentence without its stop.
#[test]
fn definitions_follow_the_conventions() {
    let mut names = std::collections::BTreeSet::new();
    for metric in all() {
        assert!(names.insert(metric.name), "{} is defined twice", metric.name);
        assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
        assert!(!metric.help.is_empty() && !metric.help.ends_with('.'), "{}", metric.name);
        assert!(
            metric.name.starts_with("observer_") || metric.name.starts_with("process_"),
            "{}",
            metric.name
        );
    }
}

/// The order of targets and cgroups in the view doesn't change a byte.
#[test]
fn output_does_not_depend_on_the_order_of_the_view() {
    let mut reversed = view();
    reversed.targets.reverse();
    for finding in &mut reversed.findings {
        finding.target = reversed.targets.len() - 1 - finding.target;
    }
    for target in &mut reversed.targets {
        target.callsites.reverse();
    }
    reversed.cgroups.reverse();
    assert_eq!(expose(&reversed).unwrap(), expose(&view()).unwrap());
}

/// Two processes of equal identity: counts are summed, the oldest wait is the larger one, an info is 1.
#[test]
fn processes_of_equal_identity_are_one_series() {
    let text = expose(&view()).unwrap();
    let leak =
        [("process", "controller"), ("entry", "example.com/ctl/pkg/sync.(*Reconciler).reconcile.func1")];
    assert_eq!(value(&text, "observer_goroutines", &leak), Some(183_754.0));
    assert_eq!(value(&text, "observer_goroutine_oldest_wait_seconds", &leak), Some(1_837.42));
    let controller = [("process", "controller")];
    assert_eq!(value(&text, "observer_go_info", &controller), Some(1.0));
    assert_eq!(value(&text, "observer_go_gogc_percent", &controller), Some(-1.0));
    assert_eq!(value(&text, "observer_target_info", &[("pid", "4243")]), Some(1.0));
}

/// Folded callsites: the live ones are summed; the counters are the model's, which survive unfolding.
#[test]
fn callsites_without_series_are_other() {
    let other = [("process", "controller"), ("created_by", "other"), ("entry", "other")];
    let mut view = view();
    let text = expose(&view).unwrap();
    assert_eq!(value(&text, "observer_goroutines", &other), Some(10.0));
    assert_eq!(value(&text, "observer_goroutines_created_total", &other), Some(1_800.0));
    for target in &mut view.targets {
        target.callsites.retain(|callsite| callsite.own_series);
    }
    let text = expose(&view).unwrap();
    assert_eq!(value(&text, "observer_goroutines", &other), None);
    assert_eq!(value(&text, "observer_goroutines_exited_total", &other), Some(1_790.0));
}

/// Processes of workloads past the limit, and their cgroups, are `other`: summed, without pid, with nothing lost.
#[test]
fn folded_workloads_are_other() {
    let mut view = view();
    for target in view.targets.iter_mut().filter(|target| &*target.process == "controller") {
        target.folded = true;
        target.callsites.iter_mut().for_each(|callsite| callsite.own_series = false);
    }
    view.cgroups[0].folded = true;
    let before = expose(&self::view()).unwrap();
    let text = expose(&view).unwrap();
    let all = |text: &str| -> f64 {
        parse(text).iter().filter(|(name, ..)| name == "observer_goroutines").map(|(.., value)| value).sum()
    };
    assert_eq!(all(&text), all(&before));
    assert_eq!(value(&text, "observer_goroutines", &[("process", "controller")]), None);
    assert_eq!(
        value(&text, "observer_goroutines", &[("process", "other"), ("unit", "other")]),
        Some(183_804.0)
    );
    assert_eq!(value(&text, "observer_target_info", &[("pid", "4243")]), None);
    let usage = "observer_cgroup_memory_usage_bytes";
    assert_eq!(value(&text, usage, &[("unit", "other")]), value(&before, usage, &[("container", "manager")]));
}

/// No limit, no series; a controller that isn't there doesn't make a limited neighbour unlimited.
#[test]
fn unlimited_is_absent() {
    let text = expose(&view()).unwrap();
    for limit in ["cpu_limit_cores", "memory_limit_bytes", "pids_limit"] {
        let name = format!("observer_cgroup_{limit}");
        assert!(value(&text, &name, &[("container", "manager")]).is_some());
        assert_eq!(value(&text, &name, &[("unit", &label_value(HOSTILE))]), None);
    }
}

/// The memory limit that `edit` leads to, for two cgroups of equal identity.
fn memory_limit_of_two(edit: impl FnOnce(&mut View)) -> Option<f64> {
    let mut view = view();
    let mut second = view.cgroups[0].clone();
    second.path = "/kubepods/pod1/c2".into();
    view.cgroups.push(second);
    edit(&mut view);
    let text = expose(&view).unwrap();
    value(&text, "observer_cgroup_memory_limit_bytes", &[("container", "manager")])
}

/// Cgroups of equal identity: one ancestor's limit counts once, two limits add up, unlimited wins, and a
/// missing controller has no say.
#[test]
fn limits_of_cgroups_of_equal_identity() {
    let gib = f64::from(1 << 30);
    assert_eq!(memory_limit_of_two(|_| ()), Some(2.0 * gib));
    let own = |view: &mut View| {
        let memory = view.cgroups[2].memory.as_mut().unwrap();
        memory.limit_bytes.as_mut().unwrap().binding = "/kubepods/pod1/c2".into();
    };
    assert_eq!(memory_limit_of_two(own), Some(4.0 * gib));
    assert_eq!(memory_limit_of_two(|view| view.cgroups[2].memory.as_mut().unwrap().limit_bytes = None), None);
    assert_eq!(memory_limit_of_two(|view| view.cgroups[2].memory = None), Some(2.0 * gib));
}

/// Values that are not numbers are left out.
#[test]
fn not_a_number_is_absent() {
    let mut view = view();
    view.targets[0].callsites[0].oldest_wait_seconds = Some(f64::NAN);
    view.cgroups[1].cpu.as_mut().unwrap().usage_seconds = Some(f64::INFINITY);
    let text = expose(&view).unwrap();
    assert!(parse(&text).iter().all(|(_, _, value)| value.is_finite()));
    assert_eq!(value(&text, "observer_goroutine_oldest_wait_seconds", &[("entry", "other")]), Some(3.0));
}

/// Whatever a target calls its functions, the text parses back to the same safe value of at most 256 bytes,
/// and nothing of it becomes a line or a label of its own.
#[test]
fn any_label_value_survives_the_text_format() {
    const ALPHABET: &[char] = &[
        '\\', '"', '\n', 'n', '{', '}', ',', '=', ' ', '#', '\u{1b}', '\r', '\0', 'é', '\u{2028}', '😀', 'a',
    ];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for _ in 0..500 {
        let length = next(120) + 1;
        let text: String = (0..length).map(|_| ALPHABET[next(ALPHABET.len() as u64) as usize]).collect();
        let mut view = view();
        view.targets.truncate(1);
        view.targets[0].callsites.truncate(1);
        view.targets[0].callsites[0].created_by = text.as_str().into();
        let exposed = expose(&view).unwrap();
        let lines = parse(&exposed);
        let (_, labels, _) = lines.iter().find(|(name, ..)| name == "observer_goroutines").unwrap();
        let (_, created_by) = labels.iter().find(|(name, _)| name == "created_by").unwrap();
        assert_eq!(*created_by, label_value(&text));
        assert!(created_by.len() <= 256 && !created_by.chars().any(char::is_control));
        assert!(created_by.chars().count() == text.chars().count() || created_by.len() > 252);
    }
}

/// Prometheus's own checker has nothing to say about the recorded view's metrics.
#[test]
fn promtool_accepts_the_metrics() {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            let required = std::env::var_os("OBSERVER_REQUIRE").is_some_and(|value| value == "1");
            assert!(!required, "promtool (Debian package prometheus) can't be run: {error}");
            eprintln!("skipped: promtool (Debian package prometheus) can't be run: {error}");
            return;
        }
    };
    child.stdin.take().unwrap().write_all(expose(&view()).unwrap().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}
