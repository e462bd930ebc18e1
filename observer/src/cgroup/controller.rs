//! The controllers that observer reads.

/// One resource controller. A new one is a variant here and a file next to this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Controller {
    /// Quota and throttling.
    Cpu,
    /// CPU time used. A controller of its own in v1; in v2 every group counts it.
    CpuAcct,
    /// Memory.
    Memory,
    /// Threads and processes.
    Pids,
}

impl Controller {
    /// Every controller, in the order in which their groups are preferred for display.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Pids, Self::CpuAcct];

    /// The kernel's name, as in v1 mount options, `/proc/PID/cgroup` and `cgroup.controllers`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::CpuAcct => "cpuacct",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }

    /// The controller of that name, when observer reads it.
    pub(super) fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|controller| controller.name().as_bytes() == name)
    }
}
