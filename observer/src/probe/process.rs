//! Processes that `exec`, as the kernel sees them.

use std::collections::VecDeque;
use std::error::Error;
use std::fs;
use std::os::unix::fs::MetadataExt;

use aya::maps::{Map, MapData, RingBuf};
use aya::programs::RawTracePoint;
use aya::programs::raw_trace_point::RawTracePointLink;
use observer_ebpf::abi::ExecEvent;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use super::ProbeError;
use super::refusal::one_line;

/// Inode of the initial PID namespace on every kernel (`PROC_PID_INIT_INO`,
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/proc_ns.h>).
const INITIAL_PID_NAMESPACE: u64 = 0xeffffffc;

/// Tells the pid of each process that replaces its image. Dropping it detaches the program.
pub struct ExecWatch {
    ring: AsyncFd<RingBuf<MapData>>,
    read: VecDeque<u32>,
    _link: RawTracePointLink,
}

impl ExecWatch {
    pub(super) fn new(map: Map, link: RawTracePointLink) -> Result<Self, ProbeError> {
        // Without a runtime, tokio would panic below.
        Handle::try_current().map_err(|error| refused(&error))?;
        let ring = RingBuf::try_from(map).map_err(|error| refused(&error))?;
        Ok(Self { ring: register(ring)?, read: VecDeque::new(), _link: link })
    }

    /// The pid of the next process that `exec`ed.
    ///
    /// Cancel safe. Execs that came faster than they were read are counted as
    /// [`observer_ebpf::abi::Loss::ExecsFull`].
    ///
    /// # Errors
    /// [`ProbeError::Execs`] when the runtime is going down.
    pub async fn next(&mut self) -> Result<u32, ProbeError> {
        loop {
            if let Some(pid) = self.read.pop_front() {
                return Ok(pid);
            }
            let ready = self.ring.readable_mut().await;
            let mut ready = ready.map_err(|error| refused(&error))?;
            // Before reading, so that an exec behind the last one read wakes us again.
            ready.clear_ready();
            let ring = ready.get_inner_mut();
            while let Some(record) = ring.next() {
                self.read.extend(pid_of(&record));
            }
        }
    }
}

/// Loads and attaches the program.
pub(super) fn attach(program: &mut RawTracePoint) -> Result<RawTracePointLink, ProbeError> {
    check_pid_namespace()?;
    program.load().map_err(|error| refused(&error))?;
    let link = program.attach("sched_process_exec").and_then(|id| program.take_link(id));
    link.map_err(|error| refused(&error))
}

/// The kernel tells pids of its initial PID namespace: in any other they would name other processes.
fn check_pid_namespace() -> Result<(), ProbeError> {
    let namespace = fs::metadata("/proc/self/ns/pid").map_err(|error| refused(&error))?;
    if namespace.ino() == INITIAL_PID_NAMESPACE {
        return Ok(());
    }
    let reason = "observer runs in a PID namespace of its own: start it in the host's (hostPID: true)";
    Err(ProbeError::Execs { reason: reason.to_owned() })
}

#[allow(unsafe_code, reason = "tokio cannot know that the file descriptor stays open")]
fn register(ring: RingBuf<MapData>) -> Result<AsyncFd<RingBuf<MapData>>, ProbeError> {
    // SAFETY: the ring owns its map's file descriptor for as long as it lives, and is never replaced.
    unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }.map_err(|error| refused(&error))
}

fn refused(error: &(dyn Error + 'static)) -> ProbeError {
    ProbeError::Execs { reason: one_line(error) }
}

/// The pid in one record of the ring buffer.
fn pid_of(record: &[u8]) -> Option<u32> {
    let pid = record.get(std::mem::offset_of!(ExecEvent, pid)..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*pid))
}
