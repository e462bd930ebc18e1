//! What probes and snapshots need of the kernel and of the observer's privileges, each tried.
//!
//! `observer check` prints this list, and `observer_feature_enabled` exports it.

use std::fs::File;
use std::io::{self, IoSliceMut};

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use procfs::process::{Process, all_processes};

use super::kernel;

/// Bit of the capability in `/proc/PID/status`.
const CAP_SYS_PTRACE: u32 = 19;

/// One thing that a part of the observer needs.
#[derive(Debug, Clone, Copy)]
pub struct Feature {
    /// Name in metrics and JSON.
    pub name: &'static str,
    /// What doesn't work without it.
    pub gives: &'static str,
    /// Privileges that it needs, in words.
    pub needs: &'static str,
    /// First kernel that has it, `(major, minor)`, if any kernel in use lacks it.
    pub min_kernel: Option<(u32, u32)>,
    try_it: fn() -> Result<(), String>,
}

/// Every feature, in the order in which they depend on one another.
pub static FEATURES: &[Feature] = &[
    Feature {
        name: "bpf_programs",
        gives: "probes, exec and OOM events",
        needs: "CAP_BPF and CAP_PERFMON",
        min_kernel: Some((4, 17)),
        try_it: bpf::programs,
    },
    Feature {
        name: "attach_cookies",
        gives: "probes",
        needs: "CAP_BPF and CAP_PERFMON",
        min_kernel: Some((5, 15)),
        try_it: bpf::attach_cookies,
    },
    Feature {
        name: "per_cpu_hash",
        gives: "probes",
        needs: "CAP_BPF",
        min_kernel: Some((4, 6)),
        try_it: bpf::per_cpu_hash,
    },
    Feature {
        name: "ring_buffer",
        gives: "exec and OOM events",
        needs: "CAP_BPF",
        min_kernel: Some((5, 8)),
        try_it: bpf::ring_buffer,
    },
    Feature {
        name: "uprobes",
        gives: "probes",
        needs: "CAP_SYS_ADMIN, CAP_BPF and CAP_PERFMON",
        min_kernel: Some((5, 15)),
        try_it: bpf::uprobes,
    },
    Feature {
        name: "cpu_sampling",
        gives: "CPU time by callsite",
        needs: "CAP_BPF and CAP_PERFMON",
        // Its own needs are those of 5.8, but it is loaded together with the probes.
        min_kernel: Some((5, 15)),
        try_it: bpf::cpu_sampling,
    },
    Feature {
        name: "exec_events",
        gives: "new processes at once instead of at the next scan",
        needs: "CAP_BPF and CAP_PERFMON, in the host's PID namespace",
        // As for CPU sampling.
        min_kernel: Some((5, 15)),
        try_it: bpf::exec_events,
    },
    Feature {
        name: "oom_events",
        gives: "kills for lack of memory, by process",
        needs: "CAP_BPF and CAP_PERFMON, in the host's PID namespace",
        // As for CPU sampling.
        min_kernel: Some((5, 15)),
        try_it: bpf::oom_events,
    },
    Feature {
        name: "read_memory",
        gives: "snapshots and probes",
        needs: "CAP_SYS_PTRACE",
        min_kernel: None,
        try_it: read_memory,
    },
    Feature {
        name: "read_executables",
        gives: "everything but the list of processes",
        needs: "CAP_SYS_PTRACE, and CAP_DAC_READ_SEARCH for executables that only their owner may read",
        min_kernel: None,
        try_it: read_executables,
    },
];

/// Why no probe can be loaded here, where the kernel is too old for the helpers that they call: its own answer is
/// "invalid argument".
#[cfg(feature = "bpf")]
pub(super) fn lacks_helpers() -> Option<String> {
    FEATURES.iter().find(|feature| feature.name == "attach_cookies")?.check().err()
}

impl Feature {
    /// Tries it, on the observer itself or without touching anything; takes milliseconds.
    ///
    /// # Errors
    /// Why it doesn't work, and what would enable it, in one sentence.
    pub fn check(&self) -> Result<(), String> {
        (self.try_it)().map_err(|reason| match (self.min_kernel, kernel::version()) {
            // What failed may have said so itself.
            (Some(min), Some(version)) if version < min && !reason.contains("needs Linux") => {
                format!("{reason}; it needs Linux {}.{}, this is {}.{}", min.0, min.1, version.0, version.1)
            }
            _ => reason,
        })
    }
}

fn read_memory() -> Result<(), String> {
    require_ptrace_capability()?;
    // Asks for a byte at address 0: the kernel checks the permission before it finds nothing there.
    try_others(|pid| {
        let mut byte = [0];
        let remote = [RemoteIoVec { base: 0, len: 1 }];
        match process_vm_readv(Pid::from_raw(pid), &mut [IoSliceMut::new(&mut byte)], &remote) {
            Ok(_) | Err(Errno::EFAULT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    })
    .map_err(|error| format!("cannot read another process's memory: {error}{}", kernel::yama_hint()))
}

fn read_executables() -> Result<(), String> {
    require_ptrace_capability()?;
    try_others(|pid| File::open(format!("/proc/{pid}/exe")).map(drop))
        .map_err(|error| format!("cannot open another process's executable: {error}"))
}

/// Without it, processes of the same user and with no more privileges may still be looked into.
fn require_ptrace_capability() -> Result<(), String> {
    let own = Process::myself().and_then(|own| own.status()).map_err(|error| error.to_string())?;
    if own.capeff >> CAP_SYS_PTRACE & 1 == 1 {
        return Ok(());
    }
    Err("processes of other users can't be looked into: run as root or with CAP_SYS_PTRACE".to_owned())
}

/// Succeeds with the first other process that `attempt` works for, and fails with the last refusal.
fn try_others(attempt: impl Fn(i32) -> io::Result<()>) -> Result<(), String> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let mut refusal = "there is no other process to try".to_owned();
    let processes = all_processes().map_err(|error| error.to_string())?;
    for process in processes.flatten().filter(|process| process.pid != own) {
        match attempt(process.pid) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refusal = error.to_string(),
            // It ended meanwhile, or is the kernel's own and has no memory.
            Err(_) => {}
        }
    }
    Err(refusal)
}

#[cfg(feature = "bpf")]
mod bpf {
    use aya::maps::MapType;
    use aya::programs::ProgramType;
    use aya::sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported};

    use observer_ebpf::abi::ProcessChange;

    use super::super::refusal::one_line;
    use super::super::{Options, Probes, stub};

    pub(super) fn programs() -> Result<(), String> {
        supported(is_program_supported(ProgramType::KProbe), "this kernel has no BPF programs of type kprobe")
    }

    pub(super) fn attach_cookies() -> Result<(), String> {
        let cookies = is_helper_supported(ProgramType::KProbe, BpfHelper::BPF_FUNC_get_attach_cookie);
        supported(cookies, "this kernel has no attach cookies")
    }

    pub(super) fn per_cpu_hash() -> Result<(), String> {
        supported(is_map_supported(MapType::PerCpuHash), "this kernel has no per-CPU hash maps")
    }

    pub(super) fn ring_buffer() -> Result<(), String> {
        supported(is_map_supported(MapType::RingBuf), "this kernel has no BPF ring buffers")
    }

    pub(super) fn uprobes() -> Result<(), String> {
        stub::calibrate().map(drop).map_err(|error| error.to_string())
    }

    pub(super) fn cpu_sampling() -> Result<(), String> {
        let options = Options { max_callsites_in_kernel: 1, cpu_sampling_hz: 1 };
        let probes = Probes::load(&options).map_err(|error| error.to_string())?;
        probes.can_sample().map_err(|error| error.to_string())
    }

    pub(super) fn exec_events() -> Result<(), String> {
        told(ProcessChange::Exec)
    }

    pub(super) fn oom_events() -> Result<(), String> {
        told(ProcessChange::OomKill)
    }

    fn told(change: ProcessChange) -> Result<(), String> {
        let probes = Probes::load(&Options { max_callsites_in_kernel: 1, ..Options::default() });
        probes.and_then(|probes| probes.tell(change)).map(drop).map_err(|error| error.to_string())
    }

    fn supported<E: std::error::Error + 'static>(
        answer: Result<bool, E>,
        otherwise: &str,
    ) -> Result<(), String> {
        match answer {
            Ok(true) => Ok(()),
            Ok(false) => Err(otherwise.to_owned()),
            Err(error) => Err(one_line(&error)),
        }
    }
}

#[cfg(not(feature = "bpf"))]
mod bpf {
    use super::super::ProbeError;

    pub(super) fn not_built() -> Result<(), String> {
        Err(ProbeError::NotBuilt.to_string())
    }

    pub(super) use not_built as programs;
    pub(super) use not_built as attach_cookies;
    pub(super) use not_built as per_cpu_hash;
    pub(super) use not_built as ring_buffer;
    pub(super) use not_built as uprobes;
    pub(super) use not_built as cpu_sampling;
    pub(super) use not_built as exec_events;
    pub(super) use not_built as oom_events;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are label values and JSON keys: unique, and of letters and underscores only.
    #[test]
    fn names_are_unique_words() {
        let mut names: Vec<&str> = FEATURES.iter().map(|feature| feature.name).collect();
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FEATURES.len());
    }
}
