//! Goroutines of one `go` statement that are started and don't end.

use crate::diagnose::case::{main_reason, place};
use crate::diagnose::trend::{self, Rise};
use crate::diagnose::{Case, Rule, Said};
use crate::model::view::{CallsiteSample, CallsiteView, Severity};
use crate::text::{bytes, duration};

/// A limit that is this near is critical, in seconds.
const SOON: f64 = 3600.0;

pub(super) const RULE: Rule = Rule {
    name: "goroutine-growth",
    when: "The goroutines of one `go` statement become more and more, hardly any ends, and nearly all are parked for \
           something other than the network.",
    why: "That is a leak: each holds a stack of 2 KiB or more and everything it refers to, until memory runs out. \
          Growth in the first seconds of a process, growth that slows down, and loads that come and go don't count. \
          Time to the memory limit is an upper bound, because it counts stacks alone.",
    explains: &["goroutine-stuck", "memory-near-limit", "oom-killed"],
    check,
};

fn check(case: &Case<'_>) -> Vec<Said> {
    let leaks = case.target.callsites.iter().filter_map(|callsite| {
        let (rise, window) = growing(case, callsite)?;
        Some(said(case, callsite, rise, trend::span(window)))
    });
    leaks.collect()
}

/// The callsite's trend and the samples that show it.
fn growing<'a>(case: &Case<'_>, callsite: &'a CallsiteView) -> Option<(Rise, &'a [CallsiteSample])> {
    let thresholds = case.thresholds;
    let window = after_start_up(case, &callsite.recent)?;
    let counted = with_exits(window);
    let window = if trend::span(counted) >= thresholds.growth_seconds { counted } else { window };
    let (first, last) = (window.first()?, window.last()?);
    let grown = last.live.saturating_sub(first.live);
    let ended = last.exited.zip(first.exited).map(|(last, first)| last.saturating_sub(first));
    let least = match ended {
        Some(_) => thresholds.growth_seconds,
        None => thresholds.growth_seconds_without_probes,
    };
    let created = grown + ended.unwrap_or(0);
    let parked = main_parked(callsite) as f64;
    let enough = window.len() as f64 >= thresholds.growth_samples
        && trend::span(window) >= least
        && callsite.live as f64 >= thresholds.growth_goroutines
        && grown as f64 >= thresholds.growth_least
        && ended.unwrap_or(0) as f64 <= created as f64 * thresholds.growth_ended_share
        && parked >= callsite.live as f64 * (1.0 - thresholds.io_wait_share);
    if !enough {
        return None;
    }
    let points: Vec<_> = window.iter().map(|sample| (sample.at, sample.live as f64)).collect();
    let rise = trend::rise(&points)?;
    let rises = rise.per_second > 0.0
        && rise.steadiness >= thresholds.growth_steadiness
        && rise.persistence >= thresholds.growth_persistence;
    rises.then_some((rise, window))
}

/// Samples taken when the process had started up.
fn after_start_up<'a>(case: &Case<'_>, samples: &'a [CallsiteSample]) -> Option<&'a [CallsiteSample]> {
    let now = samples.last()?.at;
    let old = |sample: &CallsiteSample| case.age - (now - sample.at) >= case.thresholds.start_up_seconds;
    Some(&samples[samples.iter().position(old)?..])
}

/// The newest samples, since from when on probes counted exits.
fn with_exits(samples: &[CallsiteSample]) -> &[CallsiteSample] {
    let start = samples.iter().rposition(|sample| sample.exited.is_none()).map_or(0, |last| last + 1);
    &samples[start..]
}

/// Goroutines that are parked for something that may never come: connections that are kept alive wait for the
/// network as long as they like.
fn main_parked(callsite: &CallsiteView) -> u64 {
    let parked =
        callsite.wait_reasons.iter().filter(|(reason, _)| !matches!(&***reason, "IO wait" | "sleep"));
    parked.map(|(_, count)| count).sum()
}

fn said(case: &Case<'_>, callsite: &CallsiteView, rise: Rise, seconds: f64) -> Said {
    let (reason, waiting) = main_reason(callsite).unwrap_or_default();
    let each = callsite.stacks_bytes as f64 / callsite.live.max(1) as f64;
    let left = case.memory_limit().zip(case.memory()).and_then(|(limit, memory)| {
        let used = memory.binding_usage_bytes.or(memory.usage_bytes)?;
        Some(limit.value.saturating_sub(used) as f64 / (rise.per_second * each))
    });
    let severity = if left.is_some_and(|left| left < SOON) { Severity::Critical } else { Severity::Warning };
    let oldest = callsite
        .oldest_wait_seconds
        .map_or(String::new(), |oldest| format!(", the oldest for at least {}", duration(oldest)));
    let end = left
        .map_or(String::new(), |left| format!("; the memory limit is reached in {} at most", duration(left)));
    let summary = format!(
        "{} goroutines started by {} run {}, {:+.1}/s over {}: {waiting} wait in `{reason}`{oldest}; their stacks hold {}{end}",
        callsite.live,
        place(callsite),
        callsite.entry,
        rise.per_second,
        duration(seconds),
        bytes(callsite.stacks_bytes),
    );
    let advice = format!(
        "Let {} end when nobody waits for it any more: {}.",
        callsite.entry,
        match &*reason {
            "chan send" | "chan send (nil chan)" =>
                "send in a `select` with `<-ctx.Done()`, or on a channel with room for every result",
            "chan receive" | "chan receive (nil chan)" =>
                "close the channel it receives from, or receive in a `select` with `<-ctx.Done()`",
            _ => "give it a context or a deadline, and return when that is done",
        }
    );
    Said::new(severity, summary, advice)
        .at(callsite)
        .with("growth_per_second", rise.per_second)
        .with("observed_seconds", seconds)
        .with("wait_reason", reason)
        .with("waiting", waiting)
        .with("stacks_bytes", callsite.stacks_bytes)
        .maybe("memory_limit_bytes", case.memory_limit().map(|limit| limit.value))
        .maybe("memory_limit_reached_seconds_at_most", left)
}
