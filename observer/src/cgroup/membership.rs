//! In which groups a process is.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use super::hierarchy::{Hierarchy, Version};
use super::path::GroupPath;
use crate::text::printable_bytes;

/// Longest `/proc/PID/cgroup`: a path of up to 4 KiB for each of some 15 hierarchies.
const MAX_TEXT: u64 = 128 * 1024;
/// Longest path that is shown, in bytes.
const MAX_SHOWN: usize = 4096;
/// What the kernel appends to the path of a v2 group that was removed.
const DELETED: &[u8] = b" (deleted)";

/// The groups of a process, one for each hierarchy: a small value, equal for processes in the same groups.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Membership {
    places: Arc<[Place]>,
    path: Arc<str>,
}

/// A group in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    /// Index into the list of hierarchies.
    hierarchy: usize,
    /// Path below the mount, empty for its top; `None` when the mount doesn't show the group.
    path: Option<Box<[u8]>>,
}

/// One line of `/proc/PID/cgroup` that belongs to a mounted hierarchy.
struct Line<'a> {
    hierarchy: usize,
    path: &'a [u8],
}

impl Membership {
    /// The path to show, below the root of its hierarchy. That is the deepest of the groups that limit CPU,
    /// memory or tasks, of equal ones the unified hierarchy's. Another hierarchy's group is shown
    /// instead where it goes on below that (a systemd unit without resource control), but not where it
    /// differs: on hybrid machines containers often stay in `0::/` or in their manager's group.
    #[must_use]
    pub fn path(&self) -> &Arc<str> {
        &self.path
    }

    /// The group in a hierarchy: `None` = not a member, `Some(None)` = not to be seen from here.
    pub(super) fn place(&self, hierarchy: usize) -> Option<Option<&[u8]>> {
        self.places.iter().find(|place| place.hierarchy == hierarchy).map(|place| place.path.as_deref())
    }

    /// Reads the text of `/proc/PID/cgroup`. `None` when a hierarchy is listed twice or a line is malformed:
    /// old kernels let a group's name contain a line break, which can forge a line.
    pub(super) fn parse(list: &[Hierarchy], text: &[u8]) -> Option<Self> {
        let lines = parse_lines(list, text)?;
        let place = |line: &Line<'_>| Place {
            hierarchy: line.hierarchy,
            path: GroupPath::parse(line.path).and_then(|path| list[line.hierarchy].locate(&path)),
        };
        let all: Vec<Place> = lines.iter().map(place).collect();
        let path = shown(list, &lines, &all);
        let read = |place: &Place| !list[place.hierarchy].controllers.is_empty();
        Some(Self { places: all.into_iter().filter(read).collect(), path })
    }
}

/// The lines of hierarchies that are mounted.
fn parse_lines<'a>(list: &[Hierarchy], text: &'a [u8]) -> Option<Vec<Line<'a>>> {
    let mut lines = Vec::new();
    let mut seen: Vec<&[u8]> = Vec::new();
    for line in text.strip_suffix(b"\n").unwrap_or(text).split(|&byte| byte == b'\n') {
        if text.is_empty() {
            break;
        }
        let mut fields = line.splitn(3, |&byte| byte == b':');
        let (id, labels, path) = (fields.next()?, fields.next()?, fields.next()?);
        if id.is_empty()
            || !id.iter().all(u8::is_ascii_digit)
            || seen.contains(&id)
            || !path.starts_with(b"/")
        {
            return None;
        }
        seen.push(id);
        lines.extend(
            list.iter().position(|h| h.is_listed_as(labels)).map(|hierarchy| Line { hierarchy, path }),
        );
    }
    Some(lines)
}

/// See [`Membership::path`].
fn shown(list: &[Hierarchy], lines: &[Line<'_>], places: &[Place]) -> Arc<str> {
    let candidates = lines.iter().zip(places).map(|(line, place)| {
        let hierarchy = &list[line.hierarchy];
        (hierarchy, full_path(hierarchy, line.path, place))
    });
    let (read, named): (Vec<_>, Vec<_>) =
        candidates.partition(|(h, _)| h.controllers.iter().any(|controller| controller.places()));
    let order = |hierarchy: &Hierarchy| {
        let first = super::Controller::ALL.iter().position(|c| hierarchy.controllers.contains(c));
        (hierarchy.version == Version::V1, first)
    };
    let mut best: Vec<u8> = Vec::new();
    if let Some((_, path)) =
        read.into_iter().min_by_key(|(h, path)| (std::cmp::Reverse(depth(path)), order(h)))
    {
        best = path;
    }
    for (_, path) in named {
        if path.strip_prefix(best.as_slice()).is_some_and(|rest| rest.starts_with(b"/")) {
            best = path;
        }
    }
    if best.is_empty() {
        return Arc::from("/");
    }
    Arc::from(printable_bytes(&best, MAX_SHOWN))
}

/// The path below the hierarchy's root, as far as that is known; empty for the root.
fn full_path(hierarchy: &Hierarchy, line: &[u8], place: &Place) -> Vec<u8> {
    let mut path = match &place.path {
        Some(path) => [&hierarchy.prefix(), path.as_ref()].concat(),
        None => line.strip_suffix(b"/").unwrap_or(line).to_vec(),
    };
    if hierarchy.version == Version::V2 && path.ends_with(DELETED) {
        path.truncate(path.len() - DELETED.len());
    }
    path
}

/// Names in a path; `..` is none.
fn depth(path: &[u8]) -> usize {
    path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b"..").count()
}

/// The text of a file of `/proc`, bounded.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(1024);
    File::open(path)?.take(MAX_TEXT).read_to_end(&mut text)?;
    // What is cut off would be another group's path.
    if text.len() as u64 == MAX_TEXT { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}

/// Whether an error means that there is no such process.
pub(super) fn exited(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code == Some(Errno::NOENT.raw_os_error()) || code == Some(Errno::SRCH.raw_os_error())
}

/// Whether the text may be that of a process that is ending, of which the kernel says `/` in every v1 hierarchy
/// whatever its groups were (`proc_cgroup_show` in `kernel/cgroup/cgroup.c`, for `PF_EXITING`).
pub(super) fn may_be_ending(text: &[u8]) -> bool {
    let v1 = |line: &&[u8]| !line.is_empty() && !line.starts_with(b"0::");
    let mut lines = text.split(|&byte| byte == b'\n').filter(v1).peekable();
    lines.peek().is_some() && lines.all(|line| line.ends_with(b":/"))
}

/// Whether the process with this `/proc/PID/stat` is ending or has ended.
pub(super) fn is_ending(path: &Path) -> bool {
    match read(path) {
        Ok(text) => ends(&text),
        Err(error) => exited(&error),
    }
}

/// Reads `PID (name) STATE PPID PGRP SESSION TTY TPGID FLAGS …`; the name may hold anything.
fn ends(stat: &[u8]) -> bool {
    /// `PF_EXITING` in `include/linux/sched.h`.
    const EXITING: u32 = 4;
    let behind_name = stat.iter().rposition(|&byte| byte == b')').map_or(stat.len(), |at| at + 1);
    let mut fields = stat[behind_name..].split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let ended = fields.next().is_none_or(|state| matches!(state, b"Z" | b"X"));
    let flags = fields.nth(5).and_then(|flags| std::str::from_utf8(flags).ok()?.parse::<u32>().ok());
    ended || flags.is_some_and(|flags| flags & EXITING != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only a process that v1 shows in its root groups everywhere is asked for its state.
    #[test]
    fn knows_who_may_be_ending() {
        assert!(may_be_ending(b"2:cpu:/\n1:name=systemd:/\n0::/a\n"));
        assert!(!may_be_ending(b"2:cpu:/\n1:name=systemd:/a\n0::/\n"));
        assert!(!may_be_ending(b"0::/\n"), "v2 shows the group until the process has been waited for");
    }

    /// A zombie and a process on its way there are told from living ones, whatever their names are.
    #[test]
    fn knows_who_ends() {
        assert!(!ends(b"7 (a) Z 4) S 1 7 7 0 -1 4194560 1 2 3\n"));
        assert!(ends(b"7 (a b) Z 1 7 7 0 -1 4227084 1 2 3\n"));
        assert!(ends(b"7 (a) R 1 7 7 0 -1 4194564 1 2 3\n"), "PF_EXITING");
        assert!(ends(b""), "it has gone between two reads");
    }
}
