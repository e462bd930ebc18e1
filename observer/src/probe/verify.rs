//! That a target is what it seemed to be when its sites were found.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use super::instruction::is_emulated;
use super::{Attachment, ProbeError, SiteBytes};
use crate::gobin::sites::Site;

/// What the kernel writes over an instruction's first byte: `int3`.
const BREAKPOINT: u8 = 0xcc;

/// The target's executable: one open file for check and attach, so that neither a rename nor a new
/// image can come between them.
pub(super) fn open_executable(pid: u32) -> Result<File, ProbeError> {
    File::open(format!("/proc/{pid}/exe")).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ProbeError::Gone { pid },
        _ => ProbeError::Executable { pid, source },
    })
}

/// Refuses a site unless its instruction is one that the kernel emulates and is the expected one both
/// in the file, which is where the kernel puts the breakpoint, and in memory, which is what runs.
pub(super) fn before_attach(exe: &File, target: &Attachment<'_>, site: &Site) -> Result<(), ProbeError> {
    let (pid, address) = (target.pid, address_of(target, site));
    if !is_emulated(&site.bytes) {
        return Err(ProbeError::NotEmulated { pid, address, bytes: SiteBytes(site.bytes.clone()) });
    }
    let mut file = vec![0; site.bytes.len()];
    exe.read_exact_at(&mut file, site.file_offset)
        .map_err(|source| ProbeError::Executable { pid, source })?;
    let memory = read_memory(pid, address, site.bytes.len())?;
    if file == site.bytes && (memory == site.bytes || has_breakpoint(&memory, &site.bytes)) {
        return Ok(());
    }
    let expected = SiteBytes(site.bytes.clone());
    Err(ProbeError::BytesDiffer { pid, address, expected, file: SiteBytes(file), memory: SiteBytes(memory) })
}

/// Checks that the breakpoint is where the target will run into it: this fails when the target ended
/// or replaced its image meanwhile, or when file offset and address belong to different places.
pub(super) fn after_attach(target: &Attachment<'_>, site: &Site) -> Result<(), ProbeError> {
    let (pid, address) = (target.pid, address_of(target, site));
    let memory = read_memory(pid, address, site.bytes.len())?;
    if has_breakpoint(&memory, &site.bytes) {
        return Ok(());
    }
    Err(ProbeError::NotInstalled { pid, address, memory: SiteBytes(memory) })
}

/// Whether only the first byte differs, and is a breakpoint: ours, or another tracer's at the same place.
fn has_breakpoint(memory: &[u8], expected: &[u8]) -> bool {
    memory.first() == Some(&BREAKPOINT) && memory.get(1..) == expected.get(1..)
}

fn address_of(target: &Attachment<'_>, site: &Site) -> u64 {
    target.load_bias.wrapping_add(site.address)
}

fn read_memory(pid: u32, address: u64, len: usize) -> Result<Vec<u8>, ProbeError> {
    let mut bytes = vec![0; len];
    let failed = |source: io::Error| ProbeError::Memory { pid, address, source };
    let remote = [RemoteIoVec {
        base: usize::try_from(address).map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?,
        len,
    }];
    let target = Pid::from_raw(i32::try_from(pid).map_err(|_| ProbeError::Gone { pid })?);
    match process_vm_readv(target, &mut [IoSliceMut::new(&mut bytes)], &remote) {
        Ok(read) if read == len => Ok(bytes),
        Ok(_) => Err(failed(io::ErrorKind::UnexpectedEof.into())),
        Err(Errno::ESRCH) => Err(ProbeError::Gone { pid }),
        Err(errno) => Err(failed(errno.into())),
    }
}
