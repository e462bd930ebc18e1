//! What could not be seen.

use crate::diagnose::{Rule, Said};
use crate::model::view::{GoroutinesView, Problem, Severity};

pub(super) const RULE: Rule = Rule {
    name: "observer-limited",
    when: "The newest snapshot misses goroutines, or values of the process's cgroup can't be read.",
    why: "Counts are lower bounds then, and a rule that says nothing may have missed something. A process of which nothing \
          could be read has no findings at all: `observer list` says why.",
    explains: &[],
    check: |case| {
        let goroutines = case.target.goroutines.as_ref().filter(|goroutines| !goroutines.complete);
        let problems = case.cgroup.map(|cgroup| cgroup.problems.as_slice());
        goroutines.map(incomplete).into_iter().chain(problems.and_then(unread)).collect()
    },
};

fn incomplete(goroutines: &GoroutinesView) -> Said {
    let summary = format!("not all goroutines could be read: {} were", goroutines.user + goroutines.system);
    let advice = "Look again when the machine is less busy; if it stays so, please report it.".to_owned();
    Said::new(Severity::Info, summary, advice)
        .with("goroutines_read", goroutines.user + goroutines.system)
        .with("goroutines_torn", goroutines.torn)
}

fn unread(problems: &[Problem]) -> Option<Said> {
    let first = problems.first()?;
    let files: Vec<&str> = problems.iter().map(|problem| problem.file).collect();
    let summary = format!("limits and counters of the cgroup are missing ({}): {first}", files.join(", "));
    let advice =
        "Rules that need them say nothing; `observer check` tells what this machine allows.".to_owned();
    let said = Said::new(Severity::Info, summary, advice)
        .with("cgroup_values_missing", problems.len() as u64)
        .with("cgroup_files_missing", files.join(", ").as_str())
        .with("cgroup_reason", first.reason.name());
    Some(said)
}
