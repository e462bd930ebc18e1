//! Processes that the kernel killed for lack of memory.

use crate::diagnose::{Case, Rule, Said, trend};
use crate::model::view::Severity;
use crate::text::bytes;

pub(super) const RULE: Rule = Rule {
    name: "oom-killed",
    when: "The kernel killed a process of the cgroup, or of one below it, for lack of memory. It is critical when that \
           happened while observer looked, and a warning when it happened before.",
    why: "The process that was killed leaves no message of its own. The count is of the cgroup's whole life; the root \
          cgroup's isn't looked at.",
    explains: &[],
    check: |case| check(case).into_iter().collect(),
};

fn check(case: &Case<'_>) -> Option<Said> {
    let (cgroup, memory) = (case.cgroup?, case.memory()?);
    let kills = memory.events.oom_kill.filter(|kills| *kills > 0)?;
    if &*cgroup.path == "/" {
        return None;
    }
    let new =
        trend::growth(&cgroup.recent, |sample| sample.oom_kills.map(|kills| kills as f64)).unwrap_or(0.0);
    let severity = if new > 0.0 { Severity::Critical } else { Severity::Warning };
    let limit = memory.limit_bytes.as_ref();
    let at = limit.map_or(String::new(), |limit| {
        format!(" at a memory limit of {} set by {}", bytes(limit.value), limit.binding)
    });
    let summary = format!(
        "the kernel killed {kills} processes of {} for lack of memory{at}, {new} of them just now",
        cgroup.path
    );
    let advice = "Raise the memory limit or keep less in memory; with GOMEMLIMIT below the limit the garbage collector \
                  works harder before it comes to that."
        .to_owned();
    let said = Said::new(severity, summary, advice)
        .with("oom_kills", kills)
        .with("oom_kills_seen", new)
        .maybe("oom", memory.events.oom)
        .maybe("limit_hits", memory.events.max)
        .maybe("memory_limit_bytes", limit.map(|limit| limit.value));
    Some(said)
}
