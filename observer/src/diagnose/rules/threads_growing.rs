//! Threads that become more and more.

use crate::diagnose::trend::{self, rise};
use crate::diagnose::{Case, Rule, Said};
use crate::model::view::Severity;

pub(super) const RULE: Rule = Rule {
    name: "threads-growing",
    when: "The runtime's threads become more and more.",
    why: "Every goroutine in a blocking system call or in C holds a thread, and the runtime never gives threads back: at \
          10 000 it ends the program. Growth in the first seconds of a process and growth that slows down don't count.",
    explains: &["pids-near-limit", "forks-refused"],
    check: |case| check(case).into_iter().collect(),
};

fn check(case: &Case<'_>) -> Option<Said> {
    let thresholds = case.thresholds;
    let recent = &case.target.recent;
    let now = recent.last()?.at;
    let begin =
        recent.iter().position(|sample| case.age - (now - sample.at) >= thresholds.start_up_seconds)?;
    let window = &recent[begin..];
    let points: Option<Vec<_>> =
        window.iter().map(|sample| Some((sample.at, sample.threads? as f64))).collect();
    let points = points?;
    let threads = window.last()?.threads?;
    let grown = threads.saturating_sub(window.first()?.threads?);
    let enough = points.len() as f64 >= thresholds.growth_samples
        && trend::span(window) >= thresholds.growth_seconds
        && threads as f64 >= thresholds.threads_least
        && grown as f64 >= thresholds.threads_growth;
    let rise = rise(&points).filter(|rise| {
        enough
            && rise.steadiness >= thresholds.growth_steadiness
            && rise.persistence >= thresholds.growth_persistence
    })?;
    let summary = format!(
        "{threads} threads, {:+.1}/s over {:.0} s{}",
        rise.per_second,
        trend::span(window),
        case.in_state_words("syscall", "are in system calls or in C"),
    );
    let advice =
        "Bound the calls that block (file and pipe reads in raw system calls, cgo, DNS through libc), for \
                  example with a semaphore."
            .to_owned();
    let said = Said::new(Severity::Warning, summary, advice)
        .with("threads", threads)
        .with("growth_per_second", rise.per_second)
        .maybe("threads_idle", case.runtime().and_then(|runtime| runtime.threads_idle))
        .maybe("goroutines_in_syscall", case.state("syscall"))
        .maybe("goroutines_locked", case.target.goroutines.as_ref().map(|goroutines| goroutines.locked))
        .where_in_state("syscall_callsites", case, "syscall")
        .maybe("gomaxprocs", case.runtime().and_then(|runtime| runtime.gomaxprocs));
    Some(said)
}
