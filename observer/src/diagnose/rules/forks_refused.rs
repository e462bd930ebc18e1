//! Processes and threads that could not be started.

use crate::diagnose::{Case, Rule, Said, trend};
use crate::model::view::Severity;

pub(super) const RULE: Rule = Rule {
    name: "forks-refused",
    when: "A limit of tasks refused a fork or a thread. It is critical when that happened while observer looked, and a \
           warning when it happened before.",
    why: "`fork` and `clone` fail with EAGAIN: commands don't start, and the Go runtime ends with a fatal error when it \
          needs a thread. The count is of the cgroup's whole life; the root cgroup's isn't looked at.",
    explains: &[],
    check: |case| check(case).into_iter().collect(),
};

fn check(case: &Case<'_>) -> Option<Said> {
    let (cgroup, pids) = (case.cgroup?, case.pids()?);
    let refused = pids.refused.max(pids.binding_refused).filter(|refused| *refused > 0)?;
    let limit = pids.limit.as_ref()?;
    let new = trend::growth(&cgroup.recent, |sample| sample.forks_refused.map(|n| n as f64)).unwrap_or(0.0);
    let severity = if new > 0.0 { Severity::Critical } else { Severity::Warning };
    let tasks = pids.binding_current.or(pids.current);
    let summary = format!(
        "{refused} forks were refused, {new} of them just now: {} of {} tasks are in use, a limit set by {}",
        tasks.map_or("an unknown number".to_owned(), |tasks| tasks.to_string()),
        limit.value,
        limit.binding
    );
    let advice = "Raise pids.max, or hold fewer threads and processes.".to_owned();
    let said = Said::new(severity, summary, advice)
        .bound(limit)
        .with("forks_refused", refused)
        .with("forks_refused_seen", new)
        .maybe("pids", tasks)
        .with("pids_limit", limit.value)
        .maybe("threads", case.runtime().and_then(|runtime| runtime.threads));
    Some(said)
}
