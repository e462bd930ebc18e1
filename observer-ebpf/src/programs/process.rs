//! Processes that `exec`: how a new target is seen at once.

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use observer_ebpf::abi::{ExecEvent, Loss};

use super::loss::count_loss;
use crate::maps::EXECS;

/// `sched_process_exec`, which the kernel raises in the process whose image has just been replaced.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn process_exec(ctx: RawTracePointContext) -> i32 {
    let event = ExecEvent { pid: ctx.tgid(), reserved: 0 };
    if let Err(errno) = EXECS.output::<ExecEvent>(&event, 0) {
        count_loss(&ctx, Loss::ExecsFull, errno);
    }
    0
}
