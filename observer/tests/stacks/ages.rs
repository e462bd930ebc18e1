//! For how long goroutines have waited.

use std::process::Command;

use serde_json::Value;

use crate::go::{self, Program, VERSIONS};

/// What the program has on the stack of each goroutine whose wait it knows.
const WAITS: [&str; 4] = ["main.first", "main.second", "main.third", "main.sleeper"];

/// The goroutine with a function on its stack.
fn find<'a>(profile: &'a Value, function: &str) -> &'a Value {
    let has = |goroutine: &&Value| {
        goroutine["stack"].as_array().unwrap().iter().any(|frame| frame["function"] == function)
    };
    profile["goroutines"].as_array().unwrap().iter().find(has).unwrap_or_else(|| panic!("no {function}"))
}

fn profile(program: &Program, arguments: &[&str]) -> Value {
    serde_json::from_slice(&program.ours(&[arguments, &["--format", "json"]].concat())).unwrap()
}

/// Bounds of each wait are on either side of what the program itself knows.
fn compare(program: &mut Program, arguments: &[&str], what: &str) -> Value {
    let before: Value = serde_json::from_str(&program.answer("")).unwrap();
    let ours = profile(program, arguments);
    let after: Value = serde_json::from_str(&program.answer("")).unwrap();
    for function in WAITS {
        let (goroutine, what) = (find(&ours, function), format!("{what} {arguments:?} {function}"));
        let [least, most] = ["wait_seconds_min", "wait_seconds_max"].map(|key| goroutine[key].as_f64());
        let [at_least, at_most] =
            [&before[function][0], &after[function][1]].map(|own| own.as_f64().unwrap());
        assert!(least.is_none_or(|least| least <= at_most), "{what}: {least:?} > {at_most}");
        assert!(most.is_some_and(|most| most >= at_least), "{what}: {most:?} < {at_least}");
    }
    ours
}

/// Garbage collections tell at one look that a goroutine waited before one of them and after another, and a second
/// look that it has waited since the first; what is said is true, in all versions.
#[test]
fn ages_are_bounds() {
    if !go::can_run() {
        return;
    }
    for minor in VERSIONS {
        let mut program = Program::start_ages(minor, &[]);
        let what = format!("Go 1.{minor}");
        let once = compare(&mut program, &[], &what);
        let least = |profile: &Value, function| find(profile, function)["wait_seconds_min"].as_f64();
        // One that waited when the last collection but one came by began to wait before that.
        assert!(least(&once, "main.first").is_some(), "{what}");
        assert_eq!(least(&once, "main.third"), None, "{what}");
        let twice = compare(&mut program, &["--watch", "300ms"], &what);
        for function in WAITS {
            assert!(least(&twice, function).unwrap() >= 0.29, "{what} {function}");
        }
    }
}

/// From Go 1.23 on it is told when a sleeping goroutine wakes up: an hour after it fell asleep.
#[test]
fn sleepers_say_when_they_wake() {
    if !go::can_run() {
        return;
    }
    for minor in VERSIONS {
        let mut program = Program::start_ages(minor, &[]);
        let slept = |program: &mut Program, bound: usize| {
            let own: Value = serde_json::from_str(&program.answer("")).unwrap();
            own["main.sleeper"][bound].as_f64().unwrap()
        };
        let at_least = slept(&mut program, 0);
        let ours = profile(&program, &[]);
        let at_most = slept(&mut program, 1);
        let wakes = find(&ours, "main.sleeper")["wakes_in_seconds"].as_f64();
        assert_eq!(wakes.is_some(), minor >= 23, "Go 1.{minor}");
        if let Some(wakes) = wakes {
            let so_far = 3600.0 - wakes;
            assert!(at_least <= so_far && so_far <= at_most, "Go 1.{minor}: {at_least} {so_far} {at_most}");
        }
        assert!(find(&ours, "main.first")["wakes_in_seconds"].is_null());
    }
}

/// The clock of a target in another time namespace is another one, and understood.
#[test]
fn ages_in_a_time_namespace() {
    if !go::can_run() {
        return;
    }
    let through = ["unshare", "--time", "--monotonic", "86400"];
    let works = Command::new(through[0]).args(&through[1..]).arg("true").output();
    if !works.is_ok_and(|done| done.status.success()) {
        go::skip("time namespaces, and unshare");
        return;
    }
    let mut program = Program::start_ages(27, &through);
    let [own, its] = ["self", &program.pid().to_string()]
        .map(|process| std::fs::read_link(format!("/proc/{process}/ns/time")).unwrap());
    assert_ne!(own, its);
    let once = compare(&mut program, &[], "time namespace");
    assert!(find(&once, "main.first")["wait_seconds_min"].is_number());
}
