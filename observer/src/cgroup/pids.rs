//! The pids controller: threads and processes. v1 and v2 have the same files.

use super::group::{Group, Reader, settle};
use super::values::{limit, number};
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
}

/// Reads the values of a group.
pub(super) fn read(reader: &mut Reader<'_>, group: Group<'_>) -> Result<Pids, Gone> {
    let current = |reader: &mut Reader<'_>, level| {
        settle(reader.get(group, level, "pids.current", |text| number(text).map(Some)))
    };
    let limit = settle(
        reader.effective(group, "pids.max", |reader, level| reader.get(group, level, "pids.max", limit)),
    )?;
    let binding = limit.as_ref().map_or(0, |limit| limit.level as usize);
    Ok(Pids {
        current: current(reader, 0)?,
        binding_current: if binding == 0 { None } else { current(reader, binding)? },
        limit,
    })
}
