//! Attaches the observer's own programs where it never would: at function entries.

use anyhow::{Context, Result, bail};
use aya::Ebpf;
use aya::programs::UProbe;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope};
use object::{Object, ObjectSegment, ObjectSymbol};
use observer_ebpf::abi::{Cookie, Probe};
use std::fs;
use std::num::NonZeroU32;
use std::path::Path;

/// The observer's program on starts and ends of goroutines.
const PROGRAM: &str = "goroutine_lifecycle";
/// Offset of `gopc` in `struct g` of the newest Go, as the program's attach cookie carries it.
const GOPC_OFFSET: u16 = 288;

/// The programs at the entries of the functions in which the observer attaches them further on.
pub(crate) struct AtEntry(#[allow(dead_code, reason = "its links live as long as it does")] Ebpf);

impl AtEntry {
    /// Takes the programs from `observer`, and attaches them to the process `pid`, which runs `executable`.
    pub(crate) fn attach(observer: &Path, executable: &Path, pid: u32) -> Result<Self> {
        let object = bpf_object(&fs::read(observer)?)?;
        let mut ebpf = aya::EbpfLoader::new().btf(None).load(&object)?;
        let target = fs::read(executable)?;
        let program: &mut UProbe = ebpf.program_mut(PROGRAM).context("no such program")?.try_into()?;
        program.load()?;
        for (probe, function) in [(Probe::Create, "runtime.newproc1"), (Probe::Exit, "runtime.gdestroy")] {
            let offset = file_offset(&target, function)?;
            let cookie = Cookie::new(0, probe, GOPC_OFFSET, 0).context("no cookie")?;
            let point = UProbeAttachPoint {
                location: UProbeAttachLocation::AbsoluteOffset(offset),
                cookie: Some(cookie.0),
            };
            let scope = UProbeScope::OneProcess(NonZeroU32::new(pid).context("no pid")?);
            program.attach(point, executable, scope)?;
        }
        Ok(Self(ebpf))
    }
}

/// The kernel side that is embedded in the observer: an ELF file for BPF within the ELF file for the host.
fn bpf_object(observer: &[u8]) -> Result<Vec<u8>> {
    const MAGIC: &[u8] = b"\x7fELF\x02\x01\x01";
    const EM_BPF: u16 = 247;
    for (at, _) in observer.windows(MAGIC.len()).enumerate().filter(|(_, window)| *window == MAGIC) {
        let header = &observer[at..];
        let word = |offset: usize| -> Option<u64> {
            Some(u64::from_le_bytes(header.get(offset..offset + 8)?.try_into().ok()?))
        };
        let half = |offset: usize| -> Option<u16> {
            Some(u16::from_le_bytes(header.get(offset..offset + 2)?.try_into().ok()?))
        };
        // e_shoff, e_shentsize, e_shnum: the section headers come last.
        let end = || {
            let table = u64::from(half(58)?) * u64::from(half(60)?);
            usize::try_from(word(40)?.checked_add(table)?).ok()
        };
        if half(18) == Some(EM_BPF)
            && let Some(object) = end().and_then(|end| header.get(..end))
        {
            return Ok(object.to_vec());
        }
    }
    bail!("this observer was built without BPF")
}

/// Where a function's first byte is in its file.
fn file_offset(executable: &[u8], function: &str) -> Result<u64> {
    let file = object::File::parse(executable)?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(function));
    let address = symbol.with_context(|| format!("no function {function}"))?.address();
    for segment in file.segments() {
        let (start, length) = segment.file_range();
        if let Some(within) = address.checked_sub(segment.address())
            && within < length
        {
            return Ok(start + within);
        }
    }
    bail!("{function} is not in the file")
}
