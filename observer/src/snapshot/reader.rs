//! Takes snapshots of one target.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::ages::{Ages, Look};
use super::batch::Batch;
use super::census::Census;
use super::descriptors::{Descriptors, ListError, Slot};
use super::fields::{Fields, Parsed};
use super::known_stacks::KnownStacks;
use super::memory::{Fault, Memory, Until};
use super::runtime::Settings;
use super::wait_reasons::WaitReasons;
use crate::gobin::naming::EntryClass;
use crate::gobin::source::{Source, le64};
use crate::gobin::{GoBinary, Layouts};

/// Of more entry functions than this the class isn't remembered.
const MAX_CLASSES: usize = 8192;

/// Whose goroutines run a function, by its address.
pub(super) type Classes = FxHashMap<u64, EntryClass>;

/// Why there is no snapshot. The names are the `reason` label of the metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The process has ended.
    #[error("the process has ended")]
    Gone,
    /// The kernel doesn't let us read its memory.
    #[error("{0}")]
    Denied(Fault),
    /// What stands in memory isn't what stands in the file.
    #[error(
        "its memory doesn't hold the executable that was read: it may be starting, or has replaced itself"
    )]
    OtherProgram,
    /// A global variable wasn't found in the executable.
    #[error("the executable doesn't tell where the runtime keeps its goroutines: {0}")]
    NoGlobal(String),
    /// The runtime has not started yet.
    #[error("{0}")]
    List(ListError),
    /// Most descriptors contradict the layout.
    #[error("{0} of {1} goroutine descriptors contradict the structure layout of this Go version")]
    Layout(u64, u64),
    /// Its memory doesn't answer.
    #[error("its memory did not answer within {0:?}")]
    Deadline(Duration),
}

impl SnapshotError {
    /// The reason's name in metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Denied(_) => "denied",
            Self::OtherProgram => "other_program",
            Self::NoGlobal(_) => "no_global",
            Self::List(ListError::NotStarted) => "not_started",
            Self::List(_) => "bad_list",
            Self::Layout(..) => "layout",
            Self::Deadline(_) => "deadline",
        }
    }
}

impl From<Fault> for SnapshotError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Gone => Self::Gone,
            Fault::Denied => Self::Denied(fault),
            Fault::Unmapped(_) => Self::OtherProgram,
            Fault::Late(patience) => Self::Deadline(patience),
        }
    }
}

impl From<ListError> for SnapshotError {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Fault(fault @ (Fault::Gone | Fault::Denied | Fault::Late(_))) => fault.into(),
            error => Self::List(error),
        }
    }
}

/// The result of one pass.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What was counted.
    pub census: Census,
    /// Names of the wait reasons.
    pub reasons: Arc<WaitReasons>,
    /// The runtime's settings.
    pub settings: Settings,
    /// When it began and ended.
    pub began: Instant,
    /// See `began`.
    pub ended: Instant,
}

/// Takes snapshots of one target and remembers between them what saves work and tells ages.
pub struct Reader {
    pub(super) binary: Arc<GoBinary>,
    pub(super) source: Arc<dyn Source + Send + Sync>,
    pub(super) bias: u64,
    pub(super) descriptors: Descriptors,
    reasons: Option<Arc<WaitReasons>>,
    pub(super) classes: Classes,
    pub(super) ages: Ages,
    pub(super) known: KnownStacks,
    /// Processors that are free to help with the next pass.
    pub(super) helpers: usize,
}

impl Reader {
    /// `bias` = load address − link-time address; `clock_ahead` = nanoseconds that the target's monotonic clock is
    /// ahead of ours, `None` when that isn't known.
    #[must_use]
    pub fn new(
        binary: Arc<GoBinary>,
        source: Arc<dyn Source + Send + Sync>,
        bias: u64,
        clock_ahead: Option<i64>,
    ) -> Self {
        // Where a layout was not measured, a word that isn't g.waitsince would make alarming ages.
        let clock_ahead = clock_ahead.filter(|_| matches!(binary.layouts, Layouts::Measured(_)));
        Self {
            binary,
            source,
            bias,
            descriptors: Descriptors::default(),
            reasons: None,
            classes: Classes::default(),
            ages: Ages::new(clock_ahead),
            known: KnownStacks::new(),
            helpers: 0,
        }
    }

    /// Counts all goroutines. Past `deadline` the rest is skipped and counted as such.
    ///
    /// # Errors
    /// When nothing can be said about the target; never for a part of it.
    pub fn take(&mut self, memory: &dyn Memory, deadline: Instant) -> Result<Snapshot, SnapshotError> {
        let began = Instant::now();
        let memory = &Until::new(memory, deadline);
        let reasons = self.prepare(memory)?;
        let settings = Settings::read(memory, &self.binary, self.bias)?;
        let census = self.count(memory, &reasons)?;
        Ok(Snapshot { census, reasons, settings, began, ended: Instant::now() })
    }

    /// Checks what runs, and brings the list of descriptors up to date.
    pub(super) fn prepare(&mut self, memory: &dyn Memory) -> Result<Arc<WaitReasons>, SnapshotError> {
        self.check_program(memory)?;
        let (allglen, allgptr) = self.list_addresses()?;
        self.descriptors.update(memory, allglen, allgptr)?;
        // A target that has goroutines has been relocated: its tables of strings are whole.
        self.reasons(memory)
    }

    /// The running program is the one that was read: its `moduledata` says what the file's says.
    fn check_program(&self, memory: &dyn Memory) -> Result<(), SnapshotError> {
        let module = &self.binary.module;
        let mut bytes = [0; 192];
        memory.read(module.address.wrapping_add(self.bias), &mut bytes)?;
        let expected = [(0, self.binary.table.address), (176, module.text), (184, module.text_end)];
        let same = expected.iter().all(|(at, word)| le64(&bytes[*at..]) == word.wrapping_add(self.bias));
        if same { Ok(()) } else { Err(SnapshotError::OtherProgram) }
    }

    fn reasons(&mut self, memory: &dyn Memory) -> Result<Arc<WaitReasons>, SnapshotError> {
        if let Some(reasons) = &self.reasons {
            return Ok(reasons.clone());
        }
        let address = self.binary.globals.wait_reasons.map(|address| address.wrapping_add(self.bias));
        let reasons = match address.map(|address| WaitReasons::read(memory, address)) {
            None | Some(Err(Fault::Unmapped(_))) => WaitReasons::default(),
            Some(reasons) => reasons?,
        };
        let reasons = Arc::new(reasons);
        if !reasons.is_empty() {
            self.reasons = Some(reasons.clone());
        }
        Ok(reasons)
    }

    fn list_addresses(&self) -> Result<(u64, u64), SnapshotError> {
        let globals = &self.binary.globals;
        match (globals.allglen, globals.allgptr) {
            (Some(length), Some(list)) => Ok((length.wrapping_add(self.bias), list.wrapping_add(self.bias))),
            _ => Err(SnapshotError::NoGlobal(globals.missing.join("; "))),
        }
    }

    fn count(&mut self, memory: &dyn Memory, reasons: &WaitReasons) -> Result<Census, SnapshotError> {
        let fields = Fields::of(self.binary.layouts.layout());
        let mut census = Census::default();
        census.torn = self.descriptors.implausible;
        let mut slots = std::mem::take(&mut self.descriptors.slots);
        let mut batch = Batch::new();
        let (mut next, mut looked_at) = (0, 0u64);
        let mut outcome: Result<(), SnapshotError> = Ok(());
        while next < slots.len() {
            let end = batch.plan(&slots, next, fields.end);
            let (look, copied) = self.ages.look(|| batch.read(memory, fields.end));
            match copied {
                Ok(0) => {
                    census.unreadable += 1;
                    next += 1;
                    batch.most = 1;
                }
                Ok(read) => {
                    batch.most = batch.most.saturating_mul(2);
                    for (slot, bytes) in slots[next..end].iter_mut().zip(batch.descriptors(read, fields.end))
                    {
                        looked_at += 1;
                        next += 1;
                        self.count_one(slot, bytes, &fields, look, reasons, &mut census);
                    }
                }
                Err(Fault::Late(_)) if looked_at > 0 => {
                    census.skipped = (slots.len() - next) as u64;
                    break;
                }
                Err(fault) => {
                    outcome = Err(fault.into());
                    break;
                }
            }
        }
        self.descriptors.slots = slots;
        outcome?;
        self.check_layout(&census, looked_at)?;
        Ok(census)
    }

    fn count_one(
        &mut self,
        slot: &mut Slot,
        bytes: &[u8],
        fields: &Fields,
        look: Look,
        reasons: &WaitReasons,
        census: &mut Census,
    ) {
        let goroutine = match fields.parse(bytes, slot.address) {
            Parsed::Live(goroutine) => goroutine,
            Parsed::None => {
                slot.forget();
                census.dead += 1;
                return;
            }
            Parsed::Torn => {
                slot.forget();
                census.torn += 1;
                return;
            }
        };
        let standing = fields.standing(bytes);
        self.ages.note(standing.waiting_since, look);
        let seen = slot.see(&goroutine, &standing, look);
        let waited = goroutine.waits().then(|| {
            let noted = self.ages.noted(standing.waiting_since, look);
            noted.and_seen(seen).at_least.unwrap_or_default()
        });
        let entry = goroutine.entry.wrapping_sub(self.bias);
        let class = || classify(&mut self.classes, &self.binary, &*self.source, entry);
        census.count(&goroutine, waited, class, |reason| reasons.is_callback_idle(reason));
    }

    /// A layout that doesn't fit shows in `g.sched.g`, which must point back at its descriptor.
    fn check_layout(&self, census: &Census, looked_at: u64) -> Result<(), SnapshotError> {
        let live = census.user + census.system;
        let strict = matches!(self.binary.layouts, Layouts::Tried(..));
        let wrong = if strict { census.torn > live / 16 || census.user == 0 } else { census.torn > live };
        if wrong && looked_at > 0 { Err(SnapshotError::Layout(census.torn, looked_at)) } else { Ok(()) }
    }
}

/// Whose goroutines run a function; asks the executable once per function.
pub(super) fn classify(
    classes: &mut Classes,
    binary: &GoBinary,
    source: &dyn Source,
    entry: u64,
) -> EntryClass {
    if let Some(class) = classes.get(&entry) {
        return *class;
    }
    let class = binary.entry_class(source, entry).unwrap_or(EntryClass::User);
    if classes.len() < MAX_CLASSES {
        classes.insert(entry, class);
    }
    class
}
