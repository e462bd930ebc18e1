//! Stacks, frame for frame.

use crate::go::{self, Program, VARIANTS, VERSIONS, Variant};
use crate::traceback::{self, Goroutine};

/// The goroutine that writes the program's own traceback is seen by it in the midst of that.
fn is_writer(goroutine: &Goroutine) -> bool {
    goroutine.inner.iter().any(|(function, _)| function == "main.control")
}

fn compare(minor: u32, variant: Variant) {
    let mut program = Program::start(minor, variant);
    let ours = String::from_utf8(program.ours(&["--format", "debug2"])).unwrap();
    let own = String::from_utf8(program.own("debug2")).unwrap();
    assert!(!ours.contains("unavailable"), "{ours}");
    let (ours, mut own) = (traceback::parse(&ours), traceback::parse(&own));
    if minor < 21 {
        own.values_mut().for_each(Goroutine::mark_cut);
    }
    let what = format!("Go 1.{minor} {variant:?}");
    assert_eq!(ours.keys().collect::<Vec<_>>(), own.keys().collect::<Vec<_>>(), "{what}");
    // The program starts that many.
    let more = [(minor >= 23, 6), (minor >= 25, 26), (variant == Variant::Cgo, 3)];
    let least: usize = 110 + more.iter().filter(|(has, _)| *has).map(|(_, number)| number).sum::<usize>();
    assert!(own.len() >= least, "{what}: {} goroutines", own.len());
    for (id, own) in &own {
        let (ours, what) = (&ours[id], format!("{what}, goroutine {id}"));
        if is_writer(own) {
            assert!(is_writer(ours), "{what}");
            assert_eq!(ours.creator, own.creator, "{what}");
        } else {
            ours.assert_agrees(own, &what);
        }
    }
    let deepest = ours.values().filter_map(Goroutine::depth).max().unwrap();
    assert_eq!(deepest, 1002, "{what}");
}

/// State, functions, files, lines, offsets, creator and parent of every parked goroutine are those that the
/// program's own runtime prints, in the oldest and the newest Go.
#[test]
fn tracebacks_of_oldest_and_newest() {
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
fn tracebacks_of_all_other_versions() {
    if !go::can_run() {
        return;
    }
    for minor in &VERSIONS[1..VERSIONS.len() - 1] {
        for variant in VARIANTS {
            compare(*minor, variant);
        }
    }
}
