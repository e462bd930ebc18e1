//! What `/proc` tells of fixtures and of the observer.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill as send};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Copies an executable. Another process does it: if this one had the copy open for writing while one of its
/// threads forked, the copy could not be executed ("text file busy") until the child's own exec.
///
/// # Errors
/// When it can't be copied.
pub fn copy_executable(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("--").args([from, to]).status()?;
    ensure!(status.success(), "cannot copy {} to {}", from.display(), to.display());
    Ok(())
}

/// Sends SIGKILL; a process that has gone is fine.
pub fn kill(pid: u32) {
    signal(pid, Signal::SIGKILL);
}

/// Sends a signal; a process that has gone is fine.
pub fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = send(Pid::from_raw(pid), signal);
    }
}

/// The child of a process that has exactly one.
///
/// # Errors
/// When the process has gone.
pub fn only_child(pid: u32) -> Result<Option<u32>> {
    let mut children: Vec<u32> = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        children.extend(text.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
    }
    Ok(if let [child] = children[..] { Some(child) } else { None })
}

/// Whether every byte of executable code in the process's memory is as in its file; a probe is a difference.
///
/// # Errors
/// When the process has gone or may not be read.
pub fn text_is_pristine(pid: u32) -> Result<bool> {
    let exe = fs::canonicalize(format!("/proc/{pid}/exe"));
    let name = exe.context("the executable has gone")?.display().to_string();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut compared = 0;
    for line in maps.lines().filter(|line| line.ends_with(&name)) {
        let (start, end, permissions, offset) = mapping(line).context("maps has another format")?;
        if !permissions.contains('x') {
            continue;
        }
        let length = usize::try_from(end - start)?;
        let memory = read_at(&format!("/proc/{pid}/mem"), start, length)?;
        let file = read_at(&format!("/proc/{pid}/exe"), offset, length)?;
        if memory[..file.len()] != file[..] {
            return Ok(false);
        }
        compared += file.len();
    }
    ensure!(compared > 0, "no code of {name} is mapped in {pid}");
    Ok(true)
}

fn mapping(line: &str) -> Option<(u64, u64, &str, u64)> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let permissions = words.next()?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((number(start)?, number(end)?, permissions, number(words.next()?)?))
}

/// Up to `length` bytes from `offset`.
fn read_at(path: &str, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut file = File::open(path).with_context(|| format!("cannot open {path}"))?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(length as u64).read_to_end(&mut bytes).with_context(|| format!("cannot read {path}"))?;
    Ok(bytes)
}

/// CPU time a process has used, all threads.
///
/// # Errors
/// When it has gone.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').context("stat has another format")?;
    let field = |index: usize| -> Result<u64> {
        Ok(rest.split_whitespace().nth(index).context("stat is too short")?.parse()?)
    };
    // utime and stime are fields 14 and 15; `rest` starts at field 3. The unit is 1/100 s for user space.
    Ok(Duration::from_millis((field(11)? + field(12)?) * 10))
}

/// A line of `/proc/PID/status` that is in kB, in bytes: `VmRSS`, `VmHWM`, …
///
/// # Errors
/// When the process has gone.
pub fn status_bytes(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kilobytes = line.and_then(|text| text.split_whitespace().next()).context("not in status")?;
    Ok(kilobytes.parse::<u64>()? * 1024)
}

/// A block device of 16 MiB that isn't in use: its file, and its numbers as `io.max` wants them.
///
/// # Errors
/// When there is no free loop device.
pub fn loop_device() -> Result<(String, String)> {
    let image = tempfile::Builder::new().prefix("disk").tempfile()?.into_temp_path();
    File::create(&image)?.set_len(16 << 20)?;
    let free = Command::new("losetup").arg("-f").output()?;
    let device = String::from_utf8(free.stdout)?.trim().to_owned();
    let status = Command::new("losetup").arg(&device).arg(&image).status()?;
    ensure!(status.success(), "losetup {device} failed");
    let name = device.rsplit('/').next().unwrap_or_default();
    let number = fs::read_to_string(format!("/sys/block/{name}/dev"))?.trim().to_owned();
    Ok((device, number))
}
