//! Goroutines that start and end, counted per callsite.
//!
//! Each probe sits on one instruction that the kernel emulates, where a
//! register holds what is needed (Go's register ABI on amd64, 1.19 to 1.27).
//! One hit costs one read of the target's memory and two counters: no event,
//! no stack walk.

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use observer_ebpf::abi::{CallsiteKey, Loss, Probe};

use super::callsite::{Event, count, count_descriptor};
use super::context::{cookie, read_user, registers};
use super::loss::lose;
use crate::maps::{HITS, increment_at};

/// `call runtime.runqput` in `runtime.newproc.func1`, on g0: RBX is the finished new `*g`.
#[uprobe]
pub fn goroutine_create(ctx: ProbeContext) -> u32 {
    increment_at(&HITS, Probe::Create as u32);
    count_descriptor(ctx.as_ptr(), cookie(&ctx), Event::Created, registers(&ctx).rbx);
    0
}

/// `call runtime.newproc1` in `runtime.newcoro.func1`, on g0: the new `g` doesn't exist yet, but
/// RAX points to the function value, whose first word is the entry, and RCX will be its `gopc`.
#[uprobe]
pub fn goroutine_create_coroutine(ctx: ProbeContext) -> u32 {
    increment_at(&HITS, Probe::CreateCoroutine as u32);
    let registers = registers(&ctx);
    match read_user::<u64>(registers.rax) {
        Ok(entry) => {
            let key = CallsiteKey { slot: cookie(&ctx).slot(), gopc: registers.rcx, entry };
            count(ctx.as_ptr(), &key, Event::Created);
        }
        Err(errno) => lose::<{ Loss::DescriptorUnreadable as u32 }>(ctx.as_ptr(), errno),
    }
    0
}

/// Behind the stack check of `runtime.gdestroy` (`goexit0` before Go 1.22), on g0: RAX is the ending `*g`.
#[uprobe]
pub fn goroutine_exit(ctx: ProbeContext) -> u32 {
    increment_at(&HITS, Probe::Exit as u32);
    count_descriptor(ctx.as_ptr(), cookie(&ctx), Event::Exited, registers(&ctx).rax);
    0
}
