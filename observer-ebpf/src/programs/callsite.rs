//! Events counted per callsite.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::BPF_NOEXIST;
use observer_ebpf::abi::{CallsiteCounts, CallsiteKey, Cookie, Loss};

use super::context::read_user_into;
use super::loss::{E2BIG, EEXIST, lose};
use crate::maps::{COUNTS, add};

/// Of a callsite that is new; not on the stack, which has no room to spare.
static NO_COUNTS: CallsiteCounts = CallsiteCounts { created: 0, exited: 0, parked: 0, on_cpu: 0 };

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
pub(super) fn count_descriptor(ctx: *mut c_void, cookie: Cookie, event: Event, g: u64) {
    // gopc, ancestors and startpc follow one another in every version of `struct g`: the key, but for the slot.
    let mut key = MaybeUninit::<CallsiteKey>::uninit();
    match read_user_into(&mut key, g.wrapping_add(cookie.gopc_offset())) {
        Ok(key) => {
            key.slot = cookie.slot();
            count(ctx, key, event);
        }
        Err(errno) => lose::<{ Loss::DescriptorUnreadable as u32 }>(ctx, errno),
    }
}

/// Counts an event of a callsite.
#[inline(always)]
pub(super) fn count(ctx: *mut c_void, key: &CallsiteKey, event: Event) {
    match counts(key) {
        Ok(counts) => book(counts, event),
        Err(E2BIG) => lose::<{ Loss::CountsFull as u32 }>(ctx, E2BIG),
        Err(errno) => lose::<{ Loss::CountsNoMemory as u32 }>(ctx, errno),
    }
}

/// This CPU's counts of `key`, made when it is new.
#[inline(always)]
fn counts(key: &CallsiteKey) -> Result<*mut CallsiteCounts, i32> {
    if let Some(counts) = COUNTS.get_ptr_mut(key) {
        return Ok(counts);
    }
    // Zeros and NOEXIST: two CPUs that meet here must not undo each other's counts.
    match COUNTS.insert(key, &NO_COUNTS, BPF_NOEXIST.into()) {
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
