//! A GOMEMLIMIT so close to the live heap that the garbage collector runs all the time.

use crate::diagnose::case::percent;
use crate::diagnose::{Case, Rule, Said, trend};
use crate::model::view::Severity;
use crate::text::bytes;

pub(super) const RULE: Rule = Rule {
    name: "gomemlimit-thrash",
    when: "What a garbage collection leaves is nearly GOMEMLIMIT, and collections follow each other closely.",
    why: "Every collection frees little, and the next is due at once: the program pays with its CPU for memory that it \
          can't have. Many collections alone are a program that allocates much, and nothing is said.",
    explains: &[],
    check: |case| check(case).into_iter().collect(),
};

fn check(case: &Case<'_>) -> Option<Said> {
    let thresholds = case.thresholds;
    let runtime = case.runtime()?;
    let (gomemlimit, marked) = (runtime.gomemlimit_bytes?, runtime.heap_marked_bytes?);
    let share = marked as f64 / gomemlimit.max(1) as f64;
    let window =
        trend::window(&case.target.recent, thresholds.window_seconds, thresholds.window_least_seconds)?;
    let cycles = trend::growth(window, |sample| sample.gc_cycles.map(|cycles| cycles as f64))?;
    let per_second = cycles / trend::span(window);
    if share < thresholds.thrash_share || per_second < thresholds.thrash_cycles_per_second {
        return None;
    }
    let summary = format!(
        "{per_second:.1} garbage collections run per second, because {} survive each of them, {} of GOMEMLIMIT ({}{})",
        bytes(marked),
        percent(share),
        bytes(gomemlimit),
        case.gomemlimit_chosen_by(),
    );
    let advice = "Raise GOMEMLIMIT (and the memory limit, if need be), or keep less alive.".to_owned();
    let said = Said::new(Severity::Warning, summary, advice)
        .with("gomemlimit_bytes", gomemlimit)
        .maybe("gomemlimit_source", runtime.gomemlimit_source.map(|source| source.name()))
        .with("heap_marked_bytes", marked)
        .maybe("heap_live_bytes", runtime.heap_live_bytes)
        .maybe("heap_goal_bytes", runtime.heap_goal_bytes)
        .with("gc_cycles_per_second", per_second)
        .maybe("gc_cycles", runtime.gc_cycles);
    Some(said)
}
