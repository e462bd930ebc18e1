//! Threads that use only what nobody else wants of a processor.

use nix::libc;

/// This thread runs from now on only where nobody else wants to run (`SCHED_IDLE`, sched(7)): whoever wakes up on its
/// processor gets it at once. It can't be taken back without privileges. Where the kernel refuses, it stays as it is.
#[allow(unsafe_code, reason = "a system call that nix doesn't offer")]
pub(super) fn yield_to_all() {
    // SAFETY: all zero is a valid value of this plain structure.
    let none: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the thread is this one, and the kernel only reads the parameter, which lives during the call.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const none) };
}
