//! Events counted per callsite.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_NOEXIST;
use observer_ebpf::abi::{CallsiteCounts, CallsiteKey, Cookie, Loss};

use super::context::read_user;
use super::loss::{E2BIG, EEXIST, count_loss};
use crate::maps::{COUNTS, add};

/// Which of a callsite's counters is incremented.
#[derive(Clone, Copy)]
pub(super) enum Event {
    Created,
    Exited,
    Parked,
    OnCpu,
}

/// Counts an event of the goroutine whose descriptor is at `g`.
#[inline(always)]
pub(super) fn count_descriptor<C: EbpfContext>(ctx: &C, cookie: Cookie, event: Event, g: u64) {
    // gopc, ancestors and startpc follow one another in every version of `struct g`.
    match read_user::<[u64; 3]>(g.wrapping_add(cookie.gopc_offset())) {
        Ok([gopc, _ancestors, entry]) => count(ctx, &CallsiteKey { slot: cookie.slot(), gopc, entry }, event),
        Err(errno) => count_loss(ctx, Loss::DescriptorUnreadable, errno),
    }
}

/// Counts an event of a callsite.
#[inline(always)]
pub(super) fn count<C: EbpfContext>(ctx: &C, key: &CallsiteKey, event: Event) {
    match counts(key) {
        Ok(counts) => book(counts, event),
        Err(E2BIG) => count_loss(ctx, Loss::CountsFull, E2BIG),
        Err(errno) => count_loss(ctx, Loss::CountsNoMemory, errno),
    }
}

/// This CPU's counts of `key`, made when it is new.
#[inline(always)]
fn counts(key: &CallsiteKey) -> Result<*mut CallsiteCounts, i32> {
    if let Some(counts) = COUNTS.get_ptr_mut(key) {
        return Ok(counts);
    }
    // Zeros and NOEXIST: two CPUs that meet here must not undo each other's counts.
    match COUNTS.insert(key, CallsiteCounts::default(), BPF_NOEXIST.into()) {
        Ok(()) | Err(EEXIST) => COUNTS.get_ptr_mut(key).ok_or(EEXIST),
        Err(errno) => Err(errno),
    }
}

#[inline(always)]
#[allow(unsafe_code, reason = "map values are only reachable by pointer")]
fn book(counts: *mut CallsiteCounts, event: Event) {
    // SAFETY: the kernel returned a pointer to this CPU's value, which outlives the program's run.
    unsafe {
        match event {
            Event::Created => add(&raw mut (*counts).created, 1),
            Event::Exited => add(&raw mut (*counts).exited, 1),
            Event::OnCpu => add(&raw mut (*counts).on_cpu, 1),
            Event::Parked => add(&raw mut (*counts).parked, 1),
        }
    }
}
