//! What a program learns of the place where it runs.

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_ebpf::helpers::{bpf_get_attach_cookie, bpf_probe_read_kernel};
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
pub(super) fn read_user<T: Copy>(address: u64) -> Result<T, i32> {
    read_user_into(&mut MaybeUninit::uninit(), address).map(|value| *value)
}

/// The same, to where they stay: a copy would be room on the stack.
#[inline(always)]
#[allow(unsafe_code, reason = "a kernel helper")]
pub(super) fn read_user_into<T>(value: &mut MaybeUninit<T>, address: u64) -> Result<&mut T, i32> {
    // SAFETY: the helper checks the address itself, and writes all of the value where it succeeds; every T used
    // here is integers only.
    unsafe {
        match bpf_probe_read_user(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const _) {
            0 => Ok(value.assume_init_mut()),
            error => Err(error as i32),
        }
    }
}

/// Reads integers from the kernel's memory.
#[inline(always)]
#[allow(unsafe_code, reason = "a kernel helper")]
pub(super) fn read_kernel<T>(address: u64) -> Result<T, i32> {
    // SAFETY: the helper checks the address itself; every T used here is integers only.
    unsafe { bpf_probe_read_kernel(address as *const T) }
}
