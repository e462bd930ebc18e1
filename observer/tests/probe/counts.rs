//! What is counted, and what is not.

use observer::probe::{Options, Probes};
use observer_ebpf::abi::{Group, Loss};

use crate::spawner::{self, ANY, Go};

const MANY: usize = 100_000;

fn load() -> Probes {
    Probes::load(&Options::default()).unwrap()
}

fn callsite(by: &str, entry: &str, created: usize, exited: usize) -> (String, String, u64, u64) {
    (by.to_owned(), entry.to_owned(), created as u64, exited as u64)
}

fn lost(probes: &Probes, reason: Loss) -> u64 {
    probes.losses().unwrap().iter().find(|(loss, _)| *loss == reason).unwrap().1
}

/// 100 000 goroutines of one `go` statement and 200 of another are counted exactly, callsite by
/// callsite, when they start and when they end, in every layout of the runtime.
#[test]
fn every_creation_and_exit_is_counted() {
    if !spawner::can_run() {
        return;
    }
    for go in spawner::ALL {
        let (probes, mut target) = (load(), go.start());
        probes.attach(&target.attachment(1)).unwrap();
        target.run("short", MANY);
        target.run("blocked", 200);
        let running = target.named(&probes.counts().unwrap()[&1]);
        let short = callsite("main.spawnShort", "main.short", MANY, MANY);
        assert_eq!(running, [callsite("main.spawnBlocked", "main.blocked", 200, 0), short.clone()]);
        target.run("release", 200);
        let ended = target.named(&probes.detach(1, Group::Lifecycle).unwrap());
        assert_eq!(ended, [callsite("main.spawnBlocked", "main.blocked", 200, 200), short]);
        assert_eq!(probes.losses().unwrap(), Loss::ALL.map(|loss| (loss, 0)), "Go {}", go.version);
        assert!(probes.counts().unwrap().is_empty());
    }
}

/// Coroutines are created at another place than goroutines but end at the same: both are counted once.
#[test]
fn coroutines_are_counted() {
    if !spawner::can_run() {
        return;
    }
    let with_coroutines: Vec<Go> = spawner::ALL.into_iter().filter(|go| go.version != "1.19").collect();
    for go in with_coroutines {
        let (probes, mut target) = (load(), go.start());
        probes.attach(&target.attachment(1)).unwrap();
        target.run("coroutine", 1000);
        let lost = lost(&probes, Loss::DescriptorUnreadable);
        let counts = target.named(&probes.detach(1, Group::Lifecycle).unwrap());
        let [(_, entry, created, exited)] = &counts[..] else { panic!("{counts:?}") };
        assert_eq!((entry.as_str(), created + lost, *exited), ("runtime.corostart", 1000, 1000));
    }
}

/// Two processes of one executable share its pages, yet each has its own counts.
#[test]
fn processes_of_one_executable_do_not_mix() {
    if !spawner::can_run() {
        return;
    }
    let (probes, mut one, mut two) = (load(), ANY.start(), ANY.start());
    probes.attach(&one.attachment(1)).unwrap();
    probes.attach(&two.attachment(2)).unwrap();
    one.run("short", 1000);
    two.run("short", 10);
    let counts = probes.counts().unwrap();
    assert_eq!(one.named(&counts[&1]), [callsite("main.spawnShort", "main.short", 1000, 1000)]);
    assert_eq!(two.named(&counts[&2]), [callsite("main.spawnShort", "main.short", 10, 10)]);
}

/// A child that inherits the target's text by `fork`, and another process of the same executable,
/// count as neither the target's goroutines nor losses.
#[test]
fn children_are_not_counted() {
    if !spawner::can_run() {
        return;
    }
    let (probes, mut target) = (load(), ANY.start());
    probes.attach(&target.attachment(1)).unwrap();
    target.run("fork", 50);
    target.run("another", 50);
    target.run("short", 3);
    let counts = target.named(&probes.detach(1, Group::Lifecycle).unwrap());
    assert_eq!(counts, [callsite("main.spawnShort", "main.short", 3, 3)]);
    assert_eq!(lost(&probes, Loss::DescriptorUnreadable), 0);
}

/// A full map loses nothing silently: counted and lost events together are the truth.
#[test]
fn a_full_map_is_counted_as_loss() {
    if !spawner::can_run() {
        return;
    }
    let (probes, mut target) =
        (Probes::load(&Options { max_callsites_in_kernel: 1, ..Options::default() }).unwrap(), ANY.start());
    probes.attach(&target.attachment(1)).unwrap();
    target.run("short", 500);
    target.run("blocked", 70);
    let full = lost(&probes, Loss::CountsFull);
    let hits: u64 = probes.hits().unwrap().iter().map(|(_, hits)| hits).sum();
    let counted: u64 = probes
        .detach(1, Group::Lifecycle)
        .unwrap()
        .values()
        .map(|counts| counts.created + counts.exited)
        .sum();
    assert!(full >= 70, "{full} lost");
    assert_eq!(counted + full, hits);
}
