//! What cgroups grant to a process, and what they withhold: v1, v2 and hybrid machines.
//!
//! [`Hierarchies::discover`] finds the mounted hierarchies once. [`Hierarchies::membership`] says in which
//! groups a process is; many processes share one [`Membership`], so each is read once with
//! [`Hierarchies::read`]. Limits are effective limits: the tightest on the way to the root.
//!
//! One file per controller; its parsers are functions over the text of the kernel's files. Everything about
//! files, levels and errors is in `group.rs`, so that another controller adds one file and a variant of
//! [`Controller`].

mod controller;
mod cpu;
mod cpuset;
mod files;
mod folder;
mod group;
mod hierarchy;
mod hugetlb;
mod io;
mod membership;
mod memory;
mod mountinfo;
mod namespace;
mod path;
mod pids;
mod pressure;
mod values;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

pub use controller::Controller;
pub use cpu::{Cpu, Throttling};
pub use hierarchy::{Hierarchies, Mode, Options};
pub use hugetlb::HugePages;
pub use io::{Device, DeviceIo, Io};
pub use membership::Membership;
pub use memory::{Memory, MemoryEvents};
pub use pids::Pids;
pub use pressure::{Pressure, Stall};

/// A limit and the cgroup that sets it.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit<T> {
    /// The value in force.
    pub value: T,
    /// Path of the binding cgroup below the hierarchy's root, fit to show.
    pub binding: Arc<str>,
    /// How many levels above the process's own cgroup it is; 0 = its own.
    pub level: u32,
}

/// Everything read of one membership. A controller that isn't there, or can't be read, is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// CPU time, quota and throttling.
    pub cpu: Option<Cpu>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Threads and processes.
    pub pids: Option<Pids>,
    /// Block devices.
    pub io: Option<Io>,
    /// Huge pages, by size.
    pub hugetlb: Vec<HugePages>,
    /// CPUs that the group may use.
    pub cpuset_cpus: Option<u32>,
    /// Time spent waiting for resources (v2).
    pub pressure: Pressure,
    /// Values that are missing above although the kernel should have them.
    pub problems: Vec<Problem>,
}

/// Why one value could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file} of cgroup {path}: {reason}")]
pub struct Problem {
    /// Name of the file, or of the controller when none of its files can be found.
    pub file: &'static str,
    /// Path of the group, fit to show.
    pub path: Arc<str>,
    /// What is wrong.
    pub reason: Reason,
}

/// What can be wrong with a control file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Reason {
    /// The text isn't what the kernel documents.
    #[error("its text is not what the kernel documents")]
    Malformed,
    /// The text is longer than any such file.
    #[error("its text is too long")]
    TooLarge,
    /// Permission denied.
    #[error("permission denied; run observer as root")]
    Denied,
    /// The process has no file descriptor left.
    #[error("no file descriptor left; raise observer's limit of open files")]
    NoDescriptors,
    /// Another error of the kernel.
    #[error("the kernel refused to read it")]
    Io,
    /// The group has more levels than are followed.
    #[error("the group is nested too deeply to follow")]
    TooDeep,
    /// No mount that observer sees shows this group.
    #[error("no cgroup mount shows this group; mount the host's /sys/fs/cgroup into observer's container")]
    Outside,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Malformed,
        Self::TooLarge,
        Self::Denied,
        Self::NoDescriptors,
        Self::Io,
        Self::TooDeep,
        Self::Outside,
    ];

    /// The reason's name in metrics and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Denied => "denied",
            Self::NoDescriptors => "no_descriptors",
            Self::Io => "io",
            Self::TooDeep => "too_deep",
            Self::Outside => "outside",
        }
    }
}

/// The group was removed: normal, and the end of what can be read of this membership. Processes that moved
/// out of it before have another membership now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cgroup {path} has been removed")]
pub struct Gone {
    /// Path of the group, fit to show.
    pub path: Arc<str>,
}

/// Why hierarchies or memberships could not be found.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A file of `/proc` can't be read.
    #[error("cannot read {}: {source}; run observer as root, with the host's /proc", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The folder that was named holds no cgroup mount.
    #[error("no cgroup hierarchy is mounted at or below {}; mount the host's /sys/fs/cgroup there", root.display())]
    NotMounted {
        /// The folder.
        root: PathBuf,
    },
    /// The process has exited: normal.
    #[error("process {pid} has exited")]
    Exited {
        /// Its id.
        pid: u32,
    },
    /// The kernel's text can't be told apart from a forged one, so none of it is used.
    #[error("{} is ambiguous: a cgroup's name seems to contain a line break", path.display())]
    Ambiguous {
        /// The file.
        path: PathBuf,
    },
}

impl CgroupError {
    /// The error's name in metrics; `None` for a process that has exited, which is normal.
    #[must_use]
    pub const fn name(&self) -> Option<&'static str> {
        match self {
            Self::Unreadable { .. } => Some("unreadable"),
            Self::NotMounted { .. } => Some("not_mounted"),
            Self::Exited { .. } => None,
            Self::Ambiguous { .. } => Some("ambiguous"),
        }
    }
}
