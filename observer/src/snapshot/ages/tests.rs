use super::{Ages, Bounds, Look, MAX_TIMES, Seen, Time};
use crate::snapshot::census::{Goroutine, Status};
use crate::snapshot::descriptors::Slot;
use crate::snapshot::fields::Standing;
use crate::snapshot::known_stacks::NONE;

const SECOND: u64 = 1_000_000_000;

fn goroutine(status: Status) -> Goroutine {
    Goroutine {
        id: 7,
        parent: 1,
        status,
        wait_reason: 3,
        tracking: 200,
        gopc: 4,
        entry: 5,
        stack: 2048,
        locked: false,
    }
}

fn standing(waiting_since: u64) -> Standing {
    let stack = (0x1000, 0x2000);
    Standing {
        pc: 9,
        sp: 0x1800,
        stack,
        in_call: false,
        waiting_since,
        sleeps_until: 0,
        m: 0,
        locked: false,
        scanned: false,
        labels: 0,
        bubble: 0,
    }
}

/// A look at this time. The begin of a stay is rounded up to the next hundredth: to a whole second here.
fn at(seconds: u32) -> Look {
    let target = Some(u64::from(seconds) * SECOND);
    let time = |ours| Time { ours, target };
    Look { before: time(seconds * 100), after: time(seconds * 100 - 1) }
}

fn again(seconds: f64) -> Seen {
    Seen { again: true, seconds }
}

const FIRST: Seen = Seen { again: false, seconds: 0.0 };

/// A goroutine that shows no sign of having run is seen again; whatever changes in its descriptor when it runs
/// makes it a new stay, and then its stack is forgotten.
#[test]
fn a_stay_ends_with_any_sign_of_running() {
    let parked = goroutine(Status::Waiting);
    let changes: [(Goroutine, Standing); 8] = [
        (Goroutine { tracking: 201, ..parked }, standing(0)),
        (Goroutine { id: 8, ..parked }, standing(0)),
        (Goroutine { wait_reason: 4, ..parked }, standing(0)),
        (Goroutine { status: Status::Syscall, ..parked }, standing(0)),
        (Goroutine { status: Status::Runnable, ..parked }, standing(0)),
        (parked, Standing { pc: 10, ..standing(0) }),
        (parked, Standing { sp: 0x1808, ..standing(0) }),
        (parked, Standing { stack: (0x1000, 0x2008), ..standing(0) }),
    ];
    for (changed, stands) in changes {
        let mut slot = Slot::new(0x100);
        assert_eq!(slot.see(&parked, &standing(0), at(1)), FIRST);
        slot.stack = 5;
        assert_eq!(slot.see(&parked, &standing(0), at(3)), again(2.0));
        assert_eq!(slot.stack, 5);
        assert_eq!(slot.see(&changed, &stands, at(4)), FIRST, "{changed:?}");
        assert_eq!(slot.stack, NONE);
    }
}

/// The garbage collector's note may come during a stay; another note, or none, shows that the goroutine ran even
/// if it has come back to where it was after 256 times.
#[test]
fn a_changed_note_shows_that_it_ran() {
    let parked = goroutine(Status::Waiting);
    for (then, same) in [(5 * SECOND, true), (6 * SECOND, false), (0, false)] {
        let mut slot = Slot::new(0x100);
        slot.see(&parked, &standing(0), at(1));
        assert_eq!(slot.see(&parked, &standing(5 * SECOND), at(10)), again(9.0));
        assert_eq!(slot.see(&parked, &standing(then), at(11)).again, same, "{then}");
    }
}

/// A goroutine in a system call is the same only if the garbage collector noted the call: short ones leave no
/// other trace.
#[test]
fn system_calls_are_the_same_only_if_noted() {
    let calling = goroutine(Status::Syscall);
    for (noted, same) in [(0, false), (5 * SECOND, true)] {
        let mut slot = Slot::new(0x100);
        slot.see(&calling, &standing(noted), at(10));
        assert_eq!(slot.see(&calling, &standing(noted), at(12)).again, same);
    }
}

/// Of a goroutine that runs it is known for how long it was seen to, in whichever queue.
#[test]
fn running_goroutines_are_seen_to_run() {
    let mut slot = Slot::new(0x100);
    slot.see(&goroutine(Status::Running), &standing(0), at(1));
    let queued = Goroutine { tracking: 3, ..goroutine(Status::Runnable) };
    assert_eq!(slot.see(&queued, &Standing { sp: 1, ..standing(9) }, at(6)), again(5.0));
    slot.forget();
    assert_eq!(slot.see(&queued, &standing(0), at(7)), FIRST);
}

/// A wait began after what the collector noted, and before what it noted of others the next time; one that it
/// didn't note began after its last round.
#[test]
fn collections_bound_waits() {
    let mut ages = Ages::new(Some(0));
    assert_eq!(ages.noted(0, at(100)), Bounds::default());
    for seconds in [40, 20, 30, 20, 999] {
        ages.note(seconds * SECOND, at(100));
    }
    let bounds = |least, most| Bounds { at_least: least, at_most: Some(most) };
    assert_eq!(ages.noted(20 * SECOND, at(100)), bounds(Some(70.0), 80.0));
    assert_eq!(ages.noted(40 * SECOND, at(100)), bounds(None, 60.0));
    assert_eq!(ages.noted(0, at(100)), bounds(None, 60.0));
    // What was seen makes it closer, and bounds never contradict each other.
    assert_eq!(ages.noted(20 * SECOND, at(100)).and_seen(again(75.0)), bounds(Some(75.0), 80.0));
    assert_eq!(ages.noted(0, at(100)).and_seen(again(61.0)), bounds(Some(61.0), 61.0));
    assert_eq!(ages.noted(0, at(100)).and_seen(FIRST), bounds(None, 60.0));
}

/// Where the target's clock isn't known nothing is said about what was noted on it.
#[test]
fn an_unknown_clock_tells_nothing() {
    let mut ages = Ages::new(None);
    let time = Time { ours: 100, target: None };
    let now = Look { before: time, after: time };
    ages.note(20 * SECOND, now);
    ages.note(30 * SECOND, now);
    assert_eq!(ages.noted(20 * SECOND, now), Bounds::default());
    assert_eq!((now.until(200 * SECOND), at(100).until(200 * SECOND)), (None, Some(100.0)));
}

/// However many collections there were, what is kept is bounded, and the newest time and old ones are among it.
#[test]
fn times_are_bounded() {
    let mut ages = Ages::new(Some(0));
    for second in 1..=10_000 {
        ages.note(second * SECOND, at(20_000));
    }
    assert!(ages.times.len() <= MAX_TIMES);
    assert_eq!(ages.times.first(), Some(&SECOND));
    assert!(*ages.times.last().unwrap() > 9_990 * SECOND);
}
