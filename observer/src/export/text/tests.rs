use super::*;
use crate::export::testdata::{assert_golden, previous_view, view};

fn layout(width: u16) -> Layout {
    Layout { width: Some(width), callsites: 3 }
}

/// `list` of the recorded view at 100 columns, byte for byte.
#[test]
fn list_of_the_recorded_view() {
    assert_golden("src/export/testdata/list.txt", &list(&view(), layout(100)));
}

/// `attach` to every process of the recorded view at 100 columns, byte for byte.
#[test]
fn attach_of_the_recorded_view() {
    let (previous, view) = (previous_view(), view());
    let screens: Vec<_> = view
        .targets
        .iter()
        .map(|target| attach(Some(&previous), &view, target.pid, layout(100)).unwrap())
        .collect();
    assert_golden("src/export/testdata/attach.txt", &screens.join("----\n"));
}

/// No line of a table is wider than the terminal, no matter what the names are.
#[test]
fn tables_keep_to_the_width() {
    let view = view();
    for width in [80, 100, 200] {
        let attached = attach(None, &view, 4242, layout(width)).unwrap();
        let table = attached.lines().skip_while(|line| !line.contains("GROWTH/S"));
        for line in table.chain(list(&view, layout(width)).lines().take(5)) {
            assert!(line.chars().count() <= usize::from(width), "{width}: {line}");
        }
    }
}

/// Without a terminal nothing is wrapped: a callsite's full name is in one line.
#[test]
fn no_wrapping_without_a_terminal() {
    let text = attach(None, &view(), 4242, Layout { width: None, callsites: 1 }).unwrap();
    assert!(text.contains("example.com/ctl/pkg/sync.(*Reconciler).reconcile.func1\n"));
    assert!(text.contains("and 3 more go statements with 25 goroutines"));
}

/// Names lose leading folders until they fit; where that is not enough their end is kept.
#[test]
fn names_are_fitted_from_the_left() {
    let name = "example.com/ctl/pkg/sync.(*Reconciler).run";
    assert_eq!(fitted(name, 42), name);
    assert_eq!(fitted(name, 41), "…/ctl/pkg/sync.(*Reconciler).run");
    assert_eq!(fitted(name, 24), "…/sync.(*Reconciler).run");
    assert_eq!(fitted(name, 5), "….run");
    assert_eq!(fitted("main.(*Reconciler).run", 9), "…ler).run");
}

/// Nothing that a terminal acts on comes out, from any field of the recorded view.
#[test]
fn output_is_printable() {
    let view = view();
    let mut all = list(&view, layout(100));
    for target in &view.targets {
        all += &attach(None, &view, target.pid, layout(100)).unwrap();
    }
    assert!(all.contains('\u{fffd}'));
    assert!(all.lines().all(|line| printable(line) == line));
}

/// Sizes and times are short and keep their meaning at the borders of their units.
#[test]
fn units() {
    assert_eq!([0, 1023, 1024, 1 << 40].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.0 TiB"]);
    assert_eq!(
        [0.25, 59.94, 60.0, 3_599.0, 3_600.0, 90_000.0].map(duration),
        ["0.2s", "59.9s", "1m00s", "59m59s", "1h00m", "1d01h"]
    );
}
