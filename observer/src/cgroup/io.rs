//! The io controller (blkio in v1): the group's share of block devices, its limits there, and what it did.

use std::collections::BTreeMap;

use super::Gone;
use super::group::{Group, Reader, Value, settle};
use super::hierarchy::Version;
use super::values::{Malformed, keyed, limit, number};

/// Devices of one group that are kept.
const MAX_DEVICES: usize = 64;

/// Shares of block devices.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Io {
    /// The group's weight against its siblings, on the kernel's own scale: 100 is the default of v2 and of
    /// v1's bfq, 500 that of v1's cfq. `None` = no scheduler here gives weights a meaning, or the controller
    /// isn't enabled for the group: then all groups are equal.
    pub weight: Option<u64>,
    /// The default on that scale.
    pub default_weight: Option<u64>,
    /// What the group did on each device, and may do there; all of it may be a minute old.
    pub devices: BTreeMap<Device, DeviceIo>,
}

/// Major and minor number of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device(pub u32, pub u32);

/// One group on one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceIo {
    /// Bytes and requests since the group was made, those of groups below it included. A group that never used
    /// the device has none.
    pub read_bytes: u64,
    /// See `read_bytes`.
    pub written_bytes: u64,
    /// See `read_bytes`.
    pub reads: u64,
    /// See `read_bytes`.
    pub writes: u64,
    /// Limits per second: in v2 the tightest on the way to the root, in v1, where limits of ancestors don't
    /// count, the group's own. `None` = unlimited.
    pub read_bytes_limit: Option<u64>,
    /// See `read_bytes_limit`.
    pub written_bytes_limit: Option<u64>,
    /// See `read_bytes_limit`.
    pub reads_limit: Option<u64>,
    /// See `read_bytes_limit`.
    pub writes_limit: Option<u64>,
}

type Devices = BTreeMap<Device, DeviceIo>;
type Slot = fn(&mut DeviceIo) -> &mut u64;
type LimitSlot = fn(&mut DeviceIo) -> &mut Option<u64>;

/// Files that hold the weight, first found first, with their default.
const V1: [(&str, u64); 2] = [("blkio.bfq.weight", 100), ("blkio.weight", 500)];
const V2: [(&str, u64); 2] = [("io.weight", 100), ("io.bfq.weight", 100)];

/// Keys of `io.stat`.
const STAT: [(&str, Slot); 4] = [
    ("rbytes", |io| &mut io.read_bytes),
    ("wbytes", |io| &mut io.written_bytes),
    ("rios", |io| &mut io.reads),
    ("wios", |io| &mut io.writes),
];
/// Keys of `io.max`.
const MAX: [(&str, LimitSlot); 4] = [
    ("rbps", |io| &mut io.read_bytes_limit),
    ("wbps", |io| &mut io.written_bytes_limit),
    ("riops", |io| &mut io.reads_limit),
    ("wiops", |io| &mut io.writes_limit),
];
/// v1's files of counters, with the slots of reads and writes.
const V1_STAT: [(&str, Slot, Slot); 2] = [
    ("blkio.throttle.io_service_bytes_recursive", |io| &mut io.read_bytes, |io| &mut io.written_bytes),
    ("blkio.throttle.io_serviced_recursive", |io| &mut io.reads, |io| &mut io.writes),
];
/// v1's files of limits.
const V1_MAX: [(&str, LimitSlot); 4] = [
    ("blkio.throttle.read_bps_device", |io| &mut io.read_bytes_limit),
    ("blkio.throttle.write_bps_device", |io| &mut io.written_bytes_limit),
    ("blkio.throttle.read_iops_device", |io| &mut io.reads_limit),
    ("blkio.throttle.write_iops_device", |io| &mut io.writes_limit),
];

/// Reads the values of a group.
pub(super) fn read(reader: &mut Reader<'_>, group: Group<'_>) -> Result<Io, Gone> {
    let mut io = Io::default();
    let (files, devices) = match group.version() {
        Version::V1 => (V1, v1_devices(reader, group)?),
        Version::V2 => (V2, v2_devices(reader, group)?),
    };
    io.devices = devices;
    for (file, default) in files {
        let weight: Value<u64> = reader.slow(group, 0, file, weight);
        if let Some(weight) = settle(weight)? {
            (io.weight, io.default_weight) = (Some(weight), Some(default));
            break;
        }
    }
    Ok(io)
}

fn v2_devices(reader: &mut Reader<'_>, group: Group<'_>) -> Result<Devices, Gone> {
    let mut devices = Devices::new();
    settle(reader.slow(group, 0, "io.stat", |text| stat(text, &mut devices).map(Some)))?;
    for level in 0..group.levels() {
        settle(reader.slow(group, level, "io.max", |text| max(text, &mut devices).map(Some)))?;
    }
    Ok(devices)
}

fn v1_devices(reader: &mut Reader<'_>, group: Group<'_>) -> Result<Devices, Gone> {
    let mut devices = Devices::new();
    for (file, reads, writes) in V1_STAT {
        let read = |text: &str| v1_stat(text, reads, writes, &mut devices).map(Some);
        settle(reader.slow(group, 0, file, read))?;
    }
    for (file, slot) in V1_MAX {
        settle(reader.slow(group, 0, file, |text| v1_max(text, slot, &mut devices).map(Some)))?;
    }
    Ok(devices)
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0` for each device.
fn stat(text: &str, devices: &mut Devices) -> Result<(), Malformed> {
    for line in text.lines() {
        let (device, fields) = device_line(line)?;
        let Some(io) = entry(devices, device) else { return Ok(()) };
        for (key, value) in fields.split(' ').filter_map(|field| field.split_once('=')) {
            if let Some((_, slot)) = STAT.iter().find(|(name, _)| *name == key) {
                *slot(io) = number(value)?;
            }
        }
    }
    Ok(())
}

/// `8:0 rbps=max wbps=1048576 riops=max wiops=max` for each device that has a limit.
fn max(text: &str, devices: &mut Devices) -> Result<(), Malformed> {
    for line in text.lines() {
        let (device, fields) = device_line(line)?;
        let Some(io) = entry(devices, device) else { return Ok(()) };
        for (key, value) in fields.split(' ').filter_map(|field| field.split_once('=')) {
            if let Some((_, slot)) = MAX.iter().find(|(name, _)| *name == key) {
                tighten(slot(io), limit(value)?);
            }
        }
    }
    Ok(())
}

/// `8:0 Read 4096`, `8:0 Write 0`, … for each device, and `Total 4096`.
fn v1_stat(text: &str, reads: Slot, writes: Slot, devices: &mut Devices) -> Result<(), Malformed> {
    for line in text.lines().filter(|line| !line.starts_with("Total ")) {
        let (device, rest) = device_line(line)?;
        let (kind, value) = rest.split_once(' ').ok_or(Malformed)?;
        let Some(io) = entry(devices, device) else { return Ok(()) };
        match kind {
            "Read" => *reads(io) = number(value)?,
            "Write" => *writes(io) = number(value)?,
            _ => {}
        }
    }
    Ok(())
}

/// `8:0 1048576` for each device that has a limit.
fn v1_max(text: &str, slot: LimitSlot, devices: &mut Devices) -> Result<(), Malformed> {
    for line in text.lines() {
        let (device, value) = device_line(line)?;
        let Some(io) = entry(devices, device) else { return Ok(()) };
        tighten(slot(io), limit(value)?);
    }
    Ok(())
}

fn tighten(tightest: &mut Option<u64>, limit: Option<u64>) {
    *tightest = [*tightest, limit].into_iter().flatten().min();
}

/// `MAJOR:MINOR` and what follows it.
fn device_line(line: &str) -> Result<(Device, &str), Malformed> {
    let (device, rest) = line.split_once(' ').ok_or(Malformed)?;
    let (major, minor) = device.split_once(':').ok_or(Malformed)?;
    let part = |text| u32::try_from(number(text)?).map_err(|_| Malformed);
    Ok((Device(part(major)?, part(minor)?), rest))
}

/// `None` when there are too many.
fn entry(devices: &mut Devices, device: Device) -> Option<&mut DeviceIo> {
    if devices.len() >= MAX_DEVICES && !devices.contains_key(&device) {
        return None;
    }
    Some(devices.entry(device).or_default())
}

/// `100`, or `default 100` followed by lines for single devices.
fn weight(text: &str) -> Result<Option<u64>, Malformed> {
    match keyed(text, "default")? {
        Some(weight) => Ok(Some(weight)),
        None => number(text).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both forms, as recorded from 6.18 (v1, bfq) and 6.12 (v2).
    #[test]
    fn reads_weights() {
        assert_eq!(weight("100\n"), Ok(Some(100)));
        assert_eq!(weight("default 250\n8:0 50\n"), Ok(Some(250)));
        assert_eq!(weight("8:0 50\n"), Err(Malformed));
        assert_eq!(weight(""), Err(Malformed));
    }

    /// v2: counters by device, and of the limits of several levels the tightest.
    #[test]
    fn reads_devices_of_v2() {
        let mut devices = Devices::new();
        stat("254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n", &mut devices)
            .expect("counters");
        max("254:0 rbps=max wbps=2097152 riops=max wiops=120\n", &mut devices).expect("limits");
        max(
            "254:0 rbps=max wbps=1048576 riops=max wiops=max\n8:16 rbps=5 wbps=max riops=max wiops=max\n",
            &mut devices,
        )
        .expect("limits above");
        let first = devices[&Device(254, 0)];
        assert_eq!((first.read_bytes, first.written_bytes, first.reads, first.writes), (4096, 8192, 1, 2));
        assert_eq!((first.read_bytes_limit, first.written_bytes_limit), (None, Some(1 << 20)));
        assert_eq!((first.reads_limit, first.writes_limit), (None, Some(120)));
        assert_eq!(devices[&Device(8, 16)].read_bytes_limit, Some(5));
    }

    /// v1: one file each, recorded from 6.18.
    #[test]
    fn reads_devices_of_v1() {
        let mut devices = Devices::new();
        let text = "254:0 Read 4096\n254:0 Write 12288\n254:0 Sync 16384\n254:0 Async 0\n254:0 Discard 0\n\
                    254:0 Total 16384\nTotal 16384\n";
        let (_, reads, writes) = V1_STAT[0];
        v1_stat(text, reads, writes, &mut devices).expect("counters");
        v1_max("254:0 1048576\n", V1_MAX[1].1, &mut devices).expect("limits");
        let only = devices[&Device(254, 0)];
        assert_eq!(
            (only.read_bytes, only.written_bytes, only.written_bytes_limit),
            (4096, 12_288, Some(1 << 20))
        );
    }

    /// Nothing is guessed, and a group with endless devices stays small.
    #[test]
    fn refuses_garbage_and_too_much() {
        for text in ["x\n", "8 rbytes=1\n", "8:0 rbytes=-1\n", "a:b rbytes=1\n", "8:99999999999 rbytes=1\n"] {
            assert_eq!(stat(text, &mut Devices::new()), Err(Malformed), "{text}");
        }
        let many: String = (0..1000).map(|minor| format!("8:{minor} rbytes=1\n")).collect();
        let mut devices = Devices::new();
        assert_eq!(stat(&many, &mut devices), Ok(()));
        assert_eq!(devices.len(), MAX_DEVICES);
    }
}
