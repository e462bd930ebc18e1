//! What one run of the observer needs.

use anyhow::{Result, ensure};
use observer_tests::observer;
use std::io::Read;
use std::process::{Child, Stdio};
use std::time::Instant;

pub(crate) const MEBIBYTE: f64 = (1 << 20) as f64;

/// A run that succeeded.
pub(crate) struct Ran {
    /// From its start to its end.
    pub(crate) seconds: f64,
    /// The most memory that was resident at one time.
    pub(crate) peak_bytes: f64,
    /// What it wrote.
    pub(crate) stdout: Vec<u8>,
}

/// Runs the observer.
pub(crate) fn run(args: &[&str]) -> Result<Ran> {
    let start = Instant::now();
    let mut child = observer::command(args)?.stdout(Stdio::piped()).spawn()?;
    let mut stdout = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut stdout)?;
    }
    let (status, peak_bytes) = wait_for(&child)?;
    ensure!(status == 0, "observer {} failed with status {status:#x}", args.join(" "));
    Ok(Ran { seconds: start.elapsed().as_secs_f64(), peak_bytes, stdout })
}

/// Waits for a child; returns its raw status and its peak resident memory in bytes.
#[allow(unsafe_code, reason = "only wait4 tells one child's use of memory")]
fn wait_for(child: &Child) -> Result<(i32, f64)> {
    let pid = child.id();
    let mut status = 0;
    // SAFETY: rusage is integers only, for which zeros are valid.
    let mut usage: nix::libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the right types.
    let waited = unsafe { nix::libc::wait4(i32::try_from(pid)?, &raw mut status, 0, &raw mut usage) };
    ensure!(u32::try_from(waited) == Ok(pid), "cannot wait for process {pid}");
    Ok((status, usage.ru_maxrss as f64 * 1024.0))
}
