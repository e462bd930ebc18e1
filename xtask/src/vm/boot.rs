//! Boots a guest and reads what it said.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::kernel::Kernel;
use crate::process;

/// How long a guest may take in all, under emulation on a busy machine.
const DEADLINE: Duration = Duration::from_secs(420);

const QEMU: &str = "qemu-system-x86_64";

/// Words in the kernel's log that are never right, whatever the tests say.
const ALARMS: [&str; 5] = ["WARNING: ", "BUG: ", "Oops: ", "Kernel panic", "general protection fault"];

/// What became of a guest.
pub(super) struct Outcome {
    /// What the kernel said.
    pub(super) console: String,
    /// What the tests said.
    pub(super) tests: String,
    /// Why the run counts as failed.
    pub(super) wrong: Option<String>,
}

impl Outcome {
    pub(super) const fn passed(&self) -> bool {
        self.wrong.is_none()
    }
}

/// Checks that the emulator is there.
pub(super) fn qemu() -> Result<()> {
    process::output(Command::new(QEMU).arg("--version")).map(drop)
}

/// Boots a guest with further kernel parameters and an initramfs of these archives, waits until it has switched itself off, and judges what it said.
pub(super) fn run(kernel: &Kernel, parameters: &str, archives: &[&[u8]], folder: &Path) -> Result<Outcome> {
    let initramfs = folder.join("initramfs");
    fs::write(&initramfs, archives.concat())?;
    let [console, tests] = ["console.log", "tests.log"].map(|name| folder.join(name));
    let mut guest = Guest(start(kernel, parameters, &initramfs, [&console, &tests])?);
    let ended = guest.wait()?;
    drop(guest);
    fs::remove_file(initramfs)?;
    let [console, tests] = [text(&console)?, text(&tests)?];
    let wrong = verdict(ended, &console, &tests).err();
    Ok(Outcome { console, tests, wrong })
}

fn start(kernel: &Kernel, parameters: &str, initramfs: &Path, serial: [&Path; 2]) -> Result<Child> {
    let parameters = format!("console=ttyS0 loglevel=5 panic=-1 {parameters}");
    let mut qemu = Command::new(QEMU);
    // Emulated everywhere alike: an accelerator that is there need not work.
    qemu.args(["-accel", "tcg", "-smp", "2", "-m", "1536", "-nodefaults", "-display", "none", "-no-reboot"]);
    qemu.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initramfs).args(["-append", &parameters]);
    for file in serial {
        qemu.arg("-serial").arg(format!("file:{}", file.display()));
    }
    qemu.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start {QEMU}"))
}

/// A running emulator; it ends with this value.
struct Guest(Child);

impl Guest {
    /// Waits for its end; false when time is up.
    fn wait(&mut self) -> Result<bool> {
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            if self.0.try_wait()?.is_some() {
                return Ok(true);
            }
            sleep(Duration::from_millis(100));
        }
        Ok(false)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It has ended by itself where all is well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A serial port's text, whose lines end as a terminal wants them.
fn text(file: &Path) -> Result<String> {
    let text = String::from_utf8_lossy(&fs::read(file)?).replace('\r', "");
    fs::write(file, &text)?;
    Ok(text)
}

fn verdict(ended: bool, console: &str, tests: &str) -> Result<(), String> {
    if !ended {
        return Err(format!("the guest was still busy after {} s and was killed", DEADLINE.as_secs()));
    }
    let alarm = console.lines().find(|line| ALARMS.iter().any(|alarm| line.contains(alarm)));
    if let Some(line) = alarm {
        return Err(format!("the kernel complained: {line}"));
    }
    match tests.lines().find_map(|line| line.strip_prefix("guest: exit status ")) {
        Some("0") => Ok(()),
        Some(status) => Err(format!("the tests ended with status {status}")),
        None => Err("the guest ended before its tests did".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run passes only with the tests' own word, and against nobody's complaint.
    #[test]
    fn judges_runs() {
        let good = "test a ... ok\nguest: exit status 0\n";
        assert_eq!(verdict(true, "", good), Ok(()));
        for (ended, console, tests) in [
            (false, "", good),
            (true, "[ 1.0] WARNING: CPU: 0 PID: 1 at kernel/bpf\n", good),
            (true, "", "guest: exit status 101\n"),
            (true, "", "test a ... ok\n"),
        ] {
            assert!(verdict(ended, console, tests).is_err(), "{console}{tests}");
        }
    }
}
