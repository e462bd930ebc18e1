//! Formats that count equal stacks.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::go::{self, Program, Variant};

/// Who writes the program's own profile, and who is on stacks that are deeper than Go tells.
const DIFFERENT: [&str; 3] = ["main.control", "main.recurse", "main.mutual"];

/// Stacks with the number of goroutines that have them, as `go tool pprof` reads a profile; without those that
/// differ by nature: the writer's own, and deep ones, which Go cuts.
fn traces(profile: &[u8], folder: &Path) -> BTreeMap<String, u64> {
    let file = folder.join("profile");
    fs::write(&file, profile).unwrap();
    let done = go::command(27).args(["tool", "pprof", "-traces"]).arg(&file).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout).unwrap();
    let mut counts = BTreeMap::new();
    for trace in text.split("-----------+-------------------------------------------------------").skip(1) {
        let lines: Vec<&str> = trace.lines().filter(|line| !line.trim().is_empty()).collect();
        // Labels stand before the stack; the stack's first line has the number.
        let Some(start) = lines.iter().position(|line| starts_with_number(line)) else { continue };
        let (count, innermost) = lines[start].trim().split_once(' ').unwrap();
        let functions: Vec<&str> = std::iter::once(innermost.trim())
            .chain(lines[start + 1..].iter().map(|line| line.trim()))
            .collect();
        if !DIFFERENT.iter().any(|different| functions.contains(different)) {
            *counts.entry(functions.join("\n")).or_insert(0) += count.parse::<u64>().unwrap();
        }
    }
    counts
}

fn starts_with_number(line: &str) -> bool {
    line.trim().split(' ').next().is_some_and(|word| word.parse::<u64>().is_ok())
}

/// `go tool pprof` finds in our profile the stacks, inlined functions included, that it finds in the program's
/// own, and as many goroutines with each.
#[test]
fn pprof_finds_the_same_stacks() {
    if !go::can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (minor, variant) in [(21, Variant::Cgo), (27, Variant::Static), (27, Variant::Pie)] {
        let mut program = Program::start(minor, variant);
        let ours = traces(&program.ours(&["--format", "pprof"]), folder.path());
        let own = traces(&program.own("pprof"), folder.path());
        assert!(own.len() > 40, "{} stacks", own.len());
        assert_eq!(ours, own, "Go 1.{minor} {variant:?}");
    }
}

/// The text with counts has the total, and the stacks address for address, of the program's own.
#[test]
fn debug1_has_the_same_stacks() {
    if !go::can_run() {
        return;
    }
    let mut program = Program::start(27, Variant::Static);
    let ours = String::from_utf8(program.ours(&["--format", "debug1"])).unwrap();
    let own = String::from_utf8(program.own("debug1")).unwrap();
    assert_eq!(ours.lines().next(), own.lines().next());
    let (ours, own) = (blocks(&ours), blocks(&own));
    assert!(own.len() > 40, "{} stacks", own.len());
    for (ours, own) in ours.iter().zip(&own) {
        assert_eq!(ours, own);
    }
    assert_eq!(ours.len(), own.len());
}

/// The stacks without labels, and without those that differ by nature.
fn blocks(text: &str) -> Vec<String> {
    let (_, blocks) = text.split_once('\n').unwrap();
    let mut blocks: Vec<String> = blocks
        .split("\n\n")
        .filter(|block| !DIFFERENT.iter().any(|different| block.contains(different)))
        .map(|block| {
            block.lines().filter(|line| !line.starts_with("# labels")).collect::<Vec<_>>().join("\n")
        })
        .filter(|block| !block.is_empty())
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
    let dividing = ids(&["--function", "main.dividing"]);
    assert_eq!(dividing.len(), 1);
    let stack = dividing[0]["stack"].as_array().unwrap();
    let place = stack.iter().find(|frame| frame["function"] == "main.dividing").unwrap();
    assert_eq!((&place["file"], place["line"].as_u64()), (&Value::from("stacks/panics.go"), Some(32)));
    assert_eq!(dividing[0]["created_by"]["function"], "main.panics");
    assert_eq!(dividing[0]["created_by"]["goroutine"], 1);
    assert_eq!(dividing[0]["wait_reason"], "chan receive");
}
