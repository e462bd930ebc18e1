//! The C library's heap.

/// Blocks of this size and larger are given back to the kernel when they are freed, bytes.
pub const LARGE: usize = 128 * 1024;
/// Bytes at the end of a heap that are kept: what each chunk of a profile takes anew need not be faulted in anew.
const SPARE: i32 = 1024 * 1024;

/// Keeps the heap small after something large was read: left alone, glibc takes the first large block that is freed as
/// a reason to keep such blocks from then on (`M_MMAP_THRESHOLD` in mallopt(3)), and the types of a kernel are 6 MiB.
#[allow(unsafe_code, reason = "a setting of the C library")]
pub fn give_large_blocks_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes two numbers and sets one; a value that it refuses changes nothing.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, LARGE as i32);
        nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, SPARE);
    }
}
