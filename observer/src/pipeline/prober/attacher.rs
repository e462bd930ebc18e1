//! Puts probes into targets, one after the other, and measures what they cost.
//!
//! A target's code is read before and after, and its memory may never answer. So each group is put there on a thread
//! that the next target doesn't wait for any longer than that.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use observer_ebpf::abi::Group;

use super::commands::{Message, Wanted};
use crate::discover::process;
use crate::pipeline::worker::{Failure, Worker};
use crate::probe::{self, Attachment, ProbeError, Probes};

/// How often costs are measured again: they change with the kernel's mitigations and the machine's load.
const CALIBRATION: Duration = Duration::from_secs(3600);
/// Groups of ended targets that may wait for the kernel to remove their probes. Where targets come and go faster
/// than it does, the next ones wait for theirs, and are counted by snapshots until then.
const MAX_CLOSING: usize = 32;
/// How long one group waits at most, and between two looks.
const MAX_WAIT: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long the next target waits for one that doesn't answer. The kernel needs less, unless it is busy with others;
/// what is late then still tells when it is done.
const PATIENCE: Duration = Duration::from_secs(2);

/// A group of probes to be put into a target.
pub(super) struct Job {
    pub(super) target: Arc<Wanted>,
    pub(super) group: Group,
}

/// Works until nobody has jobs any more.
pub(super) fn run(probes: &Arc<Probes>, jobs: &Receiver<Job>, done: &Sender<Message>) {
    let mut calibrated = None;
    let mut worker = Worker::new();
    while let Ok(Job { target, group }) = jobs.recv() {
        if calibrated.is_none_or(|at: Instant| at.elapsed() > CALIBRATION) {
            calibrated = Some(Instant::now());
            calibrate(done);
        }
        wait_for_kernel(probes);
        let (pid, probes, done) = (target.identity.pid, probes.clone(), done.clone());
        let attached = worker.run(PATIENCE, move || {
            let result = attach(&probes, &target, group);
            done.send(Message::Attached { slot: target.slot, group, result }).is_ok()
        });
        match attached {
            Ok(true) => {}
            Ok(false) => return,
            Err(Failure::Late(_)) => {
                tracing::info!(pid, "its code doesn't answer; other targets don't wait for it")
            }
            Err(Failure::Panicked) => {
                tracing::error!(pid, "no probes in this target, through a mistake of ours")
            }
        }
    }
}

fn wait_for_kernel(probes: &Probes) {
    let until = Instant::now() + MAX_WAIT;
    while probes.closing() > MAX_CLOSING && Instant::now() < until {
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn calibrate(done: &Sender<Message>) {
    match probe::calibrate() {
        Ok(costs) => {
            tracing::debug!(?costs, "measured what probes cost");
            done.send(Message::Calibrated(costs)).ok();
        }
        Err(error) => tracing::warn!(%error, "can't measure what probes cost; a guess is used"),
    }
}

fn attach(probes: &Probes, target: &Wanted, group: Group) -> Result<(), ProbeError> {
    let binary = &target.executable.binary;
    let pid = target.identity.pid;
    let is_the_same = || process::identity(pid) == Some(target.identity);
    if !is_the_same() {
        return Err(ProbeError::Gone { pid });
    }
    probes.attach(&Attachment {
        pid,
        slot: target.slot,
        gopc_offset: binary.layouts.layout().g.gopc,
        waitreason_offset: binary.layouts.layout().g.waitreason,
        load_bias: target.bias,
        group,
        sites: &binary.sites.found,
    })?;
    // The kernel goes by the pid, which may be another program's or process's by now.
    if is_the_same() {
        return Ok(());
    }
    if let Some(removal) = probes.remove(target.slot, group) {
        probes.removed(removal.finish());
    }
    Err(ProbeError::Gone { pid })
}
