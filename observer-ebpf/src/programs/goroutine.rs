//! Goroutines that start and end, counted per callsite.
//!
//! Each probe sits on one instruction that the kernel emulates, where a
//! register holds what is needed (Go's register ABI on amd64, 1.19 to 1.27).
//! One hit costs one read of the target's memory and two counters: no event,
//! no stack walk.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_get_attach_cookie;
use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use observer_ebpf::abi::{CallsiteCounts, CallsiteKey, Cookie, Loss, Probe};

use super::loss::count_loss;
use crate::maps::{COUNTS, HITS, increment, increment_at};

const E2BIG: i32 = -7;
const EEXIST: i32 = -17;

/// Of a callsite that is new; not on the stack, which has no room to spare.
static NO_COUNTS: CallsiteCounts = CallsiteCounts { created: 0, exited: 0 };

/// Which of a callsite's counters a probe increments.
#[derive(Clone, Copy)]
enum Event {
    Created,
    Exited,
}

/// `call runtime.runqput` in `runtime.newproc.func1`, on g0: RBX is the finished new `*g`.
#[uprobe]
pub fn goroutine_create(ctx: ProbeContext) -> u32 {
    count_descriptor(&ctx, Probe::Create, Event::Created, registers(&ctx).rbx);
    0
}

/// `call runtime.newproc1` in `runtime.newcoro.func1`, on g0: the new `g` doesn't exist yet, but
/// RAX points to the function value, whose first word is the entry, and RCX will be its `gopc`.
#[uprobe]
pub fn goroutine_create_coroutine(ctx: ProbeContext) -> u32 {
    increment_at(&HITS, Probe::CreateCoroutine as u32);
    let registers = registers(&ctx);
    let mut entry = MaybeUninit::<u64>::uninit();
    match read_user(&mut entry, registers.rax) {
        Ok(entry) => {
            let key = CallsiteKey { slot: cookie(&ctx).slot(), gopc: registers.rcx, entry: *entry };
            count(&ctx, &key, Event::Created);
        }
        Err(errno) => descriptor_unreadable(ctx.as_ptr(), errno),
    }
    0
}

/// Behind the stack check of `runtime.gdestroy` (`goexit0` before Go 1.22), on g0: RAX is the ending `*g`.
#[uprobe]
pub fn goroutine_exit(ctx: ProbeContext) -> u32 {
    count_descriptor(&ctx, Probe::Exit, Event::Exited, registers(&ctx).rax);
    0
}

/// Counts an event of the goroutine whose descriptor is at `g`.
#[inline(always)]
fn count_descriptor(ctx: &ProbeContext, probe: Probe, event: Event, g: u64) {
    increment_at(&HITS, probe as u32);
    let cookie = cookie(ctx);
    // gopc, ancestors and startpc follow one another in every version of `struct g`: the key, but for the slot.
    let mut key = MaybeUninit::<CallsiteKey>::uninit();
    match read_user(&mut key, g.wrapping_add(cookie.gopc_offset())) {
        Ok(key) => {
            key.slot = cookie.slot();
            count(ctx, key, event);
        }
        Err(errno) => descriptor_unreadable(ctx.as_ptr(), errno),
    }
}

#[inline(always)]
fn count(ctx: &ProbeContext, key: &CallsiteKey, event: Event) {
    match counts(key) {
        Ok(counts) => add(counts, event),
        Err(E2BIG) => counts_full(ctx.as_ptr()),
        Err(errno) => counts_no_memory(ctx.as_ptr(), errno),
    }
}

// Losses are functions of their own: what they log would take room on the stack of every hit.

#[inline(never)]
fn descriptor_unreadable(ctx: *mut c_void, errno: i32) {
    count_loss(&ProbeContext::new(ctx), Loss::DescriptorUnreadable, errno);
}

#[inline(never)]
fn counts_full(ctx: *mut c_void) {
    count_loss(&ProbeContext::new(ctx), Loss::CountsFull, E2BIG);
}

#[inline(never)]
fn counts_no_memory(ctx: *mut c_void, errno: i32) {
    count_loss(&ProbeContext::new(ctx), Loss::CountsNoMemory, errno);
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
fn add(counts: *mut CallsiteCounts, event: Event) {
    // SAFETY: the kernel returned a pointer to this CPU's value, which outlives the program's run.
    unsafe {
        match event {
            Event::Created => increment(&raw mut (*counts).created),
            Event::Exited => increment(&raw mut (*counts).exited),
        }
    }
}

#[inline(always)]
#[allow(unsafe_code, reason = "the program's context is a pointer")]
fn registers(ctx: &ProbeContext) -> &aya_ebpf::bindings::pt_regs {
    // SAFETY: the kernel passes a valid context for the whole run of the program.
    unsafe { &*ctx.regs }
}

#[inline(always)]
#[allow(unsafe_code, reason = "a kernel helper")]
fn cookie(ctx: &ProbeContext) -> Cookie {
    // SAFETY: the context is the one that the kernel passed.
    Cookie(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) })
}

/// Reads the target's memory to where the value stays: a copy of it would be room on the stack.
#[inline(always)]
#[allow(unsafe_code, reason = "a kernel helper")]
fn read_user<T>(value: &mut MaybeUninit<T>, address: u64) -> Result<&mut T, i32> {
    // SAFETY: the helper checks the address itself, and writes all of the value where it succeeds; every T used
    // here is integers only.
    unsafe {
        match bpf_probe_read_user(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const _) {
            0 => Ok(value.assume_init_mut()),
            error => Err(error as i32),
        }
    }
}
