//! Counting what could not be counted.

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::programs::ProbeContext;
use aya_log_ebpf::debug;
use observer_ebpf::abi::Loss;

use crate::maps::{LOSSES, increment_at};

/// A map has no room for another key.
pub(super) const E2BIG: i32 = -7;
/// The key is there already.
pub(super) const EEXIST: i32 = -17;

/// Counts one loss; the first of its kind on each CPU is also logged, with the kernel's error number.
#[inline(always)]
pub(super) fn count_loss<C: EbpfContext>(ctx: &C, loss: Loss, errno: i32) {
    if increment_at(&LOSSES, loss as u32) == Some(0) {
        debug!(ctx, "first {} on this CPU: error {}", name(loss), errno);
    }
}

/// The same as a function of its own, by the loss's index: what it logs would take room on the stack of every hit.
#[inline(never)]
pub(super) fn lose<const LOSS: u32>(ctx: *mut c_void, errno: i32) {
    // Only the pointer is used, whatever kind of context it is.
    count_loss(&ProbeContext::new(ctx), const { Loss::ALL[LOSS as usize] }, errno);
}

#[inline(always)]
fn name(loss: Loss) -> &'static str {
    match loss {
        Loss::CountsFull => "goroutine not counted because the callsite map is full",
        Loss::CountsNoMemory => "goroutine not counted because the kernel had no memory for its callsite",
        Loss::DescriptorUnreadable => "goroutine not counted because its descriptor is unreadable",
        Loss::ParkedFull => "wait not measured because the map of parked goroutines is full",
        Loss::WaitsFull => "park not counted because the map of wait reasons is full",
        Loss::WaitsNoMemory => "wait not measured because the kernel had no memory for it",
        Loss::ProcessesFull => "process not reported because the ring buffer is full",
    }
}
