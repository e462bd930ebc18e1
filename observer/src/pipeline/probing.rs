//! The probes of all targets.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use observer_ebpf::abi::{self, Group, Loss, Probe};
use rustc_hash::FxHashMap;

use super::executables::Executable;
use super::target::{Probing, Target};
use crate::gobin::Layouts;
use crate::model::history::{Counted, Counts};
use crate::model::on_cpu::{Sampled, Samples};
use crate::probe::{self, Attachment, ExecWatch, ProbeError, Probes, SampledTarget};
use crate::snapshot::census::CallsiteKey;

/// How often putting probes into a target is tried again, and after what pause.
const MAX_ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// Loads, attaches and reads probes; without them it refuses everything with one reason.
pub(super) struct Prober {
    probes: Result<Probes, Probing>,
    /// Samples of each CPU per second.
    hz: u32,
}

/// What was counted in a target up to its end.
#[derive(Debug, Default)]
pub(super) struct LastCounts {
    pub(super) counts: Counts,
    pub(super) samples: Samples,
    pub(super) hz: u32,
}

/// Probe counts of all targets, read at one time.
#[derive(Debug, Default)]
pub(super) struct SlotCounts {
    slots: FxHashMap<u64, Counts>,
    samples: FxHashMap<u64, Samples>,
    none: Counts,
    read: bool,
}

impl SlotCounts {
    /// A target's counts: empty if it has created nothing yet, `None` if counts couldn't be read.
    pub(super) fn of(&self, slot: u64) -> Option<&Counts> {
        self.read.then(|| self.slots.get(&slot).unwrap_or(&self.none))
    }

    /// Samples that found a target on a CPU; `None` if there was none so far.
    pub(super) fn samples(&self, slot: u64) -> Option<&Samples> {
        self.samples.get(&slot).filter(|samples| !samples.is_empty())
    }
}

impl Prober {
    /// Loads the programs if probes are wanted; `hz` samples of each CPU are taken per second.
    pub(super) fn new(wanted: bool, hz: u32) -> Self {
        if !wanted {
            return Self { probes: Err(Probing::Off), hz };
        }
        let options = probe::Options { cpu_sampling_hz: hz, ..probe::Options::default() };
        let probes = Probes::load(&options).map_err(|error| {
            tracing::warn!(%error, "probes are off: goroutines are counted by snapshots only (see `observer check`)");
            Probing::Refused(error.to_string().into())
        });
        if let Some(error) =
            probes.as_ref().ok().filter(|_| hz > 0).and_then(|probes| probes.can_sample().err())
        {
            tracing::warn!(%error, "CPU time by go statement is off");
        }
        Self { probes, hz }
    }

    /// Samples the CPU time of a target from now on, if its goroutines can be found.
    pub(super) fn sample(&mut self, target: &Target) {
        let (Ok(probes), Some(executable)) = (&mut self.probes, &target.executable) else { return };
        let binary = &executable.binary;
        let (Some(tls_offset), Layouts::Measured(layout)) = (binary.tls_offset, binary.layouts) else {
            return;
        };
        if self.hz == 0 || probes.can_sample().is_err() {
            return;
        }
        let sampled = SampledTarget { pid: target.identity.pid, slot: target.slot, tls_offset, layout };
        if let Err(error) = probes.sample(&sampled) {
            tracing::info!(pid = target.identity.pid, %error, "no CPU time by go statement of this target");
        }
    }

    /// Samples of each CPU per second.
    pub(super) const fn hz(&self) -> u32 {
        self.hz
    }

    /// Whether and when probes will be put into processes that run an executable.
    pub(super) fn plan(&self, executable: &Executable, at: Instant) -> Probing {
        match &self.probes {
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

    /// Puts probes into a target.
    pub(super) fn attach(&mut self, target: &mut Target) {
        let (Ok(probes), Some(executable)) = (&mut self.probes, &target.executable) else { return };
        let binary = &executable.binary;
        let attachment = Attachment {
            pid: target.identity.pid,
            slot: target.slot,
            gopc_offset: binary.layouts.layout().g.gopc,
            waitreason_offset: binary.layouts.layout().g.waitreason,
            load_bias: target.bias,
            group: Group::Lifecycle,
            sites: &binary.sites.found,
        };
        target.probing = match probes.attach(&attachment) {
            Ok(()) => {
                target.history.rebase();
                Probing::On(Instant::now())
            }
            Err(error) if may_pass(&error) && target.failed_attempts < MAX_ATTEMPTS => {
                tracing::debug!(pid = target.identity.pid, %error, "probes will be tried again");
                target.failed_attempts += 1;
                Probing::Due(Instant::now() + PAUSE)
            }
            Err(error) => {
                tracing::info!(pid = target.identity.pid, %error, "no probes in this target");
                Probing::Refused(error.to_string().into())
            }
        };
    }

    /// Takes probes out of a target and returns what they counted. Of an ended target the kernel has
    /// removed them already, and nobody waits; in one that runs another program now they are waited for.
    pub(super) fn detach(&mut self, slot: u64, ended: bool) -> LastCounts {
        let hz = self.hz;
        let Ok(probes) = &mut self.probes else { return LastCounts::default() };
        probes.end_sampling(slot);
        let counts = if ended { probes.forget(slot) } else { probes.detach(slot, Group::Lifecycle) };
        match counts {
            Ok(counts) => LastCounts { samples: samples(&counts), counts: by_callsite(counts), hz },
            Err(error) => {
                tracing::debug!(%error, "the last counts of a target are lost");
                LastCounts::default()
            }
        }
    }

    /// Reads all counts.
    pub(super) fn counts(&mut self) -> SlotCounts {
        let Ok(probes) = &mut self.probes else { return SlotCounts::default() };
        match probes.counts() {
            Ok(counts) => SlotCounts {
                samples: counts.iter().map(|(slot, counts)| (*slot, samples(counts))).collect(),
                slots: counts.into_iter().map(|(slot, counts)| (slot, by_callsite(counts))).collect(),
                none: Counts::default(),
                read: true,
            },
            Err(error) => {
                tracing::warn!(%error, "probe counts can't be read");
                SlotCounts::default()
            }
        }
    }

    /// Hits by probe and losses by reason, over all targets.
    pub(super) fn totals(&self) -> (BTreeMap<&'static str, u64>, BTreeMap<&'static str, u64>) {
        let Ok(probes) = &self.probes else { return Default::default() };
        let hits = probes
            .hits()
            .map(|hits| hits.into_iter().map(|(probe, count)| (probe_name(probe), count)).collect());
        let losses = probes
            .losses()
            .map(|losses| losses.into_iter().map(|(loss, count)| (loss_name(loss), count)).collect());
        (hits.unwrap_or_default(), losses.unwrap_or_default())
    }

    /// Processes that `exec`, if the kernel tells.
    pub(super) fn watch_execs(&mut self) -> Option<ExecWatch> {
        let probes = self.probes.as_mut().ok()?;
        probes
            .watch_execs()
            .inspect_err(|error| tracing::warn!(%error, "new processes are found by scanning only"))
            .ok()
    }
}

/// A process that the kernel is still loading has no code to read yet, and none to keep a breakpoint in.
const fn may_pass(error: &ProbeError) -> bool {
    matches!(error, ProbeError::Memory { .. } | ProbeError::NotInstalled { .. })
}

fn by_callsite(counts: probe::TargetCounts) -> Counts {
    counts
        .into_iter()
        // A callsite that only parked or ran says nothing about creations.
        .filter(|(_, counts)| counts.created + counts.exited > 0)
        .map(|((gopc, entry), counts)| {
            (CallsiteKey { gopc, entry }, Counted { created: counts.created, exited: counts.exited })
        })
        .collect()
}

fn samples(counts: &probe::TargetCounts) -> Samples {
    let sampled = |gopc, entry| {
        let key = abi::CallsiteKey { slot: 0, gopc, entry };
        if key == abi::CallsiteKey::no_goroutine(0) {
            Sampled::Runtime
        } else if key == abi::CallsiteKey::unreadable(0) {
            Sampled::Unknown
        } else {
            Sampled::Callsite(CallsiteKey { gopc, entry })
        }
    };
    let on_cpu = counts.iter().filter(|(_, counts)| counts.on_cpu > 0);
    on_cpu.map(|(&(gopc, entry), counts)| (sampled(gopc, entry), counts.on_cpu)).collect()
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
        Loss::ExecsFull => "execs_full",
        Loss::ParkedFull => "parked_full",
        Loss::WaitsFull => "waits_full",
        Loss::WaitsNoMemory => "waits_no_memory",
    }
}
