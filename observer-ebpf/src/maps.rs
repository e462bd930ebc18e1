//! What the programs write and user space reads.

use core::arch::asm;

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{PerCpuArray, PerCpuHashMap, RingBuf};
use observer_ebpf::abi::{CallsiteCounts, CallsiteKey, Loss, Probe};

/// Creations and exits per callsite of every attached target.
///
/// Room is taken when a callsite appears: preallocated, the map would take
/// 1 MiB for every CPU that the machine could have. Kernels before 6.1 get it
/// preallocated and smaller, see `probe/object.rs` in user space.
#[map]
pub(crate) static COUNTS: PerCpuHashMap<CallsiteKey, CallsiteCounts> =
    PerCpuHashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// How often each probe ran, by [`Probe`].
#[map]
pub(crate) static HITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Probe::ALL.len() as u32, 0);

/// What could not be counted, by [`Loss`].
#[map]
pub(crate) static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(Loss::ALL.len() as u32, 0);

/// `exec`s, as [`observer_ebpf::abi::ExecEvent`]: 16 bytes with the ring's header, so room for 4 096.
#[map]
pub(crate) static EXECS: RingBuf = RingBuf::with_byte_size(64 * 1024, 0);

/// Adds one to a counter of this CPU.
///
/// Atomic although it is this CPU's own: a probe can be preempted between its
/// load and its store by another thread's probe on the same CPU.
///
/// # Safety
/// `counter` must point to an aligned `u64` of a map value.
#[inline(always)]
#[allow(unsafe_code, reason = "map values are only reachable by pointer")]
pub(crate) unsafe fn increment(counter: *mut u64) {
    // The BPF target has no `AtomicU64::fetch_add`; this is the oldest atomic instruction that BPF has.
    // SAFETY: the caller's contract; the verifier proves it again.
    unsafe {
        asm!("lock *(u64 *)({counter} + 0) += {one}", counter = in(reg) counter, one = in(reg) 1_u64);
    }
}

/// Adds one to `array[index]`; returns what it held, or `None` for an index that isn't there.
#[inline(always)]
#[allow(unsafe_code, reason = "map values are only reachable by pointer")]
pub(crate) fn increment_at(array: &PerCpuArray<u64>, index: u32) -> Option<u64> {
    let counter = array.get_ptr_mut(index)?;
    // SAFETY: the kernel returned a pointer to this CPU's value, which lives as long as the map.
    unsafe {
        let before = *counter;
        increment(counter);
        Some(before)
    }
}
