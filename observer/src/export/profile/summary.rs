//! What the goroutines do, for people: equal ones counted together, the most frequent first.

use std::cmp::Reverse;
use std::io::{self, Write};
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::groups::{Group, Groups};
use super::stack::{shown, shown_name};
use super::{End, Names, Subject};
use crate::gobin::frames::Frame;

/// Groups that are shown: more belong into a tool.
const MAX_ROWS: usize = 40;
/// Functions of one stack that are shown.
const MAX_LINES: usize = 24;

/// What goroutines of a group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    /// Stack, state and creator.
    Stack,
    /// The `go` statement that created them.
    CreatedBy,
    /// The function that they run.
    Entry,
    /// What they wait for.
    WaitReason,
}

pub(super) fn write(
    out: &mut impl Write,
    subject: &Subject,
    names: &mut Names,
    groups: &Groups,
    by: GroupBy,
    end: &End,
) -> io::Result<()> {
    writeln!(
        out,
        "{} (pid {}, {}): {} goroutines{}",
        subject.process,
        subject.pid,
        subject.go_version,
        groups.total(),
        if end.missing().is_none() { "" } else { ", and some that were not seen" }
    )?;
    if by == GroupBy::Stack { stacks(out, names, groups) } else { table(out, names, groups, by) }?;
    if groups.ungrouped > 0 {
        writeln!(out, "\n{} goroutines are not shown: there are too many different ones", groups.ungrouped)?;
    }
    Ok(())
}

fn stacks(out: &mut impl Write, names: &mut Names, groups: &Groups) -> io::Result<()> {
    let sorted = groups.sorted();
    for group in sorted.iter().take(MAX_ROWS) {
        stack(out, names, groups, group)?;
    }
    rest(out, sorted.iter().skip(MAX_ROWS).map(|group| group.count))
}

fn stack(out: &mut impl Write, names: &mut Names, groups: &Groups, group: &Group) -> io::Result<()> {
    let key = &group.key;
    let example = if group.count == 1 { "goroutine" } else { "such as goroutine" };
    writeln!(
        out,
        "\n{:>7}  {}{}, {example} {}",
        group.count,
        names.state(key),
        age(group.waited_at_most),
        group.example
    )?;
    if let Some(missing) = key.condition.missing() {
        writeln!(out, "{:9}(stack not known, or not all of it: {missing})", "")?;
    }
    let frames = shown(names.frames_of(groups, key), names.frames.version());
    for frame in frames.iter().take(MAX_LINES) {
        place(out, "", frame)?;
    }
    let elided = key.stack.map_or(0, |number| groups.elided(number));
    let more = frames.len().saturating_sub(MAX_LINES) as u64 + elided;
    if more > 0 {
        writeln!(out, "{:9}and {more} functions further out", "")?;
    }
    match names.frames.creator(key.gopc) {
        Some(creator) if &*names.frames.entry(key.entry) != "runtime.main" => {
            place(out, "created by ", &creator)
        }
        _ => Ok(()),
    }
}

fn place(out: &mut impl Write, what: &str, frame: &Frame) -> io::Result<()> {
    writeln!(out, "{:9}{what}{}  {}:{}", "", shown_name(frame), frame.file, frame.line)
}

/// Goroutines that have a name in common.
#[derive(Default)]
struct Row {
    count: u64,
    waited_at_most: Option<f64>,
    states: FxHashMap<String, u64>,
}

fn table(out: &mut impl Write, names: &mut Names, groups: &Groups, by: GroupBy) -> io::Result<()> {
    let mut rows: FxHashMap<String, Row> = FxHashMap::default();
    for group in groups.sorted() {
        let state = names.state(&group.key);
        let row = rows.entry(name(names, group, by)).or_default();
        row.count += group.count;
        row.waited_at_most = row.waited_at_most.into_iter().chain(group.waited_at_most).reduce(f64::max);
        *row.states.entry(state).or_default() += group.count;
    }
    let mut rows: Vec<(String, Row)> = rows.into_iter().collect();
    rows.sort_by(|a, b| (Reverse(a.1.count), &a.0).cmp(&(Reverse(b.1.count), &b.0)));
    writeln!(out)?;
    for (name, row) in rows.iter().take(MAX_ROWS) {
        let states = if by == GroupBy::WaitReason { String::new() } else { format!("  ({})", states(row)) };
        writeln!(out, "{:>7}  {name}{}{states}", row.count, age(row.waited_at_most))?;
    }
    rest(out, rows.iter().skip(MAX_ROWS).map(|(_, row)| row.count))
}

fn name(names: &mut Names, group: &Group, by: GroupBy) -> String {
    let entry = names.frames.entry(group.key.entry);
    match by {
        GroupBy::Stack | GroupBy::WaitReason => names.state(&group.key),
        GroupBy::Entry => entry.to_string(),
        GroupBy::CreatedBy => match names.frames.creator(group.key.gopc) {
            Some(creator) if &*entry != "runtime.main" => {
                format!("{} -> {entry}  {}:{}", shown_name(&creator), creator.file, creator.line)
            }
            _ => format!("-> {entry}"),
        },
    }
}

/// The most frequent states in words.
fn states(row: &Row) -> String {
    const SHOWN: usize = 3;
    let mut states: Vec<_> = row.states.iter().collect();
    states.sort_by_key(|(name, count)| (Reverse(**count), *name));
    let more = if states.len() > SHOWN { ", …" } else { "" };
    let shown: Vec<_> = states.iter().take(SHOWN).map(|(name, count)| format!("{count} {name}")).collect();
    shown.join(", ") + more
}

/// An upper bound, and called one: the runtime notes when it first saw a goroutine wait, not when it began.
fn age(waited_at_most: Option<f64>) -> String {
    match waited_at_most {
        Some(seconds) if seconds.is_finite() => {
            format!(
                ", for at most {}",
                humantime::format_duration(Duration::from_secs(seconds.ceil() as u64))
            )
        }
        _ => String::new(),
    }
}

fn rest(out: &mut impl Write, counts: impl Iterator<Item = u64>) -> io::Result<()> {
    let (rows, count) = counts.fold((0u64, 0u64), |(rows, sum), count| (rows + 1, sum + count));
    if rows > 0 {
        writeln!(out, "\n{count:>7}  in {rows} more groups; --format debug1 or json shows all")?;
    }
    Ok(())
}
