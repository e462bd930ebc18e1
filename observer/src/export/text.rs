//! Tables for a terminal: `observer list` and `observer attach`. Text from targets can't act on the terminal.

use std::borrow::Cow;
use std::fmt::Write;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};

use super::rates::cpu_rates;
use super::{cgroup_of, most_growing, owner};
use crate::model::view::{
    CallsiteCpuView, CallsiteView, CgroupView, GoroutinesView, OnCpuView, ProbesView, TargetView, View,
    WaitsView,
};
use crate::text::{bytes, duration, printable};

/// Wait reasons of one callsite that have room in a row.
const REASONS_PER_ROW: usize = 3;
/// Wait reasons in the header.
const REASONS_IN_HEADER: usize = 6;
/// Columns that names get even beside long wait reasons.
const MIN_NAMES: u16 = 20;
/// What is shown where nothing is known.
const UNKNOWN: &str = "-";

/// How much room there is.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Columns of the terminal; `None` when the output isn't one: then nothing is wrapped.
    pub width: Option<u16>,
    /// Callsites that `attach` shows.
    pub callsites: usize,
}

/// The table of `observer list`, with a reason below for each process that isn't fully observed.
#[must_use]
pub fn list(view: &View, layout: Layout) -> String {
    let mut table = table(
        layout,
        &["PID", "GO", "GOROUTINES", "MAXPROCS", "CPU LIMIT", "MEMORY", "PROCESS", "CONTAINER"],
        &[0, 2, 3, 4, 5],
    );
    for target in &view.targets {
        table.add_row(list_row(view, target));
    }
    let mut text = table.trim_fmt() + "\n";
    for target in &view.targets {
        if let Some(reason) = &target.reason {
            _ = writeln!(text, "{} {}: {}", target.pid, target.state.name(), printable(reason));
        }
    }
    text
}

fn list_row(view: &View, target: &TargetView) -> Vec<String> {
    let cgroup = cgroup_of(view, target);
    vec![
        target.pid.to_string(),
        target.go_version.as_deref().map_or(UNKNOWN.into(), printable).into_owned(),
        or_unknown(target.goroutines.as_ref().map(|counts| counts.user)),
        or_unknown(target.runtime.as_ref().and_then(|runtime| runtime.gomaxprocs)),
        cpu_limit(cgroup).map_or(UNKNOWN.to_owned(), |(cores, _)| format!("{cores:.2}")),
        memory(cgroup).unwrap_or(UNKNOWN.to_owned()),
        printable(&target.process).into_owned(),
        owner(target).unwrap_or(UNKNOWN.to_owned()),
    ]
}

/// The screen of `observer attach` for one process: a header, then the callsites, fastest growing first.
/// Throttling is over the time since `previous`. `None` when the view doesn't have the process.
#[must_use]
pub fn attach(previous: Option<&View>, view: &View, pid: u32, layout: Layout) -> Option<String> {
    let target = view.targets.iter().find(|target| target.pid == pid)?;
    let mut text = header(previous, view, target);
    let sorted = most_growing(&target.callsites);
    if !sorted.is_empty() {
        let shown = &sorted[..sorted.len().min(layout.callsites)];
        _ = writeln!(text, "\n{}", callsites(shown, layout).trim_fmt());
    }
    if let Some(hidden) = sorted.get(layout.callsites..).filter(|hidden| !hidden.is_empty()) {
        let live: u64 = hidden.iter().map(|callsite| callsite.live).sum();
        _ = writeln!(text, "and {} more go statements with {live} goroutines", hidden.len());
    }
    Some(text)
}

const CALLSITE_HEADINGS: [&str; 7] =
    ["LIVE", "GROWTH/S", "CREATED/S", "EXITED/S", "OLDEST", "WAITS FOR", "GO STATEMENT, ENTRY, LINE"];

fn callsites(shown: &[&CallsiteView], layout: Layout) -> Table {
    let mut table = table(layout, &CALLSITE_HEADINGS, &[0, 1, 2, 3, 4]);
    if let Some(names) = table.column_mut(CALLSITE_HEADINGS.len() - 1) {
        names.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(MIN_NAMES)));
    }
    let numbers: Vec<_> = shown.iter().map(|callsite| callsite_numbers(callsite)).collect();
    let room = layout.width.map(|width| room_for_names(usize::from(width), &numbers));
    for (numbers, callsite) in numbers.into_iter().zip(shown) {
        table.add_row(numbers.into_iter().chain([names(callsite, room)]));
    }
    table
}

fn callsite_numbers(callsite: &CallsiteView) -> [String; 6] {
    [
        callsite.live.to_string(),
        callsite.growth_per_second.map_or(UNKNOWN.into(), |rate| format!("{rate:+.1}")),
        rate(callsite.created_per_second),
        rate(callsite.exited_per_second),
        callsite.oldest_wait_seconds.map_or(UNKNOWN.into(), duration),
        waits_for(callsite),
    ]
}

/// The wait reasons, with their numbers unless every goroutine has the same.
fn waits_for(callsite: &CallsiteView) -> String {
    let mut reasons = callsite.wait_reasons.iter().map(|(reason, count)| (&**reason, *count));
    match (reasons.len(), reasons.clone().next()) {
        (1, Some((reason, count))) if count == callsite.live => printable(reason).into_owned(),
        _ => top(&mut reasons, REASONS_PER_ROW, "\n"),
    }
}

/// Columns that the other cells leave for names: each takes its widest line and one column on either side.
fn room_for_names(width: usize, rows: &[[String; 6]]) -> usize {
    let widest = |column: usize| {
        let cells = rows.iter().flat_map(|row| row[column].lines()).chain([CALLSITE_HEADINGS[column]]);
        cells.map(|line| line.chars().count()).max().unwrap_or_default() + 2
    };
    width.saturating_sub((0..6).map(widest).sum::<usize>() + 2)
}

fn names(callsite: &CallsiteView, room: Option<usize>) -> String {
    let room = room.unwrap_or(usize::MAX);
    if callsite.created_by.is_empty() {
        // The main goroutine: no `go` statement made it.
        return fitted(&printable(&callsite.entry), room).into_owned();
    }
    let line = format!("{}:{}", printable(&callsite.file), callsite.line);
    format!(
        "{}\n  {}\n  {}",
        fitted(&printable(&callsite.created_by), room),
        fitted(&printable(&callsite.entry), room.saturating_sub(2)),
        fitted(&line, room.saturating_sub(2)),
    )
}

/// `path` in at most `room` characters: without leading folders, or if that is not enough without its
/// beginning. The end is what tells names apart.
fn fitted(path: &str, room: usize) -> Cow<'_, str> {
    let length = path.chars().count();
    if length <= room {
        return Cow::Borrowed(path);
    }
    let mut ends = path.match_indices('/').map(|(at, _)| &path[at..]);
    let end = ends.find(|end| end.chars().count() < room);
    let cut = || path.chars().skip(length - room.saturating_sub(1)).collect();
    Cow::Owned(format!("…{}", end.map_or_else(cut, str::to_owned)))
}

fn header(previous: Option<&View>, view: &View, target: &TargetView) -> String {
    let version = target.go_version.as_deref().map_or(Cow::Borrowed("unknown Go version"), printable);
    let mut text = format!("{} (pid {}), {version}", printable(&target.process), target.pid);
    if let Some(inner) = target.inner_pid {
        _ = write!(text, ", pid {inner} in its own namespace");
    }
    match owner(target) {
        None => text.push('\n'),
        Some(owner) => _ = writeln!(text, ", {owner}"),
    }
    if let Some(reason) = &target.reason {
        _ = writeln!(text, "{}: {}", target.state.name(), printable(reason));
    }
    if let Some(counts) = &target.goroutines {
        goroutine_lines(&mut text, counts);
    }
    let cgroup = cgroup_of(view, target);
    cpu_line(&mut text, target, cgroup);
    if let Some(cgroup) = cgroup {
        throttling_line(&mut text, previous, view, cgroup);
        resource_line(&mut text, cgroup);
    }
    if let Some(on_cpu) = &target.on_cpu {
        on_cpu_line(&mut text, on_cpu);
    }
    if let Some(waits) = &target.waits {
        waits_lines(&mut text, waits);
        parks_line(&mut text, &target.callsites);
    }
    if let Some(probes) = &target.probes {
        probe_lines(&mut text, probes);
    }
    text
}

fn probe_lines(text: &mut String, probes: &ProbesView) {
    let about = if probes.estimated { "about " } else { "" };
    _ = write!(
        text,
        "probes: {about}{} created, {about}{} ended since attach",
        probes.created, probes.exited
    );
    _ = match probes.drift {
        Some(drift) => writeln!(text, "; {drift} off the snapshot"),
        None => writeln!(text),
    };
    for group in &probes.groups {
        _ = writeln!(
            text,
            "{} probes: {}; in it for {} % of the last minute; cost {} % of one CPU, {:.2} s so far",
            group.probe,
            group.decision,
            percent(group.coverage),
            percent(group.overhead),
            group.spent_seconds
        );
    }
}

/// With two digits that say something.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 10.0 || percent == 0.0 { format!("{percent:.0}") } else { format!("{percent:.2}") }
}

fn goroutine_lines(text: &mut String, counts: &GoroutinesView) {
    let present = counts.states.iter().filter(|(_, count)| **count > 0);
    let states: Vec<_> = present.map(|(state, count)| format!("{count} {state}")).collect();
    let lower_bound = if counts.complete { "" } else { "at least " };
    _ = write!(text, "{lower_bound}{} goroutines", counts.user);
    if !states.is_empty() {
        _ = write!(text, ": {}", states.join(", "));
    }
    let took = counts.duration.as_secs_f64() * 1000.0;
    _ = writeln!(text, " (and {} system), read in {took:.1} ms", counts.system);
    if !counts.wait_reasons.is_empty() {
        let reasons = counts.wait_reasons.iter().map(|(reason, count)| (&**reason, *count));
        _ = writeln!(text, "waiting: {}", top(reasons, REASONS_IN_HEADER, ", "));
    }
}

fn cpu_line(text: &mut String, target: &TargetView, cgroup: Option<&CgroupView>) {
    let gomaxprocs = target.runtime.as_ref().and_then(|runtime| runtime.gomaxprocs);
    let limit = cpu_limit(cgroup);
    let limit = limit.map(|(cores, binding)| format!("CPU limit {cores:.2} cores, set by {binding}"));
    match (gomaxprocs, limit) {
        (Some(n), Some(limit)) => _ = writeln!(text, "GOMAXPROCS {n}, {limit}"),
        (Some(n), None) if cgroup.is_some_and(|cgroup| cgroup.cpu.is_some()) => {
            _ = writeln!(text, "GOMAXPROCS {n}, no CPU limit");
        }
        (Some(n), None) => _ = writeln!(text, "GOMAXPROCS {n}"),
        (None, Some(limit)) => _ = writeln!(text, "{limit}"),
        (None, None) => {}
    }
}

fn throttling_line(text: &mut String, previous: Option<&View>, view: &View, cgroup: &CgroupView) {
    let rates = cpu_rates(previous, view, cgroup);
    let mut parts = Vec::new();
    if let Some(cores) = rates.used_cores {
        parts.push(format!("used {cores:.2} cores"));
    }
    if let Some(ratio) = rates.throttled_periods_ratio {
        parts.push(format!("throttled in {:.0} % of periods", ratio * 100.0));
    }
    if let Some(seconds) = rates.throttled_seconds_per_second.filter(|seconds| *seconds > 0.0) {
        parts.push(format!("for {seconds:.2} s per s"));
    }
    if !parts.is_empty() {
        _ = writeln!(text, "last interval: {}", parts.join(", "));
    }
}

/// How often and how long goroutines wait: the last minute.
fn waits_lines(text: &mut String, waits: &WaitsView) {
    let parks: f64 = waits.reasons.iter().map(|reason| reason.parks_per_second).sum();
    _ = write!(text, "{parks:.1} parks/s");
    if let (Some(p50), Some(p99)) = (waits.run_queue_p50_seconds, waits.run_queue_p99_seconds) {
        _ = write!(text, ", in run queues p50 {}, p99 {}", at_most(p50), at_most(p99));
    }
    _ = writeln!(
        text,
        " (measured in {} % of the time, waits up to {})",
        percent(waits.coverage),
        brief(waits.longest_seconds)
    );
    for reason in waits.reasons.iter().take(REASONS_IN_HEADER).filter(|reason| reason.parks_per_second > 0.0)
    {
        _ = write!(text, "  {}: {:.1} parks/s", printable(&reason.reason), reason.parks_per_second);
        if let (Some(p50), Some(p99)) = (reason.blocked_p50_seconds, reason.blocked_p99_seconds) {
            _ = write!(text, ", blocked p50 {}, p99 {}", at_most(p50), at_most(p99));
        }
        text.push('\n');
    }
}

/// Whose goroutines park most: the last minute.
fn parks_line(text: &mut String, callsites: &[CallsiteView]) {
    let rate = |callsite: &CallsiteView| callsite.parks_per_second.unwrap_or_default();
    let mut sorted: Vec<&CallsiteView> = callsites.iter().filter(|callsite| rate(callsite) > 0.0).collect();
    sorted.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
    let parts: Vec<_> = sorted
        .iter()
        .take(REASONS_IN_HEADER)
        .map(|callsite| format!("{} {:.1}/s", printable(&callsite.entry), rate(callsite)))
        .collect();
    if !parts.is_empty() {
        _ = writeln!(text, "  parks by goroutine: {}", parts.join(", "));
    }
}

/// The bound of a bucket.
fn at_most(seconds: f64) -> String {
    if seconds.is_finite() { format!("<{}", brief(seconds)) } else { "≥69s".to_owned() }
}

/// A time with two or three digits.
fn brief(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.0}µs", s * 1e6),
        s if s < 1.0 => format!("{:.1}ms", s * 1e3),
        s => format!("{s:.1}s"),
    }
}

/// Who uses the CPU: the shares of the last interval.
fn on_cpu_line(text: &mut String, on_cpu: &OnCpuView) {
    let cores = |callsite: &CallsiteCpuView| callsite.cores.unwrap_or_default();
    let all: f64 = on_cpu.callsites.iter().map(cores).sum();
    if all <= 0.0 {
        return;
    }
    let mut sorted: Vec<&CallsiteCpuView> = on_cpu.callsites.iter().collect();
    sorted.sort_by(|a, b| cores(b).total_cmp(&cores(a)));
    let shown = sorted.iter().take(REASONS_IN_HEADER).filter(|callsite| cores(callsite) > 0.0);
    let parts: Vec<_> = shown
        .map(|callsite| format!("{:.0} % {}", cores(callsite) / all * 100.0, printable(&callsite.entry)))
        .collect();
    _ = writeln!(text, "on CPU {all:.2} cores: {}", parts.join(", "));
}

fn resource_line(text: &mut String, cgroup: &CgroupView) {
    let pids = cgroup.pids.as_ref().and_then(|pids| {
        let current = pids.current?;
        let limit = pids.limit.as_ref().map_or("no limit".to_owned(), |limit| limit.value.to_string());
        Some(format!("pids {current} of {limit}"))
    });
    let memory = memory(Some(cgroup)).map(|memory| format!("memory {memory}"));
    let parts: Vec<_> = memory.into_iter().chain(pids).collect();
    if !parts.is_empty() {
        _ = writeln!(text, "{}", parts.join(", "));
    }
}

fn table(layout: Layout, headings: &[&str], right_aligned: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(headings);
    if let Some(width) = layout.width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    for index in right_aligned {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
            // Numbers are never broken; names are.
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table
}

fn cpu_limit(cgroup: Option<&CgroupView>) -> Option<(f64, Cow<'_, str>)> {
    let limit = cgroup?.cpu.as_ref()?.limit_cores.as_ref()?;
    Some((limit.value, printable(&limit.binding)))
}

fn memory(cgroup: Option<&CgroupView>) -> Option<String> {
    let memory = cgroup?.memory.as_ref()?;
    let usage = bytes(memory.usage_bytes?);
    Some(match &memory.limit_bytes {
        Some(limit) => format!("{usage} of {}", bytes(limit.value)),
        None => format!("{usage}, no limit"),
    })
}

/// The `count` most frequent reasons, each with its number, and how many there are of the rest.
fn top<'a>(reasons: impl Iterator<Item = (&'a str, u64)>, count: usize, separator: &str) -> String {
    let mut sorted: Vec<_> = reasons.collect();
    sorted.sort_by(|(a, n), (b, m)| m.cmp(n).then(a.cmp(b)));
    let rest: u64 = sorted.iter().skip(count).map(|(_, n)| n).sum();
    let shown = sorted.iter().take(count).map(|(reason, n)| format!("{n} {}", printable(reason)));
    let rest = (rest > 0).then(|| format!("{rest} other"));
    let parts: Vec<_> = shown.chain(rest).collect();
    if parts.is_empty() { UNKNOWN.to_owned() } else { parts.join(separator) }
}

fn or_unknown(value: Option<impl ToString>) -> String {
    value.map_or(UNKNOWN.to_owned(), |value| value.to_string())
}

fn rate(rate: Option<f64>) -> String {
    rate.map_or(UNKNOWN.to_owned(), |rate| format!("{rate:.1}"))
}

#[cfg(test)]
mod tests;
