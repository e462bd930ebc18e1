//! What a program learns of the place where it runs.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::{bpf_get_attach_cookie, bpf_probe_read_kernel, bpf_probe_read_user};
use aya_ebpf::programs::ProbeContext;
use observer_ebpf::abi::Cookie;

/// The target's registers where the probe is.
#[inline(always)]
#[allow(unsafe_code, reason = "the program's context is a pointer")]
pub(super) fn registers(ctx: &ProbeContext) -> &aya_ebpf::bindings::pt_regs {
    // SAFETY: the kernel passes a valid context for the whole run of the program.
    unsafe { &*ctx.regs }
}

/// What the probe was attached with.
#[inline(always)]
#[allow(unsafe_code, reason = "a kernel helper")]
pub(super) fn cookie(ctx: &ProbeContext) -> Cookie {
    // SAFETY: the context is the one that the kernel passed.
    Cookie(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) })
}

/// Reads integers from the memory of the process that runs.
#[inline(always)]
#[allow(unsafe_code, reason = "a kernel helper")]
pub(super) fn read_user<T>(address: u64) -> Result<T, i32> {
    // SAFETY: the helper checks the address itself; every T used here is integers only.
    unsafe { bpf_probe_read_user(address as *const T) }
}

/// Reads integers from the kernel's memory.
#[inline(always)]
#[allow(unsafe_code, reason = "a kernel helper")]
pub(super) fn read_kernel<T>(address: u64) -> Result<T, i32> {
    // SAFETY: as in `read_user`.
    unsafe { bpf_probe_read_kernel(address as *const T) }
}
