//! Which amd64 instructions a probe may sit on.

/// Whether `bytes` start with a whole instruction that the kernel emulates under a breakpoint.
///
/// Anything else is single-stepped out of line, which costs several times as much, and in a virtual
/// machine twenty times. The kernel's own list is longer
/// (<https://github.com/torvalds/linux/blob/v6.12/arch/x86/kernel/uprobes.c>: `branch_setup_xol_ops`,
/// `push_setup_xol_ops`); this has what Go's compiler puts at our sites. Not the five-byte nop: from
/// 6.18 the kernel rewrites it into a call.
pub(super) fn is_emulated(bytes: &[u8]) -> bool {
    match *bytes {
        // push %rax … %rdi; push %r8 … %r15; nop
        [0x50..=0x57, ..] | [0x41, 0x50..=0x57, ..] | [0x90, ..] => true,
        // jcc rel8
        [0x70..=0x7f, _, ..] => true,
        // call rel32
        [0xe8, _, _, _, _, ..] => true,
        // jcc rel32
        [0x0f, 0x80..=0x8f, _, _, _, _, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The instructions of our sites are accepted.
    #[test]
    fn go_sites_are_emulated() {
        let sites: [&[u8]; 6] =
            [&[0x55], &[0x41, 0x57], &[0x90], &[0x76, 0x30], &[0xe8, 1, 2, 3, 4], &[0x0f, 0x86, 1, 2, 3, 4]];
        for bytes in sites {
            assert!(is_emulated(bytes), "{bytes:02x?}");
        }
    }

    /// Instructions that are single-stepped, and ones that are cut short, are refused.
    #[test]
    fn anything_else_is_refused() {
        let others: [&[u8]; 10] = [
            &[],
            &[0xcc],
            &[0xc3],
            &[0x48, 0x55],
            &[0x41],
            &[0x76],
            &[0xe8, 1, 2, 3],
            &[0x0f, 0x86, 1, 2, 3],
            &[0x49, 0x3b, 0x66, 0x10],
            &[0x0f, 0x1f, 0x44, 0x00, 0x00],
        ];
        for bytes in others {
            assert!(!is_emulated(bytes), "{bytes:02x?}");
        }
    }
}
