//! Stacks of goroutines that don't stand still.

use serde_json::Value;

use crate::go::{self, Program};

/// Who calls whom in the program.
const CALLS: [(&str, &str); 6] = [
    ("main.run", "main.left1"),
    ("main.left1", "main.left2"),
    ("main.left2", "main.left3"),
    ("main.run", "main.right1"),
    ("main.right1", "main.right2"),
    ("main.right2", "main.right3"),
];

/// The program's own functions on a stack, the outermost first.
fn own_functions(goroutine: &Value) -> Vec<&str> {
    let names =
        goroutine["stack"].as_array().unwrap().iter().map(|frame| frame["function"].as_str().unwrap());
    let mut functions: Vec<&str> = names.filter(|name| name.starts_with("main.")).collect();
    functions.reverse();
    functions
}

/// However goroutines move while their stacks are read, no stack is reported that never was: what can't be
/// read in one piece is reported as such.
#[test]
fn no_stack_is_made_of_two() {
    if !go::can_run() {
        return;
    }
    for minor in [19, 24, 27] {
        let program = Program::start_busy(minor);
        let (mut whole, mut partial) = (0, 0);
        for round in 0..30 {
            // A second look doesn't show a stack of the first one that has gone.
            let watch = if round % 3 == 0 { &["--watch", "1ms"][..] } else { &[] };
            let arguments = [watch, &["--format", "json"]].concat();
            let profile: Value = serde_json::from_slice(&program.ours(&arguments)).unwrap();
            let all = profile["goroutines"].as_array().unwrap();
            assert!(all.len() >= 201, "Go 1.{minor}: {} goroutines", all.len());
            for goroutine in all.iter().filter(|goroutine| goroutine["entry"] == "main.run") {
                match goroutine["partial"].as_str() {
                    Some(reason) => {
                        assert!(["running", "moved"].contains(&reason), "Go 1.{minor}: {goroutine}");
                        assert!(own_functions(goroutine).is_empty(), "Go 1.{minor}: {goroutine}");
                        partial += 1;
                    }
                    None => {
                        let functions = own_functions(goroutine);
                        assert_eq!(functions.first(), Some(&"main.run"), "Go 1.{minor}: {goroutine}");
                        for call in functions.windows(2) {
                            assert!(CALLS.contains(&(call[0], call[1])), "Go 1.{minor}: {goroutine}");
                        }
                        whole += 1;
                    }
                }
            }
        }
        assert!(whole > partial, "Go 1.{minor}: {whole} whole stacks, {partial} partial ones");
    }
}
