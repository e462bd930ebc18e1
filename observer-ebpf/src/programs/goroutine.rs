//! Goroutines that start and end, counted per callsite.
//!
//! Each probe sits on one instruction that the kernel emulates, where a
//! register holds what is needed (Go's register ABI on amd64, 1.19 to 1.27).
//! One hit costs one read of the target's memory and two counters: no event,
//! no stack walk.

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use observer_ebpf::abi::{CallsiteKey, Cookie, Loss, Probe};

use super::callsite::{Event, count, count_descriptor};
use super::context::{cookie, read_user, registers};
use super::loss::lose;
use crate::maps::{HITS, increment_at};

const CREATE: u32 = Probe::Create as u32;
const CREATE_COROUTINE: u32 = Probe::CreateCoroutine as u32;
const EXIT: u32 = Probe::Exit as u32;

/// All probes of [`observer_ebpf::abi::Group::Lifecycle`]: one link holds them, and a link has one program.
#[uprobe]
pub fn goroutine_lifecycle(ctx: ProbeContext) -> u32 {
    let cookie = cookie(&ctx);
    increment_at(&HITS, cookie.probe());
    match cookie.probe() {
        CREATE => create(&ctx, cookie),
        EXIT => exit(&ctx, cookie),
        CREATE_COROUTINE => create_coroutine(&ctx, cookie),
        _ => {}
    }
    0
}

/// `call runtime.runqput` in `runtime.newproc.func1`, on g0: RBX is the finished new `*g`.
#[inline(always)]
fn create(ctx: &ProbeContext, cookie: Cookie) {
    count_descriptor(ctx.as_ptr(), cookie, Event::Created, registers(ctx).rbx);
}

/// `call runtime.newproc1` in `runtime.newcoro.func1`, on g0: the new `g` doesn't exist yet, but
/// RAX points to the function value, whose first word is the entry, and RCX will be its `gopc`.
#[inline(always)]
fn create_coroutine(ctx: &ProbeContext, cookie: Cookie) {
    let registers = registers(ctx);
    match read_user::<u64>(registers.rax) {
        Ok(entry) => {
            let key = CallsiteKey { slot: cookie.slot(), gopc: registers.rcx, entry };
            count(ctx.as_ptr(), &key, Event::Created);
        }
        Err(errno) => lose::<{ Loss::DescriptorUnreadable as u32 }>(ctx.as_ptr(), errno),
    }
}

/// Behind the stack check of `runtime.gdestroy` (`goexit0` before Go 1.22), on g0: RAX is the ending `*g`.
#[inline(always)]
fn exit(ctx: &ProbeContext, cookie: Cookie) {
    count_descriptor(ctx.as_ptr(), cookie, Event::Exited, registers(ctx).rax);
}
