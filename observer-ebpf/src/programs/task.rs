//! Which process a task belongs to.

use core::ptr::read_volatile;

use observer_ebpf::abi::KernelLayout;

use super::context::read_kernel;

/// PID namespaces can be nested this deep.
const MAX_LEVELS: u32 = 33;

/// Filled in by user space before the program is loaded.
#[unsafe(no_mangle)]
#[allow(unsafe_code, reason = "user space finds it by its name")]
static KERNEL_LAYOUT: KernelLayout = KernelLayout {
    task_fsbase: 0,
    task_group_leader: 0,
    task_thread_pid: 0,
    pid_level: 0,
    pid_numbers: 0,
    upid_size: 0,
    upid_nr: 0,
    upid_ns: 0,
    ns_inum: 0,
    own_ns: 0,
};

/// The id of a task's process in the observer's PID namespace, if it is visible there.
#[inline(always)]
pub(super) fn own_pid(layout: &KernelLayout, task: u64) -> Option<u32> {
    let leader: u64 = read_kernel(task.wrapping_add(layout.task_group_leader.into())).ok()?;
    let pid: u64 = read_kernel(leader.wrapping_add(layout.task_thread_pid.into())).ok()?;
    let level: u32 = read_kernel(pid.wrapping_add(layout.pid_level.into())).ok()?;
    let numbers = pid.wrapping_add(layout.pid_numbers.into());
    for index in 0..MAX_LEVELS {
        if index > level {
            return None;
        }
        let number = numbers.wrapping_add((index * layout.upid_size).into());
        let namespace: u64 = read_kernel(number.wrapping_add(layout.upid_ns.into())).ok()?;
        let inode: u32 = read_kernel(namespace.wrapping_add(layout.ns_inum.into())).ok()?;
        if inode == layout.own_ns {
            return read_kernel(number.wrapping_add(layout.upid_nr.into())).ok();
        }
    }
    None
}

#[inline(always)]
#[allow(unsafe_code, reason = "the compiler must not take the value for the one that it was built with")]
pub(super) fn layout() -> KernelLayout {
    // SAFETY: a valid, constant object.
    unsafe { read_volatile(&raw const KERNEL_LAYOUT) }
}
