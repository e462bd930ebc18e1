//! A GOMEMLIMIT so close to the live heap that the garbage collector runs all the time.

use crate::diagnose::case::percent;
use crate::diagnose::{Case, Rule, Said, trend};
use crate::model::view::{Severity, TargetSample};
use crate::text::bytes;

pub(super) const RULE: Rule = Rule {
    name: "gomemlimit-thrash",
    when: "What a garbage collection leaves is nearly GOMEMLIMIT, and most observations of the last minute saw a new \
           collection.",
    why: "Every collection frees little, and the next is due at once: the program pays with its CPU for memory that it \
          can't have. Collections are counted by their results, one for each observation at most.",
    check: |case| check(case).into_iter().collect(),
};

fn check(case: &Case<'_>) -> Option<Said> {
    let thresholds = case.thresholds;
    let runtime = case.runtime()?;
    let (gomemlimit, marked) = (runtime.gomemlimit_bytes?, runtime.heap_marked_bytes?);
    let share = marked as f64 / gomemlimit.max(1) as f64;
    let window =
        trend::window(&case.target.recent, thresholds.window_seconds, thresholds.window_least_seconds)?;
    let collections = window.windows(2).filter(|pair| collected(&pair[0], &pair[1])).count();
    let steady = collections as f64 >= (window.len() - 1) as f64 * thresholds.thrash_changes;
    if share < thresholds.thrash_share || !steady {
        return None;
    }
    let per_second = collections as f64 / trend::span(window);
    let summary = format!(
        "{} survive each garbage collection, {} of GOMEMLIMIT ({}), and at least {per_second:.1} collections run per second",
        bytes(marked),
        percent(share),
        bytes(gomemlimit),
    );
    let advice = "Raise GOMEMLIMIT (and the memory limit, if need be), or keep less alive.".to_owned();
    let said = Said::new(Severity::Warning, summary, advice)
        .with("gomemlimit_bytes", gomemlimit)
        .with("heap_marked_bytes", marked)
        .maybe("heap_live_bytes", runtime.heap_live_bytes)
        .maybe("heap_goal_bytes", runtime.heap_goal_bytes)
        .with("collections_per_second_at_least", per_second);
    Some(said)
}

fn collected(before: &TargetSample, after: &TargetSample) -> bool {
    before.heap_marked.zip(after.heap_marked).is_some_and(|(before, after)| before != after)
}
