//! What the figures were measured on.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::process::Command;

/// The machine, without its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Model of the processor.
    pub(crate) cpu: String,
    /// Logical processors that this program may use.
    pub(crate) cpus: usize,
    pub(crate) memory: String,
    pub(crate) kernel: String,
}

impl Machine {
    pub(crate) fn look() -> Result<Self> {
        let memory = first(&fs::read_to_string("/proc/meminfo")?, "MemTotal").context("no MemTotal")?;
        let kibibytes: f64 = memory.trim_end_matches(" kB").parse()?;
        Ok(Self {
            cpu: first(&fs::read_to_string("/proc/cpuinfo")?, "model name").unwrap_or_default(),
            cpus: std::thread::available_parallelism()?.get(),
            memory: format!("{:.1} GiB", kibibytes / f64::from(1 << 20)),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        })
    }

    /// What it is, for a person.
    pub(crate) fn rows(&self) -> [(&'static str, String); 4] {
        let Self { cpu, cpus, memory, kernel } = self.clone();
        [("processor", cpu), ("processors", cpus.to_string()), ("memory", memory), ("Linux", kernel)]
    }
}

/// Now, in UTC.
pub(crate) fn date() -> Result<String> {
    let output =
        Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output().context("cannot run date")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The value of the first `name: value` line.
fn first(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
