//! From processes to views: the only place that knows every stage.
//!
//! A pipeline is one thread's: events and ticks come one after the other, and what leaves is a [`View`].

pub mod daemon;
pub mod executables;
pub mod filter;
pub mod go_process;
mod oom_kills;
mod own;
mod placement;
mod prober;
pub mod profile;
pub mod profiling;
mod target;
mod worker;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use executables::{Executables, Known, Recognised};
use filter::Filter;
use oom_kills::OomKills;
use own::Own;
use placement::{Place, Placement};
use prober::{Outcome, Prober, Readings as ProbeReadings, TargetReading, Wanted};
use target::{Probing, Target};
use worker::{Failure, Worker};

use crate::container::NameOptions;
use crate::diagnose::{self, Thresholds};
use crate::discover::exe::Contents;
use crate::discover::process::{self, Identity};
use crate::model::history::{Digest, Probed, Readings};
use crate::model::ledger::{Ledger, Workload};
use crate::model::view::{CgroupView, ObserverView, TargetState, TargetView, View};
use crate::probe::ProcessWatch;
use crate::probe::governor::Budgets;
use crate::snapshot::reader::Snapshot;

/// What to observe, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// This process only.
    pub only: Option<u32>,
    /// Whether to put probes into targets.
    pub probes: bool,
    /// How often each CPU's clock looks which goroutine runs, per second; 0 = never. Needs `probes`.
    pub cpu_sampling_hz: u32,
    /// What probes may cost.
    pub budgets: Budgets,
    /// How long a process must live before probes are put into it: most processes don't.
    pub settle: Duration,
    /// Callsites per target with metric series of their own.
    pub max_callsites: usize,
    /// The same for all targets together.
    pub max_callsites_node: usize,
    /// Workloads with metric series of their own.
    pub max_workloads: usize,
    /// How long one target's snapshot may take.
    pub patience: Duration,
    /// Whether to find out which features of the kernel can be used, for the view.
    pub features: bool,
    /// From which numbers on something is a finding.
    pub thresholds: Thresholds,
    /// Whether and where to ask for the names of containers.
    pub names: NameOptions,
    /// Which processes to observe.
    pub filter: Filter,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            only: None,
            probes: true,
            cpu_sampling_hz: 49,
            budgets: Budgets::default(),
            settle: Duration::from_secs(1),
            max_callsites: 50,
            max_callsites_node: 5000,
            max_workloads: 1000,
            patience: Duration::from_secs(2),
            features: false,
            thresholds: Thresholds::default(),
            names: NameOptions::default(),
            filter: Filter::default(),
        }
    }
}

/// Everything between discovery and export.
pub struct Pipeline {
    options: Options,
    worker: Worker,
    executables: Executables,
    prober: Prober,
    placement: Placement,
    own: Own,
    oom_kills: OomKills,
    ledger: Ledger,
    /// Who every process was when it was last looked at; most are no targets.
    seen: HashMap<u32, Identity>,
    /// Processes that could not be recognised for reasons that may pass: looked at again with every tick.
    again: HashSet<u32>,
    targets: BTreeMap<u32, Target>,
    next_slot: u64,
    last_tick: Option<Instant>,
}

impl Pipeline {
    /// Loads the probes, if they are wanted. What can't be had is logged and off.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            worker: Worker::new(),
            executables: Executables::default(),
            prober: Prober::new(options.probes, options.budgets, options.cpu_sampling_hz),
            placement: Placement::new(options.names.clone()),
            own: Own::new(options.features),
            oom_kills: OomKills::default(),
            ledger: Ledger::new(options.max_callsites, options.max_callsites_node, options.max_workloads),
            seen: HashMap::new(),
            again: HashSet::new(),
            targets: BTreeMap::new(),
            next_slot: 1,
            last_tick: None,
            options,
        }
    }

    /// Whether any process can become a target.
    #[must_use]
    pub const fn watches_all(&self) -> bool {
        self.options.only.is_none()
    }

    /// What happens to processes, if the kernel tells. To be called once, within a tokio runtime.
    pub fn watch_processes(&mut self) -> Option<ProcessWatch> {
        let watch = self.prober.watch_processes();
        self.oom_kills.told = watch.as_ref().is_some_and(ProcessWatch::tells_oom_kills);
        watch
    }

    /// The kernel has killed a process for lack of memory, which may not have ended yet.
    pub fn oom_killed(&mut self, pid: u32) {
        let workload = self
            .targets
            .get(&pid)
            .and_then(|target| workload_now(target, &mut self.placement, &self.options.filter));
        self.oom_kills.killed(pid, workload, &mut self.ledger);
    }

    /// Processes under observation, with their slots. The ends of those that aren't wanted cost nothing and are
    /// found by scanning.
    pub fn targets(&self) -> impl Iterator<Item = (u32, u64)> {
        let wanted = self.targets.values().filter(|target| target.wanted != Some(false));
        wanted.map(|target| (target.identity.pid, target.slot))
    }

    /// Brings the set of targets up to date with the processes that are there.
    pub fn scan(&mut self) {
        let pids = match self.options.only {
            Some(pid) => vec![pid],
            None => process::pids().unwrap_or_else(|error| {
                tracing::warn!(%error, "can't list processes; mount /proc");
                Vec::new()
            }),
        };
        for pid in &pids {
            self.look_at(*pid);
        }
        let there: HashSet<u32> = pids.into_iter().collect();
        let gone: Vec<u32> = self.seen.keys().filter(|pid| !there.contains(pid)).copied().collect();
        for pid in gone {
            self.forget(pid);
        }
    }

    /// Waits for the names of containers that were found, but no longer than `patience`.
    pub fn await_names(&self, patience: Duration) {
        self.placement.await_names(patience);
    }

    /// Looks at one process: it may be new, another one than before, or gone.
    pub fn look_at(&mut self, pid: u32) {
        if self.options.only.is_some_and(|only| only != pid) || pid == std::process::id() {
            return;
        }
        let Some(identity) = process::identity(pid) else {
            self.forget(pid);
            return;
        };
        if self.seen.get(&pid) == Some(&identity) {
            return;
        }
        self.forget(pid);
        let Some((answer, lasting)) = self.recognise(&identity) else {
            self.again.insert(pid);
            return;
        };
        self.seen.insert(pid, identity);
        self.admit(identity, &answer);
        let target = self.targets.contains_key(&pid);
        if !lasting || (target && process::identity(pid) != Some(identity)) {
            self.seen.remove(&pid);
            self.again.insert(pid);
        }
    }

    /// Looks again at a target whose memory holds something else than its executable. It may be starting, or
    /// have executed another program, also between two things that we read of it.
    fn doubt(&mut self, pid: u32) {
        let stands = self.targets.get(&pid).is_some_and(|target| {
            process::identity(pid) == Some(target.identity)
                && target.executable.as_ref().is_some_and(|executable| {
                    process::load_bias(pid, executable.binary.image.entry).ok() == Some(target.bias)
                })
        });
        if !stands {
            self.seen.remove(&pid);
            self.look_at(pid);
        }
    }

    /// A target has ended.
    pub fn ended(&mut self, slot: u64) {
        if let Some(pid) =
            self.targets.values().find(|target| target.slot == slot).map(|target| target.identity.pid)
        {
            self.forget(pid);
        }
    }

    fn forget(&mut self, pid: u32) {
        self.seen.remove(&pid);
        if let Some(mut target) = self.targets.remove(&pid) {
            tracing::debug!(pid, process = %target.workload.process, "target has ended");
            let last = self.prober.release(target.slot);
            target.close(last, self.prober.hz(), &mut self.ledger);
            let workload = workload_now(&target, &mut self.placement, &self.options.filter);
            self.oom_kills.ended(pid, workload);
        }
    }

    /// Whether a process is ours, and whether it makes no sense to ask again. `None` if it has changed
    /// meanwhile.
    fn recognise(&mut self, identity: &Identity) -> Option<(Recognised, bool)> {
        let path = process::exe_path(identity.pid);
        let contents = Contents::of(&path).ok().filter(|contents| contents.file == identity.file)?;
        let late = Recognised::Refused {
            version: None,
            reason: "its executable could not be read in time; observer keeps trying".to_owned(),
        };
        match self.executables.get(&contents) {
            Known::Yes(answer) => return Some((answer, true)),
            Known::Late => return Some((late, false)),
            Known::No => {}
        }
        match self.worker.run(self.options.patience, move || executables::examine(&path)) {
            Ok(examined) => {
                self.executables.put(&examined);
                let other = examined.contents.is_some_and(|contents| contents.file != identity.file);
                (!other).then_some((examined.answer, examined.lasting))
            }
            Err(Failure::Late(reading)) => {
                self.executables.put_late(contents, reading);
                Some((late, false))
            }
            Err(Failure::Panicked) => {
                let reason = "reading its executable failed by a mistake in observer: please report it";
                Some((Recognised::Refused { version: None, reason: reason.to_owned() }, true))
            }
        }
    }

    fn admit(&mut self, identity: Identity, answer: &Recognised) {
        let slot = self.next_slot;
        let mut target = match answer {
            Recognised::Foreign => return,
            Recognised::Refused { version: None, .. } if self.options.only.is_none() => return,
            Recognised::Refused { version, reason } => {
                Target::refused(identity, slot, version.as_deref(), reason)
            }
            Recognised::Go(executable) => {
                let probing = self.prober.plan(executable, Instant::now() + self.options.settle);
                Target::new(identity, slot, executable, probing)
            }
        };
        self.next_slot += 1;
        // Names are asked for at once, to be there with the first tick.
        place(&mut target, &mut self.placement, &self.options.filter);
        tracing::debug!(pid = identity.pid, process = %target.workload.process, go = target.go_version.as_deref(), "new target");
        self.targets.insert(identity.pid, target);
    }

    /// Lets probes be put into targets that are due. They come when they come.
    pub fn admit_due(&mut self) {
        let now = Instant::now();
        for target in self.targets.values_mut() {
            let Some(executable) = &target.executable else { continue };
            if target.wanted != Some(true) {
                continue;
            }
            if !std::mem::replace(&mut target.sampled, true) {
                self.prober.sample(target);
            }
            if !matches!(target.probing, Probing::Due(at) if at <= now) {
                continue;
            }
            target.probing = self.prober.admit(Wanted {
                identity: target.identity,
                slot: target.slot,
                executable: executable.clone(),
                bias: target.bias,
            });
        }
    }

    /// Lets probes be put into targets that are due, and waits until they are there or can't be, at most
    /// until `until`.
    pub fn attach_due(&mut self, until: Instant) {
        self.admit_due();
        self.prober.await_first(until);
    }

    /// When the next target is due for probes.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let due = |target: &Target| match target.probing {
            Probing::Due(at) if target.wanted == Some(true) => Some(at),
            _ => None,
        };
        self.targets.values().filter_map(due).min()
    }

    /// Where the targets of this tick are. Those that aren't wanted have no probes and no place, nor have
    /// those whose names are awaited: series must not change their labels.
    fn place_targets(&mut self) -> BTreeMap<u32, Place> {
        self.placement.begin();
        let mut places = BTreeMap::new();
        for (pid, target) in &mut self.targets {
            let place = place(target, &mut self.placement, &self.options.filter);
            match target.wanted {
                Some(true) if place.named => _ = places.insert(*pid, place),
                Some(false) if target.sampled => {
                    // Its name came late, and is one that isn't wanted.
                    let last = self.prober.release(target.slot);
                    target.close(last, self.prober.hz(), &mut self.ledger);
                    target.sampled = false;
                    if target.probing == Probing::Admitted {
                        target.probing = Probing::Due(Instant::now());
                    }
                }
                _ => {}
            }
        }
        places
    }

    /// Takes one snapshot of every target and reads every cgroup.
    pub fn tick(&mut self) -> View {
        for pid in std::mem::take(&mut self.again) {
            self.look_at(pid);
        }
        let now = Instant::now();
        let interval = self.last_tick.replace(now).map(|last| now - last);
        let mut before = self.prober.read();
        let places = self.place_targets();
        let pids: Vec<u32> = places.keys().copied().collect();
        let mut snapshots = HashMap::new();
        for pid in pids {
            let Some(target) = self.targets.get_mut(&pid) else { continue };
            match target.snapshot(&mut self.worker, self.options.patience) {
                Ok(snapshot) => {
                    if target.probing == Probing::Unproven {
                        target.probing = Probing::Due(now);
                    }
                    self.own.snapshot_taken(snapshot.ended - snapshot.began);
                    snapshots.insert(pid, Ok(snapshot));
                }
                Err(("gone", _)) => self.forget(pid),
                // Another program runs there now: it is looked at anew.
                Err(("other_program", reason)) => {
                    self.own.snapshot_failed("other_program");
                    snapshots.insert(pid, Err(reason));
                    self.doubt(pid);
                }
                Err((name, reason)) => {
                    self.own.snapshot_failed(name);
                    snapshots.insert(pid, Err(reason));
                }
            }
        }
        let mut after = self.prober.read();
        self.note_outcomes(&after);
        for target in self.targets.values_mut() {
            target.keep_waits(before.take_waits(target.slot));
            target.keep_waits(after.take_waits(target.slot));
        }
        let mut views = Vec::new();
        for (pid, place) in &places {
            let Some(target) = self.targets.get_mut(pid) else { continue };
            let digest = match snapshots.remove(pid) {
                Some(Ok(snapshot)) => {
                    Ok(digest(target, &mut self.worker, &self.options, &snapshot, &before, &after))
                }
                Some(Err(reason)) => Err(Some(reason)),
                None => Err(None),
            };
            let mut view = target_view(target, digest, place, &mut self.placement, &mut self.ledger);
            // Without names, of a snapshot, it is all booked with the next one.
            if let Some(samples) = after.samples(target.slot).filter(|_| view.goroutines.is_some()) {
                let (on_cpu, used) =
                    target.on_cpu.digest(Instant::now(), samples, &target.names, self.prober.hz());
                target.book_cpu(&used, &mut self.ledger);
                view.on_cpu = Some(on_cpu);
            }
            view.waits = target.book_waits(&mut self.ledger);
            target.note_parks(&mut view.callsites);
            views.push(view);
        }
        let placed = places.keys().filter_map(|pid| self.targets.get(pid));
        self.oom_kills.tick(placed.map(|target| &target.workload), &mut self.ledger);
        let lookups = self.placement.lookups();
        let mut cgroups = self.placement.finish();
        fold(&mut cgroups, &views);
        let mut view = View {
            taken_at: SystemTime::now(),
            interval,
            observer: ObserverView {
                container_lookups: lookups,
                ..self.own.view(&self.prober, &self.placement, &views)
            },
            targets: views,
            cgroups,
            totals: self.ledger.totals(now),
            findings: Vec::new(),
        };
        view.findings = diagnose::diagnose(&view, &self.options.thresholds);
        view
    }

    /// Learns where probes could not be put.
    fn note_outcomes(&mut self, readings: &ProbeReadings) {
        for (pid, target) in &mut self.targets {
            match readings.of(target.slot).map(|reading| &reading.outcome) {
                Some(Outcome::Refused(reason)) => target.probing = Probing::Refused(reason.clone()),
                Some(Outcome::Gone) => {
                    self.seen.remove(pid);
                    self.again.insert(*pid);
                }
                Some(Outcome::Pending | Outcome::Watched) | None => {}
            }
        }
    }
}

/// Marks the cgroups all of whose targets are folded.
fn fold(cgroups: &mut [CgroupView], targets: &[TargetView]) {
    let mut own = HashSet::new();
    for target in targets.iter().filter(|target| !target.folded) {
        own.extend(target.cgroup);
    }
    for (index, cgroup) in cgroups.iter_mut().enumerate() {
        cgroup.folded = !own.contains(&index);
    }
}

/// Notes who a target belongs to, and whether it is to be observed.
fn place(target: &mut Target, placement: &mut Placement, filter: &Filter) -> Place {
    let place = placement.find(target.identity.pid);
    target.group = place.group.clone();
    target.workload.owner = place.owner.clone();
    target.wanted = filter.wants(&target.workload, place.named);
    place
}

/// Whose a target is that may be ending: by where it was, and what is known of that by now. `None` while a name is awaited,
/// and if it isn't to be observed.
fn workload_now(target: &Target, placement: &mut Placement, filter: &Filter) -> Option<Workload> {
    let owner = placement.owner(&target.group)?;
    let workload = Workload { owner, process: target.workload.process.clone() };
    (filter.wants(&workload, true) == Some(true)).then_some(workload)
}

/// A target's part of this tick.
fn digest(
    target: &mut Target,
    worker: &mut Worker,
    options: &Options,
    snapshot: &Snapshot,
    before: &ProbeReadings,
    after: &ProbeReadings,
) -> Digest {
    let probed = before.of(target.slot).zip(after.of(target.slot)).and_then(probed);
    let samples = after.samples(target.slot);
    target.learn_names(
        worker,
        options.patience,
        snapshot,
        probed.as_ref().map(|probed| probed.after),
        samples,
    );
    target.learn_reasons(&snapshot.reasons);
    let environment = target.environment(worker).cloned();
    target.history.digest(&Readings {
        snapshot,
        probed,
        names: &target.names,
        environment: environment.as_ref(),
    })
}

/// What probes say about the time of a snapshot.
fn probed<'a>((before, after): (&'a TargetReading, &'a TargetReading)) -> Option<Probed<'a>> {
    Some(Probed {
        before: before.counts.as_ref()?,
        after: after.counts.as_ref()?,
        unbroken: after.unbroken.filter(|_| before.unbroken == after.unbroken),
        exact: after.exact,
        groups: &after.groups,
    })
}

fn target_view(
    target: &mut Target,
    digest: Result<Digest, Option<Arc<str>>>,
    place: &Place,
    placement: &mut Placement,
    ledger: &mut Ledger,
) -> TargetView {
    let (state, reason) = match (&digest, &target.probing) {
        (Err(reason), _) => (TargetState::Unreadable, reason.clone()),
        (Ok(_), Probing::Refused(reason)) => (TargetState::SnapshotOnly, Some(reason.clone())),
        (Ok(_), _) => (TargetState::Observed, None),
    };
    let mut view = TargetView {
        pid: target.identity.pid,
        start_time: target.start_time,
        process: target.workload.process.clone(),
        exe: target.exe.clone(),
        owner: target.workload.owner.clone(),
        cgroup_path: place.path.clone(),
        cgroup: placement.read(place),
        container_id: place.group.container.as_ref().map(|container| container.id.clone()),
        slice: place.group.slice.clone(),
        inner_pid: target.inner_pid,
        go_version: target.go_version.clone(),
        folded: !ledger.enter(&target.workload, Instant::now()),
        state,
        reason,
        usable_cpus: process::usable_cpus(target.identity.pid),
        recent: Vec::new(),
        goroutines: None,
        runtime: None,
        probes: None,
        on_cpu: None,
        waits: None,
        callsites: Vec::new(),
    };
    if let Ok(mut digest) = digest {
        target.book(&mut digest, ledger);
        view.goroutines = Some(digest.goroutines);
        view.runtime = Some(digest.runtime);
        view.probes = digest.probes;
        view.callsites = digest.callsites;
        view.recent = digest.recent;
    }
    view
}
