//! What can go wrong with probes.

use std::fmt::{self, Display, Formatter};
use std::io;

use observer_ebpf::abi::Probe;

/// Why probes could not be loaded, attached or read.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// This binary has no BPF object.
    #[error("built without BPF: rebuild observer with the cargo feature `bpf` for probes")]
    NotBuilt,
    /// The kernel refused the maps or one of the programs.
    #[error("the kernel refused {what}: {reason}")]
    Load {
        /// `the maps`, or a program's name.
        what: &'static str,
        /// What the kernel said, and what may help.
        reason: String,
    },
    /// The kernel refused what measures waits, and nothing else.
    #[error("waits can't be measured: {0}")]
    WithoutWaits(String),
    /// Goroutines on a CPU are not sampled.
    #[error("time on a CPU can't be sampled: {0}")]
    Sampling(String),
    /// The BPF object that this binary was built with is not as expected.
    #[error("the embedded BPF object has no {0}: rebuild observer")]
    Object(&'static str),
    /// There is no site to put a probe at.
    #[error("no probe site was given for process {pid}")]
    NoSites {
        /// The target.
        pid: u32,
    },
    /// A slot must be used once.
    #[error("slot {slot} is in use or out of range")]
    Slot {
        /// The slot.
        slot: u64,
    },
    /// The kernel would run this instruction out of line, which costs ten times as much.
    #[error(
        "refused to probe process {pid} at {address:#x}: {bytes} is not an instruction that the kernel emulates"
    )]
    NotEmulated {
        /// The target.
        pid: u32,
        /// Address in the target.
        address: u64,
        /// The site's expected bytes.
        bytes: SiteBytes,
    },
    /// The bytes at the site are not the expected ones.
    #[error(
        "refused to probe process {pid} at {address:#x}: expected {expected}, the file has {file}, memory has {memory}"
    )]
    BytesDiffer {
        /// The target.
        pid: u32,
        /// Address in the target.
        address: u64,
        /// The site's expected bytes.
        expected: SiteBytes,
        /// What the executable has at the site's file offset.
        file: SiteBytes,
        /// What the target's memory has at the site's address.
        memory: SiteBytes,
    },
    /// The kernel accepted the probe, but no breakpoint is where the target would run into it.
    #[error("the kernel put no breakpoint into process {pid} at {address:#x}: memory has {memory}")]
    NotInstalled {
        /// The target.
        pid: u32,
        /// Address in the target.
        address: u64,
        /// What the target's memory has at the site's address.
        memory: SiteBytes,
    },
    /// The target's executable could not be read.
    #[error("cannot read the executable of process {pid}: {source}")]
    Executable {
        /// The target.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The target's memory could not be read.
    #[error("cannot read the memory of process {pid} at {address:#x}: {source}")]
    Memory {
        /// The target.
        pid: u32,
        /// Address in the target.
        address: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// The target ended: normal at any time.
    #[error("process {pid} ended")]
    Gone {
        /// The target.
        pid: u32,
    },
    /// The kernel refused to attach a probe.
    #[error("the kernel refused to attach the {probe:?} probe to process {pid}: {reason}")]
    Attach {
        /// The target.
        pid: u32,
        /// Which probe.
        probe: Probe,
        /// What the kernel said, and what may help.
        reason: String,
    },
    /// A map could not be read.
    #[error("cannot read the kernel's {map} map: {source}")]
    Map {
        /// The map.
        map: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Processes can't be watched.
    #[error("cannot watch processes: {reason}")]
    Processes {
        /// Why, and what may help.
        reason: String,
    },
}

/// Bytes of an instruction, shown as hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteBytes(pub Vec<u8>);

impl Display for SiteBytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if index == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}
