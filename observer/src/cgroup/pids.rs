//! The pids controller: threads and processes. v1 and v2 have the same files.

use super::group::{Group, Reader, settle};
use super::values::{keyed, limit, number};
use super::{Gone, Limit};

/// Tasks (threads of all processes) of a group.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pids {
    /// Effective `pids.max`.
    pub limit: Option<Limit<u64>>,
    /// Tasks charged to the group now.
    pub current: Option<u64>,
    /// Tasks charged to the binding cgroup now, when that is another one: what counts against the limit.
    pub binding_current: Option<u64>,
    /// The most there ever were (Linux 6.0 and newer); may be a minute old.
    pub peak: Option<u64>,
    /// Forks and new threads that a limit refused, since the group was made: those that its own limit refused
    /// (v2 from Linux 6.11 on), or those that tasks of the group tried (v1, and v2 before).
    pub refused: Option<u64>,
    /// The same of the binding cgroup, when that is another one.
    pub binding_refused: Option<u64>,
}

/// Reads the values of a group.
pub(super) fn read(reader: &mut Reader<'_>, group: Group<'_>) -> Result<Pids, Gone> {
    // Only a task that runs makes another one or ends.
    let current = |reader: &mut Reader<'_>, level| {
        settle(reader.count(group, level, "pids.current", |text| number(text).map(Some)))
    };
    let limit = settle(
        reader.effective(group, "pids.max", |reader, level| reader.limit(group, level, "pids.max", limit)),
    )?;
    // Where nothing limits, nothing is refused any more.
    let limited = limit.is_some();
    let refused = |reader: &mut Reader<'_>, level| {
        let parse = |text: &str| keyed(text, "max");
        settle(match limited {
            true => reader.count(group, level, "pids.events", parse),
            false => reader.slow(group, level, "pids.events", parse),
        })
    };
    let binding = limit.as_ref().map_or(0, |limit| limit.level as usize);
    let above = binding != 0;
    Ok(Pids {
        current: current(reader, 0)?,
        binding_current: if above { current(reader, binding)? } else { None },
        peak: settle(reader.slow(group, 0, "pids.peak", |text| number(text).map(Some)))?,
        refused: refused(reader, 0)?,
        binding_refused: if above { refused(reader, binding)? } else { None },
        limit,
    })
}
