//! Probes that come and go while a target does everything that could go wrong with breakpoints.
//!
//! `OBSERVER_CYCLES` says how many times they come and go in every version of Go; without it, a few times in some.
//! `OBSERVER_CYCLES_SECONDS`, for all versions together, ends it earlier.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use observer::probe::{Attachment, Options, ProbeError, Probes};
use observer_ebpf::abi::Group;

use crate::attach::{text_is_clean, text_of};
use crate::spawner::{self, ALL, ANY, EVERY, Go, Spawner};

/// How often probes come and go unless said otherwise: each time takes the kernel up to a third of a second.
const FEW: usize = 12;
/// Seconds that no run takes.
const NO_LIMIT: usize = 10_000_000;

fn load() -> Probes {
    Probes::load(&Options::default()).unwrap()
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Probes of both groups come and go in a target that collects garbage, moves stacks, starts processes and is
/// interrupted all the time: it lives, none of its sums is damaged, its text is byte for byte that of its file,
/// and no descriptor, no link and no entry of a map is left. All versions at the same time: nearly all of it is waiting
/// for the kernel.
#[test]
fn a_busy_target_survives() {
    if !spawner::can_run() {
        return;
    }
    let cycles = env::var("OBSERVER_CYCLES");
    let versions: &[Go] = if cycles.is_ok() { &EVERY } else { &ALL };
    let cycles = cycles.unwrap_or_else(|_| FEW.to_string());
    let seconds = env::var("OBSERVER_CYCLES_SECONDS").map_or(NO_LIMIT, |seconds| seconds.parse().unwrap());
    // In processes of their own, because other tests open and close descriptors.
    let start = |go: &Go| {
        Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "faults::survivor"])
            .env("OBSERVER_TEST_SURVIVE", format!("{} {cycles} {seconds}", go.version))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let survivors: Vec<Child> = versions.iter().map(start).collect();
    // All of them have ended before anything is said of one.
    let ended: Vec<Output> =
        survivors.into_iter().map(|survivor| survivor.wait_with_output().unwrap()).collect();
    for survivor in ended {
        let told = String::from_utf8_lossy(&survivor.stdout);
        assert!(survivor.status.success(), "{told}{}", String::from_utf8_lossy(&survivor.stderr));
        // The bench reads it.
        println!("{}", told.lines().find(|line| line.starts_with(SURVIVED)).unwrap());
    }
}

/// Begin of the line with the version and how many times probes came and went.
const SURVIVED: &str = "survived: Go ";

/// The process whose probes come and go in a target of the version that it is told.
#[test]
#[ignore = "run by a_busy_target_survives"]
fn survivor() {
    let told = env::var("OBSERVER_TEST_SURVIVE").unwrap();
    let [version, cycles, seconds] = told.split(' ').collect::<Vec<_>>()[..] else { panic!("{told}") };
    let go = EVERY.into_iter().find(|go| go.version == version).unwrap();
    let late = Instant::now() + Duration::from_secs(seconds.parse().unwrap());
    let survived = survive(go, cycles.parse().unwrap(), late);
    // Not behind what the harness has begun to say of this test.
    println!("\n{SURVIVED}{version}, {survived} times");
}

/// Returns how many times probes came and went: as often as wanted, or until it is late. Where that is seldom, it goes
/// on until one was hit: while processors are busy with others, probes may come and go before the target runs.
fn survive(go: Go, cycles: usize, late: Instant) -> usize {
    let probes = load();
    let mut target = go.start();
    target.run("storm", 1);
    let before = descriptors();
    let (mut counted, mut survived) = (0, 0);
    while (survived < cycles || counted == 0 && survived < 10 * FEW) && Instant::now() < late {
        let attachment = if survived % 2 == 0 { target.attachment(1) } else { target.waits_attachment(1) };
        probes.attach(&attachment).unwrap();
        let counts = probes.detach(1, attachment.group).unwrap();
        probes.take_waits(1).unwrap();
        counted += counts.len();
        survived += 1;
    }
    assert!(counted > 0, "it was busy");
    target.run("calm", 1);
    target.run("short", 1000);
    assert!(text_is_clean(&target), "Go {}", go.version);
    assert_eq!((descriptors(), probes.attached()), (before, 0));
    assert!(probes.counts().unwrap().is_empty() && probes.waits().unwrap().is_empty());
    survived
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
