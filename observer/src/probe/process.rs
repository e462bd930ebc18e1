//! What happens to processes, as the kernel sees it.

use std::collections::VecDeque;
use std::error::Error;
use std::fs;
use std::mem::offset_of;
use std::os::unix::fs::MetadataExt;

use aya::Ebpf;
use aya::maps::{Map, MapData, RingBuf};
use aya::programs::RawTracePoint;
use aya::programs::raw_trace_point::RawTracePointLink;
use observer_ebpf::abi::{ProcessChange, ProcessEvent};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use super::ProbeError;
use super::refusal::one_line;

/// Inode of the initial PID namespace on every kernel (`PROC_PID_INIT_INO`,
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/proc_ns.h>).
const INITIAL_PID_NAMESPACE: u64 = 0xeffffffc;

/// Tells which processes execute a program, and which the kernel kills for lack of memory, if it tells that. Dropping
/// it detaches the programs.
pub struct ProcessWatch {
    ring: AsyncFd<RingBuf<MapData>>,
    read: VecDeque<(u32, ProcessChange)>,
    _execs: RawTracePointLink,
    oom_kills: Option<RawTracePointLink>,
}

impl ProcessWatch {
    pub(super) fn new(
        map: Map,
        execs: RawTracePointLink,
        oom_kills: Option<RawTracePointLink>,
    ) -> Result<Self, ProbeError> {
        // Without a runtime, tokio would panic below.
        Handle::try_current().map_err(|error| refused(&error))?;
        let ring = RingBuf::try_from(map).map_err(|error| refused(&error))?;
        Ok(Self { ring: register(ring)?, read: VecDeque::new(), _execs: execs, oom_kills })
    }

    /// Whether it tells of kills for lack of memory.
    #[must_use]
    pub const fn tells_oom_kills(&self) -> bool {
        self.oom_kills.is_some()
    }

    /// The pid of the next process to which something happened, and what.
    ///
    /// Cancel safe. What came faster than it was read is counted as
    /// [`observer_ebpf::abi::Loss::ProcessesFull`].
    ///
    /// # Errors
    /// [`ProbeError::Processes`] when the runtime is going down.
    pub async fn next(&mut self) -> Result<(u32, ProcessChange), ProbeError> {
        loop {
            if let Some(event) = self.read.pop_front() {
                return Ok(event);
            }
            let ready = self.ring.readable_mut().await;
            let mut ready = ready.map_err(|error| refused(&error))?;
            // Before reading, so that an event behind the last one read wakes us again.
            ready.clear_ready();
            let ring = ready.get_inner_mut();
            while let Some(record) = ring.next() {
                self.read.extend(event(&record));
            }
        }
    }
}

/// Loads the program that tells of one kind of change, and attaches it.
pub(super) fn attach(ebpf: &mut Ebpf, change: ProcessChange) -> Result<RawTracePointLink, ProbeError> {
    let (name, tracepoint) = match change {
        ProcessChange::Exec => ("process_exec", "sched_process_exec"),
        ProcessChange::OomKill => ("process_oom_kill", "mark_victim"),
    };
    check_pid_namespace()?;
    let program = ebpf.program_mut(name).and_then(|program| program.try_into().ok());
    let program: &mut RawTracePoint = program.ok_or(ProbeError::Object(name))?;
    program.load().map_err(|error| refused(&error))?;
    let link = program.attach(tracepoint).and_then(|id| program.take_link(id));
    link.map_err(|error| refused(&error))
}

/// The kernel tells pids of its initial PID namespace: in any other they would name other processes.
fn check_pid_namespace() -> Result<(), ProbeError> {
    let namespace = fs::metadata("/proc/self/ns/pid").map_err(|error| refused(&error))?;
    if namespace.ino() == INITIAL_PID_NAMESPACE {
        return Ok(());
    }
    let reason = "observer runs in a PID namespace of its own: start it in the host's (hostPID: true)";
    Err(ProbeError::Processes { reason: reason.to_owned() })
}

#[allow(unsafe_code, reason = "tokio cannot know that the file descriptor stays open")]
fn register(ring: RingBuf<MapData>) -> Result<AsyncFd<RingBuf<MapData>>, ProbeError> {
    // SAFETY: the ring owns its map's file descriptor for as long as it lives, and is never replaced.
    unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }.map_err(|error| refused(&error))
}

fn refused(error: &(dyn Error + 'static)) -> ProbeError {
    ProbeError::Processes { reason: one_line(error) }
}

/// What one record of the ring buffer tells.
fn event(record: &[u8]) -> Option<(u32, ProcessChange)> {
    let word = |at: usize| Some(u32::from_ne_bytes(*record.get(at..)?.first_chunk()?));
    let change = word(offset_of!(ProcessEvent, change))?;
    let change =
        [ProcessChange::Exec, ProcessChange::OomKill].into_iter().find(|known| *known as u32 == change)?;
    Some((word(offset_of!(ProcessEvent, pid))?, change))
}

#[cfg(test)]
mod tests {
    use aya::programs::{RawTracePoint, RawTracePointRunOptions, TestRun};

    use super::*;
    use crate::probe::{Options, Probes};

    /// Kernels that tell a victim's id instead of the victim are understood. None with probes that Debian has does so any
    /// more, so the program is run with what such a kernel would pass.
    #[test]
    fn a_victim_may_be_told_by_its_id() {
        const PID: u32 = 4_194_000;
        if !nix::unistd::Uid::effective().is_root() {
            assert_ne!(std::env::var("OBSERVER_REQUIRE").as_deref(), Ok("1"), "needs root");
            eprintln!("skipped: needs root");
            return;
        }
        let probes = Probes::load(&Options { max_callsites_in_kernel: 1, ..Options::default() }).unwrap();
        let _link = probes.tell(ProcessChange::OomKill).unwrap();
        let mut ebpf = probes.programs();
        let program: &RawTracePoint = ebpf.program("process_oom_kill").unwrap().try_into().unwrap();
        let mut options = RawTracePointRunOptions::new();
        options.args[0] = PID.into();
        program.test_run(options).unwrap();
        let mut ring = RingBuf::try_from(ebpf.take_map("PROCESSES").unwrap()).unwrap();
        let mut told = Vec::new();
        while let Some(record) = ring.next() {
            told.extend(event(&record));
        }
        assert!(told.contains(&(PID, ProcessChange::OomKill)), "{told:?}");
    }
}
