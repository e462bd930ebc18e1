//! One Go process under observation, from its discovery to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::executables::Executable;
use super::prober::LastCounts;
use super::worker::{Failure, Late, Worker};
use crate::container::{Group, Owner};
use crate::discover::environment::Environment;
use crate::discover::process::{self, Identity};
use crate::gobin::naming::{CallsiteName, EntryClass};
use crate::model::history::{CallsiteLabel, Counted, Counts, Digest, History};
use crate::model::ledger::{Ledger, Workload};
use crate::model::on_cpu::{CpuIncrement, OnCpu, Sampled, Samples};
use crate::model::view::{CallsiteView, WaitsView};
use crate::model::waits::{self, RecentWaits, WaitIncrement};
use crate::snapshot::census::CallsiteKey;
use crate::snapshot::memory::ProcessMemory;
use crate::snapshot::reader::{Reader, Snapshot, SnapshotError};
use crate::snapshot::wait_reasons::WaitReasons;
use crate::text::printable_bytes;

/// How much longer than its deadline a snapshot is waited for: a system call that is under way ends late.
const GRACE: Duration = Duration::from_millis(500);
/// How long a target's environment is waited for; usually it is there in microseconds.
const MOMENT: Duration = Duration::from_millis(20);
/// Names that are kept per target.
const MAX_NAMES: usize = 16 << 10;
/// Increments of waits that are kept until they can be booked.
const MAX_INCREMENTS: usize = 256;
/// Longest text of a target that is kept.
const MAX_TEXT: usize = 256;

/// Whether probes are wanted in a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Probing {
    /// They are not wanted.
    Off,
    /// They wait for a snapshot to prove that a layout that was not measured for this Go version fits.
    Unproven,
    /// They will be put there at this time, unless the process ends before.
    Due(Instant),
    /// They come and go as their cost allows.
    Admitted,
    /// They can't be put there: why, in one sentence.
    Refused(Arc<str>),
}

/// Goes to a worker for a snapshot and comes back from it.
type Pass = (Box<Reader>, Result<Snapshot, SnapshotError>);

/// What the environment said when the process started.
enum Environ {
    /// Nobody has read it yet.
    Unread,
    /// Reading it is late.
    Late(Late<Option<Environment>>),
    /// `None` = it can't be read.
    Read(Option<Environment>),
}

enum Reading {
    Ready(Box<Reader>),
    /// A pass is late; it may come back.
    Late(Late<Pass>),
    /// Nothing can be read, for ever.
    Never(Arc<str>),
}

/// One target.
pub(super) struct Target {
    /// Who it is.
    pub(super) identity: Identity,
    /// Key of its probe counts.
    pub(super) slot: u64,
    /// Seconds since the epoch at which it started.
    pub(super) start_time: f64,
    /// Its process id in its own PID namespace, if that is another one than ours.
    pub(super) inner_pid: Option<u32>,
    /// What its cgroup's path told when it was last looked at.
    pub(super) group: Group,
    /// Whose totals its counts are booked to.
    pub(super) workload: Workload,
    /// Whether it is to be observed; `None` while that depends on a name that is awaited.
    pub(super) wanted: Option<bool>,
    /// Path of its executable, fit to show.
    pub(super) exe: Arc<str>,
    /// Its Go version, if known.
    pub(super) go_version: Option<Arc<str>>,
    /// Its executable, unless that was refused.
    pub(super) executable: Option<Arc<Executable>>,
    /// Load address − link-time address.
    pub(super) bias: u64,
    /// Whether probes are in it.
    pub(super) probing: Probing,
    /// What it did so far.
    pub(super) history: History,
    /// Whether its CPU time is sampled, as far as possible.
    pub(super) sampled: bool,
    /// CPU time that it used so far.
    pub(super) on_cpu: OnCpu,
    /// Its waits of the last minute.
    pub(super) recent_waits: RecentWaits,
    /// Waits that wait for the first snapshot, which tells the reasons' names.
    unnamed_waits: Vec<WaitIncrement>,
    reasons: Arc<WaitReasons>,
    environment: Environ,
    /// Names of its callsites.
    pub(super) names: FxHashMap<CallsiteKey, Arc<CallsiteLabel>>,
    reading: Reading,
    /// A look-up of names that is late; no other is begun meanwhile.
    naming: Option<Late<Names>>,
}

type Names = Vec<(CallsiteKey, Arc<CallsiteLabel>)>;

impl Target {
    /// A process whose executable was read.
    #[must_use]
    pub(super) fn new(identity: Identity, slot: u64, executable: &Arc<Executable>, probing: Probing) -> Self {
        let mut target = Self::refused(identity, slot, Some(&executable.binary.build.version), "");
        target.executable = Some(executable.clone());
        target.probing = probing;
        match process::load_bias(identity.pid, executable.binary.image.entry) {
            Ok(bias) => {
                target.bias = bias;
                target.reading = Reading::Ready(Box::new(Reader::new(
                    executable.binary.clone(),
                    executable.file.clone(),
                    bias,
                    process::clock_ahead(identity.pid),
                )));
            }
            Err(error) => {
                target.probing = Probing::Off;
                target.reading = Reading::Never(format!("its load address can't be read: {error}").into());
            }
        }
        target
    }

    /// A Go process that can't be observed.
    #[must_use]
    pub(super) fn refused(identity: Identity, slot: u64, version: Option<&str>, reason: &str) -> Self {
        let exe = process::exe_name(identity.pid).unwrap_or_default();
        let base = exe.rsplit('/').next().unwrap_or_default();
        Self {
            identity,
            slot,
            start_time: process::start_time(&identity),
            inner_pid: process::inner_pid(identity.pid),
            group: Group::default(),
            workload: Workload { owner: Owner::default(), process: safe(base).into() },
            wanted: Some(true),
            exe: safe(&exe).into(),
            go_version: version.map(|version| safe(version).into()),
            executable: None,
            bias: 0,
            probing: Probing::Off,
            history: History::default(),
            sampled: false,
            on_cpu: OnCpu::default(),
            recent_waits: RecentWaits::default(),
            unnamed_waits: Vec::new(),
            reasons: Arc::default(),
            environment: Environ::Unread,
            names: FxHashMap::default(),
            reading: Reading::Never(reason.into()),
            naming: None,
        }
    }

    /// What its environment said when it started, as soon as the kernel has read it: that takes as long as the
    /// target's memory takes to answer, and is waited for only a moment.
    pub(super) fn environment(&mut self, worker: &mut Worker) -> Option<&Environment> {
        let pid = self.identity.pid;
        let read = match &self.environment {
            Environ::Read(_) => None,
            Environ::Unread => Some(worker.run(MOMENT, move || Environment::read(pid))),
            Environ::Late(late) => late.poll().map_or(Some(Ok(None)), |read| read.map(Ok)),
        };
        match read {
            Some(Ok(read)) => self.environment = Environ::Read(read),
            Some(Err(Failure::Late(late))) => self.environment = Environ::Late(late),
            Some(Err(Failure::Panicked)) => self.environment = Environ::Read(None),
            None => {}
        }
        match &self.environment {
            Environ::Read(environment) => environment.as_ref(),
            Environ::Unread | Environ::Late(_) => None,
        }
    }

    /// Takes a snapshot on a worker's thread.
    ///
    /// # Errors
    /// Why there is none, with the reason's name in metrics.
    pub(super) fn snapshot(
        &mut self,
        worker: &mut Worker,
        patience: Duration,
    ) -> Result<Snapshot, (&'static str, Arc<str>)> {
        let mut reader = match std::mem::replace(&mut self.reading, Reading::Never("".into())) {
            Reading::Ready(reader) => reader,
            Reading::Late(late) => match late.poll() {
                Ok(Some((reader, _))) => reader,
                Ok(None) => {
                    self.reading = Reading::Late(late);
                    return Err(("deadline", "its memory does not answer".into()));
                }
                Err(()) => {
                    return Err(self.never("reading it failed by a mistake in observer: please report it"));
                }
            },
            Reading::Never(reason) => return Err(self.never(&reason)),
        };
        let memory = ProcessMemory(self.identity.pid);
        let pass = worker.run(patience + GRACE, move || {
            let result = reader.take(&memory, Instant::now() + patience);
            (reader, result)
        });
        match pass {
            Ok((reader, result)) => {
                self.reading = Reading::Ready(reader);
                result.map_err(|error| (error.name(), error.to_string().into()))
            }
            Err(Failure::Late(late)) => {
                self.reading = Reading::Late(late);
                Err(("deadline", SnapshotError::Deadline(patience).to_string().into()))
            }
            Err(Failure::Panicked) => {
                Err(self.never("reading it failed by a mistake in observer: please report it"))
            }
        }
    }

    fn never(&mut self, reason: &str) -> (&'static str, Arc<str>) {
        self.reading = Reading::Never(reason.into());
        ("unreadable", reason.into())
    }

    /// Books what was counted since the last tick, and marks the callsites with series of their own.
    pub(super) fn book(&self, digest: &mut Digest, ledger: &mut Ledger) {
        let now = Instant::now();
        ledger.admit(&self.workload, &mut digest.callsites, now);
        for (callsite, increment) in digest.callsites.iter().zip(&digest.increments) {
            ledger.book(&self.workload, (&callsite.created_by, &callsite.entry), *increment, now);
        }
        if let Some(more) = digest.gc_cycles {
            ledger.book_gc_cycles(&self.workload, more, now);
        }
    }

    /// Books CPU time that was used since the last tick.
    pub(super) fn book_cpu(&self, increments: &[CpuIncrement], ledger: &mut Ledger) {
        for increment in increments {
            ledger.book_cpu(&self.workload, increment, Instant::now());
        }
    }

    /// Keeps waits that were measured, to be booked when their reasons have names.
    pub(super) fn keep_waits(&mut self, increments: Vec<WaitIncrement>) {
        let room = MAX_INCREMENTS.saturating_sub(self.unnamed_waits.len());
        self.unnamed_waits.extend(increments.into_iter().take(room));
    }

    /// Learns the names of wait reasons, from a snapshot.
    pub(super) fn learn_reasons(&mut self, reasons: &Arc<WaitReasons>) {
        self.reasons = reasons.clone();
    }

    /// Books waits that were measured.
    pub(super) fn book_waits(&mut self, ledger: &mut Ledger) -> Option<WaitsView> {
        if self.reasons.is_empty() {
            return None;
        }
        let now = Instant::now();
        for increment in std::mem::take(&mut self.unnamed_waits) {
            let named = waits::named(&increment.waits, |reason| self.reasons.name(reason));
            ledger.book_waits(&self.workload, &named, now);
            for increment in waits::named_parks(&increment.parks, &self.names) {
                ledger.book_parks(&self.workload, &increment, now);
            }
            self.recent_waits.push(now, increment);
        }
        self.recent_waits.view(|reason| self.reasons.name(reason))
    }

    /// Tells of each callsite how often its goroutines park.
    pub(super) fn note_parks(&self, callsites: &mut [CallsiteView]) {
        let rates = self.recent_waits.parks_per_second(&self.names);
        for callsite in callsites {
            callsite.parks_per_second = rates.get(&(callsite.gopc, callsite.entry.clone())).copied();
        }
    }

    /// Books what was counted between the last tick and the target's end.
    pub(super) fn close(&mut self, last: LastCounts, hz: u32, ledger: &mut Ledger) {
        self.book_cpu(&self.on_cpu.rest(&last.samples, &self.names, hz), ledger);
        self.keep_waits(last.waits);
        self.book_waits(ledger);
        for (key, rest) in self.history.rest(&last.counts) {
            // The runtime's own callsites have no series; of one without a name nothing was shown either.
            let Some(label) = self.names.get(&key).filter(|label| !label.system) else { continue };
            if rest != Counted::default() {
                ledger.book(&self.workload, (&label.created_by, &label.entry), rest, Instant::now());
            }
        }
    }

    /// Looks up the names of all callsites in a snapshot and in counts that have none yet.
    pub(super) fn learn_names(
        &mut self,
        worker: &mut Worker,
        patience: Duration,
        snapshot: &Snapshot,
        counts: Option<&Counts>,
        samples: Option<&Samples>,
    ) {
        let Some(executable) = self.executable.clone() else { return };
        if let Some(late) = self.naming.take() {
            match late.poll() {
                Ok(Some(names)) => self.names.extend(names),
                Ok(None) => {
                    self.naming = Some(late);
                    return;
                }
                Err(()) => {}
            }
        }
        if self.names.len() > MAX_NAMES {
            self.names.clear();
        }
        let census = snapshot.census.callsites.iter().map(|(key, _)| *key);
        let counted = counts.into_iter().flat_map(|counts| counts.keys().copied());
        let sampled = samples.into_iter().flat_map(|samples| samples.keys()).filter_map(|key| match key {
            Sampled::Callsite(key) => Some(*key),
            Sampled::Runtime | Sampled::Unknown => None,
        });
        let parked = self.unnamed_waits.iter().flat_map(|increment| increment.parks.keys().copied());
        let seen = census.chain(counted).chain(sampled).chain(parked);
        let unknown: Vec<CallsiteKey> = seen.filter(|key| !self.names.contains_key(key)).collect();
        if unknown.is_empty() {
            return;
        }
        let bias = self.bias;
        let until = Instant::now() + patience;
        // What there is no time for is looked up with the next tick.
        let looked_up = worker.run(patience + GRACE, move || {
            let in_time = unknown.into_iter().take_while(|_| Instant::now() < until);
            in_time.map(|key| (key, Arc::new(label(&executable, key, bias)))).collect::<Names>()
        });
        match looked_up {
            Ok(names) => self.names.extend(names),
            Err(Failure::Late(late)) => self.naming = Some(late),
            // A mistake of ours: these callsites stay without names, and are tried again.
            Err(Failure::Panicked) => {}
        }
    }
}

/// A callsite that the function table doesn't know is shown by its addresses.
fn label(executable: &Executable, key: CallsiteKey, bias: u64) -> CallsiteLabel {
    let (binary, file) = (&executable.binary, &*executable.file);
    let (gopc, entry) = (key.gopc.wrapping_sub(bias), key.entry.wrapping_sub(bias));
    if key == CallsiteKey::OTHER {
        let other = || "other".to_owned();
        let name = CallsiteName { created_by: other(), entry: other(), file: String::new(), line: 0 };
        return CallsiteLabel::new(&name, false, safe);
    }
    let name = binary.callsite(file, gopc, entry).unwrap_or_else(|_| CallsiteName {
        created_by: format!("{gopc:#x}"),
        entry: format!("{entry:#x}"),
        file: String::new(),
        line: 0,
    });
    let class = binary.entry_class(file, entry).unwrap_or(EntryClass::User);
    CallsiteLabel::new(&name, class != EntryClass::User, safe)
}

fn safe(text: &str) -> String {
    printable_bytes(text.as_bytes(), MAX_TEXT)
}
