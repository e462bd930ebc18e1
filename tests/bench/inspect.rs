//! What reading a large executable costs.

use crate::report::{Goal, Report, median};
use anyhow::{Result, ensure};
use observer_tests::build::{Variant, build};
use observer_tests::go::Go;
use observer_tests::{large, observer};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

const BENCH: &str = "inspect";

pub(crate) fn run(report: &mut Report, short: bool) -> Result<()> {
    let rounds = if short { 2 } else { 9 };
    let (large, small) = (large::build(Go::USUAL)?, build("leak", Go::USUAL, Variant::Stripped)?);
    let mut times = Vec::new();
    let (mut large_bytes, mut small_bytes) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        small_bytes.push(inspect(&small)?.1);
        let (milliseconds, bytes) = inspect(&large)?;
        times.push(milliseconds);
        large_bytes.push(bytes);
    }
    let megabytes = std::fs::metadata(&large)?.len() / 1_000_000;
    let what = format!("executable of {megabytes} MB");
    report.goal(BENCH, &what, median(times)?, "ms", Goal::AtMost(100.0));
    let (large_bytes, small_bytes) = (median(large_bytes)?, median(small_bytes)?);
    report.add(BENCH, format!("{what}, peak memory"), large_bytes / MEBIBYTE, "MiB");
    let extra = (large_bytes - small_bytes) / MEBIBYTE;
    report.goal(BENCH, format!("{what}, more than a small one's"), extra, "MiB", Goal::AtMost(20.0));
    Ok(())
}

const MEBIBYTE: f64 = (1 << 20) as f64;

/// Wall time in milliseconds and peak resident memory in bytes of one `observer inspect`.
fn inspect(path: &Path) -> Result<(f64, f64)> {
    let path = path.display().to_string();
    let mut command = observer::command(&["inspect", &path, "--output", "json"])?;
    let start = Instant::now();
    let child = command.stdout(Stdio::null()).spawn()?;
    let (status, bytes) = wait_for(child.id())?;
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    ensure!(status == 0, "inspect failed with status {status:#x}");
    Ok((milliseconds, bytes))
}

/// Waits for a child; returns its raw status and its peak resident memory in bytes.
#[allow(unsafe_code, reason = "only wait4 tells one child's use of memory")]
fn wait_for(pid: u32) -> Result<(i32, f64)> {
    let mut status = 0;
    // SAFETY: rusage is integers only, for which zeros are valid.
    let mut usage: nix::libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the right types.
    let waited = unsafe { nix::libc::wait4(i32::try_from(pid)?, &raw mut status, 0, &raw mut usage) };
    ensure!(u32::try_from(waited) == Ok(pid), "cannot wait for inspect");
    Ok((status, usage.ru_maxrss as f64 * 1024.0))
}
