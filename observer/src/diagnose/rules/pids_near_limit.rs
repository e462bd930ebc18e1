//! Threads and processes that are nearly as many as may be.

use crate::diagnose::case::percent;
use crate::diagnose::{Case, Rule, Said};
use crate::model::view::Severity;

pub(super) const RULE: Rule = Rule {
    name: "pids-near-limit",
    when: "The tasks (threads of all processes) of the cgroup whose limit binds are close to it.",
    why: "At the limit no process can be started and no thread created: the Go runtime ends with a fatal error when it \
          needs a thread and gets none.",
    explains: &["forks-refused"],
    check: |case| check(case).into_iter().collect(),
};

fn check(case: &Case<'_>) -> Option<Said> {
    let pids = case.pids()?;
    let limit = pids.limit.as_ref()?;
    let tasks = pids.binding_current.or(pids.current)?;
    let share = tasks as f64 / limit.value.max(1) as f64;
    if share < case.thresholds.pids_share {
        return None;
    }
    let critical = share >= case.thresholds.pids_share_critical;
    let threads = case.runtime().and_then(|runtime| runtime.threads);
    let own =
        threads.map_or(String::new(), |threads| format!("; {threads} of them are this process's threads"));
    let refused = pids.refused.max(pids.binding_refused);
    let forks = refused.map_or(String::new(), |refused| format!("; {refused} forks were refused so far"));
    let summary = format!(
        "{tasks} of {} tasks in use ({}), a limit set by {}{own}{forks}",
        limit.value,
        percent(share),
        limit.binding
    );
    let severity = if critical { Severity::Critical } else { Severity::Warning };
    let said = Said::new(severity, summary, advice(case, threads))
        .bound(limit)
        .with("pids", tasks)
        .with("pids_limit", limit.value)
        .maybe("threads", threads)
        .maybe("threads_idle", case.runtime().and_then(|runtime| runtime.threads_idle))
        .maybe("goroutines_in_syscall", case.state("syscall"))
        .maybe("goroutines_locked", case.target.goroutines.as_ref().map(|goroutines| goroutines.locked))
        .where_in_state("syscall_callsites", case, "syscall")
        .maybe("forks_refused", refused);
    Some(said)
}

fn advice(case: &Case<'_>, threads: Option<u64>) -> String {
    let syscalls = case.state("syscall").unwrap_or(0);
    match threads {
        Some(threads) if syscalls * 2 >= threads => format!(
            "Bound the blocking system calls: {syscalls} goroutines are in one, and each holds a thread. Or raise pids.max."
        ),
        _ => "Find what holds threads (blocking system calls, cgo, runtime.LockOSThread) or starts processes, or raise \
              pids.max."
            .to_owned(),
    }
}
