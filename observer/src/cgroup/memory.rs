//! The memory controller: limits, use, and what happened at the limits.

use super::group::{Group, Reader, Value, settle};
use super::hierarchy::Version;
use super::values::{Malformed, keyed, limit, number};
use super::{Gone, Limit};

/// Memory use of a group.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// Effective hard limit in bytes. The kernel rounds what is written down to whole pages, and shows only that.
    pub limit_bytes: Option<Limit<u64>>,
    /// Bytes charged to the group now.
    pub usage_bytes: Option<u64>,
    /// Bytes charged to the binding cgroup now, when that is another one: what counts against the limit.
    pub binding_usage_bytes: Option<u64>,
    /// Effective `memory.high` (v2): above it the group is slowed down to reclaim.
    pub high_bytes: Option<Limit<u64>>,
    /// `memory.low` of the group (v2): best-effort protection, bytes.
    pub low_bytes: Option<u64>,
    /// `memory.min` of the group (v2): hard protection, bytes.
    pub min_bytes: Option<u64>,
    /// The most that was ever charged; may be a minute old. v1, and v2 from Linux 5.19 on.
    pub peak_bytes: Option<u64>,
    /// Swap in use, bytes (v1: where swap is accounted for); may be a minute old.
    pub swap_bytes: Option<u64>,
    /// Effective limit of swap, bytes (v2).
    pub swap_limit_bytes: Option<Limit<u64>>,
    /// Effective limit of memory and swap together, bytes (v1).
    pub memory_and_swap_limit_bytes: Option<Limit<u64>>,
    /// Whether tasks that find no memory are stopped instead of killed (v1: `oom_kill_disable`).
    pub oom_kill_disabled: Option<bool>,
    /// What happened in the group and below it.
    pub events: MemoryEvents,
    /// The same of the binding cgroup, when that is another one.
    pub binding_events: Option<MemoryEvents>,
}

/// How often something happened, since the group was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryEvents {
    /// Reclaimed although below `low` (v2).
    pub low: Option<u64>,
    /// Slowed down above `high` (v2).
    pub high: Option<u64>,
    /// An allocation met the hard limit (v1: `failcnt`).
    pub max: Option<u64>,
    /// Reclaim didn't help, and an allocation was about to fail (v2).
    pub oom: Option<u64>,
    /// Processes that the kernel killed.
    pub oom_kill: Option<u64>,
}

impl MemoryEvents {
    /// Each event with its name in `memory.events`.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, Option<u64>); 5] {
        [
            ("low", self.low),
            ("high", self.high),
            ("max", self.max),
            ("oom", self.oom),
            ("oom_kill", self.oom_kill),
        ]
    }
}

/// Names of one version's files.
struct Names {
    limit: &'static str,
    usage: &'static str,
    peak: &'static str,
}

/// Reads the values of a group.
pub(super) fn read(reader: &mut Reader<'_>, group: Group<'_>) -> Result<Memory, Gone> {
    let names = match group.version() {
        Version::V1 => Names {
            limit: "memory.limit_in_bytes",
            usage: "memory.usage_in_bytes",
            peak: "memory.max_usage_in_bytes",
        },
        Version::V2 => Names { limit: "memory.max", usage: "memory.current", peak: "memory.peak" },
    };
    let usage = |reader: &mut Reader<'_>, level| {
        settle(reader.get(group, level, names.usage, |text| number(text).map(Some)))
    };
    let limit_bytes = settle(
        reader.effective(group, names.limit, |reader, level| at_level(reader, group, level, names.limit)),
    )?;
    let binding = limit_bytes.as_ref().map_or(0, |limit| limit.level as usize);
    let mut memory = Memory {
        usage_bytes: usage(reader, 0)?,
        binding_usage_bytes: if binding == 0 { None } else { usage(reader, binding)? },
        peak_bytes: settle(reader.slow(group, 0, names.peak, |text| number(text).map(Some)))?,
        events: events(reader, group, 0)?,
        binding_events: if binding == 0 { None } else { Some(events(reader, group, binding)?) },
        limit_bytes,
        ..Memory::default()
    };
    match group.version() {
        Version::V1 => v1_settings(reader, group, &mut memory)?,
        Version::V2 => v2_settings(reader, group, &mut memory)?,
    }
    Ok(memory)
}

/// What only v1 has: swap is counted together with memory, and the killer can be turned off.
fn v1_settings(reader: &mut Reader<'_>, group: Group<'_>, memory: &mut Memory) -> Result<(), Gone> {
    const LIMIT: &str = "memory.memsw.limit_in_bytes";
    let limit = reader.effective(group, LIMIT, |reader, level| {
        let Some(value) = reader.slow(group, level, LIMIT, limit)? else { return Ok(None) };
        passed_up(reader, group, level, value)
    });
    memory.memory_and_swap_limit_bytes = settle(limit)?;
    memory.swap_bytes = settle(reader.slow(group, 0, "memory.stat", |text| keyed(text, "swap")))?;
    memory.oom_kill_disabled =
        settle(reader.slow(group, 0, "memory.oom_control", |text| keyed(text, "oom_kill_disable")))?
            .map(|disabled| disabled != 0);
    Ok(())
}

/// What only v2 has, and what changes only when somebody changes it.
fn v2_settings(reader: &mut Reader<'_>, group: Group<'_>, memory: &mut Memory) -> Result<(), Gone> {
    let limits = |reader: &mut Reader<'_>, file| {
        settle(reader.effective(group, file, |reader, level| reader.slow(group, level, file, limit)))
    };
    memory.high_bytes = limits(reader, "memory.high")?;
    memory.swap_limit_bytes = limits(reader, "memory.swap.max")?;
    let own = |reader: &mut Reader<'_>, file| settle(reader.slow(group, 0, file, limit));
    memory.low_bytes = own(reader, "memory.low")?;
    memory.min_bytes = own(reader, "memory.min")?;
    memory.swap_bytes = own(reader, "memory.swap.current")?;
    Ok(())
}

/// The hard limit of one level, if it counts for the own group.
fn at_level(reader: &mut Reader<'_>, group: Group<'_>, level: usize, file: &'static str) -> Value<u64> {
    let Some(value) = reader.limit(group, level, file, limit)? else { return Ok(None) };
    passed_up(reader, group, level, value)
}

/// The limit, if it counts for the own group: in v1 an ancestor's does only where charges are passed up
/// (`memory.use_hierarchy`), which is then so for all groups below it.
fn passed_up(reader: &mut Reader<'_>, group: Group<'_>, level: usize, value: u64) -> Value<u64> {
    if level == 0 || group.version() == Version::V2 {
        return Ok(Some(value));
    }
    let passed_up = reader.slow(group, level, "memory.use_hierarchy", |text| number(text).map(Some))?;
    Ok((passed_up != Some(0)).then_some(value))
}

fn events(reader: &mut Reader<'_>, group: Group<'_>, level: usize) -> Result<MemoryEvents, Gone> {
    let events: Value<MemoryEvents> = match group.version() {
        Version::V2 => reader.count(group, level, "memory.events", v2_events),
        Version::V1 => {
            return Ok(MemoryEvents {
                max: settle(reader.count(group, level, "memory.failcnt", |text| number(text).map(Some)))?,
                oom_kill: settle(
                    reader.count(group, level, "memory.oom_control", |text| keyed(text, "oom_kill")),
                )?,
                ..MemoryEvents::default()
            });
        }
    };
    Ok(settle(events)?.unwrap_or_default())
}

fn v2_events(text: &str) -> Result<Option<MemoryEvents>, Malformed> {
    Ok(Some(MemoryEvents {
        low: keyed(text, "low")?,
        high: keyed(text, "high")?,
        max: keyed(text, "max")?,
        oom: keyed(text, "oom")?,
        oom_kill: keyed(text, "oom_kill")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text recorded from v2, kernel 6.12: names that begin alike are told apart.
    #[test]
    fn reads_v2_events() {
        let text = "low 0\nhigh 4\nmax 112\noom 2\noom_kill 1\noom_group_kill 0\n";
        let events = v2_events(text).expect("well formed").expect("events");
        let expected = [("low", 0), ("high", 4), ("max", 112), ("oom", 2), ("oom_kill", 1)];
        assert_eq!(events.named(), expected.map(|(name, count)| (name, Some(count))));
        assert_eq!(v2_events("max -1\n"), Err(Malformed));
    }
}
