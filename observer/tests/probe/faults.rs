//! Probes that come and go while a target does everything that could go wrong with breakpoints.
//!
//! `OBSERVER_CYCLES` says how many times they come and go in every version of Go; without it, a few times in some.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use observer::probe::{Attachment, Options, ProbeError, Probes};
use observer_ebpf::abi::Group;

use crate::attach::{text_is_clean, text_of};
use crate::spawner::{self, ALL, ANY, EVERY, Go, Spawner};

/// How often probes come and go unless said otherwise: each time takes the kernel a third of a second.
const FEW: usize = 12;

fn load() -> Probes {
    Probes::load(&Options::default()).unwrap()
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Probes of both groups come and go in a target that collects garbage, moves stacks, starts processes and is
/// interrupted all the time: it lives, none of its sums is damaged, its text is byte for byte that of its file,
/// and no descriptor, no link and no entry of a map is left.
#[test]
fn a_busy_target_survives() {
    if !spawner::can_run() {
        return;
    }
    let cycles = env::var("OBSERVER_CYCLES").unwrap_or_else(|_| FEW.to_string());
    let versions: &[Go] = if env::var_os("OBSERVER_CYCLES").is_some() { &EVERY } else { &ALL };
    for go in versions {
        // In a process of its own, because other tests open and close descriptors.
        let survived = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "faults::survivor"])
            .env("OBSERVER_TEST_SURVIVE", format!("{} {cycles}", go.version))
            .output()
            .unwrap();
        assert!(survived.status.success(), "{}", String::from_utf8_lossy(&survived.stdout));
    }
}

/// The process whose probes come and go in a target of the version that it is told.
#[test]
#[ignore = "run by a_busy_target_survives"]
fn survivor() {
    let told = env::var("OBSERVER_TEST_SURVIVE").unwrap();
    let (version, cycles) = told.split_once(' ').unwrap();
    let go = EVERY.into_iter().find(|go| go.version == version).unwrap();
    survive(go, cycles.parse().unwrap());
}

fn survive(go: Go, cycles: usize) {
    let probes = load();
    let mut target = go.start();
    target.run("storm", 1);
    let before = descriptors();
    let mut counted = 0;
    for cycle in 0..cycles {
        let attachment = if cycle % 2 == 0 { target.attachment(1) } else { target.waits_attachment(1) };
        probes.attach(&attachment).unwrap();
        let counts = probes.detach(1, attachment.group).unwrap();
        probes.take_waits(1).unwrap();
        counted += counts.len();
    }
    assert!(counted > 0, "it was busy");
    target.run("calm", 1);
    target.run("short", 1000);
    assert!(text_is_clean(&target), "Go {}", go.version);
    assert_eq!((descriptors(), probes.attached()), (before, 0));
    assert!(probes.counts().unwrap().is_empty() && probes.waits().unwrap().is_empty());
}

/// A process that is probed while the kernel still starts it has clean text as soon as detaching is over.
#[test]
fn a_starting_process_is_left_clean() {
    if !spawner::can_run() {
        return;
    }
    let (probes, other) = (load(), ANY.start());
    let mut probed = 0;
    for slot in 1..=20 {
        let mut child = Starting::new(&other);
        for _ in 0..100 {
            let attachment = Attachment { pid: child.0.id(), ..other.attachment(slot) };
            match probes.attach(&attachment) {
                Ok(()) => {
                    probes.detach(slot, Group::Lifecycle).unwrap();
                    let text = text_of(child.0.id(), &other.symbols);
                    assert!(text.as_ref() == Some(&other.symbols.text), "slot {slot}");
                    probed += 1;
                    break;
                }
                Err(
                    ProbeError::Memory { .. }
                    | ProbeError::NotInstalled { .. }
                    | ProbeError::BytesDiffer { .. },
                ) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert!(child.0.try_wait().unwrap().is_none(), "it lives");
    }
    assert!(probed > 0);
    assert!(probes.counts().unwrap().is_empty());
}

/// A process that nobody waits for until it runs.
struct Starting(Child);

impl Starting {
    fn new(like: &Spawner) -> Self {
        let exe = fs::read_link(format!("/proc/{}/exe", like.pid())).unwrap();
        Self(Command::new(exe).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An observer that is killed while its probes come and go in a busy target leaves nothing in it.
#[test]
fn a_killed_observer_leaves_nothing() {
    if !spawner::can_run() {
        return;
    }
    for go in ALL {
        let mut target = go.start();
        target.run("storm", 1);
        for round in 0..6 {
            let mut cycler = Command::new(env::current_exe().unwrap())
                .args(["--ignored", "--exact", "--nocapture", "faults::cycler"])
                .env("OBSERVER_TEST_CYCLE", format!("{} {}", target.pid(), go.version))
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(cycler.stdout.take().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap().contains("cycling")));
            sleep(Duration::from_millis(37 * round));
            cycler.kill().unwrap();
            cycler.wait().unwrap();
            // The kernel is still at the last breakpoint, in a process that can't be killed any more.
            wait_for_text(&target);
        }
        target.run("calm", 1);
        target.run("short", 1000);
    }
}

/// Waits until the target executes what its file holds, far longer than the kernel may take.
fn wait_for_text(target: &Spawner) {
    let begin = Instant::now();
    while !text_is_clean(target) {
        assert!(begin.elapsed() < Duration::from_secs(20), "a breakpoint is left");
        sleep(Duration::from_millis(10));
    }
}

/// The process that is killed: its probes come and go in the target that it is told.
#[test]
#[ignore = "run by a_killed_observer_leaves_nothing"]
fn cycler() {
    let told = env::var("OBSERVER_TEST_CYCLE").unwrap();
    let (pid, version) = told.split_once(' ').unwrap();
    let go = ALL.into_iter().find(|go| go.version == version).unwrap();
    let (probes, like) = (load(), go.start());
    let target = Attachment { pid: pid.parse().unwrap(), ..like.attachment(1) };
    loop {
        probes.attach(&target).unwrap();
        println!("cycling");
        probes.detach(1, Group::Lifecycle).unwrap();
    }
}
