//! The text that Go prints for `debug=1`: stacks with the number of goroutines that have them.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::io::{self, Write};

use rustc_hash::FxHashMap;

use super::Names;
use super::groups::Groups;
use super::quote;
use crate::gobin::frames::Frame;

/// Columns of a tab stop, as Go's writer has them.
const TAB: usize = 8;

pub(super) fn write(out: &mut impl Write, names: &mut Names, groups: &Groups) -> io::Result<()> {
    writeln!(out, "goroutine profile: total {}", groups.total())?;
    for (key, frames, count) in stacks(names, groups) {
        writeln!(out, "{count} @{key}")?;
        out.write_all(lines(&frames).as_bytes())?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// Addresses with labels, frames and number of goroutines of each stack, the most frequent first.
fn stacks(names: &mut Names, groups: &Groups) -> Vec<(String, Vec<Frame>, u64)> {
    let mut counts: FxHashMap<String, (Vec<Frame>, u64)> = FxHashMap::default();
    for group in groups.sorted() {
        let frames = names.frames_of(groups, &group.key);
        let mut key = frames.iter().fold(String::new(), |mut text, frame| {
            _ = write!(text, " {:#x}", frame.pc);
            text
        });
        if let Some(labels) = groups.labels(&group.key).filter(|_| !key.is_empty()) {
            _ = write!(key, "\n# labels: {}", quote::labels(labels));
        }
        if !key.is_empty() {
            counts.entry(key).or_insert((frames, 0)).1 += group.count;
        }
    }
    let mut stacks: Vec<_> = counts.into_iter().map(|(key, (frames, count))| (key, frames, count)).collect();
    stacks.sort_by(|a, b| (Reverse(a.2), &a.0).cmp(&(Reverse(b.2), &b.0)));
    stacks
}

fn lines(frames: &[Frame]) -> String {
    let hidden =
        |frame: &Frame| frame.linked.starts_with("runtime.") || frame.linked.starts_with("internal/runtime/");
    let inner = frames.iter().position(|frame| !hidden(frame)).unwrap_or(0);
    let rows: Vec<[String; 3]> = frames
        .iter()
        .skip(inner)
        .filter(|frame| &*frame.linked != "runtime.goexit")
        .map(|frame| {
            let call = frame.pc.wrapping_sub(1);
            [
                format!("{call:#x}"),
                format!("{}+{:#x}", frame.function, call.wrapping_sub(frame.entry)),
                format!("{}:{}", frame.file, frame.line),
            ]
        })
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1)];
    let mut text = String::new();
    for [pc, function, place] in &rows {
        _ = writeln!(text, "#\t{}{}{place}", padded(pc, widths[0]), padded(function, widths[1]));
    }
    text
}

/// A cell and the tabs behind it, in a column whose widest cell has `width` characters.
fn padded(cell: &str, width: usize) -> String {
    let column = (width + 1).next_multiple_of(TAB);
    let tabs = (column - cell.chars().count()).div_ceil(TAB);
    format!("{cell}{}", "\t".repeat(tabs))
}
