//! Probe sites: the instructions that a probe may sit on.

/// One verified instruction of a Go runtime function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Which probe it is for.
    pub probe: observer_ebpf::abi::Probe,
    /// Link-time virtual address.
    pub address: u64,
    /// Offset in the executable file.
    pub file_offset: u64,
    /// The instruction's expected bytes.
    pub bytes: Vec<u8>,
    /// The instruction in words.
    pub instruction: &'static str,
}
