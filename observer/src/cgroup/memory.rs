//! The memory controller: hard limit and use.

use super::group::{Group, Reader, Value, settle};
use super::hierarchy::Version;
use super::values::{limit, number};
use super::{Gone, Limit};

/// Memory use of a group.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// Effective hard limit in bytes, as the kernel has rounded it.
    pub limit_bytes: Option<Limit<u64>>,
    /// Bytes charged to the group now.
    pub usage_bytes: Option<u64>,
    /// Bytes charged to the binding cgroup now, when that is another one: what counts against the limit.
    pub binding_usage_bytes: Option<u64>,
}

/// Names of one version's files.
struct Names {
    limit: &'static str,
    usage: &'static str,
}

/// Reads the values of a group.
pub(super) fn read(reader: &mut Reader<'_>, group: Group<'_>) -> Result<Memory, Gone> {
    let names = match group.version() {
        Version::V1 => Names { limit: "memory.limit_in_bytes", usage: "memory.usage_in_bytes" },
        Version::V2 => Names { limit: "memory.max", usage: "memory.current" },
    };
    let usage = |reader: &mut Reader<'_>, level| {
        settle(reader.get(group, level, names.usage, |text| number(text).map(Some)))
    };
    let limit_bytes = settle(
        reader.effective(group, names.limit, |reader, level| at_level(reader, group, level, names.limit)),
    )?;
    let binding = limit_bytes.as_ref().map_or(0, |limit| limit.level as usize);
    Ok(Memory {
        usage_bytes: usage(reader, 0)?,
        binding_usage_bytes: if binding == 0 { None } else { usage(reader, binding)? },
        limit_bytes,
    })
}

/// The limit of one level, if it counts for the own group: in v1 an ancestor's does only where charges are
/// passed up (`memory.use_hierarchy`), which is then so for all groups below it.
fn at_level(reader: &mut Reader<'_>, group: Group<'_>, level: usize, file: &'static str) -> Value<u64> {
    let Some(value) = reader.get(group, level, file, limit)? else { return Ok(None) };
    if level == 0 || group.version() == Version::V2 {
        return Ok(Some(value));
    }
    let passed_up = reader.get(group, level, "memory.use_hierarchy", |text| number(text).map(Some))?;
    Ok((passed_up != Some(0)).then_some(value))
}
