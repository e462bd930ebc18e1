//! Goroutines that run.

use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::go::{self, Program, VERSIONS};

fn goroutine(profile: &Value, entry: &str) -> Value {
    let all = profile["goroutines"].as_array().unwrap();
    all.iter().find(|goroutine| goroutine["entry"] == entry).unwrap().clone()
}

fn own_functions(goroutine: &Value) -> Vec<&str> {
    let stack = goroutine["stack"].as_array().unwrap();
    let names = stack.iter().map(|frame| frame["function"].as_str().unwrap());
    names.filter(|name| name.starts_with("main.")).collect()
}

fn profile(program: &Program, arguments: &[&str]) -> Value {
    serde_json::from_slice(&program.ours(&[arguments, &["--format", "json"]].concat())).unwrap()
}

/// A goroutine that runs is shown with what it was started as and for how long it was seen to run. Its stack is
/// told when its thread stands still in the kernel, though the runtime doesn't know that, or when the process was
/// stopped; otherwise it is said to be missing because it runs.
#[test]
fn running_goroutines() {
    if !go::can_run() {
        return;
    }
    for minor in VERSIONS {
        let program = Program::start_running(minor);
        let what = format!("Go 1.{minor}");
        let both = ["main.spin", "main.unseen"];
        // Until both have got to where they stay.
        let arrived =
            |ours: &Value| own_functions(&goroutine(ours, both[1])).first() == Some(&"main.readNothing");
        let ours = std::iter::repeat_with(|| {
            sleep(Duration::from_millis(50));
            profile(&program, &["--watch", "200ms"])
        })
        .take(100)
        .find(arrived)
        .unwrap_or_else(|| panic!("{what}: no stack"));
        for entry in both {
            let goroutine = goroutine(&ours, entry);
            assert_eq!(goroutine["status"], "running", "{what}: {goroutine}");
            assert!(goroutine["seen_running_seconds"].as_f64().unwrap() >= 0.19, "{what}: {goroutine}");
        }
        let unseen = goroutine(&ours, both[1]);
        assert!(unseen["partial"].is_null(), "{what}: {unseen}");
        assert_eq!(own_functions(&unseen), ["main.readNothing", "main.unseen"], "{what}");
        assert_eq!(
            unseen["stack"][0]["file"].as_str().map(|file| file.ends_with(".s")),
            Some(true),
            "{what}"
        );
        // That one computes: whether its processor is taken from it just then is up to the machine.
        let spins = goroutine(&ours, both[0]);
        assert!(
            spins["partial"] == "running" || own_functions(&spins)[0] == "main.spinDeeper",
            "{what}: {spins}"
        );

        let pid = Pid::from_raw(program.pid().try_into().unwrap());
        kill(pid, Signal::SIGSTOP).unwrap();
        // The signal takes effect on each thread in its own time.
        let stopped = |ours: &Value| goroutine(ours, both[0])["partial"].is_null();
        let ours = std::iter::repeat_with(|| profile(&program, &[])).take(100).find(stopped);
        kill(pid, Signal::SIGCONT).unwrap();
        let spins = goroutine(&ours.unwrap_or_else(|| panic!("{what}: no stack")), both[0]);
        assert_eq!(own_functions(&spins), ["main.spinDeeper", "main.spin"], "{what}");
        let file = spins["stack"][0]["file"].as_str().unwrap();
        assert!(file.ends_with("/running.go"), "{what}: {file}");
    }
}
