//! The thread: charges hits to their targets, and does what the governor decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use observer_ebpf::abi::{Group, Probe};

use super::attacher::{self, Job};
use super::commands::{LastCounts, Message, Readings, TargetReading, Wanted};
use super::group_name;
use super::watched::{Failed, Watched, by_callsite, samples};
use crate::model::estimate::Reading;
use crate::model::view::GroupView;
use crate::pipeline::worker::Worker;
use crate::probe::governor::{Action, Budgets, Costs, Decision, Governor};
use crate::probe::{self, Probes, TargetCounts};

/// After what pause putting probes into a target is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// Hits are charged so long after they happened at the latest.
const LATEST: Duration = Duration::from_secs(5);
/// Costs until they are measured: more than on most machines.
const GUESS: Costs = Costs {
    hit_alone: Duration::from_micros(1),
    hit_crowded: Duration::from_micros(2),
    cpus: 2,
    cycle: Duration::from_millis(2),
};

/// Works until it is told to stop, and takes all probes out then.
pub(super) fn run(probes: Arc<Probes>, budgets: Budgets, outbox: Sender<Message>, inbox: &Receiver<Message>) {
    let (jobs, queue) = mpsc::channel();
    let attacher = {
        let (probes, done) = (probes.clone(), outbox.clone());
        spawn("observer-attacher", move || attacher::run(&probes, &queue, &done))
    };
    let mut thread = Thread {
        governor: Governor::new(budgets, GUESS),
        targets: BTreeMap::new(),
        probes,
        jobs,
        outbox,
        removers: Vec::new(),
        charged: Charged { at: Instant::now(), hits: 0, on_waits: 0 },
        worker: Worker::new(),
        next: Instant::now(),
    };
    thread.turn(inbox);
    thread.stop(attacher);
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    started.inspect_err(|error| tracing::error!(%error, "can't start a thread")).ok()
}

/// How often probes had run when hits were charged last, in all targets together.
struct Charged {
    at: Instant,
    hits: u64,
    /// Those on waits.
    on_waits: u64,
}

struct Thread {
    governor: Governor,
    targets: BTreeMap<u64, Watched>,
    probes: Arc<Probes>,
    jobs: Sender<Job>,
    outbox: Sender<Message>,
    /// Each waits for the kernel to give up the probes of one group.
    removers: Vec<JoinHandle<()>>,
    charged: Charged,
    /// Reads targets' memory, which may not answer.
    worker: Worker,
    next: Instant,
}

impl Thread {
    fn turn(&mut self, inbox: &Receiver<Message>) {
        loop {
            match inbox.recv_timeout(self.next.saturating_duration_since(Instant::now())) {
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(message) => self.handle(message),
                Err(RecvTimeoutError::Timeout) => {}
            }
            // However many messages there are, nobody stays over budget for them.
            if self.next <= Instant::now() {
                self.step();
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Admit(wanted) => self.admit(*wanted),
            Message::Release { slot, answer } => {
                // Nobody may be waiting any more.
                answer.send(self.release(slot)).ok();
            }
            Message::Read(answer) => {
                answer.send(self.read()).ok();
            }
            Message::Attached { slot, group, result } => self.attached(slot, group, result),
            Message::Removed { slot, group, removed } => {
                if let Some(removed) = removed {
                    self.probes.removed(removed);
                }
                let (at, counts) = (Instant::now(), self.counts());
                if group == Group::Waits {
                    self.take_waits(slot, counts.get(&slot));
                }
                self.removed((slot, group), at, &counts);
            }
            Message::Calibrated(costs) => self.governor.recalibrated(costs),
            Message::Stop => {}
        }
    }

    fn admit(&mut self, wanted: Wanted) {
        let (now, slot) = (Instant::now(), wanted.slot);
        let mut target = Watched::new(wanted);
        target.pass_waits(now, &mut self.worker);
        for group in target.groups() {
            self.governor.admit(slot, group, now);
        }
        self.targets.insert(slot, target);
        self.next = now;
    }

    fn attached(&mut self, slot: u64, group: Group, result: Result<(), probe::ProbeError>) {
        let Some(target) = self.targets.get_mut(&slot) else {
            // It was released meanwhile.
            return self.remove(slot, group);
        };
        let at = Instant::now();
        match result {
            Ok(()) => {
                target.attached(group);
                self.governor.entered(slot, group, at);
                match group {
                    Group::Lifecycle => self.open(slot),
                    Group::Waits => self.open_waits(slot),
                }
                self.next = self.next.min(at + self.governor.next_step(at));
            }
            Err(error) => match target.failed(group, &error) {
                Failed::Again => self.governor.failed(slot, group, at, PAUSE),
                Failed::Never => self.governor.refused(slot, group),
            },
        }
    }

    fn removed(&mut self, (slot, group): (u64, Group), at: Instant, counts: &probe::Counts) {
        self.removers.retain(|remover| !remover.is_finished());
        self.charge(counts, at);
        match self.targets.get_mut(&slot) {
            Some(target) => {
                target.removed(group);
                self.governor.left(slot, group, at);
            }
            // What was counted since it was released is nobody's.
            None => self.forget(slot),
        }
    }

    /// Takes what a window measured; of a target that was released it is nobody's.
    fn take_waits(&mut self, slot: u64, counts: Option<&TargetCounts>) {
        match self.probes.take_waits(slot) {
            Ok(waits) => {
                if let Some(target) = self.targets.get_mut(&slot) {
                    target.close_waits(Instant::now(), &waits, counts.unwrap_or(&TargetCounts::default()));
                }
            }
            Err(error) => tracing::debug!(%error, "waits of a window are lost"),
        }
    }

    /// Charges what happened since the last step, and does what follows.
    fn step(&mut self) {
        if self.is_charge_due() {
            let counts = self.counts();
            self.charge(&counts, Instant::now());
        }
        let now = Instant::now();
        for action in self.governor.step(now) {
            match action {
                Action::Attach { slot, group } => self.attach(slot, group),
                Action::Detach { slot, group } => {
                    match group {
                        Group::Lifecycle => self.close(slot),
                        Group::Waits => self.end_waits(slot),
                    }
                    self.remove(slot, group);
                }
            }
        }
        self.log_decisions(now);
        self.next = now + self.governor.next_step(now);
    }

    /// Whether so much happened that it matters whose it was. To find that out the kernel goes through its whole map,
    /// while how often probes ran in all is a few numbers: most of the time they hardly do.
    fn is_charge_due(&self) -> bool {
        let Some((all, _)) = self.hits() else { return true };
        let (new, elapsed) = (all.saturating_sub(self.charged.hits), self.charged.at.elapsed());
        new > 0 && (elapsed >= LATEST || !self.governor.is_trifle(new, elapsed))
    }

    /// Charges the hits since the last time to those who had them.
    fn charge(&mut self, counts: &probe::Counts, now: Instant) {
        let new = self.note_hits(now);
        let only = self.alone_in_waits();
        for (slot, target) in &mut self.targets {
            let waits = if only == Some(*slot) { Some(new) } else { None };
            let hits = target.new_hits(counts.get(slot), waits);
            // A look at a target that did nothing would cost more than it tells.
            if hits.iter().any(|(_, hits)| *hits > 0) {
                let busy = target.busy(now);
                hits.iter().for_each(|(group, hits)| self.governor.charge(*slot, *group, *hits, busy));
            }
        }
    }

    /// Hits of the probes on waits since this was asked last. The kernel counts them for all targets together: what
    /// runs without having parked leaves no other trace.
    fn note_hits(&mut self, now: Instant) -> u64 {
        let Some((hits, on_waits)) = self.hits() else { return 0 };
        let before = std::mem::replace(&mut self.charged, Charged { at: now, hits, on_waits });
        on_waits.saturating_sub(before.on_waits)
    }

    /// How often probes ran in all, and those on waits.
    fn hits(&self) -> Option<(u64, u64)> {
        let hits = self.probes.hits().ok()?;
        let on_waits = hits.iter().filter(|(probe, _)| probe.group() == Group::Waits);
        Some((hits.iter().map(|(_, hits)| hits).sum(), on_waits.map(|(_, hits)| hits).sum()))
    }

    /// From now on goroutines' starts and ends are all counted in a target.
    fn open(&mut self, slot: u64) {
        let (at, raw) = self.counts_of(slot);
        let Some(target) = self.targets.get_mut(&slot) else { return };
        let own = target.own_count(&mut self.worker);
        target.estimate.open(Reading { at, counts: &by_callsite(&raw), own });
    }

    /// From now on probes are missing in a target.
    fn close(&mut self, slot: u64) {
        let (at, raw) = self.counts_of(slot);
        let Some(target) = self.targets.get_mut(&slot) else { return };
        let counts = by_callsite(&raw);
        let own = target.own_count(&mut self.worker);
        target.estimate.close(Reading { at, counts: &counts, own });
    }

    /// From now on all probes on waits are in a target.
    fn open_waits(&mut self, slot: u64) {
        let alone = self.alone_in_waits() == Some(slot);
        if let Some(target) = self.targets.get_mut(&slot) {
            target.open_waits(&mut self.worker, || parks(&self.probes).filter(|_| alone));
        }
    }

    /// From now on probes on waits go out of a target.
    fn end_waits(&mut self, slot: u64) {
        let alone = self.alone_in_waits() == Some(slot);
        if let Some(target) = self.targets.get_mut(&slot) {
            target.end_waits(&mut self.worker, || parks(&self.probes).filter(|_| alone));
        }
    }

    /// The target whose waits are watched, if it is the only one: without a budget there are several at a time.
    fn alone_in_waits(&self) -> Option<u64> {
        let mut watched = self.targets.iter().filter(|(_, target)| target.waits_are_watched());
        watched.next().map(|(slot, _)| *slot).filter(|_| watched.next().is_none())
    }

    fn attach(&mut self, slot: u64, group: Group) {
        let Some(target) = self.targets.get(&slot) else { return };
        // It fails only while the observer ends.
        self.jobs.send(Job { target: target.wanted.clone(), group }).ok();
    }

    /// Takes a group out of a target, on a thread of its own: the kernel takes its time.
    fn remove(&mut self, slot: u64, group: Group) {
        let Some(removal) = self.probes.remove(slot, group) else { return };
        let outbox = self.outbox.clone();
        let remover = spawn("observer-remover", move || {
            let removed = Some(removal.finish());
            outbox.send(Message::Removed { slot, group, removed }).ok();
        });
        match remover {
            Some(remover) => self.removers.push(remover),
            // Without a thread it was dropped here, and so removed.
            None => self.outbox.send(Message::Removed { slot, group, removed: None }).unwrap_or_default(),
        }
    }

    fn release(&mut self, slot: u64) -> Option<LastCounts> {
        let (at, raw) = self.counts_of(slot);
        self.governor.release(slot);
        let mut target = self.targets.remove(&slot)?;
        let counts = by_callsite(&raw);
        // It has ended, or another program runs there: its own count can't be read any more.
        let last = target.estimate.read(Reading { at, counts: &counts, own: None });
        let before = self.removers.len();
        for group in Group::ALL {
            self.remove(slot, group);
        }
        if self.removers.len() == before {
            self.forget(slot);
        }
        Some(LastCounts { counts: last, samples: samples(&raw), waits: target.take_waits() })
    }

    fn forget(&self, slot: u64) {
        if let Err(error) = self.probes.forget(slot) {
            tracing::debug!(%error, "counts of a target that has ended stay in the kernel");
        }
    }

    fn read(&mut self) -> Readings {
        let Ok(counts) = self.probes.counts() else { return Readings::default() };
        let (at, none) = (Instant::now(), TargetCounts::default());
        self.charge(&counts, at);
        let mut readings = Readings {
            samples: counts.iter().map(|(slot, counts)| (*slot, samples(counts))).collect(),
            ..Readings::default()
        };
        let waits = self.probes.waits().unwrap_or_default();
        let alone = self.alone_in_waits();
        for (slot, target) in &mut self.targets {
            if let Some(waits) = waits.get(slot) {
                let parks = || parks(&self.probes).filter(|_| alone == Some(*slot));
                target.read_waits(at, waits, counts.get(slot).unwrap_or(&none), &mut self.worker, parks);
            } else if !target.waits_are_watched() {
                target.pass_waits(at, &mut self.worker);
            }
            let raw = by_callsite(counts.get(slot).unwrap_or(&none));
            let own = target.estimate.is_gap().then(|| target.own_count(&mut self.worker)).flatten();
            let counts = target.estimate.read(Reading { at, counts: &raw, own });
            let reading = TargetReading {
                outcome: target.outcome.clone(),
                counts: target.estimate.has_begun().then_some(counts),
                unbroken: target.estimate.unbroken(),
                exact: target.estimate.is_exact(),
                groups: target
                    .groups()
                    .filter_map(|group| group_view(&self.governor, target, group, at))
                    .collect(),
                waits: target.take_waits(),
            };
            readings.targets.insert(*slot, reading);
        }
        readings
    }

    fn log_decisions(&mut self, now: Instant) {
        for (slot, target) in &mut self.targets {
            for group in target.groups() {
                let Some(decision) = self.governor.decision(*slot, group, now) else { continue };
                if target.logged.insert(group, decision.name()) == Some(decision.name()) {
                    continue;
                }
                let (pid, probes) = (target.wanted.identity.pid, group_name(group));
                match decision {
                    Decision::Trial | Decision::On => tracing::debug!(pid, probes, "probes are {decision}"),
                    _ => tracing::info!(pid, probes, "probes are {decision}, to stay within the budget"),
                }
            }
        }
    }

    /// What the kernel has counted of all targets.
    fn counts(&self) -> probe::Counts {
        self.probes.counts().unwrap_or_else(|error| {
            tracing::debug!(%error, "probe counts can't be read");
            probe::Counts::default()
        })
    }

    /// What the kernel has counted of one target, and when.
    fn counts_of(&self, slot: u64) -> (Instant, TargetCounts) {
        let counts = self.counts().remove(&slot).unwrap_or_default();
        (Instant::now(), counts)
    }

    /// Takes all probes out, and waits until the kernel has.
    fn stop(mut self, attacher: Option<JoinHandle<()>>) {
        let slots: Vec<u64> = self.targets.keys().copied().collect();
        // No more jobs: the attacher ends, with what it had begun.
        drop(std::mem::replace(&mut self.jobs, mpsc::channel().0));
        if let Some(attacher) = attacher {
            attacher.join().ok();
        }
        for slot in slots {
            for group in Group::ALL {
                self.remove(slot, group);
            }
        }
        for remover in self.removers {
            remover.join().ok();
        }
    }
}

/// How often goroutines have parked, in all targets together: a look at one target's counts would take so long that
/// much happens meanwhile.
fn parks(probes: &Probes) -> Option<u64> {
    let hits = probes.hits().ok()?;
    hits.into_iter().find(|(probe, _)| *probe == Probe::Park).map(|(_, hits)| hits)
}

fn group_view(governor: &Governor, target: &Watched, group: Group, now: Instant) -> Option<GroupView> {
    let decision = governor.decision(target.wanted.slot, group, now)?;
    Some(GroupView {
        probe: group_name(group),
        state: decision.name(),
        decision: decision.to_string().into(),
        coverage: match group {
            Group::Lifecycle => target.estimate.coverage(now),
            Group::Waits => target.waits_coverage(now),
        },
        overhead: governor.overhead(target.wanted.slot, group),
        hits: target.hits(group),
        spent_seconds: governor.spent(target.wanted.slot, group),
    })
}
