//! Goroutines that park, are woken and run again, counted per wait reason.
//!
//! All three functions run on g0 with the goroutine's descriptor in RAX, so that a hit comes once per
//! event. What happens in between is remembered per descriptor, which a new goroutine may take over when
//! the old one has ended: its first park overwrites what is left.

use core::arch::asm;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use observer_ebpf::abi::{Cookie, Durations, Loss, Parked, ParkedKey, Probe, WaitCounts, WaitKey};

use super::callsite::{Event, count_descriptor};
use super::context::{cookie, read_user, registers};
use super::loss::{E2BIG, EEXIST, count_loss};
use crate::maps::{HITS, PARKED, WAITS, add, increment_at};

/// What a new wait reason starts with: larger than a program's stack.
static NO_WAITS: WaitCounts = WaitCounts::NONE;

/// `runtime.park_m`: the goroutine's status is about to become waiting, its wait reason is set.
#[uprobe]
#[allow(unsafe_code, reason = "map values are only reachable by pointer")]
pub fn goroutine_park(ctx: ProbeContext) -> u32 {
    increment_at(&HITS, Probe::Park as u32);
    let (g, cookie) = (registers(&ctx).rax, cookie(&ctx));
    let Some(reason) = wait_reason(&ctx, cookie, g) else { return 0 };
    count_descriptor(&ctx, cookie, Event::Parked, g);
    if let Some(counts) = waits(&ctx, &WaitKey { slot: cookie.slot(), reason }) {
        // SAFETY: the kernel returned a pointer to this CPU's value, which outlives the program's run.
        unsafe { add(&raw mut (*counts).parks, 1) };
    }
    let parked = Parked { parked_at: now(), ready_at: 0, woken_unseen_at: 0, woken_reason: 0, reason };
    remember(&ctx, &ParkedKey { slot: cookie.slot(), g }, parked);
    0
}

/// `runtime.ready`: the goroutine may run. Wake-ups by the network poller don't come here.
#[uprobe]
#[allow(unsafe_code, reason = "map values are only reachable by pointer")]
pub fn goroutine_ready(ctx: ProbeContext) -> u32 {
    increment_at(&HITS, Probe::Ready as u32);
    let (g, cookie) = (registers(&ctx).rax, cookie(&ctx));
    let key = ParkedKey { slot: cookie.slot(), g };
    match PARKED.get_ptr_mut(&key) {
        // SAFETY: as in `goroutine_park`. Nobody else writes it: what parks a goroutine, wakes it and
        // runs it comes one after the other.
        Some(parked) => unsafe { (*parked).ready_at = now() },
        None => {
            let Some(reason) = wait_reason(&ctx, cookie, g) else { return 0 };
            let woken =
                Parked { parked_at: 0, ready_at: 0, woken_unseen_at: now(), woken_reason: reason, reason };
            remember(&ctx, &key, woken);
        }
    }
    0
}

/// `runtime.execute`: the goroutine runs, after waiting or for another reason.
#[uprobe]
#[allow(unsafe_code, reason = "map values are only reachable by pointer")]
pub fn goroutine_run(ctx: ProbeContext) -> u32 {
    increment_at(&HITS, Probe::Run as u32);
    let (g, slot) = (registers(&ctx).rax, cookie(&ctx).slot());
    let Some(record) = PARKED.get_ptr_mut(&ParkedKey { slot, g }) else { return 0 };
    // SAFETY: as in `goroutine_ready`.
    let parked = unsafe { *record };
    if parked.parked_at == 0 {
        return 0;
    }
    // SAFETY: as above.
    unsafe { (*record).parked_at = 0 };
    if let Some(counts) = waits(&ctx, &WaitKey { slot, reason: parked.reason }) {
        count_wait(counts, &parked, now());
    }
    0
}

/// Counts a wait that is over.
#[inline(always)]
#[allow(unsafe_code, reason = "map values are only reachable by pointer")]
fn count_wait(counts: *mut WaitCounts, parked: &Parked, now: u64) {
    // SAFETY: the kernel returned a pointer to this CPU's value, which outlives the program's run.
    unsafe {
        count_duration(&raw mut (*counts).until_run, now.saturating_sub(parked.parked_at));
        if parked.ready_at != 0 {
            let waited = parked.ready_at.saturating_sub(parked.parked_at);
            count_duration(&raw mut (*counts).until_ready, waited);
            count_duration(&raw mut (*counts).queued, now.saturating_sub(parked.ready_at));
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
fn wait_reason(ctx: &ProbeContext, cookie: Cookie, g: u64) -> Option<u64> {
    match read_user::<u8>(g.wrapping_add(cookie.waitreason_offset())) {
        Ok(reason) => Some(reason.into()),
        Err(errno) => {
            count_loss(ctx, Loss::DescriptorUnreadable, errno);
            None
        }
    }
}

#[inline(always)]
#[allow(unsafe_code, reason = "map values are only reachable by pointer")]
fn remember(ctx: &ProbeContext, key: &ParkedKey, parked: Parked) {
    if let Some(record) = PARKED.get_ptr_mut(key) {
        // SAFETY: as in `goroutine_ready`.
        unsafe {
            (*record).parked_at = parked.parked_at;
            (*record).ready_at = 0;
            (*record).reason = parked.reason;
        }
        return;
    }
    match PARKED.insert(key, parked, BPF_ANY.into()) {
        Ok(()) => {}
        Err(E2BIG) => count_loss(ctx, Loss::ParkedFull, E2BIG),
        Err(errno) => count_loss(ctx, Loss::WaitsNoMemory, errno),
    }
}

/// This CPU's counts of a wait reason, made when it is new.
#[inline(always)]
fn waits<C: EbpfContext>(ctx: &C, key: &WaitKey) -> Option<*mut WaitCounts> {
    if let Some(counts) = WAITS.get_ptr_mut(key) {
        return Some(counts);
    }
    // Zeros and NOEXIST: two CPUs that meet here must not undo each other's counts.
    match WAITS.insert(key, &NO_WAITS, BPF_NOEXIST.into()) {
        Ok(()) | Err(EEXIST) => WAITS.get_ptr_mut(key),
        Err(E2BIG) => {
            count_loss(ctx, Loss::WaitsFull, E2BIG);
            None
        }
        Err(errno) => {
            count_loss(ctx, Loss::WaitsNoMemory, errno);
            None
        }
    }
}

#[inline(always)]
#[allow(unsafe_code, reason = "a kernel helper")]
fn now() -> u64 {
    // SAFETY: it only reads the clock.
    unsafe { bpf_ktime_get_ns() }
}
