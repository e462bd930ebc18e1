//! What the wait probes left in the kernel's maps.

use std::io;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Map, MapData};
use observer_ebpf::abi::{Group, Parked, ParkedKey, WaitCounts, WaitKey};
use rustc_hash::FxHashMap;
use rustix::time::{ClockId, clock_gettime};

use super::links::{Removed, locked};
use super::{OnTime, ProbeError, ReasonWaits, TargetWaits, Waits, batch};

/// The maps `WAITS` and `PARKED`, and the times of targets that nothing is measured in any more.
pub(super) struct WaitMaps {
    waits: MapData,
    parked: MapData,
    cpus: usize,
    /// When measuring ended, in `CLOCK_MONOTONIC` nanoseconds, and for how long it was on; by slot.
    closed: Mutex<FxHashMap<u64, (u64, OnTime)>>,
}

impl WaitMaps {
    pub(super) fn take(ebpf: &mut Ebpf, cpus: usize) -> Result<Self, ProbeError> {
        let waits = match ebpf.take_map("WAITS") {
            Some(Map::PerCpuHashMap(map)) => map,
            _ => return Err(ProbeError::Object("map WAITS")),
        };
        let parked = match ebpf.take_map("PARKED") {
            Some(Map::HashMap(map)) => map,
            _ => return Err(ProbeError::Object("map PARKED")),
        };
        Ok(Self { waits, parked, cpus, closed: Mutex::default() })
    }

    /// Remembers for how long a group was on that has just been removed.
    pub(super) fn closed(&self, removed: Removed) {
        let Removed { slot, group, begin, on } = removed;
        if group == Group::Waits {
            locked(&self.closed)
                .insert(slot, (monotonic_ns().saturating_sub(nanoseconds(begin.elapsed())), on));
        }
    }

    /// Forgets what a group has measured that couldn't be attached.
    pub(super) fn discard(&self, slot: u64, group: Group) -> Result<(), ProbeError> {
        match group {
            Group::Waits => self.take_slot(slot).map(drop),
            Group::Lifecycle => Ok(()),
        }
    }

    /// What was measured so far in targets where measuring is on, for as long as `on` says; also where that is
    /// nothing.
    pub(super) fn read(&self, on: &FxHashMap<u64, OnTime>) -> Result<Waits, ProbeError> {
        let nothing = |on: &OnTime| TargetWaits { on: *on, ..TargetWaits::default() };
        let mut waits: Waits = on.iter().map(|(slot, on)| (*slot, nothing(on))).collect();
        if waits.is_empty() {
            return Ok(waits);
        }
        let now = monotonic_ns();
        self.for_each_wait(|key, counts| {
            if let Some(target) = waits.get_mut(&key.slot) {
                target.reason(key.reason).counts = counts;
            }
        })?;
        self.for_each_parked(|key, parked| {
            if let Some(target) = waits.get_mut(&key.slot) {
                target.look_at(&parked, now);
            }
        })?;
        Ok(waits)
    }

    /// Returns a target's waits and deletes them.
    pub(super) fn take_slot(&self, slot: u64) -> Result<TargetWaits, ProbeError> {
        let (end, on) = locked(&self.closed).remove(&slot).unwrap_or_default();
        let mut taken = TargetWaits { on, ..TargetWaits::default() };
        let (mut waits, mut descriptors) = (Vec::new(), Vec::new());
        self.for_each_wait(|key, counts| {
            if key.slot == slot {
                taken.reason(key.reason).counts = counts;
                waits.push(key);
            }
        })?;
        self.for_each_parked(|key, parked| {
            if key.slot == slot {
                taken.look_at(&parked, end);
                descriptors.push(key);
            }
        })?;
        batch::delete(self.waits.fd().as_fd(), &waits).map_err(waits_error)?;
        batch::delete(self.parked.fd().as_fd(), &descriptors).map_err(parked_error)?;
        Ok(taken)
    }

    fn for_each_wait(&self, each: impl FnMut(WaitKey, WaitCounts)) -> Result<(), ProbeError> {
        batch::for_each(self.waits.fd().as_fd(), self.cpus, each).map_err(waits_error)
    }

    fn for_each_parked(&self, each: impl FnMut(ParkedKey, Parked)) -> Result<(), ProbeError> {
        batch::for_each(self.parked.fd().as_fd(), 1, each).map_err(parked_error)
    }
}

impl TargetWaits {
    fn reason(&mut self, reason: u64) -> &mut ReasonWaits {
        // The kernel side read it from one byte.
        self.reasons.entry(reason as u8).or_default()
    }

    /// Counts what is known of one goroutine, of a measurement that ended at `end`.
    fn look_at(&mut self, parked: &Parked, end: u64) {
        let measured = end.saturating_sub(nanoseconds(self.on.complete))..=end;
        if parked.parked_at != 0 {
            self.reason(parked.reason).open += 1;
        }
        // Before and after, other waits than those that parked in time are woken.
        if measured.contains(&parked.woken_unseen_at) {
            self.reason(parked.woken_reason).unknown_start += 1;
        }
    }
}

/// The clock of the kernel side.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn waits_error(source: io::Error) -> ProbeError {
    ProbeError::Map { map: "WAITS", source }
}

fn parked_error(source: io::Error) -> ProbeError {
    ProbeError::Map { map: "PARKED", source }
}
