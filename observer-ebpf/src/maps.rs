//! What the programs write and user space reads.

use core::arch::asm;

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{HashMap, PerCpuArray, PerCpuHashMap, RingBuf};
use observer_ebpf::abi::{
    CallsiteCounts, CallsiteKey, Loss, Parked, ParkedKey, Probe, Sampled, WaitCounts, WaitKey,
};

/// Creations and exits per callsite of every attached target.
///
/// Room is taken when a callsite appears: preallocated, the map would take
/// 1 MiB for every CPU that the machine could have. Kernels before 6.1 get it
/// preallocated and smaller, see `probe/object.rs` in user space.
#[map]
pub(crate) static COUNTS: PerCpuHashMap<CallsiteKey, CallsiteCounts> =
    PerCpuHashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// Goroutines that were seen to park or to be woken in a target with wait probes.
#[map]
pub(crate) static PARKED: HashMap<ParkedKey, Parked> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// Parks and waits by reason of every target with wait probes: 700 bytes for each CPU.
#[map]
pub(crate) static WAITS: PerCpuHashMap<WaitKey, WaitCounts> =
    PerCpuHashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);

/// Targets whose goroutines on a CPU are sampled, by process id as the observer sees it.
#[map]
pub(crate) static SAMPLED: HashMap<u32, Sampled> = HashMap::with_max_entries(4096, 0);

/// How often each probe ran, by [`Probe`].
#[map]
pub(crate) static HITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Probe::ALL.len() as u32, 0);

/// What could not be counted, by [`Loss`].
#[map]
pub(crate) static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(Loss::ALL.len() as u32, 0);

/// What happens to processes, as [`observer_ebpf::abi::ProcessEvent`]: 16 bytes with the ring's header, so room for
/// 4 096.
#[map]
pub(crate) static PROCESSES: RingBuf = RingBuf::with_byte_size(64 * 1024, 0);

/// Adds to a counter of this CPU.
///
/// Atomic although it is this CPU's own: a probe can be preempted between its
/// load and its store by another thread's probe on the same CPU.
///
/// # Safety
/// `counter` must point to an aligned `u64` of a map value.
#[inline(always)]
#[allow(unsafe_code, reason = "map values are only reachable by pointer")]
pub(crate) unsafe fn add(counter: *mut u64, amount: u64) {
    // The BPF target has no `AtomicU64::fetch_add`; this is the oldest atomic instruction that BPF has.
    // SAFETY: the caller's contract; the verifier proves it again.
    unsafe {
        asm!("lock *(u64 *)({counter} + 0) += {amount}", counter = in(reg) counter, amount = in(reg) amount);
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
        add(counter, 1);
        Some(before)
    }
}
