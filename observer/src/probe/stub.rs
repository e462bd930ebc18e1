//! A probe on a function of the observer's own: proves the whole way from the trap to the map on this
//! machine, and measures what one hit costs.
#![allow(unsafe_code, reason = "the function is assembly, so that the instruction under the probe is known")]

use std::arch::global_asm;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use observer_ebpf::abi::{CallsiteCounts, Probe};
use procfs::process::Process;

use super::governor::Costs;
use super::{Attachment, Options, ProbeError, Probes};
use crate::gobin::sites::Site;

// Where a Go runtime's exit probe sits: RAX holds a descriptor, the instruction is `push %rbp`.
global_asm!(
    ".pushsection .text.observer_probe_stub, \"ax\", @progbits",
    ".globl observer_probe_stub",
    ".type observer_probe_stub, @function",
    "observer_probe_stub:",
    "mov rax, rdi",
    ".globl observer_probe_stub_site",
    "observer_probe_stub_site:",
    "push rbp",
    "pop rbp",
    "ret",
    ".size observer_probe_stub, . - observer_probe_stub",
    ".popsection",
);

unsafe extern "C" {
    fn observer_probe_stub(descriptor: *const [u64; 3]);
    fn observer_probe_stub_site();
}

/// `gopc`, `ancestors` and `startpc` of a goroutine that doesn't exist.
const DESCRIPTOR: [u64; 3] = [0x60, 0, 0x61];

const CALLS_PER_ROUND: u64 = 500;
const ROUNDS: u64 = 10;

/// Links of a group whose probes have one each; their coming and going is charged for each group.
const LINKS: u32 = 3;

/// Measures what hits of a counting probe, and its coming and going, cost here, with the caches warm.
///
/// It loads the programs, probes a function of this process for some milliseconds, on one CPU and on all at
/// once, and checks that every call was counted.
///
/// # Errors
/// Whatever keeps probes from working on this machine.
pub fn calibrate() -> Result<Costs, ProbeError> {
    // Two at a time would count each other's calls.
    static MEASURING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let site = stub_site()?;
    let probes = Probes::load(&Options { max_callsites_in_kernel: 16, ..Options::default() })?;
    let own = Attachment {
        pid: std::process::id(),
        slot: 0,
        gopc_offset: 0,
        waitreason_offset: 0,
        load_bias: 0,
        group: site.probe.group(),
        sites: std::slice::from_ref(&site),
    };
    let begin = cpu_time();
    probes.attach(&own)?;
    let attached = cpu_time();
    let hit_alone = cost_of_hit();
    let crowd = crowd(thread::available_parallelism().map_or(1, usize::from));
    let detach = cpu_time();
    let counted = probes.detach(own.slot, own.group)?;
    let cycle = (attached - begin) + (cpu_time() - detach);
    let cpus = crowd.len().max(1);
    let expected = CallsiteCounts {
        exited: (1 + crowd.len() as u64) * ROUNDS * CALLS_PER_ROUND,
        ..CallsiteCounts::default()
    };
    match counted.get(&(DESCRIPTOR[0], DESCRIPTOR[2])) {
        Some(counts) if *counts == expected => Ok(Costs {
            hit_alone,
            hit_crowded: crowd.into_iter().max().unwrap_or(hit_alone),
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
            cycle: if probes.have_one_link() { cycle } else { cycle * LINKS },
        }),
        other => Err(ProbeError::Attach {
            pid: own.pid,
            probe: site.probe,
            reason: format!("of {} calls of an own function it counted {other:?}", expected.exited),
        }),
    }
}

/// What a hit costs each of so many threads that run into the probe at the same time.
fn crowd(threads: usize) -> Vec<Duration> {
    thread::scope(|scope| {
        // Fewer threads than wanted measure less of a crowd, but nothing wrong.
        let start =
            |_| thread::Builder::new().name("observer-costs".to_owned()).spawn_scoped(scope, cost_of_hit);
        let running: Vec<_> = (0..threads).map_while(|index| start(index).ok()).collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).collect()
    })
}

/// The best of some rounds: others were disturbed.
fn cost_of_hit() -> Duration {
    (0..ROUNDS).map(|_| time_round()).min().unwrap_or_default() / CALLS_PER_ROUND as u32
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn time_round() -> Duration {
    // On the stack, which is in memory for sure: a probe can't wait for a page.
    let descriptor = DESCRIPTOR;
    let start = cpu_time();
    for _ in 0..CALLS_PER_ROUND {
        // SAFETY: the stub follows the C calling convention and doesn't use its argument.
        unsafe { observer_probe_stub(&raw const descriptor) };
    }
    cpu_time() - start
}

fn stub_site() -> Result<Site, ProbeError> {
    let address = observer_probe_stub_site as *const () as u64;
    Ok(Site {
        probe: Probe::Exit,
        address,
        file_offset: own_file_offset(address)?,
        bytes: vec![0x55, 0x5d, 0xc3],
        function: "observer_probe_stub",
        instruction: "push %rbp",
    })
}

/// Where in the observer's executable the code at an address is.
fn own_file_offset(address: u64) -> Result<u64, ProbeError> {
    let pid = std::process::id();
    let failed = |source| ProbeError::Executable { pid, source };
    let maps =
        Process::myself().and_then(|own| own.maps()).map_err(|error| failed(std::io::Error::other(error)))?;
    let mapping = maps.iter().find(|map| (map.address.0..map.address.1).contains(&address));
    let mapping = mapping.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
    Ok(address - mapping.address.0 + mapping.offset)
}
