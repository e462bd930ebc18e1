//! Formats that count equal stacks.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::go::{self, Program, VARIANTS, VERSIONS, Variant};

/// Who writes the program's own profile, and who is on stacks that are deeper than Go tells.
const DIFFERENT: [&str; 4] = ["main.control", "main.recurse", "main.mutual", "main.nest"];

/// Labels that only our profiles have.
const OURS: [&str; 3] = ["state:", "wait_reason:", "stack_missing:"];

/// Stacks with the number of goroutines that have them, as `go tool pprof` reads a profile; without those that
/// differ by nature: the writer's own, and deep ones, which Go cuts.
fn traces(profile: &[u8], folder: &Path) -> Vec<String> {
    let file = folder.join("profile");
    fs::write(&file, profile).unwrap();
    let done = go::command(27).args(["tool", "pprof", "-traces"]).arg(&file).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout).unwrap();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for trace in text.split("-----------+-------------------------------------------------------").skip(1) {
        let lines: Vec<&str> = trace.lines().filter(|line| !line.trim().is_empty()).collect();
        // Labels stand before the stack; the stack's first line has the number.
        let Some(start) = lines.iter().position(|line| starts_with_number(line)) else { continue };
        let labels = lines[..start].iter().map(|line| line.trim());
        let labels: Vec<&str> = labels.filter(|line| !OURS.iter().any(|own| line.starts_with(own))).collect();
        let (count, innermost) = lines[start].trim().split_once(' ').unwrap();
        let functions: Vec<&str> = std::iter::once(innermost.trim())
            .chain(lines[start + 1..].iter().map(|line| line.trim()))
            .collect();
        // In our profiles nothing is unprintable.
        let mut different = DIFFERENT.iter().chain(&["main.unprintable"]);
        if !different.any(|different| functions.contains(different)) {
            *counts.entry([labels.join("\n"), functions.join("\n")].join("\n---\n")).or_insert(0) +=
                count.parse::<u64>().unwrap();
        }
    }
    counts.into_iter().map(|(stack, count)| format!("{count} with {stack}")).collect()
}

fn starts_with_number(line: &str) -> bool {
    line.trim().split(' ').next().is_some_and(|word| word.parse::<u64>().is_ok())
}

/// What `go tool pprof -top` says of a profile, without those stacks that differ by nature.
fn top(profile: &[u8], folder: &Path) -> Vec<String> {
    let file = folder.join("profile");
    fs::write(&file, profile).unwrap();
    let ignored = format!("^({})$", DIFFERENT.join("|").replace('.', "[.]"));
    let mut command = go::command(27);
    command.args(["tool", "pprof", "-top", "-nodecount=1000", "-nodefraction=0", "-ignore", &ignored]);
    let done = command.arg(&file).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout).unwrap();
    let (head, rows) = text.split_once("flat%").unwrap();
    assert!(head.contains("Type: goroutine"), "{head}");
    // Percentages are of all goroutines, and rows with equal numbers stand in any order.
    let mut rows: Vec<String> = rows
        .lines()
        .skip(1)
        .map(|row| {
            let words: Vec<&str> = row.split_whitespace().collect();
            [&words[..1], &words[3..4], &words[5..]].concat().join(" ")
        })
        .collect();
    rows.sort();
    rows
}

/// Compares all formats that count stacks with the program's own.
fn compare(minor: u32, variant: Variant) {
    let what = format!("Go 1.{minor} {variant:?}");
    let folder = tempfile::tempdir().unwrap();
    let mut program = Program::start(minor, variant);
    let (ours, own) = (program.ours(&["--format", "pprof"]), program.own("pprof"));
    let [our_traces, own_traces] = [&ours, &own].map(|profile| traces(profile, folder.path()));
    assert!(own_traces.len() > 90, "{what}: {} stacks", own_traces.len());
    assert_same(&our_traces, &own_traces, &what);
    let [our_top, own_top] = [&ours, &own].map(|profile| top(profile, folder.path()));
    assert!(own_top.len() > 60, "{what}: {} functions", own_top.len());
    assert_same(&our_top, &own_top, &what);

    let ours = String::from_utf8(program.ours(&["--format", "debug1"])).unwrap();
    let own = String::from_utf8(program.own("debug1")).unwrap();
    assert_eq!(ours.lines().next(), own.lines().next(), "{what}");
    let (ours, own) = (blocks(&ours), blocks(&own));
    assert!(own.len() > 90, "{what}: {} stacks", own.len());
    assert_same(&ours, &own, &what);
}

/// Fails when not the same texts are there, each as often, and shows only those that are not.
fn assert_same(ours: &[String], own: &[String], what: &str) {
    let count = |all: &[String]| {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        all.iter().for_each(|text| *counts.entry(text.clone()).or_default() += 1);
        counts
    };
    let (ours, own) = (count(ours), count(own));
    let only = |these: &BTreeMap<String, u64>, those: &BTreeMap<String, u64>| -> String {
        these
            .iter()
            .filter(|(text, count)| those.get(*text) != Some(count))
            .map(|(text, _)| text.clone() + "\n\n")
            .collect()
    };
    assert!(ours == own, "{what}\nonly ours:\n{}\nonly its own:\n{}", only(&ours, &own), only(&own, &ours));
}

/// `go tool pprof` finds in our profile the stacks, labels and inlined functions that it finds in the program's
/// own, as many goroutines with each, and so the same sums; and the text with counts has the same total, and
/// stacks address for address: in the oldest and the newest Go.
#[test]
fn profiles_of_oldest_and_newest() {
    if !go::can_run() {
        return;
    }
    for minor in [VERSIONS[0], VERSIONS[VERSIONS.len() - 1]] {
        for variant in VARIANTS {
            compare(minor, variant);
        }
    }
}

/// The same in all versions between.
#[test]
fn profiles_of_all_other_versions() {
    if !go::can_run() {
        return;
    }
    for minor in &VERSIONS[1..VERSIONS.len() - 1] {
        for variant in VARIANTS {
            compare(*minor, variant);
        }
    }
}

/// The stacks with their labels, without those that differ by nature.
fn blocks(text: &str) -> Vec<String> {
    let (_, blocks) = text.split_once('\n').unwrap();
    let mut blocks: Vec<String> = blocks
        .split("\n\n")
        .filter(|block| !block.is_empty() && !DIFFERENT.iter().any(|different| block.contains(different)))
        .map(|block| block.trim_end().to_owned())
        .collect();
    blocks.sort();
    blocks
}

/// Filters keep exactly what they name, and JSON says of each goroutine where it stands and who created it.
#[test]
fn filters_and_json() {
    if !go::can_run() {
        return;
    }
    let program = Program::start(24, Variant::Stripped);
    let ids = |arguments: &[&str]| {
        let arguments = [&["--format", "json"], arguments].concat();
        let profile: Value = serde_json::from_slice(&program.ours(&arguments)).unwrap();
        assert_eq!(profile["complete"], true);
        profile["goroutines"].as_array().unwrap().clone()
    };
    let all = ids(&[]);
    assert!(all.len() > 60);
    assert!(all.iter().all(|goroutine| goroutine.get("system").is_none()));
    assert!(ids(&["--system"]).iter().any(|goroutine| goroutine["system"] == true));
    let syscalls = ids(&["--state", "syscall"]);
    let expected = all.iter().filter(|goroutine| goroutine["status"] == "syscall").count();
    assert!(expected >= 2);
    assert_eq!(syscalls.len(), expected);
    assert_eq!(ids(&["--wait-reason", "sync.RWMutex.RLock"]).len(), 1);
    let labelled = ids(&["--label", "shared=by all"]);
    assert_eq!(labelled.len(), 6);
    assert!(labelled.iter().all(|goroutine| goroutine["labels"]["shared"] == "by all"));
    assert_eq!(ids(&["--label", "depth20=yes", "--label", "innermost=18"]).len(), 1);
    assert_eq!(ids(&["--label", "shared=by"]).len(), 0);
    let dividing = ids(&["--function", "main.dividing"]);
    assert_eq!(dividing.len(), 1);
    let stack = dividing[0]["stack"].as_array().unwrap();
    let place = stack.iter().find(|frame| frame["function"] == "main.dividing").unwrap();
    assert_eq!((&place["file"], place["line"].as_u64()), (&Value::from("stacks/panics.go"), Some(32)));
    assert_eq!(dividing[0]["created_by"]["function"], "main.panics");
    assert_eq!(dividing[0]["created_by"]["goroutine"], 1);
    assert_eq!(dividing[0]["wait_reason"], "chan receive");
}
