//! What happens to processes: an `exec`, by which a new target is seen at once, and an end for lack of memory, of which
//! nothing else tells whose it was.

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use observer_ebpf::abi::{Loss, ProcessChange, ProcessEvent};

use super::loss::count_loss;
use super::task;
use crate::maps::PROCESSES;

/// `sched_process_exec`, which the kernel raises in the process whose image has just been replaced.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn process_exec(ctx: RawTracePointContext) -> i32 {
    tell(&ctx, ctx.tgid(), ProcessChange::Exec)
}

/// `mark_victim`, which the kernel raises right behind the SIGKILL, in whatever process it lacked memory for. Seldom it
/// is of a process that it need not kill, because that is ending already (`task_will_free_mem` in mm/oom_kill.c), and it
/// may come for several threads of one process.
///
/// Its first argument is the victim's `task_struct`; before ["mm: Update mark_victim tracepoints
/// fields"](https://github.com/torvalds/linux/commit/72ba14deb40a9e9668ec5e66a341ed657e5215c2) (Linux 6.9, and stable kernels
/// before), its id.
#[raw_tracepoint(tracepoint = "mark_victim")]
pub fn process_oom_kill(ctx: RawTracePointContext) -> i32 {
    let victim: u64 = ctx.arg(0);
    let pid = match u32::try_from(victim) {
        Ok(pid) => Some(pid),
        // No task is in the lower half of the address space.
        Err(_) => task::own_pid(&task::layout(), victim),
    };
    pid.map_or(0, |pid| tell(&ctx, pid, ProcessChange::OomKill))
}

#[inline(always)]
fn tell(ctx: &RawTracePointContext, pid: u32, change: ProcessChange) -> i32 {
    let event = ProcessEvent { pid, change: change as u32 };
    if let Err(errno) = PROCESSES.output::<ProcessEvent>(&event, 0) {
        count_loss(ctx, Loss::ProcessesFull, errno);
    }
    0
}
