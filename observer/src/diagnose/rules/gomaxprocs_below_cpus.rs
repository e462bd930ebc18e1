//! Goroutines that could run, on CPUs that the program doesn't use.

use crate::diagnose::{Case, Rule, Said, trend};
use crate::model::view::Severity;

pub(super) const RULE: Rule = Rule {
    name: "gomaxprocs-below-cpus",
    when: "GOMAXPROCS is less than the CPUs that the process may use (affinity, cpuset and CPU limit), and for most of the \
           last minute many goroutines were ready to run.",
    why: "They wait for one another while CPUs are idle. Runnable goroutines alone are a busy program, and nothing is \
          said.",
    explains: &[],
    check: |case| check(case).into_iter().collect(),
};

fn check(case: &Case<'_>) -> Option<Said> {
    let thresholds = case.thresholds;
    let runtime = case.runtime()?;
    let gomaxprocs = runtime.gomaxprocs?;
    let usable = usable(case)?;
    let window =
        trend::window(&case.target.recent, thresholds.window_seconds, thresholds.window_least_seconds)?;
    let many =
        (thresholds.runnable_per_processor * f64::from(gomaxprocs)).max(thresholds.runnable_goroutines);
    let busy = window.iter().filter(|sample| sample.runnable as f64 >= many).count();
    if gomaxprocs >= usable || (busy as f64) < window.len() as f64 * thresholds.runnable_share {
        return None;
    }
    let runnable = window.last()?.runnable;
    let summary = format!(
        "{runnable} goroutines are ready to run and wait for GOMAXPROCS {gomaxprocs} ({}), though {usable} CPUs may be used{}",
        case.chosen_by(),
        case.most_in_state("runnable")
            .first()
            .map_or(String::new(), |(_, most)| format!("; most run {most}")),
    );
    let said = Said::new(Severity::Warning, summary, advice(case, usable))
        .with("gomaxprocs", gomaxprocs)
        .maybe("gomaxprocs_source", case.gomaxprocs_source())
        .with("usable_cpus", usable)
        .with("runnable", runnable)
        .maybe("run_queue_goroutines", runtime.run_queue_goroutines)
        .where_in_state("runnable_callsites", case, "runnable");
    Some(said)
}

/// What affinity and cpuset leave, and the CPU limit is worth.
fn usable(case: &Case<'_>) -> Option<u32> {
    let cpus = case.target.usable_cpus?;
    let limit = case.cpu_limit().map_or(u32::MAX, |limit| limit.value.ceil() as u32);
    Some(cpus.min(case.cgroup?.cpuset_cpus.unwrap_or(u32::MAX)).min(limit))
}

fn advice(case: &Case<'_>, usable: u32) -> String {
    use crate::model::view::Source;
    match case.runtime().and_then(|runtime| runtime.gomaxprocs_source) {
        Some(Source::Environment) => {
            format!("Remove GOMAXPROCS from the environment, or set it to {usable}.")
        }
        Some(Source::Call) => {
            format!("Remove the call of runtime.GOMAXPROCS, or raise its argument to {usable}.")
        }
        _ => format!("Raise GOMAXPROCS to {usable}."),
    }
}
