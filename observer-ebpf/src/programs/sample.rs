//! Goroutines on a CPU, sampled by its clock.
//!
//! A sample that hits a thread of a target finds the current `g` where Go's own assembly finds it, at a fixed
//! distance from the thread pointer, and takes the user goroutine of its `m`: the current `g` itself, or the
//! one on whose behalf the thread is on its system stack or in C.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_get_current_task;
use aya_ebpf::macros::perf_event;
use aya_ebpf::programs::PerfEventContext;
use observer_ebpf::abi::{CallsiteKey, Sampled};

use super::callsite::{Event, count};
use super::context::{read_kernel, read_user};
use super::task;
use crate::maps::SAMPLED;

/// One tick of a CPU's clock.
#[perf_event]
pub fn sample_cpu(ctx: PerfEventContext) -> u32 {
    let layout = task::layout();
    let task = current_task();
    let Some(pid) = task::own_pid(&layout, task) else { return 0 };
    let Some(target) = sampled(pid) else { return 0 };
    let key = match read_kernel::<u64>(task.wrapping_add(layout.task_fsbase.into())) {
        Ok(thread_pointer) => callsite(&target, thread_pointer),
        Err(_) => CallsiteKey::unreadable(target.slot),
    };
    count(ctx.as_ptr(), &key, Event::OnCpu);
    0
}

/// The callsite of the goroutine that a thread runs.
#[inline(always)]
fn callsite(target: &Sampled, thread_pointer: u64) -> CallsiteKey {
    match user_goroutine(target, thread_pointer) {
        Ok(Some(g)) => match read_user::<[u64; 3]>(g.wrapping_add(target.g_gopc)) {
            Ok([gopc, _ancestors, entry]) => CallsiteKey { slot: target.slot, gopc, entry },
            Err(_) => CallsiteKey::unreadable(target.slot),
        },
        Ok(None) => CallsiteKey::no_goroutine(target.slot),
        Err(_) => CallsiteKey::unreadable(target.slot),
    }
}

/// The user goroutine of the current `m`, if it has one; an error if anything isn't as it must be.
#[inline(always)]
fn user_goroutine(target: &Sampled, thread_pointer: u64) -> Result<Option<u64>, i32> {
    // Without a thread pointer the thread is just starting; without a `g` it is none of Go's.
    if thread_pointer == 0 {
        return Ok(None);
    }
    let current: u64 = read_user(thread_pointer.wrapping_add_signed(target.tls_offset))?;
    if current == 0 {
        return Ok(None);
    }
    let m: u64 = read_user(current.wrapping_add(target.g_m))?;
    let g: u64 = read_user(m.wrapping_add(target.m_curg))?;
    if g == 0 {
        return Ok(None);
    }
    let back: u64 = read_user(g.wrapping_add(target.g_m))?;
    // The scheduler is about to let it go or has just taken it: `dropg`, `gdestroy` and `execute` of src/runtime/proc.go.
    if back == 0 {
        return Ok(None);
    }
    let itself: u64 = read_user(g.wrapping_add(target.g_sched_g))?;
    if back == m && itself == g { Ok(Some(g)) } else { Err(0) }
}

#[inline(always)]
#[allow(unsafe_code, reason = "map values are only reachable by pointer")]
fn sampled(pid: u32) -> Option<Sampled> {
    // SAFETY: user space replaces entries and never changes one in place.
    unsafe { SAMPLED.get(pid).copied() }
}

#[inline(always)]
#[allow(unsafe_code, reason = "a kernel helper")]
fn current_task() -> u64 {
    // SAFETY: it takes no argument.
    unsafe { bpf_get_current_task() }
}
