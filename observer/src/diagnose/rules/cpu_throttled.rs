//! A CPU quota that stops the program.

use crate::diagnose::case::percent;
use crate::diagnose::{Case, Rule, Said};
use crate::model::on_cpu;
use crate::model::view::Severity;

/// Callsites that are named at most.
const MAX_BURNERS: usize = 3;
/// Share of the CPU time after which no more are named.
const MOST: f64 = 0.8;

pub(super) const RULE: Rule = Rule {
    name: "cpu-throttled",
    when: "The cgroup whose CPU quota binds was throttled in a notable share of the periods of the last minute.",
    why: "Once the quota of a period (usually 100 ms) is used up, every thread stands still until the next one. Mean CPU \
          use can look low while latency suffers.",
    explains: &[],
    check: |case| check(case).into_iter().collect(),
};

fn check(case: &Case<'_>) -> Option<Said> {
    let throttled = case.throttled()?;
    let limit = case.cpu_limit()?;
    if throttled.share < case.thresholds.throttled_share {
        return None;
    }
    let critical = throttled.share >= case.thresholds.throttled_share_critical;
    let severity = if critical { Severity::Critical } else { Severity::Warning };
    let gomaxprocs = case.runtime().and_then(|runtime| runtime.gomaxprocs);
    let procs = gomaxprocs.map_or(String::new(), |n| format!("; GOMAXPROCS is {n}, {}", case.chosen_by()));
    let burners = burners(case);
    let used =
        burners.as_ref().map_or(String::new(), |burners| format!("; the CPU time is that of {burners}"));
    let summary = format!(
        "throttled in {} of CPU periods, for {:.2} s per second over all CPUs, at a limit of {:.2} cores set by {}{procs}{}{used}",
        percent(throttled.share),
        throttled.per_second,
        limit.value,
        limit.binding,
        case.in_state_words("runnable", "are ready to run"),
    );
    let advice = advice(case, gomaxprocs);
    let said = Said::new(severity, summary, advice)
        .bound(limit)
        .with("throttled_periods_ratio", throttled.share)
        .with("throttled_seconds_per_second", throttled.per_second)
        .with("periods", throttled.periods)
        .with("cpu_limit_cores", limit.value)
        .maybe("cpu_burst_seconds", case.cpu().and_then(|cpu| cpu.burst_seconds))
        .maybe("gomaxprocs", gomaxprocs)
        .maybe("gomaxprocs_source", case.gomaxprocs_source())
        .maybe("runnable", case.state("runnable"))
        .maybe("cpu_used_by", burners.as_deref())
        .where_in_state("runnable_callsites", case, "runnable");
    Some(said)
}

/// Whose goroutines used the CPU in the same minute: the first ones that together have most of it.
fn burners(case: &Case<'_>) -> Option<String> {
    let callsites = &case.target.on_cpu.as_ref()?.callsites;
    let all: f64 = callsites.iter().map(|callsite| callsite.recent_seconds).sum();
    let mut named = Vec::new();
    let mut sum = 0.0;
    for callsite in callsites.iter().take(MAX_BURNERS).take_while(|callsite| callsite.recent_seconds > 0.0) {
        let share = callsite.recent_seconds / all;
        named.push(match &*callsite.created_by {
            on_cpu::RUNTIME => format!("the Go runtime itself ({})", percent(share)),
            "" => format!("{} ({})", callsite.entry, percent(share)),
            created_by => format!("{} started by {created_by} ({})", callsite.entry, percent(share)),
        });
        sum += share;
        if sum >= MOST {
            break;
        }
    }
    (!named.is_empty()).then(|| named.join(", "))
}

fn advice(case: &Case<'_>, gomaxprocs: Option<u32>) -> String {
    let fitting = case.fitting_gomaxprocs().unwrap_or(2);
    let procs = if gomaxprocs.is_some_and(|n| n > fitting) {
        format!("Set GOMAXPROCS={fitting}, so that the quota isn't used up by many threads at once, and ")
    } else {
        "Do less at once (bound the number of goroutines that work), or ".to_owned()
    };
    format!("{procs}raise the CPU limit, or give the cgroup a burst (cpu.max.burst).")
}
