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
    /// Which CPUs may be used.
    Cpuset,
    /// Shares of block devices; called `blkio` in v1.
    Io,
    /// Huge pages.
    Hugetlb,
}

impl Controller {
    /// Every controller, in the order in which their groups are preferred for display.
    pub const ALL: [Self; 7] =
        [Self::Cpu, Self::Memory, Self::Pids, Self::CpuAcct, Self::Io, Self::Hugetlb, Self::Cpuset];

    /// The kernel's name, as in `/proc/PID/cgroup` and `cgroup.controllers`; that of v2 where they differ.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::CpuAcct => "cpuacct",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpuset => "cpuset",
            Self::Io => "io",
            Self::Hugetlb => "hugetlb",
        }
    }

    /// Whether container managers put every container into a group of this controller's hierarchy. Into those of
    /// the others they often don't.
    pub(super) const fn places(self) -> bool {
        matches!(self, Self::Cpu | Self::CpuAcct | Self::Memory | Self::Pids)
    }

    /// The controller of that name, when observer reads it.
    pub(super) fn from_name(name: &[u8]) -> Option<Self> {
        if name == b"blkio" {
            return Some(Self::Io);
        }
        Self::ALL.into_iter().find(|controller| controller.name().as_bytes() == name)
    }
}
