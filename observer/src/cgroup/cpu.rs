//! The cpu controller: quota, throttling and CPU time.

use super::group::{Group, Reader, Value, settle};
use super::hierarchy::Version;
use super::values::{Malformed, keyed, limit, number};
use super::{Gone, Limit};

/// CPU use and throttling of a group.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cpu {
    /// Effective quota ÷ period, in cores.
    pub limit_cores: Option<Limit<f64>>,
    /// CPU time used by the group, seconds.
    pub usage_seconds: Option<f64>,
    /// Throttling of the group itself, whether or not it has a quota of its own.
    pub throttling: Option<Throttling>,
    /// Throttling of the binding cgroup, when that is another one.
    pub binding_throttling: Option<Throttling>,
    /// Time by which the group may exceed its quota in one period, if it saved it before, in seconds. `None`
    /// where it has no quota of its own, or the kernel is older than 5.14.
    pub burst_seconds: Option<f64>,
    /// The group's weight against its siblings; 1 is the default (v1: 1024 shares, v2: weight 100).
    pub weight: Option<f64>,
}

/// How often and how long one group was throttled, since it was created.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Throttling {
    /// Enforcement periods.
    pub periods: u64,
    /// Periods in which the group was throttled.
    pub throttled_periods: u64,
    /// Time for which it was throttled, seconds. v1 and v2 add up the time on every CPU.
    pub throttled_seconds: f64,
}

/// Reads the values of the cpu and the cpuacct group, which differ on v1; `None` when there is neither.
pub(super) fn read<'a>(
    reader: &mut Reader<'a>,
    cpu: Option<Group<'a>>,
    cpuacct: Option<Group<'a>>,
) -> Result<Option<Cpu>, Gone> {
    if cpu.is_none() && cpuacct.is_none() {
        return Ok(None);
    }
    let mut values = Cpu::default();
    if let Some(group) = cpuacct {
        (values.usage_seconds, values.throttling) = usage(reader, group)?;
    }
    if let Some(group) = cpu {
        values.limit_cores = settle(effective_limit(reader, group))?;
        // In v2 the CPU time's file has it, which was read above.
        if group.version() == Version::V1 || cpuacct.is_none_or(|other| other.version() == Version::V1) {
            values.throttling = settle(throttling(reader, group, 0))?;
        }
        let binding = values.limit_cores.as_ref().map_or(0, |limit| limit.level as usize);
        if binding != 0 {
            values.binding_throttling = settle(throttling(reader, group, binding))?;
        } else if values.limit_cores.is_some() {
            values.burst_seconds = settle(burst(reader, group))?;
        }
        values.weight = settle(weight(reader, group))?;
    }
    Ok(Some(values))
}

/// CPU time, and in v2, where the same file has it, throttling.
fn usage<'a>(reader: &mut Reader<'a>, group: Group<'a>) -> Result<(Option<f64>, Option<Throttling>), Gone> {
    match group.version() {
        Version::V1 => {
            let usage: Value<f64> =
                reader.cpu_time(group, "cpuacct.usage", |text| Ok(Some(number(text)? as f64 / 1e9)));
            Ok((settle(usage)?, None))
        }
        Version::V2 => {
            let both = |text: &str| Ok(Some((v2_usage(text)?, stat(text, "throttled_usec", 1e6)?)));
            Ok(settle(reader.cpu_time(group, "cpu.stat", both))?.unwrap_or_default())
        }
    }
}

fn effective_limit(reader: &mut Reader<'_>, group: Group<'_>) -> Value<Limit<f64>> {
    match group.version() {
        Version::V1 => reader.effective(group, "cpu.cfs_quota_us", |reader, level| {
            let Some(quota) = reader.limit(group, level, "cpu.cfs_quota_us", v1_quota)? else {
                return Ok(None);
            };
            reader.limit(group, level, "cpu.cfs_period_us", |text| cores(quota, number(text)?))
        }),
        Version::V2 => {
            reader.effective(group, "cpu.max", |reader, level| reader.limit(group, level, "cpu.max", v2_max))
        }
    }
}

fn burst(reader: &mut Reader<'_>, group: Group<'_>) -> Value<f64> {
    let file = match group.version() {
        Version::V1 => "cpu.cfs_burst_us",
        Version::V2 => "cpu.max.burst",
    };
    reader.slow(group, 0, file, |text| Ok(Some(number(text)? as f64 / 1e6)))
}

fn weight(reader: &mut Reader<'_>, group: Group<'_>) -> Value<f64> {
    let (file, default) = match group.version() {
        Version::V1 => ("cpu.shares", 1024.0),
        Version::V2 => ("cpu.weight", 100.0),
    };
    reader.slow(group, 0, file, |text| Ok(Some(number(text)? as f64 / default)))
}

fn throttling(reader: &mut Reader<'_>, group: Group<'_>, level: usize) -> Value<Throttling> {
    let (time, per_second) = match group.version() {
        Version::V1 => ("throttled_time", 1e9),
        Version::V2 => ("throttled_usec", 1e6),
    };
    reader.count(group, level, "cpu.stat", |text| stat(text, time, per_second))
}

/// `cpu.cfs_quota_us`: microseconds, −1 = unlimited.
fn v1_quota(text: &str) -> Result<Option<u64>, Malformed> {
    if text.trim_end() == "-1" { Ok(None) } else { limit(text) }
}

/// `cpu.max`: quota or `max`, then the period, both in microseconds.
fn v2_max(text: &str) -> Result<Option<f64>, Malformed> {
    let (quota, period) = text.trim_end().split_once(' ').ok_or(Malformed)?;
    let period = number(period)?;
    limit(quota)?.map_or(Ok(None), |quota| cores(quota, period))
}

fn cores(quota: u64, period: u64) -> Result<Option<f64>, Malformed> {
    if quota == 0 || period == 0 { Err(Malformed) } else { Ok(Some(quota as f64 / period as f64)) }
}

/// `cpu.stat` of v2: the group's CPU time, which is there without the controller as well.
fn v2_usage(text: &str) -> Result<Option<f64>, Malformed> {
    Ok(keyed(text, "usage_usec")?.map(|usage| usage as f64 / 1e6))
}

/// `cpu.stat`: `None` in a v2 group without the cpu controller, which has no such counters.
fn stat(text: &str, time: &str, per_second: f64) -> Result<Option<Throttling>, Malformed> {
    let Some(periods) = keyed(text, "nr_periods")? else { return Ok(None) };
    Ok(Some(Throttling {
        periods,
        throttled_periods: keyed(text, "nr_throttled")?.ok_or(Malformed)?,
        throttled_seconds: keyed(text, time)?.ok_or(Malformed)? as f64 / per_second,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts recorded from a v1 kernel 6.18: counters in periods and nanoseconds.
    #[test]
    fn reads_v1() {
        let text = "nr_periods 25\nnr_throttled 23\nthrottled_time 1820839741\nnr_bursts 0\nburst_time 0\n";
        let expected = Throttling { periods: 25, throttled_periods: 23, throttled_seconds: 1.820_839_741 };
        assert_eq!(stat(text, "throttled_time", 1e9), Ok(Some(expected)));
        assert_eq!(v1_quota("-1\n"), Ok(None));
        assert_eq!(v1_quota("50000\n"), Ok(Some(50_000)));
        assert_eq!(v1_quota("-2\n"), Err(Malformed));
    }

    /// Texts recorded from v2, kernels 6.18 and 6.12: microseconds, and a group without the controller has only the usage.
    #[test]
    fn reads_v2() {
        let without = "usage_usec 253918492\nuser_usec 180458891\nsystem_usec 73459600\nnice_usec 0\n";
        assert_eq!(v2_usage(without), Ok(Some(253.918_492)));
        assert_eq!(stat(without, "throttled_usec", 1e6), Ok(None));
        let with = "usage_usec 2289201\nuser_usec 2272613\nsystem_usec 16588\nnice_usec 0\n\
                    nr_periods 231\nnr_throttled 228\nthrottled_usec 20466682\nnr_bursts 0\nburst_usec 0\n";
        let expected = Throttling { periods: 231, throttled_periods: 228, throttled_seconds: 20.466_682 };
        assert_eq!(stat(with, "throttled_usec", 1e6), Ok(Some(expected)));
        assert_eq!(v2_max("max 100000\n"), Ok(None));
        assert_eq!(v2_max("150000 100000\n"), Ok(Some(1.5)));
    }

    /// Nothing is guessed from a text that lacks a part or holds another thing.
    #[test]
    fn refuses_garbage() {
        for text in ["", "max\n", "max x\n", "50000\n", "50000 0\n", "0 100000\n", "-1 100000\n", "1 2 3\n"] {
            assert_eq!(v2_max(text), Err(Malformed), "{text}");
        }
        for text in ["nr_periods 1\n", "nr_periods 1\nnr_throttled 1\n", "nr_periods x\n"] {
            assert_eq!(stat(text, "throttled_time", 1e9), Err(Malformed), "{text}");
        }
        assert_eq!(v2_max("99999999999999999999999 100000\n"), Ok(None), "more than 64 bits is no limit");
    }
}
