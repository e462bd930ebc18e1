//! Processes as `/proc` shows them. Nothing here waits for a process's memory lock: no `cmdline`,
//! `environ`, `maps` or `smaps`.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::time::clock_getcpuclockid;
use procfs::ProcError;
use procfs::process::Process;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::exe::FileId;

/// `AT_ENTRY` of the auxiliary vector (`include/uapi/linux/auxvec.h`).
const AT_ENTRY: u64 = 9;

/// One execution of one program: a reused pid and a process that executed another program are others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Process id, as we see it.
    pub pid: u32,
    /// Clock ticks after boot at which the process started.
    pub start_ticks: u64,
    /// Where the kernel put the stack, which it chooses anew at each `exec`; 0 when it doesn't tell us.
    pub stack: u64,
    /// The executable.
    pub file: FileId,
}

/// Processes that are there now, by number. Kernel threads are among them.
///
/// # Errors
/// When `/proc` can't be listed.
pub fn pids() -> io::Result<Vec<u32>> {
    let entries = std::fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// `None` when the process has ended, has no executable (as kernel threads), or may not be looked at.
#[must_use]
pub fn identity(pid: u32) -> Option<Identity> {
    let file = FileId::of(&exe_path(pid)).ok()?;
    let stat = Process::new(i32::try_from(pid).ok()?).ok()?.stat().ok()?;
    Some(Identity { pid, start_ticks: stat.starttime, stack: stat.startstack, file })
}

/// CPU time that all threads of a process have used, to the nanosecond.
#[must_use]
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).ok()?);
    Some(clock_getcpuclockid(pid).ok()?.now().ok()?.into())
}

/// The link through which a process's executable is opened.
#[must_use]
pub fn exe_path(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/exe"))
}

/// The executable's path as the kernel shows it, without its mark for deleted files.
#[must_use]
pub fn exe_name(pid: u32) -> Option<String> {
    let target = std::fs::read_link(exe_path(pid)).ok()?;
    let text = target.to_string_lossy();
    Some(text.strip_suffix(" (deleted)").unwrap_or(&text).to_owned())
}

/// Seconds since the epoch at which a process started.
#[must_use]
pub fn start_time(identity: &Identity) -> f64 {
    let ticks = rustix::param::clock_ticks_per_second();
    procfs::boot_time_secs().unwrap_or(0) as f64 + identity.start_ticks as f64 / ticks as f64
}

/// Load address − link-time address of a process's executable, whose file says that it starts at `entry`.
///
/// # Errors
/// When the process has ended, or the kernel doesn't tell us.
pub fn load_bias(pid: u32, entry: u64) -> io::Result<u64> {
    let auxv =
        Process::new(i32::try_from(pid).unwrap_or(0)).and_then(|process| process.auxv()).map_err(io_error)?;
    let running = auxv.get(&AT_ENTRY).ok_or(io::ErrorKind::NotFound)?;
    Ok(running.wrapping_sub(entry))
}

/// The process id that a process has in its own PID namespace; `None` when that is the one of our `/proc`.
#[must_use]
pub fn inner_pid(pid: u32) -> Option<u32> {
    let status = Process::new(i32::try_from(pid).ok()?).ok()?.status().ok()?;
    // From the outermost namespace to the innermost: `NSpid` in proc_pid_status(5).
    let pids = status.nspid.filter(|pids| pids.len() > 1)?;
    u32::try_from(*pids.last()?).ok()
}

/// CPUs on which a process's first thread may run; `None` when it has ended, or there are more than 1024.
#[must_use]
pub fn usable_cpus(pid: u32) -> Option<u32> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    rustix::thread::sched_getaffinity(Some(pid)).ok().map(|set| set.count())
}

/// A descriptor that becomes readable when the process ends, and never means another process.
///
/// # Errors
/// When the process has ended.
pub fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

fn io_error(error: ProcError) -> io::Error {
    match error {
        ProcError::Io(error, _) => error,
        ProcError::NotFound(_) => io::ErrorKind::NotFound.into(),
        ProcError::PermissionDenied(_) => io::ErrorKind::PermissionDenied.into(),
        error => io::Error::other(error),
    }
}
