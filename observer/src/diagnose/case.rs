//! What rules look at, and what they say.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Thresholds, trend};
use crate::model::view::{
    CallsiteView, CgroupSample, CgroupView, CpuView, Evidence, Fact, Limit, Memory, Pids, RuntimeView,
    Severity, TargetView, View,
};

/// One target, and the cgroup that it is in.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The target.
    pub target: &'a TargetView,
    /// Its cgroup, where that could be read.
    pub cgroup: Option<&'a CgroupView>,
    /// Seconds since it started.
    pub age: f64,
    /// From which numbers on something is a finding.
    pub thresholds: &'a Thresholds,
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// How bad it is.
    pub severity: Severity,
    /// One sentence with the numbers, without its full stop.
    pub summary: String,
    /// What to do.
    pub advice: String,
    /// What it rests on.
    pub evidence: Evidence,
}

impl Said {
    /// Something that is wrong.
    pub(super) fn new(severity: Severity, summary: String, advice: String) -> Self {
        Self { severity, summary, advice, evidence: Evidence::new() }
    }

    /// Adds a fact.
    pub(super) fn with(mut self, name: &'static str, fact: impl Into<Fact>) -> Self {
        self.evidence.insert(name, fact.into());
        self
    }

    /// Adds a fact, if it is known.
    pub(super) fn maybe(self, name: &'static str, fact: Option<impl Into<Fact>>) -> Self {
        match fact {
            Some(fact) => self.with(name, fact),
            None => self,
        }
    }

    /// Names a callsite.
    pub(super) fn at(self, callsite: &CallsiteView) -> Self {
        self.with("created_by", callsite.created_by.clone())
            .with("entry", callsite.entry.clone())
            .with("file", callsite.file.clone())
            .with("line", callsite.line)
            .with("live", callsite.live)
            .maybe("oldest_wait_seconds", callsite.oldest_wait_seconds)
    }

    /// Says of which callsites the goroutines in a state are, those with most of them first.
    pub(super) fn where_in_state(self, name: &'static str, case: &Case<'_>, state: &str) -> Self {
        let most: Vec<String> =
            case.most_in_state(state).iter().map(|(count, at)| format!("{count} {at}")).collect();
        if most.is_empty() { self } else { self.with(name, most.join("; ").as_str()) }
    }

    /// Names the group that sets a limit.
    pub(super) fn bound<T>(self, limit: &Limit<T>) -> Self {
        self.with("limit_set_by", limit.binding.clone()).with("limit_level", limit.level)
    }
}

/// Throttling over the last minute.
pub(super) struct Throttled {
    /// Share of the periods.
    pub(super) share: f64,
    /// Seconds per second, summed over CPUs.
    pub(super) per_second: f64,
    /// Periods that passed.
    pub(super) periods: f64,
}

impl<'a> Case<'a> {
    /// The cases of a view, in the order of its targets.
    pub fn all(view: &'a View, thresholds: &'a Thresholds) -> impl Iterator<Item = Self> {
        let now = view.taken_at.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
        view.targets.iter().map(move |target| Self {
            target,
            cgroup: target.cgroup.and_then(|index| view.cgroups.get(index)),
            age: (now - target.start_time).max(0.0),
            thresholds,
        })
    }

    pub(super) fn runtime(&self) -> Option<&'a RuntimeView> {
        self.target.runtime.as_ref()
    }

    pub(super) fn cpu(&self) -> Option<&'a CpuView> {
        self.cgroup?.cpu.as_ref()
    }

    pub(super) fn cpu_limit(&self) -> Option<&'a Limit<f64>> {
        self.cpu()?.limit_cores.as_ref()
    }

    pub(super) fn memory(&self) -> Option<&'a Memory> {
        self.cgroup?.memory.as_ref()
    }

    pub(super) fn memory_limit(&self) -> Option<&'a Limit<u64>> {
        self.memory()?.limit_bytes.as_ref()
    }

    pub(super) fn pids(&self) -> Option<&'a Pids> {
        self.cgroup?.pids.as_ref()
    }

    pub(super) fn state(&self, name: &str) -> Option<u64> {
        self.target.goroutines.as_ref()?.states.get(name).copied()
    }

    /// The callsites with most goroutines in a state: how many, and which.
    pub(super) fn most_in_state(&self, state: &str) -> Vec<(u64, String)> {
        /// More than these nobody reads.
        const MOST: usize = 3;
        let count = |callsite: &'a CallsiteView| Some((*callsite.states.get(state)?, callsite));
        let mut all: Vec<_> = self.target.callsites.iter().filter_map(count).collect();
        all.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        all.into_iter()
            .take(MOST)
            .map(|(count, at)| (count, format!("{} started by {}", at.entry, place(at))))
            .collect()
    }

    /// `; 12 are ready to run, most of them main.f started by main.g (main.go:7)`, or nothing.
    pub(super) fn in_state_words(&self, state: &str, words: &str) -> String {
        let total = self.state(state).unwrap_or(0);
        match self.most_in_state(state).first() {
            Some((_, most)) if total > 0 => format!("; {total} goroutines {words}, most of them {most}"),
            _ => String::new(),
        }
    }

    /// The cgroup's samples of the last minute, if they are enough for a rate.
    pub(super) fn window(&self) -> Option<&'a [CgroupSample]> {
        let thresholds = self.thresholds;
        trend::window(&self.cgroup?.recent, thresholds.window_seconds, thresholds.window_least_seconds)
    }

    /// `None` without enough periods.
    pub(super) fn throttled(&self) -> Option<Throttled> {
        let window = self.window()?;
        let periods = trend::growth(window, |sample| sample.periods.map(|n| n as f64))?;
        let throttled = trend::growth(window, |sample| sample.throttled_periods.map(|n| n as f64))?;
        let seconds = trend::growth(window, |sample| sample.throttled_seconds)?;
        let span = trend::span(window);
        (periods >= self.thresholds.throttled_periods).then(|| Throttled {
            share: throttled / periods,
            per_second: seconds / span,
            periods,
        })
    }

    /// GOMAXPROCS that the CPU limit is worth, as Go 1.25 and newer reckon: rounded up, and not below 2.
    pub(super) fn fitting_gomaxprocs(&self) -> Option<u32> {
        Some((self.cpu_limit()?.value.ceil() as u32).max(2))
    }

    /// GOMAXPROCS, when it is more than the CPU limit is worth and the group is being throttled.
    pub(super) fn gomaxprocs_above_limit(&self) -> Option<u32> {
        let gomaxprocs = self.runtime()?.gomaxprocs?;
        let throttled = self.throttled()?.share >= self.thresholds.throttled_share_noted;
        (throttled && gomaxprocs > self.fitting_gomaxprocs()?).then_some(gomaxprocs)
    }

    /// Who chose GOMAXPROCS, in words.
    pub(super) fn chosen_by(&self) -> &'static str {
        use crate::model::view::Source;
        match self.runtime().and_then(|runtime| runtime.gomaxprocs_source) {
            Some(Source::Default) if self.runtime().is_some_and(|runtime| runtime.container_aware) => {
                "chosen by the runtime, which knows the CPU limit of its own cgroup but of none above it"
            }
            Some(Source::Default) => "chosen by the runtime, which doesn't know the CPU limit",
            Some(Source::Environment) => "set by the environment",
            Some(Source::Call) => "set by a call in the program",
            None => "source unknown",
        }
    }

    /// Who chose GOMEMLIMIT, in words that follow its value.
    pub(super) fn gomemlimit_chosen_by(&self) -> &'static str {
        use crate::model::view::Source;
        match self.runtime().and_then(|runtime| runtime.gomemlimit_source) {
            Some(Source::Environment) => " (set by the environment)",
            Some(Source::Call) => " (set by a call in the program)",
            Some(Source::Default) | None => "",
        }
    }

    /// The name of [`Self::chosen_by`] for evidence.
    pub(super) fn gomaxprocs_source(&self) -> Option<&'static str> {
        self.runtime()?.gomaxprocs_source.map(|source| source.name())
    }

    /// The heap at which the next garbage collection is due, as far as GOGC decides; bytes.
    pub(super) fn next_heap(&self) -> Option<u64> {
        let runtime = self.runtime()?;
        let percent = u64::try_from(runtime.gogc_percent?).ok();
        match (percent, runtime.heap_marked_bytes) {
            (Some(percent), Some(marked)) => Some(marked.saturating_add(marked / 100 * percent)),
            // GOGC=off: there is none, and the heap grows as long as the program runs.
            (None, _) => Some(u64::MAX),
            (Some(_), None) => None,
        }
    }
}

/// The wait reason of most of a callsite's goroutines, and how many these are.
pub(super) fn main_reason(callsite: &CallsiteView) -> Option<(Arc<str>, u64)> {
    let most = callsite.wait_reasons.iter().max_by_key(|(_, count)| **count)?;
    Some((most.0.clone(), *most.1))
}

/// `created_by (file:line)`.
pub(super) fn place(callsite: &CallsiteView) -> String {
    if callsite.file.is_empty() {
        return callsite.created_by.to_string();
    }
    format!("{} ({}:{})", callsite.created_by, callsite.file, callsite.line)
}

/// A share in whole per cent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}
