//! Another process's memory. The only place of this stage that touches the outside world.

use std::fs;
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

/// Where a thread went into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    /// Program counter in user mode.
    pub pc: u64,
    /// Stack pointer in user mode.
    pub sp: u64,
    /// It is in a system call: the instruction before `pc` made it. Else the one at `pc` is not done yet.
    pub in_call: bool,
}

/// Reads memory by address, for several threads at once.
pub trait Memory: Sync {
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

    /// Registers of a thread that stands still in the kernel; `None` when it runs, or that can't be told. `thread` =
    /// its id as the process itself knows it.
    fn blocked_thread(&self, _thread: u64) -> Option<Registers> {
        None
    }

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

    fn blocked_thread(&self, thread: u64) -> Option<Registers> {
        self.memory.blocked_thread(thread)
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

    fn blocked_thread(&self, thread: u64) -> Option<Registers> {
        self.memory.blocked_thread(thread)
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
    fn blocked_thread(&self, thread: u64) -> Option<Registers> {
        let thread = threads::outer_id(self.0, thread)?;
        threads::registers(&fs::read_to_string(format!("/proc/{}/task/{thread}/syscall", self.0)).ok()?)
    }
}

/// What `/proc` tells of threads.
mod threads {
    use super::{Registers, fs};

    /// Threads of a process that are searched for one.
    const MAX_THREADS: usize = 4096;

    /// The id here of the thread that its process knows as `thread`: another one if that is in a PID namespace.
    pub(super) fn outer_id(pid: u32, thread: u64) -> Option<u64> {
        let ids = ids(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)?;
        if ids.len() == 1 {
            return Some(thread);
        }
        let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.take(MAX_THREADS);
        threads.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("status")).ok()).find_map(
            |text| {
                let ids = self::ids(&text)?;
                (ids.last() == Some(&thread)).then(|| ids.first().copied()).flatten()
            },
        )
    }

    /// Its ids in all PID namespaces from ours inwards.
    fn ids(status: &str) -> Option<Vec<u64>> {
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        line.split_ascii_whitespace().map(|word| word.parse().ok()).collect()
    }

    /// From the text of `/proc/PID/task/TID/syscall`.
    pub(super) fn registers(text: &str) -> Option<Registers> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let hexadecimal = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
        match words[..] {
            ["-1", sp, pc] => Some(Registers { pc: hexadecimal(pc)?, sp: hexadecimal(sp)?, in_call: false }),
            [_, _, _, _, _, _, _, sp, pc] => {
                Some(Registers { pc: hexadecimal(pc)?, sp: hexadecimal(sp)?, in_call: true })
            }
            _ => None,
        }
    }

    #[cfg(test)]
    mod tests {
        use super::{Registers, ids, registers};

        /// The kernel's three forms are understood: in a system call, standing still elsewhere, running.
        #[test]
        fn forms_of_the_kernel() {
            let call = "35 0x7ffc 0x0 0x0 0x1 0x2 0x3 0x7ffd40 0x47c3\n";
            assert_eq!(registers(call), Some(Registers { pc: 0x47c3, sp: 0x7f_fd40, in_call: true }));
            let fault = "-1 0xc000010000 0x4a0\n";
            assert_eq!(registers(fault), Some(Registers { pc: 0x4a0, sp: 0xc0_0001_0000, in_call: false }));
            for text in ["running\n", "", "-1 0x1", "-1 c0 d0"] {
                assert_eq!(registers(text), None, "{text}");
            }
        }

        /// Ids in nested namespaces come from the outermost one inwards.
        #[test]
        fn ids_in_namespaces() {
            assert_eq!(ids("Name:\tx\nNSpid:\t4711\t12\t3\n"), Some(vec![4711, 12, 3]));
            assert_eq!(ids("Name:\tx\n"), None);
        }
    }
}
