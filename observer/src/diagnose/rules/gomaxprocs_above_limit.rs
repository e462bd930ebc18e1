//! More running threads than the CPU quota is worth.

use crate::diagnose::{Case, Rule, Said};
use crate::model::view::Severity;

pub(super) const RULE: Rule = Rule {
    name: "gomaxprocs-above-limit",
    when: "GOMAXPROCS is more than the CPU limit rounded up (and more than 2), and the cgroup is being throttled.",
    why: "That many threads use up the quota early in each period and then stand still together, the garbage collector's \
          among them. Without throttling it does no harm, and nothing is said.",
    explains: &[],
    check: |case| check(case).into_iter().collect(),
};

fn check(case: &Case<'_>) -> Option<Said> {
    let gomaxprocs = case.gomaxprocs_above_limit()?;
    let (limit, fitting) = (case.cpu_limit()?, case.fitting_gomaxprocs()?);
    let summary = format!(
        "GOMAXPROCS is {gomaxprocs} ({}) at a CPU limit of {:.2} cores, set by {}",
        case.chosen_by(),
        limit.value,
        limit.binding,
    );
    let said = Said::new(Severity::Warning, summary, format!("Set GOMAXPROCS={fitting}."))
        .bound(limit)
        .with("gomaxprocs", gomaxprocs)
        .maybe("gomaxprocs_source", case.gomaxprocs_source())
        .with("cpu_limit_cores", limit.value)
        .with("gomaxprocs_fitting", fitting)
        .maybe("throttled_periods_ratio", case.throttled().map(|throttled| throttled.share));
    Some(said)
}
