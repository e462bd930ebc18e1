//! Counting what could not be counted.

use aya_ebpf::EbpfContext;
use aya_log_ebpf::debug;
use observer_ebpf::abi::Loss;

use crate::maps::{LOSSES, increment_at};

/// Counts one loss; the first of its kind on each CPU is also logged, with the kernel's error number.
#[inline(always)]
pub(super) fn count_loss<C: EbpfContext>(ctx: &C, loss: Loss, errno: i32) {
    if increment_at(&LOSSES, loss as u32) == Some(0) {
        debug!(ctx, "first {} on this CPU: error {}", name(loss), errno);
    }
}

#[inline(always)]
fn name(loss: Loss) -> &'static str {
    match loss {
        Loss::CountsFull => "goroutine not counted because the callsite map is full",
        Loss::CountsNoMemory => "goroutine not counted because the kernel had no memory for its callsite",
        Loss::DescriptorUnreadable => "goroutine not counted because its descriptor is unreadable",
        Loss::ExecsFull => "exec not reported because the ring buffer is full",
    }
}
