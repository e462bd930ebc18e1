//! The probes of all targets: a thread of its own decides when they are where, and counts.
//!
//! What waits for the kernel (a tenth of a second for each breakpoint that goes) is on other threads again, so
//! that a target whose probes cost too much is noticed at once, and neither a tick nor a scrape waits.

mod attacher;
mod commands;
mod thread;
mod watched;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use observer_ebpf::abi::{Group, Loss, Probe};

use super::executables::Executable;
use super::target::{Probing, Target};
use crate::gobin::Layouts;
use crate::probe::governor::{Budget, Budgets};
use crate::probe::{self, Probes, ProcessWatch, SampledTarget};

use commands::Message;
use watched::samples;

pub(super) use commands::{LastCounts, Outcome, Readings, TargetReading, Wanted};

/// How long the thread may take to answer. It answers between two looks at the counts.
const ANSWER: Duration = Duration::from_secs(2);
/// How often somebody who waits for probes looks whether they are there.
const LOOK: Duration = Duration::from_millis(10);

/// Loads the programs and talks to the thread; without probes it refuses everything with one reason.
pub(super) struct Prober {
    state: Result<Loaded, Probing>,
    /// Samples of each CPU per second.
    hz: u32,
}

struct Loaded {
    probes: Arc<Probes>,
    budgets: Budgets,
    /// Started with the first target: most commands look at none.
    thread: Option<Running>,
}

/// It ends when this is dropped, and leaves no probe behind.
struct Running {
    messages: Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    /// Loads the programs if probes are wanted.
    pub(super) fn new(wanted: bool, budgets: Budgets, hz: u32) -> Self {
        if !wanted || budgets.target == Budget::Off || budgets.node == Budget::Off {
            return Self { state: Err(Probing::Off), hz };
        }
        let options = probe::Options { cpu_sampling_hz: hz, ..probe::Options::default() };
        let loaded = Probes::load(&options).map_err(|error| {
            tracing::warn!(%error, "probes are off: goroutines are counted by snapshots only (see `observer check`)");
            Probing::Refused(error.to_string().into())
        });
        if let Some(Err(error)) = loaded.as_ref().ok().filter(|_| hz > 0).map(Probes::can_sample) {
            tracing::warn!(%error, "no CPU time by go statement");
        }
        Self { state: loaded.map(|probes| Loaded { probes: Arc::new(probes), budgets, thread: None }), hz }
    }

    /// Samples of each CPU per second.
    pub(super) const fn hz(&self) -> u32 {
        self.hz
    }

    /// Samples the CPU time of a target from now on, if its goroutines can be found.
    pub(super) fn sample(&self, target: &Target) {
        let (Ok(Loaded { probes, .. }), Some(executable)) = (&self.state, &target.executable) else { return };
        let binary = &executable.binary;
        let (Some(tls_offset), Layouts::Measured(layout)) = (binary.tls_offset, binary.layouts) else {
            return;
        };
        if probes.can_sample().is_err() {
            return;
        }
        let sampled = SampledTarget { pid: target.identity.pid, slot: target.slot, tls_offset, layout };
        if let Err(error) = probes.sample(&sampled) {
            tracing::info!(pid = target.identity.pid, %error, "no CPU time by go statement of this target");
        }
    }

    /// Whether and when probes will be put into processes that run an executable.
    pub(super) fn plan(&self, executable: &Executable, at: Instant) -> Probing {
        match &self.state {
            Err(refusal) => refusal.clone(),
            Ok(_) => {
                let sites = &executable.binary.sites;
                match (sites.lacks(Group::Lifecycle), executable.binary.layouts) {
                    (Some(reason), _) => Probing::Refused(reason.into()),
                    (None, Layouts::Measured(_)) => Probing::Due(at),
                    (None, Layouts::Tried(..)) => Probing::Unproven,
                }
            }
        }
    }

    /// Watches a target from now on.
    pub(super) fn admit(&mut self, wanted: Wanted) -> Probing {
        let Ok(loaded) = &mut self.state else { return Probing::Off };
        match loaded.running() {
            Ok(running) => {
                running.messages.send(Message::Admit(Box::new(wanted))).ok();
                Probing::Admitted
            }
            Err(error) => Probing::Refused(format!("no thread for probes: {error}").into()),
        }
    }

    /// Takes the probes out of a target that has ended or runs another program; returns its last counts.
    pub(super) fn release(&self, slot: u64) -> LastCounts {
        let Ok(Loaded { probes, .. }) = &self.state else { return LastCounts::default() };
        probes.end_sampling(slot);
        let watched = self.ask(|answer| Message::Release { slot, answer }).flatten();
        watched.unwrap_or_else(|| {
            // It was sampled at most.
            let counts = probes.forget(slot).unwrap_or_default();
            LastCounts { samples: samples(&counts), ..LastCounts::default() }
        })
    }

    /// What is known of all targets.
    pub(super) fn read(&self) -> Readings {
        self.ask(Message::Read).unwrap_or_else(|| self.samples_only())
    }

    /// Without a thread, no target is watched.
    fn samples_only(&self) -> Readings {
        let Ok(Loaded { probes, .. }) = &self.state else { return Readings::default() };
        let counts = probes.counts().unwrap_or_default();
        Readings {
            samples: counts.iter().map(|(slot, counts)| (*slot, samples(counts))).collect(),
            ..Readings::default()
        }
    }

    /// Waits until it is known of every target whether probes can be put into it, or until a time.
    pub(super) fn await_first(&self, until: Instant) {
        while Instant::now() < until && self.read().is_anything_pending() {
            std::thread::sleep(LOOK);
        }
    }

    /// Hits by probe and losses by reason, over all targets.
    pub(super) fn totals(&self) -> (BTreeMap<&'static str, u64>, BTreeMap<&'static str, u64>) {
        let Ok(Loaded { probes, .. }) = &self.state else { return Default::default() };
        let hits = probes
            .hits()
            .map(|hits| hits.into_iter().map(|(probe, count)| (probe_name(probe), count)).collect());
        let losses = probes
            .losses()
            .map(|losses| losses.into_iter().map(|(loss, count)| (loss_name(loss), count)).collect());
        (hits.unwrap_or_default(), losses.unwrap_or_default())
    }

    /// What happens to processes, if the kernel tells.
    pub(super) fn watch_processes(&self) -> Option<ProcessWatch> {
        let probes = &self.state.as_ref().ok()?.probes;
        probes
            .watch_processes()
            .inspect_err(|error| tracing::warn!(%error, "new processes are found by scanning only"))
            .ok()
    }

    fn ask<T>(&self, question: impl FnOnce(mpsc::SyncSender<T>) -> Message) -> Option<T> {
        let running = self.state.as_ref().ok()?.thread.as_ref()?;
        let (answer, answered) = mpsc::sync_channel(1);
        running.messages.send(question(answer)).ok()?;
        answered.recv_timeout(ANSWER).ok()
    }
}

impl Loaded {
    fn running(&mut self) -> std::io::Result<&Running> {
        match &mut self.thread {
            Some(running) => Ok(running),
            thread => {
                let (messages, inbox) = mpsc::channel();
                Ok(thread.insert(self::start(self.probes.clone(), self.budgets, messages, inbox)?))
            }
        }
    }
}

fn start(
    probes: Arc<Probes>,
    budgets: Budgets,
    messages: Sender<Message>,
    inbox: Receiver<Message>,
) -> std::io::Result<Running> {
    let outbox = messages.clone();
    let thread = std::thread::Builder::new()
        .name("observer-probes".to_owned())
        .spawn(move || thread::run(probes, budgets, outbox, &inbox))?;
    Ok(Running { messages, thread: Some(thread) })
}

impl Drop for Running {
    fn drop(&mut self) {
        // It fails only when the thread has ended already.
        self.messages.send(Message::Stop).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// A group's name in metrics and JSON.
const fn group_name(group: Group) -> &'static str {
    match group {
        Group::Lifecycle => "lifecycle",
        Group::Waits => "waits",
    }
}

const fn probe_name(probe: Probe) -> &'static str {
    match probe {
        Probe::Create => "create",
        Probe::CreateCoroutine => "create_coroutine",
        Probe::Exit => "exit",
        Probe::Run => "run",
        Probe::Ready => "ready",
        Probe::Park => "park",
    }
}

const fn loss_name(loss: Loss) -> &'static str {
    match loss {
        Loss::CountsFull => "counts_full",
        Loss::CountsNoMemory => "counts_no_memory",
        Loss::DescriptorUnreadable => "descriptor_unreadable",
        Loss::ProcessesFull => "processes_full",
        Loss::ParkedFull => "parked_full",
        Loss::WaitsFull => "waits_full",
        Loss::WaitsNoMemory => "waits_no_memory",
    }
}
