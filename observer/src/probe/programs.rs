//! The loaded programs and their counters.

use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard};

use aya::maps::{Map, MapData, MapError, PerCpuArray};
use aya::programs::raw_trace_point::RawTracePointLink;
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use log::Log;
use observer_ebpf::abi::{CallsiteKey, Group, KernelLayout, Loss, Probe, ProcessChange};

use super::links::{Links, Removal, Removed, Way, locked, program, program_name};
use super::refusal::one_line;
use super::{
    Attachment, Counts, Hits, Losses, Options, ProbeError, ProcessWatch, SampledTarget, TargetCounts,
    TargetWaits, Waits, batch, features, kernel, multi, object, process, sampling, sampling::Sampling,
    waits::WaitMaps,
};

/// `aya_log_ebpf` compares with this: nothing is logged, and the verifier removes the code.
const LOG_OFF: u8 = 0;
/// [`aya_log::Level::Debug`], which all of the kernel side's messages have.
const LOG_DEBUG: u8 = 4;

/// The programs in the kernel and the probes in all targets. Dropping it leaves nothing behind.
pub struct Probes {
    // Before the programs: a link must not outlive what it runs.
    links: Links,
    /// The programs for links that hold a whole group, where the kernel has them.
    together: Option<multi::Programs>,
    counts: MapData,
    waits: WaitMaps,
    without_waits: Option<String>,
    /// Why programs can't tell which process a task of the kernel belongs to.
    layout: Result<(), String>,
    sampling: Result<Mutex<Sampling>, String>,
    hits: PerCpuArray<MapData, u64>,
    losses: PerCpuArray<MapData, u64>,
    logger: Option<Mutex<EbpfLogger<&'static dyn Log>>>,
    // Attaching waits for the kernel; reading counts and removing probes go on meanwhile.
    ebpf: Mutex<Ebpf>,
    cpus: usize,
}

impl Probes {
    /// Loads the maps and the goroutine programs.
    ///
    /// # Errors
    /// [`ProbeError::Load`] when the kernel refuses one of them, with what may help.
    pub fn load(options: &Options) -> Result<Self, ProbeError> {
        let refused = |reason| ProbeError::Load { what: "the maps", reason };
        let cpus = nr_cpus().map_err(|(path, error)| refused(format!("{path}: {error}")))?;
        let (bytes, callsites) = object::fitted(kernel::version(), options.max_callsites_in_kernel)?;
        let layout = sampling::kernel_layout();
        let words = layout.as_ref().map(KernelLayout::words).unwrap_or_default();
        let verbose = log::log_enabled!(log::Level::Debug);
        let level = if verbose { LOG_DEBUG } else { LOG_OFF };
        let mut ebpf = EbpfLoader::new()
            // No program needs the kernel's types.
            .btf(None)
            .map_max_entries("COUNTS", callsites)
            .override_global(aya_log::LEVEL, &level, true)
            .override_global("KERNEL_LAYOUT", &words, true)
            .load(&bytes)
            .map_err(|error| refused(one_line(&error)))?;
        let together = load_together(&bytes, &ebpf);
        let mut without_waits = None;
        if together.is_none() {
            load_group(&mut ebpf, Group::Lifecycle)?;
            // Waits are measured where that works; nothing else needs them.
            without_waits = load_group(&mut ebpf, Group::Waits).err().map(|error| error.to_string());
        }
        let sampling = match options.cpu_sampling_hz {
            0 => Err("it is switched off".to_owned()),
            hz => layout.clone().and_then(|_| Sampling::start(&mut ebpf, hz)).map(Mutex::new),
        };
        let logger = if verbose { Some(Mutex::new(logger(&mut ebpf)?)) } else { None };
        Ok(Self {
            links: Links::default(),
            together,
            counts: counts_map(&mut ebpf)?,
            waits: WaitMaps::take(&mut ebpf, cpus)?,
            without_waits,
            layout: layout.map(drop),
            sampling,
            hits: array(&mut ebpf, "HITS")?,
            losses: array(&mut ebpf, "LOSSES")?,
            logger,
            ebpf: Mutex::new(ebpf),
            cpus,
        })
    }

    /// Puts a group of probes into a target: at all of its sites, or at none.
    ///
    /// It takes tens of milliseconds, most of them waiting for the kernel. The caller makes sure that
    /// the pid still is the process that the sites were found in.
    ///
    /// # Errors
    /// The target is then as it was. [`ProbeError::Gone`] is normal at any time.
    pub fn attach(&self, target: &Attachment<'_>) -> Result<(), ProbeError> {
        if let (Group::Waits, Some(reason)) = (target.group, &self.without_waits) {
            return Err(ProbeError::WithoutWaits(reason.clone()));
        }
        let way = self.together.as_ref().map_or(Way::Apart(&self.ebpf), Way::Together);
        let attached = self.links.attach(&way, target);
        if attached.is_err() && !self.links.has(target.slot, target.group) {
            // Probes that were undone may have counted.
            self.left(target.slot)?;
            self.waits.discard(target.slot, target.group)?;
        }
        attached
    }

    /// Removes a group of probes from a target; returns what was counted at its callsites since the first
    /// group came. The counts go on while another group is in the target, and begin anew after the last.
    ///
    /// It waits for the kernel, up to a tenth of a second, and where each probe has a link of its own, as long for each:
    /// use [`Self::forget`] for a target that has ended. What the group [`Group::Waits`] measured is for
    /// [`Self::take_waits`].
    ///
    /// # Errors
    /// The probes are removed in any case; an error means that the counts could not be read.
    pub fn detach(&self, slot: u64, group: Group) -> Result<TargetCounts, ProbeError> {
        if let Some(removal) = self.remove(slot, group) {
            self.removed(removal.finish());
        }
        self.left(slot)
    }

    /// Begins to remove a group of probes from a target, and leaves the waiting to whoever finishes it.
    /// `None` if it isn't there.
    pub fn remove(&self, slot: u64, group: Group) -> Option<Removal> {
        self.links.remove(slot, group)
    }

    /// Takes note of how long a group was in a target. What it measured can be taken then.
    pub fn removed(&self, removed: Removed) {
        self.waits.closed(removed);
    }

    /// Returns all that was counted in a target that has ended, without waiting for the kernel to
    /// give up its probes.
    ///
    /// # Errors
    /// The probes are given up in any case; an error means that the counts could not be read.
    pub fn forget(&self, slot: u64) -> Result<TargetCounts, ProbeError> {
        for group in Group::ALL {
            if let Some(removed) = self.links.forget(slot, group) {
                self.removed(removed);
            }
        }
        self.left(slot)
    }

    /// What the group [`Group::Waits`] has measured so far, by slot, in targets that it is in.
    ///
    /// # Errors
    /// [`ProbeError::Map`] if the kernel refuses.
    pub fn waits(&self) -> Result<Waits, ProbeError> {
        self.waits.read(&self.links.on_times(Group::Waits))
    }

    /// Returns all that the group [`Group::Waits`] has measured in a target since it was attached, after it
    /// was detached or the target forgotten. The kernel then has nothing of it any more.
    ///
    /// # Errors
    /// [`ProbeError::Map`] if the kernel refuses.
    pub fn take_waits(&self, slot: u64) -> Result<TargetWaits, ProbeError> {
        self.waits.take_slot(slot)
    }

    /// Samples from now on which goroutines of a target are on a CPU, see
    /// [`observer_ebpf::abi::CallsiteCounts::on_cpu`].
    ///
    /// # Errors
    /// [`ProbeError::Sampling`] with the reason; the probes work without.
    pub fn sample(&self, target: &SampledTarget<'_>) -> Result<(), ProbeError> {
        match &self.sampling {
            Ok(sampling) => locked(sampling).add(target),
            Err(reason) => Err(ProbeError::Sampling(reason.clone())),
        }
    }

    /// Ends that. To be called before the target's last group of probes is detached or it is forgotten.
    pub fn end_sampling(&self, slot: u64) {
        if let Ok(sampling) = &self.sampling {
            locked(sampling).remove(slot);
        }
    }

    /// Whether targets can be sampled.
    ///
    /// # Errors
    /// Why not, in one sentence.
    pub fn can_sample(&self) -> Result<(), ProbeError> {
        self.sampling.as_ref().map(drop).map_err(|reason| ProbeError::Sampling(reason.clone()))
    }

    /// How many groups of probes are in targets.
    #[must_use]
    pub fn attached(&self) -> usize {
        self.links.count()
    }

    /// Groups of probes of targets that have ended which the kernel has not removed yet: it takes up to a tenth of a
    /// second for each link, and each holds a descriptor.
    #[must_use]
    pub fn closing(&self) -> usize {
        self.links.closing()
    }

    /// What has been counted in every target since it was attached, by slot and callsite.
    ///
    /// # Errors
    /// [`ProbeError::Map`] if the kernel refuses.
    pub fn counts(&self) -> Result<Counts, ProbeError> {
        if let Some(logger) = &self.logger {
            locked(logger).flush();
        }
        let late =
            self.sampling.as_ref().map_or_else(|_| Vec::new(), |sampling| locked(sampling).take_late());
        let (mut counts, mut forgotten) = (Counts::default(), Vec::new());
        self.for_each(|key, value| {
            if late.contains(&key.slot) {
                forgotten.push(key);
            } else {
                counts.entry(key.slot).or_default().insert((key.gopc, key.entry), value);
            }
        })?;
        batch::delete(self.counts.fd().as_fd(), &forgotten).map_err(counts_error)?;
        Ok(counts)
    }

    /// How often each probe ran.
    ///
    /// # Errors
    /// [`ProbeError::Map`] if the kernel refuses.
    pub fn hits(&self) -> Result<Hits, ProbeError> {
        sums("HITS", &self.hits, Probe::ALL, |probe| probe as u32)
    }

    /// What was not counted, by reason.
    ///
    /// # Errors
    /// [`ProbeError::Map`] if the kernel refuses.
    pub fn losses(&self) -> Result<Losses, ProbeError> {
        sums("LOSSES", &self.losses, Loss::ALL, |loss| loss as u32)
    }

    /// Starts to watch the machine's processes; they stop being watched when the result is dropped. Without the kills
    /// for lack of memory if only those can't be had.
    ///
    /// Must be called once, and within a tokio runtime.
    ///
    /// # Errors
    /// [`ProbeError::Processes`] with the reason; the probes work without.
    pub fn watch_processes(&self) -> Result<ProcessWatch, ProbeError> {
        let execs = self.tell(ProcessChange::Exec)?;
        let oom_kills = self.tell(ProcessChange::OomKill);
        let oom_kills =
            oom_kills.inspect_err(|error| tracing::debug!(%error, "kills for lack of memory aren't told"));
        let map = self.programs().take_map("PROCESSES").ok_or(ProbeError::Object("map PROCESSES"))?;
        ProcessWatch::new(map, execs, oom_kills.ok())
    }

    /// Has the kernel tell of one kind of change, until the link is dropped.
    pub(super) fn tell(&self, change: ProcessChange) -> Result<RawTracePointLink, ProbeError> {
        if let (ProcessChange::OomKill, Err(reason)) = (change, &self.layout) {
            return Err(ProbeError::Processes { reason: reason.clone() });
        }
        process::attach(&mut self.programs(), change)
    }

    /// Whether all probes of a group come and go with one link.
    pub(super) const fn have_one_link(&self) -> bool {
        self.together.is_some()
    }

    pub(super) fn programs(&self) -> MutexGuard<'_, Ebpf> {
        locked(&self.ebpf)
    }

    /// A target's counts; the kernel's are deleted if nothing is left that counts on.
    fn left(&self, slot: u64) -> Result<TargetCounts, ProbeError> {
        let mut counts = TargetCounts::default();
        self.for_each(|key, value| {
            if key.slot == slot {
                counts.insert((key.gopc, key.entry), value);
            }
        })?;
        let sampled = self.sampling.as_ref().is_ok_and(|sampling| locked(sampling).has(slot));
        if !sampled && !Group::ALL.into_iter().any(|group| self.links.has(slot, group)) {
            let keys: Vec<CallsiteKey> =
                counts.keys().map(|&(gopc, entry)| CallsiteKey { slot, gopc, entry }).collect();
            batch::delete(self.counts.fd().as_fd(), &keys).map_err(counts_error)?;
            if let Ok(sampling) = &self.sampling {
                locked(sampling).deleted(slot);
            }
        }
        Ok(counts)
    }

    fn for_each(
        &self,
        each: impl FnMut(CallsiteKey, observer_ebpf::abi::CallsiteCounts),
    ) -> Result<(), ProbeError> {
        batch::for_each(self.counts.fd().as_fd(), self.cpus, each).map_err(counts_error)
    }
}

/// The programs for links that hold a whole group, where that works.
fn load_together(object: &[u8], ebpf: &Ebpf) -> Option<multi::Programs> {
    kernel::version().filter(|version| *version >= multi::SINCE)?;
    let loaded = multi::Programs::load(object, ebpf);
    loaded.inspect_err(|error| tracing::debug!(%error, "each probe gets a link of its own")).ok()
}

/// Loads a group's program for links that hold one probe each.
fn load_group(ebpf: &mut Ebpf, group: Group) -> Result<(), ProbeError> {
    program(ebpf, group)?.load().map_err(|error| {
        let reason = features::lacks_helpers().unwrap_or_else(|| one_line(&error));
        ProbeError::Load { what: program_name(group), reason }
    })
}

fn counts_error(source: std::io::Error) -> ProbeError {
    ProbeError::Map { map: "COUNTS", source }
}

fn counts_map(ebpf: &mut Ebpf) -> Result<MapData, ProbeError> {
    match ebpf.take_map("COUNTS") {
        Some(Map::PerCpuHashMap(map)) => Ok(map),
        _ => Err(ProbeError::Object("map COUNTS")),
    }
}

fn array(ebpf: &mut Ebpf, name: &'static str) -> Result<PerCpuArray<MapData, u64>, ProbeError> {
    let map = ebpf.take_map(name).and_then(|map| PerCpuArray::try_from(map).ok());
    map.ok_or(ProbeError::Object(name))
}

fn logger(ebpf: &mut Ebpf) -> Result<EbpfLogger<&'static dyn Log>, ProbeError> {
    EbpfLogger::init(ebpf).map_err(|_| ProbeError::Object("map for the programs' log"))
}

/// Each index of a per-CPU array with the sum over the CPUs.
fn sums<T: Copy, const N: usize>(
    name: &'static str,
    array: &PerCpuArray<MapData, u64>,
    all: [T; N],
    index: fn(T) -> u32,
) -> Result<[(T, u64); N], ProbeError> {
    let mut sums = all.map(|item| (item, 0));
    for (item, sum) in &mut sums {
        let values = array.get(&index(*item), 0).map_err(|error| map_error(name, error))?;
        *sum = values.iter().fold(0_u64, |sum, value| sum.wrapping_add(*value));
    }
    Ok(sums)
}

fn map_error(map: &'static str, error: MapError) -> ProbeError {
    let source = match error {
        MapError::SyscallError(syscall) => syscall.io_error,
        other => std::io::Error::other(other),
    };
    ProbeError::Map { map, source }
}
