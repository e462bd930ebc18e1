//! Goroutines that park, are woken and run again, counted per wait reason.
//!
//! All three functions run on g0 with the goroutine's descriptor in RAX, so that a hit comes once per
//! event. What happens in between is remembered per descriptor, which a new goroutine may take over when
//! the old one has ended: its first park overwrites what is left.

use core::arch::asm;
use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use observer_ebpf::abi::{Cookie, Durations, Loss, Parked, ParkedKey, Probe, WaitCounts, WaitKey};

use super::callsite::{Event, count_descriptor};
use super::context::{cookie, read_user, registers};
use super::loss::{E2BIG, EEXIST, lose};
use crate::maps::{HITS, PARKED, WAITS, add, increment_at};

/// What a new wait reason and a new goroutine start with; not on the stack, which has no room to spare.
static NO_WAITS: WaitCounts = WaitCounts::NONE;
static NOT_PARKED: Parked = Parked::NONE;

const RUN: u32 = Probe::Run as u32;
const READY: u32 = Probe::Ready as u32;
const PARK: u32 = Probe::Park as u32;

/// All probes of [`observer_ebpf::abi::Group::Waits`]: one link holds them, and a link has one program.
#[uprobe]
pub fn goroutine_waits(ctx: ProbeContext) -> u32 {
    let (g, cookie) = (registers(&ctx).rax, cookie(&ctx));
    increment_at(&HITS, cookie.probe());
    match cookie.probe() {
        RUN => run(ctx.as_ptr(), cookie, g),
        READY => ready(ctx.as_ptr(), cookie, g),
        PARK => park(ctx.as_ptr(), cookie, g),
        _ => {}
    }
    0
}

/// `runtime.park_m`: the goroutine's status is about to become waiting, its wait reason is set.
#[inline(always)]
fn park(ctx: *mut c_void, cookie: Cookie, g: u64) {
    if let Some(reason) = wait_reason(ctx, cookie, g)
        && begin_wait(ctx, cookie.slot(), g, reason)
    {
        count_callsite(ctx, cookie.0, g);
        count_park(ctx, cookie.slot(), reason);
    }
}

/// `runtime.ready`: the goroutine may run. Wake-ups by the network poller don't come here.
#[inline(always)]
#[allow(unsafe_code, reason = "map values are only reachable by pointer")]
fn ready(ctx: *mut c_void, cookie: Cookie, g: u64) {
    match PARKED.get_ptr_mut(ParkedKey { slot: cookie.slot(), g }) {
        // SAFETY: the kernel returned a pointer to a map value. Nobody else writes it: what parks a goroutine,
        // wakes it and runs it comes one after the other.
        Some(parked) => unsafe { (*parked).ready_at = now() },
        None => note_unseen(ctx, cookie.0, g),
    }
}

/// `runtime.execute`: the goroutine runs, after waiting or for another reason.
#[inline(always)]
#[allow(unsafe_code, reason = "map values are only reachable by pointer")]
fn run(ctx: *mut c_void, cookie: Cookie, g: u64) {
    let slot = cookie.slot();
    let Some(parked) = PARKED.get_ptr_mut(ParkedKey { slot, g }) else { return };
    // SAFETY: as in `ready`.
    let parked_at = unsafe { (*parked).parked_at };
    if parked_at == 0 {
        return;
    }
    // SAFETY: as above.
    let (reason, ready_at) = unsafe {
        (*parked).parked_at = 0;
        ((*parked).reason, (*parked).ready_at)
    };
    end_wait(ctx, slot, reason, parked_at, ready_at);
}

// What a hit does is in functions of its own: together their keys would not fit on a stack that the kernel leaves
// to the thread, see `probe/object.rs` in user space.

#[inline(never)]
fn count_callsite(ctx: *mut c_void, cookie: u64, g: u64) {
    count_descriptor(ctx, Cookie(cookie), Event::Parked, g);
}

#[inline(never)]
#[allow(unsafe_code, reason = "map values are only reachable by pointer")]
fn count_park(ctx: *mut c_void, slot: u64, reason: u64) {
    if let Some(counts) = waits(ctx, &WaitKey { slot, reason }) {
        // SAFETY: the kernel returned a pointer to this CPU's value, which outlives the program's run.
        unsafe { add(&raw mut (*counts).parks, 1) };
    }
}

/// Whether the park counts: not that of a goroutine which has parked already. It has run unseen, so the probe on that
/// has just been removed, and this one is about to be. Counted, such parks would have no waits.
#[inline(never)]
#[allow(unsafe_code, reason = "map values are only reachable by pointer")]
fn begin_wait(ctx: *mut c_void, slot: u64, g: u64, reason: u64) -> bool {
    let Some(parked) = record(ctx, &ParkedKey { slot, g }) else { return true };
    // SAFETY: as in `ready`.
    unsafe {
        if (*parked).parked_at != 0 {
            return false;
        }
        (*parked).parked_at = now();
        (*parked).ready_at = 0;
        (*parked).reason = reason;
    }
    true
}

/// A wake-up of a goroutine that was not seen to park.
#[inline(never)]
#[allow(unsafe_code, reason = "map values are only reachable by pointer")]
fn note_unseen(ctx: *mut c_void, cookie: u64, g: u64) {
    let cookie = Cookie(cookie);
    let Some(reason) = wait_reason(ctx, cookie, g) else { return };
    if let Some(parked) = record(ctx, &ParkedKey { slot: cookie.slot(), g }) {
        // SAFETY: as in `ready`.
        unsafe {
            (*parked).woken_unseen_at = now();
            (*parked).woken_reason = reason;
            (*parked).reason = reason;
        }
    }
}

#[inline(never)]
fn end_wait(ctx: *mut c_void, slot: u64, reason: u64, parked_at: u64, ready_at: u64) {
    if let Some(counts) = waits(ctx, &WaitKey { slot, reason }) {
        count_wait(counts, parked_at, ready_at, now());
    }
}

/// Counts a wait that is over.
#[inline(always)]
#[allow(unsafe_code, reason = "map values are only reachable by pointer")]
fn count_wait(counts: *mut WaitCounts, parked_at: u64, ready_at: u64, now: u64) {
    // SAFETY: the kernel returned a pointer to this CPU's value, which outlives the program's run.
    unsafe {
        count_duration(&raw mut (*counts).until_run, now.saturating_sub(parked_at));
        if ready_at != 0 {
            let waited = ready_at.saturating_sub(parked_at);
            count_duration(&raw mut (*counts).until_ready, waited);
            count_duration(&raw mut (*counts).queued, now.saturating_sub(ready_at));
        }
    }
}

/// # Safety
/// `durations` must point into a map value.
#[inline(always)]
#[allow(unsafe_code, reason = "map values are only reachable by pointer")]
unsafe fn count_duration(durations: *mut Durations, nanoseconds: u64) {
    let mut bucket = Durations::bucket(nanoseconds);
    // SAFETY: the caller's contract; the assembly changes nothing, but the compiler doesn't know: it would
    // drop the comparison, which the verifier needs.
    unsafe {
        asm!("{bucket} &= 31", bucket = inout(reg) bucket);
        if bucket < Durations::BUCKETS {
            add((&raw mut (*durations).buckets).cast::<u64>().add(bucket), 1);
        }
        add(&raw mut (*durations).sum_ns, nanoseconds);
    }
}

#[inline(always)]
fn wait_reason(ctx: *mut c_void, cookie: Cookie, g: u64) -> Option<u64> {
    match read_user::<u8>(g.wrapping_add(cookie.waitreason_offset())) {
        Ok(reason) => Some(reason.into()),
        Err(errno) => {
            lose::<{ Loss::DescriptorUnreadable as u32 }>(ctx, errno);
            None
        }
    }
}

/// What is known of a goroutine's wait, made when it is new.
#[inline(always)]
fn record(ctx: *mut c_void, key: &ParkedKey) -> Option<*mut Parked> {
    if let Some(parked) = PARKED.get_ptr_mut(key) {
        return Some(parked);
    }
    match PARKED.insert(key, &NOT_PARKED, BPF_NOEXIST.into()) {
        Ok(()) | Err(EEXIST) => return PARKED.get_ptr_mut(key),
        Err(E2BIG) => lose::<{ Loss::ParkedFull as u32 }>(ctx, E2BIG),
        Err(errno) => lose::<{ Loss::WaitsNoMemory as u32 }>(ctx, errno),
    }
    None
}

/// This CPU's counts of a wait reason, made when it is new.
#[inline(always)]
fn waits(ctx: *mut c_void, key: &WaitKey) -> Option<*mut WaitCounts> {
    if let Some(counts) = WAITS.get_ptr_mut(key) {
        return Some(counts);
    }
    // Zeros and NOEXIST: two CPUs that meet here must not undo each other's counts.
    match WAITS.insert(key, &NO_WAITS, BPF_NOEXIST.into()) {
        Ok(()) | Err(EEXIST) => return WAITS.get_ptr_mut(key),
        Err(E2BIG) => lose::<{ Loss::WaitsFull as u32 }>(ctx, E2BIG),
        Err(errno) => lose::<{ Loss::WaitsNoMemory as u32 }>(ctx, errno),
    }
    None
}

#[inline(always)]
#[allow(unsafe_code, reason = "a kernel helper")]
fn now() -> u64 {
    // SAFETY: it only reads the clock.
    unsafe { bpf_ktime_get_ns() }
}
