//! The system call `bpf`, for what aya doesn't offer.
#![allow(unsafe_code, reason = "a system call that neither nix nor aya offers")]

use nix::errno::Errno;
use nix::libc;

/// Runs a command of [`enum bpf_cmd`](https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/bpf.h).
///
/// # Errors
/// The kernel's.
///
/// # Safety
/// `attr` must be the part of the kernel's `union bpf_attr` that the command uses, its pointers must be valid for what
/// the command does with them, and its descriptors must be open.
pub(super) unsafe fn bpf<Attr>(command: libc::c_long, attr: &mut Attr) -> Result<libc::c_long, Errno> {
    // SAFETY: `attr` is valid for its size; the rest is the caller's contract.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<Attr>()) };
    Errno::result(result)
}
