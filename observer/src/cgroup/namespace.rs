//! Where the root of observer's own cgroup namespace lies in the host's tree.
//!
//! Inside a namespace the kernel names other groups by way of its root: `/../../pod/container`. The names of
//! the levels it goes up are not shown anywhere, yet they are part of the path below the host's mount. So
//! observer finds the group that lists itself.

use std::ffi::OsString;
use std::fs::{File, read_dir};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::hierarchy::{Hierarchy, bytes};
use super::membership;
use super::path::GroupPath;

/// Groups looked at before giving up.
const MAX_GROUPS: usize = 100_000;
/// Longest `cgroup.procs` that is read, in bytes.
const MAX_PROCS: u64 = 1 << 20;

/// Names of the levels from the mount's top (`root`) down to the namespace's root. Empty when there are none,
/// or when observer isn't found; fewer when observer itself has left the namespace's root upwards.
pub(super) fn levels_above(proc: &Path, hierarchy: &Hierarchy, root: &GroupPath) -> Vec<Box<[u8]>> {
    if root.up == 0 || !root.names.is_empty() {
        return Vec::new();
    }
    let Some(own) = own_path(proc, hierarchy) else { return Vec::new() };
    let Some(above) = root.up.checked_sub(own.up) else { return Vec::new() };
    let names = find_self(&hierarchy.point, above + own.names.len()).unwrap_or_default();
    names.into_iter().take(above).collect()
}

/// Observer's own group, as the namespace shows it.
fn own_path(proc: &Path, hierarchy: &Hierarchy) -> Option<GroupPath> {
    let text = membership::read(&proc.join("self/cgroup")).ok()?;
    text.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.splitn(3, |&byte| byte == b':').skip(1);
        let (labels, path) = (fields.next()?, fields.next()?);
        if hierarchy.is_listed_as(labels) { GroupPath::parse(path) } else { None }
    })
}

/// Names on the way to the group at `depth` below `top` that lists this process.
fn find_self(top: &Path, depth: usize) -> Option<Vec<Box<[u8]>>> {
    let mut waiting: Vec<(PathBuf, usize)> = vec![(top.to_owned(), 0)];
    let mut looked_at = 0;
    while let Some((folder, level)) = waiting.pop() {
        looked_at += 1;
        if looked_at > MAX_GROUPS {
            return None;
        }
        if level == depth {
            if lists_self(&folder) {
                let names = bytes(&folder).strip_prefix(bytes(top))?.split(|&byte| byte == b'/');
                return Some(names.filter(|name| !name.is_empty()).map(Box::from).collect());
            }
            continue;
        }
        let children = read_dir(&folder).into_iter().flatten().flatten();
        let groups = children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        waiting.extend(groups.map(|entry| (entry.path(), level + 1)));
    }
    None
}

/// Whether this process is in a group.
fn lists_self(folder: &Path) -> bool {
    let own = std::process::id().to_string();
    let Ok(file) = File::open(folder.join("cgroup.procs")) else { return false };
    let lines = BufReader::new(file.take(MAX_PROCS)).split(b'\n');
    lines.map_while(Result::ok).any(|line| OsString::from_vec(line) == own.as_str())
}
