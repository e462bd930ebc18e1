//! The programs that run in the kernel. Built for the BPF target by observer's build script; for
//! any other target this is an empty program, so that the workspace builds as a whole.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod programs;

/// Required by helpers that the kernel offers to GPL-compatible programs only.
#[cfg(target_arch = "bpf")]
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
#[allow(unsafe_code, reason = "the kernel looks for this section")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The programs can't panic: the linker would leave a loop that the verifier refuses.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
