//! One goroutine profile of one process: read on a thread of its own, handed over in chunks.
//!
//! The reader never waits for the target, but its memory may never answer (a page behind userfaultfd or a dead
//! file server), so whoever takes the chunks waits only so long for the next.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant, SystemTime};

use super::executables::{self, Executable, Recognised};
use crate::discover::environment::{Environment, debug_setting};
use crate::discover::process;
use crate::export::profile::{End, Rendering, Subject};
use crate::gobin::GoBinary;
use crate::gobin::frames::Frames;
use crate::snapshot::memory::{ProcessMemory, Stoppable};
use crate::snapshot::reader::{Reader, SnapshotError};
use crate::snapshot::stacks::{Chunk, Totals};
use crate::snapshot::wait_reasons::WaitReasons;
use crate::text::printable;

/// Chunks that may wait to be taken: they are what a profile holds in memory.
const QUEUE: usize = 2;

enum Message {
    Begin(Arc<WaitReasons>, usize, Environment),
    Chunk(Chunk),
    End(Totals),
    Failed(SnapshotError),
}

/// A profile that is being read.
pub struct Profile {
    /// Whose it is.
    pub subject: Subject,
    bias: u64,
    /// Its executable.
    pub executable: Arc<Executable>,
    /// Names of the wait reasons.
    pub reasons: Arc<WaitReasons>,
    /// Goroutine descriptors to be looked at; many may hold no goroutine.
    pub descriptors: usize,
    messages: Receiver<Message>,
    patience: Duration,
    /// Ends the thread.
    stop: Arc<AtomicBool>,
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Why a profile ended early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Interrupted {
    /// The reader says why.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The process can't be read at all.
    #[error("{0}")]
    Refused(String),
    /// A mistake in observer.
    #[error("reading it failed by a mistake in observer: please report it")]
    Panicked,
}

/// What comes next of a profile.
enum Next {
    /// More goroutines.
    Chunk(Chunk),
    /// That was all.
    End(Totals),
}

impl Profile {
    /// Begins to read the goroutines of a process. `patience` bounds how long it is waited for each part. With
    /// `watch` they are looked at twice, so long apart, and the second look is handed over: it tells which have not
    /// run meanwhile.
    ///
    /// # Errors
    /// When nothing can be said about the process.
    pub fn start(pid: u32, patience: Duration, watch: Option<Duration>) -> Result<Self, Interrupted> {
        let executable = match executables::read(&process::exe_path(pid)) {
            Recognised::Go(executable) => executable,
            Recognised::Refused { reason, .. } => return Err(Interrupted::Refused(reason)),
            Recognised::Foreign => return Err(Interrupted::Refused("it is no Go program".to_owned())),
        };
        let bias = process::load_bias(pid, executable.binary.image.entry)
            .map_err(|error| Interrupted::Refused(format!("its load address can't be read: {error}")))?;
        let exe = process::exe_name(pid).unwrap_or_default();
        let module = &executable.binary.module;
        let subject = Subject {
            pid,
            process: printable(exe.rsplit('/').next().unwrap_or_default()).into_owned(),
            exe: printable(&exe).into_owned(),
            go_version: printable(&executable.binary.build.version).into_owned(),
            build_id: executable.binary.image.build_id(&*executable.file).unwrap_or_default(),
            taken_at: SystemTime::now() + watch.unwrap_or_default(),
            text: (module.text.wrapping_add(bias), module.text_end.wrapping_add(bias)),
            labels_in_tracebacks: false,
        };
        let clock = process::clock_ahead(pid);
        let reader = Reader::new(executable.binary.clone(), executable.file.clone(), bias, clock);
        let (sender, messages) = mpsc::sync_channel(QUEUE);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        std::thread::Builder::new()
            .name("observer-stacks".to_owned())
            .spawn(move || read(reader, pid, (patience, watch), &stopped, &sender))
            .map_err(|error| Interrupted::Refused(format!("can't start a thread: {error}")))?;
        // The first look hands nothing over.
        let patience = watch.map_or(patience, |watch| patience.saturating_mul(2).saturating_add(watch));
        let mut profile = Self {
            subject,
            bias,
            executable,
            reasons: Arc::default(),
            descriptors: 0,
            messages,
            patience,
            stop,
        };
        match profile.receive()? {
            Message::Begin(reasons, descriptors, environment) => {
                let shows_labels = shows_labels(&profile.executable.binary, &environment);
                profile.subject.labels_in_tracebacks = shows_labels;
                (profile.reasons, profile.descriptors) = (reasons, descriptors);
                Ok(profile)
            }
            Message::Failed(error) => Err(error.into()),
            Message::Chunk(_) | Message::End(_) => Err(Interrupted::Panicked),
        }
    }

    /// Turns this process's stacks into frames.
    #[must_use]
    pub fn frames(&self) -> Frames {
        Frames::new(self.executable.binary.clone(), self.executable.file.clone(), self.bias)
    }

    /// Adds all of it to a rendering. `seen` hears how many goroutines have come. What comes after `deadline` is left out.
    ///
    /// # Errors
    /// When it can't be written. That it ended early is no error: what came before is true all the same.
    pub fn feed(
        mut self,
        rendering: &mut Rendering<impl Write>,
        deadline: Instant,
        mut seen: impl FnMut(usize),
    ) -> io::Result<End> {
        let began = Instant::now();
        loop {
            match self.next_part() {
                Ok(Next::Chunk(_)) if Instant::now() > deadline => {
                    let late = SnapshotError::Deadline(began.elapsed());
                    return Ok(End { interrupted: Some(late.to_string()), ..End::default() });
                }
                Ok(Next::Chunk(chunk)) => {
                    seen(chunk.records.len());
                    rendering.add(&chunk)?;
                }
                Ok(Next::End(totals)) => return Ok(End { totals, interrupted: None }),
                Err(error) => {
                    return Ok(End { interrupted: Some(error.to_string()), ..End::default() });
                }
            }
        }
    }

    fn next_part(&mut self) -> Result<Next, Interrupted> {
        match self.receive()? {
            Message::Chunk(chunk) => Ok(Next::Chunk(chunk)),
            Message::End(totals) => Ok(Next::End(totals)),
            Message::Failed(error) => Err(error.into()),
            Message::Begin(..) => Err(Interrupted::Panicked),
        }
    }

    fn receive(&self) -> Result<Message, Interrupted> {
        self.messages.recv_timeout(self.patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => SnapshotError::Deadline(self.patience).into(),
            RecvTimeoutError::Disconnected => Interrupted::Panicked,
        })
    }
}

/// Runs on the thread. When nobody listens any more it ends.
fn read(
    mut reader: Reader,
    pid: u32,
    (patience, watch): (Duration, Option<Duration>),
    stop: &AtomicBool,
    to: &SyncSender<Message>,
) {
    let process = ProcessMemory(pid);
    let memory = Stoppable::new(&process, stop);
    let first = watch.map_or(Ok(()), |watch| look_first(&mut reader, &memory, patience, watch));
    let result = first.and_then(|()| reader.begin(&memory, Instant::now() + patience));
    let result = result.and_then(|(reasons, descriptors)| {
        to.send(Message::Begin(reasons.clone(), descriptors, Environment::read(pid).unwrap_or_default()))
            .ok();
        reader.stacks(&memory, &reasons, &|chunk| to.send(Message::Chunk(chunk)).is_ok())
    });
    let last = match result {
        Ok(totals) => Message::End(totals),
        Err(error) => Message::Failed(error),
    };
    to.send(last).ok();
}

/// Looks at all goroutines, and waits.
fn look_first(
    reader: &mut Reader,
    memory: &Stoppable<'_>,
    patience: Duration,
    watch: Duration,
) -> Result<(), SnapshotError> {
    let until = Instant::now() + patience;
    let (reasons, _) = reader.begin(memory, until)?;
    let totals = reader.stacks(memory, &reasons, &|_| Instant::now() < until)?;
    if totals.skipped > 0 {
        return Err(SnapshotError::Deadline(patience));
    }
    std::thread::sleep(watch);
    Ok(())
}

/// Whether a program writes labels into its tracebacks: by its environment, else by its build, else by its
/// version (`tracebacklabels` in `src/runtime/runtime1.go`).
fn shows_labels(binary: &GoBinary, environment: &Environment) -> bool {
    const NAME: &str = "tracebacklabels";
    let built_with = || debug_setting(binary.build.setting("DefaultGODEBUG")?, NAME);
    let set = environment.debug(NAME).or_else(built_with);
    let minor = binary.version.minor;
    minor >= 26 && set.map_or(minor >= 27, |value| value == "1")
}
