//! Parks and waits, against programs that know their own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use observer::probe::{Attachment, Options, Probes, ReasonWaits, TargetWaits};
use observer_ebpf::abi::{Durations, Group, Loss, Probe};

use crate::spawner::{self, ANY, EVERY, Spawner};

fn load() -> Probes {
    Probes::load(&Options::default()).unwrap()
}

/// Ends the measurement: parks of the program's callsites, and what was measured.
fn close(probes: &Probes, target: &Spawner) -> (Vec<(String, String, u64)>, TargetWaits) {
    let counts = probes.detach(1, Group::Waits).unwrap();
    (target.parks(&counts), probes.take_waits(1).unwrap())
}

fn parked(by: &str, entry: &str, times: u64) -> (String, String, u64) {
    (by.to_owned(), entry.to_owned(), times)
}

/// The one reason with which at least so many goroutines parked.
fn frequent(waits: &TargetWaits, parks: u64) -> ReasonWaits {
    let mut found = waits.reasons.values().filter(|reason| reason.counts.parks >= parks);
    let first = *found.next().unwrap_or_else(|| panic!("{waits:?}"));
    assert!(found.next().is_none(), "{waits:?}");
    first
}

/// A goroutine that sleeps 2000 times parks 2000 times, in every version of Go; each of its waits ends, is
/// woken once and queued once.
#[test]
fn every_park_is_counted() {
    if !spawner::can_run() {
        return;
    }
    for go in EVERY {
        let (probes, mut target) = (load(), go.start());
        probes.attach(&target.waits_attachment(1)).unwrap();
        target.run("sleep", 2000);
        let (parks, waits) = close(&probes, &target);
        assert_eq!(parks, [parked("main.spawnSleeper", "main.sleeper", 2000)], "Go {}", go.version);
        let sleeps = frequent(&waits, 2000);
        let ended = |durations: &Durations| durations.buckets.iter().sum::<u64>();
        assert_eq!(sleeps.counts.parks, ended(&sleeps.counts.until_run) + sleeps.open);
        assert_eq!(ended(&sleeps.counts.until_ready), ended(&sleeps.counts.queued));
        assert!(ended(&sleeps.counts.until_ready) >= 2000, "Go {}: {sleeps:?}", go.version);
        assert_eq!(probes.losses().unwrap(), Loss::ALL.map(|loss| (loss, 0)), "Go {}", go.version);
    }
}

/// Goroutines that wait before the probes come are counted when they are woken, those that still wait when
/// the probes go are counted as open, and nothing of either is left for the next measurement.
#[test]
fn waits_across_the_ends_are_told_apart() {
    if !spawner::can_run() {
        return;
    }
    for go in spawner::ALL {
        let (probes, mut target) = (load(), go.start());
        probes.attach(&target.waits_attachment(1)).unwrap();
        target.run("blocked", 300);
        std::thread::sleep(Duration::from_millis(300));
        let (parks, waits) = close(&probes, &target);
        assert_eq!(parks, [parked("main.spawnBlocked", "main.blocked", 300)]);
        let blocked = frequent(&waits, 300);
        assert_eq!((blocked.counts.parks, blocked.open), (300, 300), "Go {}", go.version);

        probes.attach(&target.waits_attachment(1)).unwrap();
        assert!(
            probes
                .waits()
                .unwrap()
                .get(&1)
                .is_none_or(|waits| waits.reasons.values().all(|reason| reason.open < 10))
        );
        target.run("release", 300);
        let (parks, waits) = close(&probes, &target);
        assert_eq!(parks, []);
        let unknown: u64 = waits.reasons.values().map(|reason| reason.unknown_start).max().unwrap();
        assert_eq!(unknown, 300, "Go {}: {waits:?}", go.version);
    }
}

/// Every quantile of the waits of a goroutine that measures them itself is at most a bucket off.
#[test]
fn waits_have_the_length_that_the_program_sees() {
    if !spawner::can_run() {
        return;
    }
    for go in EVERY {
        let (probes, mut target) = (load(), go.start());
        probes.attach(&target.waits_attachment(1)).unwrap();
        // Shows which number the reason "chan receive" has.
        target.run("blocked", BLOCKED);
        let truth: Vec<u64> =
            target.ask("wait", WAITS).split(' ').map(|count| count.parse().unwrap()).collect();
        let (_, waits) = close(&probes, &target);
        let seen = frequent(&waits, BLOCKED as u64).counts.until_run.buckets;
        let truth = without_shortest(truth, WAITS as u64 - seen.iter().sum::<u64>());
        for percent in 1..100 {
            let (expected, found) = (quantile(&truth, percent), quantile(&seen, percent));
            assert!(expected.abs_diff(found) <= 1, "p{percent} of Go {}: {expected} {found}", go.version);
        }
    }
}

const BLOCKED: usize = 500;
/// So many that every quantile is of several: of single waits, the program's clock may stand on the other side of a
/// preemption.
const WAITS: usize = 400;

/// Receives that found a sender waiting didn't park, and were the shortest.
fn without_shortest(mut buckets: Vec<u64>, mut count: u64) -> Vec<u64> {
    assert!(count < WAITS as u64 / 10, "{count} of {WAITS} receives didn't park");
    for bucket in &mut buckets {
        let less = count.min(*bucket);
        *bucket -= less;
        count -= less;
    }
    buckets
}

/// The bucket that a part of all durations is not above.
fn quantile(buckets: &[u64], percent: u64) -> usize {
    let rank = (buckets.iter().sum::<u64>() * percent).div_ceil(100);
    let mut below = 0;
    buckets
        .iter()
        .position(|count| {
            below += count;
            below >= rank
        })
        .unwrap()
}

/// Where the kernel takes a group's probes out together, none is hit for long while it waits for another: a goroutine
/// that sleeps runs as often as it parks, and would go on being counted when it runs. Each park that was counted has
/// a wait that ended or is open, also of those that happened while the probes were going.
#[test]
fn probes_leave_together() {
    if !spawner::can_run() {
        return;
    }
    let (probes, like, mut target) = (load(), ANY.start(), ANY.start());
    let attachment = Attachment { pid: target.pid(), ..like.waits_attachment(1) };
    let hits = |wanted| probes.hits().unwrap().into_iter().find(|(probe, _)| *probe == wanted).unwrap().1;
    let gone = AtomicBool::new(false);
    let waits = std::thread::scope(|scope| {
        // Far more often than is needed, and not for ever if something goes wrong here.
        let sleeper = scope.spawn(|| {
            for _ in (0..500).take_while(|_| !gone.load(Ordering::Relaxed)) {
                target.run("sleep", 1000);
            }
        });
        probes.attach(&attachment).unwrap();
        while hits(Probe::Park) < 10_000 {
            assert!(!sleeper.is_finished(), "it parks too seldom");
            std::thread::sleep(Duration::from_millis(1));
        }
        let (_, waits) = close(&probes, &like);
        gone.store(true, Ordering::Relaxed);
        waits
    });
    let sleeps = frequent(&waits, 5000);
    let ended: u64 = sleeps.counts.until_run.buckets.iter().sum();
    assert_eq!(sleeps.counts.parks, ended + sleeps.open);
    if kernel_takes_them_together() {
        let (parks, runs) = (hits(Probe::Park), hits(Probe::Run));
        assert!(runs.abs_diff(parks) < parks / 2, "{parks} parks, {runs} runs");
    }
}

fn kernel_takes_them_together() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 12)
}

/// Wait probes come and go while creations are counted on, and the other way round.
#[test]
fn groups_do_not_disturb_one_another() {
    if !spawner::can_run() {
        return;
    }
    let (probes, mut target) = (load(), ANY.start());
    probes.attach(&target.attachment(1)).unwrap();
    target.run("short", 100);
    probes.attach(&target.waits_attachment(1)).unwrap();
    target.run("sleep", 50);
    let (parks, _) = close(&probes, &target);
    assert_eq!(parks, [parked("main.spawnSleeper", "main.sleeper", 50)]);
    target.run("short", 100);
    let counts = target.named(&probes.detach(1, Group::Lifecycle).unwrap());
    let created: Vec<(&str, u64)> =
        counts.iter().map(|(_, entry, created, _)| (entry.as_str(), *created)).collect();
    assert_eq!(created, [("main.short", 200), ("main.sleeper", 1)]);
    assert!(probes.counts().unwrap().is_empty() && probes.waits().unwrap().is_empty());
}
