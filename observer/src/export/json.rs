//! The JSON of `observer attach` (one line each interval) and `observer list`. A key without value is
//! absent; strings from targets have their control characters replaced.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::rates::cpu_rates;
use super::settings::Runtime;
use super::shown;
mod waits;

use crate::model::view::{
    CallsiteCpuView, CallsiteView, CgroupView, GroupView, Limit, ProbesView, TargetView, View,
};
use crate::text::printable;

/// One Go process, as `observer list --output json` prints it.
#[derive(Debug, Serialize)]
pub struct ListRow<'a> {
    /// Process id.
    pub pid: u32,
    /// Process id in its own PID namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inner_pid: Option<u32>,
    /// When the process started, seconds since the epoch.
    pub start_time: f64,
    /// Base name of the executable.
    pub process: Cow<'a, str>,
    /// Path of the executable.
    pub exe: Cow<'a, str>,
    /// Such as `go1.24.11`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub go_version: Option<Cow<'a, str>>,
    /// `observed`, `snapshot_only` or `unreadable`.
    pub state: &'static str,
    /// Why it is not fully observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
    /// User goroutines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goroutines: Option<u64>,
    /// GOMAXPROCS in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gomaxprocs: Option<u32>,
    /// Effective CPU limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_limit_cores: Option<f64>,
    /// Effective memory limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// Memory charged to the process's cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_usage_bytes: Option<u64>,
    /// Kubernetes namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Cow<'a, str>>,
    /// Pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Cow<'a, str>>,
    /// Container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Cow<'a, str>>,
    /// systemd unit, or the cgroup's own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<Cow<'a, str>>,
    /// systemd slice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slice: Option<Cow<'a, str>>,
    /// Id of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<Cow<'a, str>>,
}

/// One target after one interval, as `observer attach --output json` prints it in a line.
#[derive(Debug, Serialize)]
pub struct AttachLine<'a> {
    /// When the interval ended, seconds since the epoch.
    pub time: f64,
    /// Process id.
    pub pid: u32,
    /// Why it is not fully observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
    /// User goroutines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goroutines: Option<u64>,
    /// System goroutines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_goroutines: Option<u64>,
    /// Whether the snapshot read every goroutine; if not, counts are lower bounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
    /// How long the snapshot took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_seconds: Option<f64>,
    /// GOMAXPROCS in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gomaxprocs: Option<u32>,
    /// Its `go` statements, as many as the view keeps, most growing first.
    pub callsites: Vec<Callsite<'a>>,
    /// CPU time by `go` statement, most first; absent without sampling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_cpu: Option<Vec<OnCpu<'a>>>,
    /// Parks and waits of the last minute; absent where none were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits: Option<waits::Waits<'a>>,
    /// User goroutines by state.
    pub states: BTreeMap<&'static str, u64>,
    /// Waiting user goroutines by reason.
    pub wait_reasons: BTreeMap<Cow<'a, str>, u64>,
    /// What the Go runtime says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    /// The process's cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Cgroup<'a>>,
    /// What probes counted since they were attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<Probes>,
}

/// One `go` statement.
#[derive(Debug, Serialize)]
pub struct Callsite<'a> {
    /// Function that contains the `go` statement.
    pub created_by: Cow<'a, str>,
    /// Function the goroutine runs.
    pub entry: Cow<'a, str>,
    /// Source file of the `go` statement.
    pub file: Cow<'a, str>,
    /// Its line.
    pub line: u32,
    /// Created since the probes were attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_total: Option<u64>,
    /// Ended since the probes were attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exited_total: Option<u64>,
    /// Alive in the newest snapshot.
    pub live: u64,
    /// Created per second, over the last interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_per_second: Option<f64>,
    /// Ended per second, over the last interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exited_per_second: Option<f64>,
    /// Change of `live` per second, over the last interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_per_second: Option<f64>,
    /// Parks per second of the last minute, estimated from windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parks_per_second: Option<f64>,
    /// The longest that one of them has waited at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_wait_seconds: Option<f64>,
    /// Waiting ones by reason.
    pub wait_reasons: BTreeMap<Cow<'a, str>, u64>,
    /// Goroutines by state, those of none left out.
    pub states: &'a BTreeMap<&'static str, u64>,
    /// Bytes of their stacks.
    pub stacks_bytes: u64,
    /// Seconds since which every look found all of them running or ready to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy_seconds: Option<f64>,
}

/// CPU time of one `go` statement, or of the runtime itself.
#[derive(Debug, Serialize)]
pub struct OnCpu<'a> {
    /// Function that contains the `go` statement.
    pub created_by: Cow<'a, str>,
    /// Function the goroutine runs.
    pub entry: Cow<'a, str>,
    /// CPU seconds per second over the last interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<f64>,
    /// CPU seconds over the last minute.
    pub last_minute_seconds: f64,
}

/// Limits and use of the process's cgroup; a limit that is absent is unlimited or unknown.
#[derive(Debug, Default, Serialize)]
pub struct Cgroup<'a> {
    /// Path below the hierarchy's root.
    pub path: Cow<'a, str>,
    /// Effective CPU limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_limit_cores: Option<f64>,
    /// Cgroup that sets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_limit_set_by: Option<Cow<'a, str>>,
    /// CPU used over the last interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_used_cores: Option<f64>,
    /// CPU time used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_usage_seconds_total: Option<f64>,
    /// Enforcement periods of the cgroup whose quota binds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_periods_total: Option<u64>,
    /// Its throttled periods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_throttled_periods_total: Option<u64>,
    /// Its throttled time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_throttled_seconds_total: Option<f64>,
    /// Throttled periods ÷ periods over the last interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_throttled_periods_ratio: Option<f64>,
    /// Seconds throttled per second over the last interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_throttled_seconds_per_second: Option<f64>,
    /// Effective memory limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// Cgroup that sets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit_set_by: Option<Cow<'a, str>>,
    /// Memory charged now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_usage_bytes: Option<u64>,
    /// Effective limit of tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<u64>,
    /// Cgroup that sets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit_set_by: Option<Cow<'a, str>>,
    /// Tasks now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
}

/// What probes counted since they were attached.
#[derive(Debug, Serialize)]
pub struct Probes {
    /// Creations.
    pub created_total: u64,
    /// Ends.
    pub exited_total: u64,
    /// Whether the counts are partly estimates, because probes came and went.
    pub estimated: bool,
    /// Goroutines by which probes and the newest snapshot disagree; absent while probes come and go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<u64>,
    /// Where each group of probes stands.
    pub groups: Vec<ProbeGroup>,
}

/// One group of probes.
#[derive(Debug, Serialize)]
pub struct ProbeGroup {
    /// `lifecycle` (starts and ends of goroutines) or `waits`.
    pub probe: &'static str,
    /// `trial`, `on`, `windows` or `off`.
    pub state: &'static str,
    /// Share of the last minute in which the probes were in the process.
    pub coverage_ratio: f64,
    /// Share of one CPU that they cost the process.
    pub overhead_ratio: f64,
    /// How often they ran in it so far.
    pub hits: u64,
    /// CPU time that they have cost it so far.
    pub cost_seconds: f64,
}

/// The rows of `observer list`, in the view's order.
#[must_use]
pub fn list(view: &View) -> Vec<ListRow<'_>> {
    view.targets.iter().map(|target| row(view, target)).collect()
}

/// The line of `observer attach` for one process; `None` when the view doesn't have it. Throttling is over
/// the time since `previous`.
#[must_use]
pub fn attach<'a>(previous: Option<&View>, view: &'a View, pid: u32) -> Option<AttachLine<'a>> {
    let target = view.targets.iter().find(|target| target.pid == pid)?;
    let goroutines = target.goroutines.as_ref();
    Some(AttachLine {
        time: view.taken_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        pid,
        reason: shown(&target.reason),
        goroutines: goroutines.map(|counts| counts.user),
        system_goroutines: goroutines.map(|counts| counts.system),
        complete: goroutines.map(|counts| counts.complete),
        snapshot_seconds: goroutines.map(|counts| counts.duration.as_secs_f64()),
        gomaxprocs: target.runtime.as_ref().and_then(|runtime| runtime.gomaxprocs),
        callsites: super::most_growing(&target.callsites).into_iter().map(Callsite::from).collect(),
        on_cpu: target.on_cpu.as_ref().map(|on_cpu| on_cpu.callsites.iter().map(OnCpu::from).collect()),
        waits: target.waits.as_ref().map(waits::Waits::from),
        states: goroutines.map(|counts| counts.states.clone()).unwrap_or_default(),
        wait_reasons: goroutines.map(|counts| reasons(&counts.wait_reasons)).unwrap_or_default(),
        runtime: super::settings::of(target),
        cgroup: super::cgroup_of(view, target).map(|group| cgroup(previous, view, group)),
        probes: target.probes.as_ref().map(Probes::from),
    })
}

fn row<'a>(view: &'a View, target: &'a TargetView) -> ListRow<'a> {
    let cgroup = super::cgroup_of(view, target);
    let cpu = cgroup.and_then(|cgroup| cgroup.cpu.as_ref());
    let memory = cgroup.and_then(|cgroup| cgroup.memory.as_ref());
    ListRow {
        pid: target.pid,
        inner_pid: target.inner_pid,
        start_time: target.start_time,
        process: printable(&target.process),
        exe: printable(&target.exe),
        go_version: shown(&target.go_version),
        state: target.state.name(),
        reason: shown(&target.reason),
        goroutines: target.goroutines.as_ref().map(|counts| counts.user),
        gomaxprocs: target.runtime.as_ref().and_then(|runtime| runtime.gomaxprocs),
        cpu_limit_cores: cpu.and_then(|cpu| Some(cpu.limit_cores.as_ref()?.value)),
        memory_limit_bytes: memory.and_then(|memory| Some(memory.limit_bytes.as_ref()?.value)),
        memory_usage_bytes: memory.and_then(|memory| memory.usage_bytes),
        namespace: shown(&target.owner.namespace),
        pod: shown(&target.owner.pod),
        container: shown(&target.owner.container),
        unit: shown(&target.owner.unit),
        slice: shown(&target.slice),
        container_id: shown(&target.container_id),
    }
}

impl<'a> From<&'a CallsiteView> for Callsite<'a> {
    fn from(callsite: &'a CallsiteView) -> Self {
        Self {
            created_by: printable(&callsite.created_by),
            entry: printable(&callsite.entry),
            file: printable(&callsite.file),
            line: callsite.line,
            created_total: callsite.created_total,
            exited_total: callsite.exited_total,
            live: callsite.live,
            created_per_second: callsite.created_per_second,
            exited_per_second: callsite.exited_per_second,
            growth_per_second: callsite.growth_per_second,
            parks_per_second: callsite.parks_per_second,
            oldest_wait_seconds: callsite.oldest_wait_seconds,
            wait_reasons: reasons(&callsite.wait_reasons),
            states: &callsite.states,
            stacks_bytes: callsite.stacks_bytes,
            busy_seconds: callsite.busy_seconds,
        }
    }
}

impl<'a> From<&'a CallsiteCpuView> for OnCpu<'a> {
    fn from(callsite: &'a CallsiteCpuView) -> Self {
        Self {
            created_by: printable(&callsite.created_by),
            entry: printable(&callsite.entry),
            cores: callsite.cores,
            last_minute_seconds: callsite.recent_seconds,
        }
    }
}

impl From<&ProbesView> for Probes {
    fn from(probes: &ProbesView) -> Self {
        Self {
            created_total: probes.created,
            exited_total: probes.exited,
            estimated: probes.estimated,
            drift: probes.drift,
            groups: probes.groups.iter().map(ProbeGroup::from).collect(),
        }
    }
}

impl From<&GroupView> for ProbeGroup {
    fn from(group: &GroupView) -> Self {
        Self {
            probe: group.probe,
            state: group.state,
            coverage_ratio: group.coverage,
            overhead_ratio: group.overhead,
            hits: group.hits,
            cost_seconds: group.spent_seconds,
        }
    }
}

fn cgroup<'a>(previous: Option<&View>, view: &View, cgroup: &'a CgroupView) -> Cgroup<'a> {
    let cpu = cgroup.cpu.as_ref();
    let memory = cgroup.memory.as_ref();
    let pids = cgroup.pids.as_ref();
    let throttling = cpu.and_then(super::rates::throttling);
    let rates = cpu_rates(previous, view, cgroup);
    let (cpu_limit_cores, cpu_limit_set_by) = limit(cpu.and_then(|cpu| cpu.limit_cores.as_ref()));
    let (memory_limit_bytes, memory_limit_set_by) =
        limit(memory.and_then(|memory| memory.limit_bytes.as_ref()));
    let (pids_limit, pids_limit_set_by) = limit(pids.and_then(|pids| pids.limit.as_ref()));
    Cgroup {
        path: printable(&cgroup.path),
        cpu_limit_cores,
        cpu_limit_set_by,
        cpu_used_cores: rates.used_cores,
        cpu_usage_seconds_total: cpu.and_then(|cpu| cpu.usage_seconds),
        cpu_periods_total: throttling.map(|throttling| throttling.periods),
        cpu_throttled_periods_total: throttling.map(|throttling| throttling.throttled_periods),
        cpu_throttled_seconds_total: throttling.map(|throttling| throttling.throttled_seconds),
        cpu_throttled_periods_ratio: rates.throttled_periods_ratio,
        cpu_throttled_seconds_per_second: rates.throttled_seconds_per_second,
        memory_limit_bytes,
        memory_limit_set_by,
        memory_usage_bytes: memory.and_then(|memory| memory.usage_bytes),
        pids_limit,
        pids_limit_set_by,
        pids: pids.and_then(|pids| pids.current),
    }
}

fn limit<T: Copy>(limit: Option<&Limit<T>>) -> (Option<T>, Option<Cow<'_, str>>) {
    limit.map(|limit| (limit.value, printable(&limit.binding))).unzip()
}

fn reasons(reasons: &BTreeMap<Arc<str>, u64>) -> BTreeMap<Cow<'_, str>, u64> {
    reasons.iter().map(|(reason, count)| (printable(reason), *count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::testdata::{assert_golden, previous_view, view};

    /// `list` of the recorded view, byte for byte: absent keys for what isn't known, no control character.
    #[test]
    fn list_of_the_recorded_view() {
        let text = serde_json::to_string_pretty(&list(&view())).unwrap();
        assert_golden("src/export/testdata/list.json", &text);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n') && !text.contains("\\u00"));
    }

    /// `attach` on every target of the recorded view, byte for byte; one line each.
    #[test]
    fn attach_of_the_recorded_view() {
        let (previous, view) = (previous_view(), view());
        let mut lines = String::new();
        for target in &view.targets {
            let line = attach(Some(&previous), &view, target.pid).unwrap();
            lines += &(serde_json::to_string(&line).unwrap() + "\n");
        }
        assert_golden("src/export/testdata/attach.jsonl", &lines);
        assert_eq!(lines.lines().count(), view.targets.len());
    }

    /// A process that isn't in the view has no line.
    #[test]
    fn attach_needs_the_process() {
        assert!(attach(None, &view(), 1).is_none());
    }
}
