//! Tasks that wait for block devices.

use crate::diagnose::case::percent;
use crate::diagnose::{Case, Rule, Said, trend};
use crate::model::view::Severity;

pub(super) const RULE: Rule = Rule {
    name: "io-pressure",
    when: "In a notable share of the last minute some task of the cgroup waited for a block device.",
    why: "Reads, and writes with fsync, take as long as the device is busy, also with a neighbour's work. Cgroup v1 doesn't \
          tell, so this says nothing there.",
    explains: &[],
    check: |case| check(case).into_iter().collect(),
};

/// Shares of the last minute in which some task waited, and in which all did; `None` below the threshold.
pub(super) fn waiting(case: &Case<'_>) -> Option<(f64, Option<f64>)> {
    let window = case.window()?;
    let span = trend::span(window);
    let some = trend::growth(window, |sample| sample.io_waiting)? / span;
    let all = trend::growth(window, |sample| sample.io_stalled).map(|stalled| stalled / span);
    (some >= case.thresholds.io_waiting_share).then_some((some, all))
}

fn check(case: &Case<'_>) -> Option<Said> {
    let (some, all) = waiting(case)?;
    let stalled = all.map_or(String::new(), |all| format!(" (in {} all did)", percent(all)));
    let summary = format!(
        "in {} of the time some task waited for a block device{stalled}{}",
        percent(some),
        case.in_state_words("syscall", "are in system calls"),
    );
    let advice =
        "Look for who else uses the device, give this cgroup more I/O weight, or write less synchronously."
            .to_owned();
    let said = Said::new(Severity::Warning, summary, advice)
        .with("io_waiting_ratio", some)
        .maybe("io_stalled_ratio", all)
        .maybe("goroutines_in_syscall", case.state("syscall"))
        .where_in_state("syscall_callsites", case, "syscall");
    Some(said)
}
