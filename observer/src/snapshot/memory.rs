//! Another process's memory. The only place of this stage that touches the outside world.

use std::io::IoSliceMut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

/// Why memory could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The process has ended.
    #[error("the process has ended")]
    Gone,
    /// The kernel doesn't let us.
    #[error("reading its memory is not permitted: run observer as root, or with CAP_SYS_PTRACE")]
    Denied,
    /// There is no readable memory at this address.
    #[error("no readable memory at {0:#x}")]
    Unmapped(u64),
    /// The time for reading is over.
    #[error("its memory was not read within {0:?}")]
    Late(Duration),
}

/// Reads memory by address.
pub trait Memory {
    /// Fills `buf` with the memory at `address`.
    ///
    /// # Errors
    /// When not all of it can be read.
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Fault>;

    /// Fills `buf` with the memory of all `ranges` (address, length), one behind the other, and returns how
    /// many bytes could be read before the first unreadable page.
    ///
    /// # Errors
    /// When nothing could be read at all.
    fn gather(&self, ranges: &[(u64, usize)], buf: &mut [u8]) -> Result<usize, Fault>;

    /// A little-endian `u64`.
    ///
    /// # Errors
    /// As [`Memory::read`].
    fn u64(&self, address: u64) -> Result<u64, Fault> {
        let mut word = [0; 8];
        self.read(address, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }
}

/// Memory that is read until a deadline: whatever loops over a target's structures ends soon after it.
pub struct Until<'a> {
    memory: &'a dyn Memory,
    began: Instant,
    deadline: Instant,
}

impl<'a> Until<'a> {
    /// From now on until `deadline`.
    pub fn new(memory: &'a dyn Memory, deadline: Instant) -> Self {
        Self { memory, began: Instant::now(), deadline }
    }

    fn check(&self) -> Result<(), Fault> {
        let late = Instant::now() > self.deadline;
        if late { Err(Fault::Late(self.deadline.saturating_duration_since(self.began))) } else { Ok(()) }
    }
}

impl Memory for Until<'_> {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Fault> {
        self.check()?;
        self.memory.read(address, buf)
    }

    fn gather(&self, ranges: &[(u64, usize)], buf: &mut [u8]) -> Result<usize, Fault> {
        self.check()?;
        self.memory.gather(ranges, buf)
    }
}

/// Memory that is read until somebody says stop: a thread that is left to itself ends soon after.
pub struct Stoppable<'a> {
    memory: &'a dyn Memory,
    stop: &'a AtomicBool,
}

impl<'a> Stoppable<'a> {
    /// Until `stop` is set.
    pub fn new(memory: &'a dyn Memory, stop: &'a AtomicBool) -> Self {
        Self { memory, stop }
    }

    fn check(&self) -> Result<(), Fault> {
        if self.stop.load(Ordering::Relaxed) { Err(Fault::Late(Duration::ZERO)) } else { Ok(()) }
    }
}

impl Memory for Stoppable<'_> {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Fault> {
        self.check()?;
        self.memory.read(address, buf)
    }

    fn gather(&self, ranges: &[(u64, usize)], buf: &mut [u8]) -> Result<usize, Fault> {
        self.check()?;
        self.memory.gather(ranges, buf)
    }
}

/// The memory of a running process.
#[derive(Debug, Clone, Copy)]
pub struct ProcessMemory(pub u32);

/// Ranges that one system call takes (`IOV_MAX`).
pub const MAX_RANGES: usize = 1024;

impl Memory for ProcessMemory {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let wanted = buf.len();
        if self.gather(&[(address, wanted)], buf)? == wanted { Ok(()) } else { Err(Fault::Unmapped(address)) }
    }

    fn gather(&self, ranges: &[(u64, usize)], buf: &mut [u8]) -> Result<usize, Fault> {
        let first = ranges.first().map_or(0, |range| range.0);
        let remote: Vec<RemoteIoVec> = ranges
            .iter()
            .take(MAX_RANGES)
            .map(|(base, len)| RemoteIoVec { base: *base as usize, len: *len })
            .collect();
        let pid = Pid::from_raw(self.0 as i32);
        process_vm_readv(pid, &mut [IoSliceMut::new(buf)], &remote).map_err(|errno| match errno {
            Errno::ESRCH => Fault::Gone,
            Errno::EPERM => Fault::Denied,
            _ => Fault::Unmapped(first),
        })
    }
}
