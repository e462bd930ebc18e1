//! Reading a group's files at its own level and at every level above.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;

use super::controller::Controller;
use super::files::{Age, Failure, Files, FolderId};
use super::hierarchy::{Hierarchy, Version, bytes};
use super::values::Malformed;
use super::{Gone, Limit, Problem, Reason};
use crate::text::printable_bytes;

/// Levels followed towards the root. Container managers use up to ten; a container that may nest groups
/// could make each reading of its own as long as it likes.
const MAX_LEVELS: usize = 128;

/// A group in one hierarchy.
#[derive(Clone, Copy)]
pub(super) struct Group<'a> {
    pub(super) hierarchy: &'a Hierarchy,
    /// The hierarchy's place in the list of all.
    pub(super) index: usize,
    /// Path below the mount; empty for its top.
    pub(super) path: &'a [u8],
}

impl Group<'_> {
    /// Version of its files.
    pub(super) fn version(&self) -> Version {
        self.hierarchy.version
    }

    /// Levels from the own group up to the mount's top.
    fn depth(&self) -> usize {
        self.path.iter().filter(|&&byte| byte == b'/').count()
    }

    /// Levels that may have limits, its own included: the hierarchy's root has none.
    pub(super) fn levels(&self) -> usize {
        (self.depth() + usize::from(!self.hierarchy.whole)).min(MAX_LEVELS)
    }

    /// Path of the ancestor `level` levels up, below the mount.
    fn ancestor(&self, level: usize) -> &[u8] {
        let mut path = self.path;
        for _ in 0..level {
            let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            path = &path[..end];
        }
        path
    }

    /// The ancestor's path to show.
    fn shown(&self, level: usize) -> Arc<str> {
        let path = [&self.hierarchy.prefix(), self.ancestor(level)].concat();
        if path.is_empty() { Arc::from("/") } else { Arc::from(printable_bytes(&path, 4096)) }
    }
}

/// Why a value is not to be had, where that isn't simply "none".
#[derive(Debug)]
pub(super) enum Stop {
    /// The group has been removed.
    Gone(Gone),
    /// A problem that is on record now.
    Problem,
}

/// `Ok(None)`: the group has no such file or no such value.
pub(super) type Value<T> = Result<Option<T>, Stop>;

/// Reads files of one membership and records what goes wrong.
pub(super) struct Reader<'a> {
    files: &'a mut Files,
    path: Arc<str>,
    problems: Vec<Problem>,
    /// By hierarchy, the folders of the own group and of those above it, as far as they were needed.
    chains: Vec<(usize, Vec<FolderId>)>,
    /// Path of the group whose CPU time is known, and since when that is the same.
    idle: Option<(&'a [u8], Instant)>,
}

impl<'a> Reader<'a> {
    /// `path` is the membership's path to show.
    pub(super) fn new(files: &'a mut Files, path: &Arc<str>) -> Self {
        Self { files, path: Arc::clone(path), problems: Vec::new(), chains: Vec::new(), idle: None }
    }

    /// Everything that went wrong.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Records that no mount shows the controller's group.
    pub(super) fn outside(&mut self, controller: Controller) {
        let path = Arc::clone(&self.path);
        self.problems.push(Problem { file: controller.name(), path, reason: Reason::Outside });
    }

    /// Reads a file of the ancestor `level` levels up, as it is now.
    pub(super) fn get<T>(
        &mut self,
        group: Group<'_>,
        level: usize,
        file: &'static str,
        parse: impl FnOnce(&str) -> Result<Option<T>, Malformed>,
    ) -> Value<T> {
        self.read(group, level, file, parse, if level == 0 { Age::Sweep } else { Age::Shared })
    }

    /// Reads a limit, which may be some seconds old.
    pub(super) fn limit<T>(
        &mut self,
        group: Group<'_>,
        level: usize,
        file: &'static str,
        parse: impl FnOnce(&str) -> Result<Option<T>, Malformed>,
    ) -> Value<T> {
        match level {
            0 => self.read(group, level, file, parse, Age::Limit),
            _ => self.get(group, level, file, parse),
        }
    }

    /// Reads a counter that hardly anything but a task of the group that runs can move: while none does, it may be
    /// as old as a limit.
    pub(super) fn count<T>(
        &mut self,
        group: Group<'_>,
        level: usize,
        file: &'static str,
        parse: impl FnOnce(&str) -> Result<Option<T>, Malformed>,
    ) -> Value<T> {
        if level != 0 {
            return self.get(group, level, file, parse);
        }
        let age = self.idle_since(group).map_or(Age::Sweep, Age::LimitSince);
        self.read(group, level, file, parse, age)
    }

    /// Reads for how long tasks have been held up. If that was seen to stand still while none ran, none is being held
    /// up: it may be as old as a limit.
    pub(super) fn stall<T>(
        &mut self,
        group: Group<'_>,
        file: &'static str,
        parse: impl FnOnce(&str) -> Result<Option<T>, Malformed>,
    ) -> Value<T> {
        let age = self.idle_since(group).map_or(Age::Sweep, Age::StillSince);
        self.read(group, 0, file, parse, age)
    }

    /// Since when none of the group's tasks has run, where that is known.
    fn idle_since(&self, group: Group<'_>) -> Option<Instant> {
        self.idle.filter(|(path, _)| *path == group.path).map(|(_, since)| since)
    }

    /// Reads a group's CPU time. Since it became what it is, none of the group's tasks has run.
    pub(super) fn cpu_time<T>(
        &mut self,
        group: Group<'a>,
        file: &'static str,
        parse: impl FnOnce(&str) -> Result<Option<T>, Malformed>,
    ) -> Value<T> {
        let folder = self.folder(group, 0);
        let (read, since) = match self.files.read_watched(folder, file) {
            Ok((text, since)) => (Ok(text), Some(since)),
            Err(failure) => (Err(failure), None),
        };
        let parsed = parsed(read, parse);
        self.idle = since.map(|since| (group.path, since));
        parsed.or_else(|wrong| self.wrong(group, 0, file, wrong))
    }

    /// Reads a file of which a text of the last minute will do: a setting that people change, or a peak.
    pub(super) fn slow<T>(
        &mut self,
        group: Group<'_>,
        level: usize,
        file: &'static str,
        parse: impl FnOnce(&str) -> Result<Option<T>, Malformed>,
    ) -> Value<T> {
        self.read(group, level, file, parse, Age::Setting)
    }

    fn read<T>(
        &mut self,
        group: Group<'_>,
        level: usize,
        file: &'static str,
        parse: impl FnOnce(&str) -> Result<Option<T>, Malformed>,
        age: Age,
    ) -> Value<T> {
        let folder = self.folder(group, level);
        let value = parsed(self.files.read(folder, file, age), parse);
        value.or_else(|wrong| self.wrong(group, level, file, wrong))
    }

    /// The folder of the ancestor `level` levels up.
    fn folder(&mut self, group: Group<'_>, level: usize) -> FolderId {
        let known = self.chains.iter().position(|(index, _)| *index == group.index);
        let known = known.unwrap_or_else(|| {
            self.chains.push((group.index, Vec::new()));
            self.chains.len() - 1
        });
        let (_, chain) = &mut self.chains[known];
        while chain.len() <= level {
            let path = [bytes(&group.hierarchy.point), group.ancestor(chain.len())].concat();
            chain.push(self.files.folder(&path));
        }
        chain[level]
    }

    /// What it means that there is no value.
    fn wrong<T>(&mut self, group: Group<'_>, level: usize, file: &'static str, wrong: Wrong) -> Value<T> {
        let reason = match wrong {
            Wrong::File(Failure::Absent) => return self.absent(group, level, file),
            Wrong::File(Failure::Removed) => return Err(Stop::Gone(Gone { path: group.shown(0) })),
            Wrong::File(Failure::Off) => return Ok(None),
            Wrong::File(Failure::TooLarge) => Reason::TooLarge,
            Wrong::File(Failure::Io(error)) => reason(&error),
            Wrong::Text => Reason::Malformed,
        };
        Err(self.problem(group, level, file, reason))
    }

    /// The tightest of the limits that `at` reads at each level; of equal ones the nearest.
    ///
    /// The root has no limits. If one level can't be read, the effective limit isn't known.
    pub(super) fn effective<T: PartialOrd>(
        &mut self,
        group: Group<'_>,
        file: &'static str,
        mut at: impl FnMut(&mut Self, usize) -> Value<T>,
    ) -> Value<Limit<T>> {
        let levels = group.depth() + usize::from(!group.hierarchy.whole);
        if levels > MAX_LEVELS {
            return Err(self.problem(group, 0, file, Reason::TooDeep));
        }
        let mut tightest: Option<(T, usize)> = None;
        for level in 0..levels {
            let Some(value) = at(self, level)? else { continue };
            if tightest.as_ref().is_none_or(|(other, _)| value < *other) {
                tightest = Some((value, level));
            }
        }
        Ok(tightest.map(|(value, level)| Limit { value, binding: group.shown(level), level: level as u32 }))
    }

    /// The value of the nearest level that has one, the root included.
    pub(super) fn nearest<T>(
        &mut self,
        group: Group<'_>,
        mut at: impl FnMut(&mut Self, usize) -> Value<T>,
    ) -> Value<T> {
        for level in 0..=group.depth().min(MAX_LEVELS) {
            if let Some(value) = at(self, level)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// A missing file: the group has no such controller, or is no more.
    fn absent<T>(&mut self, group: Group<'_>, level: usize, file: &'static str) -> Value<T> {
        let folder = self.folder(group, level);
        match Path::new(OsStr::from_bytes(self.files.path(folder))).symlink_metadata() {
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Stop::Gone(Gone { path: group.shown(0) }))
            }
            Err(error) => Err(self.problem(group, level, file, reason(&error))),
        }
    }

    /// Puts a problem on record.
    fn problem(&mut self, group: Group<'_>, level: usize, file: &'static str, reason: Reason) -> Stop {
        self.problems.push(Problem { file, path: group.shown(level), reason });
        Stop::Problem
    }
}

/// Why a file gave no value.
enum Wrong {
    File(Failure),
    Text,
}

fn parsed<T>(
    read: Result<&[u8], Failure>,
    parse: impl FnOnce(&str) -> Result<Option<T>, Malformed>,
) -> Result<Option<T>, Wrong> {
    let text = std::str::from_utf8(read.map_err(Wrong::File)?).map_err(|_| Wrong::Text)?;
    parse(text).map_err(|Malformed| Wrong::Text)
}

/// A value that is absent where there is a problem: the problem is on record.
pub(super) fn settle<T>(value: Value<T>) -> Result<Option<T>, Gone> {
    match value {
        Ok(value) => Ok(value),
        Err(Stop::Problem) => Ok(None),
        Err(Stop::Gone(gone)) => Err(gone),
    }
}

/// What an error of the kernel means.
fn reason(error: &io::Error) -> Reason {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::ACCESS | Errno::PERM) => Reason::Denied,
        Some(Errno::MFILE | Errno::NFILE) => Reason::NoDescriptors,
        _ => Reason::Io,
    }
}
