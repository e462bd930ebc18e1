//! Goroutines that have waited long for something that healthy programs get soon.

use crate::diagnose::case::{main_reason, place};
use crate::diagnose::{Case, Rule, Said};
use crate::model::view::{CallsiteView, Severity};
use crate::text::duration;

/// What nobody waits for long on purpose. Idle workers receive, select, sleep, or wait on a condition or the
/// network.
const SUSPICIOUS: [&str; 5] = [
    "chan send",
    "chan send (nil chan)",
    "chan receive (nil chan)",
    "select (no cases)",
    "sync.WaitGroup.Wait",
];

pub(super) const RULE: Rule = Rule {
    name: "goroutine-stuck",
    when: "Many goroutines of one `go` statement have been parked for minutes in a send, on a nil channel, in an empty \
           select or on a WaitGroup.",
    why: "Whoever should meet them has gone. They are as many as they were when observer first looked long enough ago, \
          so they don't take turns.",
    explains: &[],
    check,
};

fn check(case: &Case<'_>) -> Vec<Said> {
    case.target.callsites.iter().filter_map(|callsite| stuck(case, callsite)).collect()
}

fn stuck(case: &Case<'_>, callsite: &CallsiteView) -> Option<Said> {
    let thresholds = case.thresholds;
    let (reason, waiting) = main_reason(callsite)?;
    let oldest = callsite.oldest_wait_seconds?;
    let last = callsite.recent.last()?;
    let then = callsite.recent.iter().rfind(|sample| last.at - sample.at >= thresholds.stuck_seconds)?;
    let ended = last.exited.zip(then.exited).map_or(0, |(last, then)| last.saturating_sub(then));
    let remained = waiting.min(then.live).saturating_sub(ended);
    let stuck = SUSPICIOUS.contains(&&*reason)
        && oldest >= thresholds.stuck_seconds
        && remained as f64 >= thresholds.stuck_goroutines;
    stuck.then(|| {
        let summary = format!(
            "{waiting} goroutines started by {} wait in `{reason}`, the oldest for at least {}",
            place(callsite),
            duration(oldest),
        );
        let advice = format!(
            "Find who should meet them: `observer dump {} --format debug1` shows the line where each waits.",
            case.target.pid
        );
        Said::new(Severity::Warning, summary, advice)
            .at(callsite)
            .with("wait_reason", reason)
            .with("waiting", waiting)
    })
}
