//! `observer dump`.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};

use super::output;
use crate::export::profile::{End, Filter, Format, GroupBy, Rendering, Written};
use crate::pipeline::go_process;
use crate::pipeline::profile::Profile;
use crate::snapshot::census::Status;

/// How long each part of the target's memory is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time between two notes on how far it is.
const PROGRESS: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(super) struct Arguments {
    /// Process id
    pid: u32,
    /// How to write it: a summary on a terminal and JSON elsewhere if not given
    #[arg(long, value_enum)]
    format: Option<Choice>,
    /// File to write to instead of stdout
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// What goroutines of one line of the summary have in common
    #[arg(long, value_enum, default_value = "stack")]
    group_by: Grouping,
    /// Only goroutines in this state
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only goroutines whose wait reason contains this text
    #[arg(long, value_name = "TEXT")]
    wait_reason: Option<String>,
    /// Only goroutines that may have waited this long: the runtime tells an upper bound, from the second
    /// garbage collection on
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    min_age: Option<Duration>,
    /// Only goroutines with a function on the stack whose name contains this text, or that one such function
    /// created
    #[arg(long, value_name = "TEXT")]
    function: Option<String>,
    /// Only goroutines that the program gave this label (runtime/pprof); may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Time after which it ends; what was read until then is written
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION", default_value = "60s")]
    timeout: Duration,
    /// The runtime's own goroutines too
    #[arg(long)]
    system: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// For people: equal goroutines counted together, the most frequent first
    Summary,
    /// As Go's debug=1: stacks with the number of goroutines that have them
    Debug1,
    /// As Go's debug=2: every goroutine with its stack
    Debug2,
    /// For `go tool pprof`
    Pprof,
    /// One line per stack, for flame graph tools
    Folded,
    /// A flame graph
    Svg,
    /// For programs
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Grouping {
    /// Stack, state and creator
    Stack,
    /// The go statement that created them
    #[value(name = "created_by")]
    CreatedBy,
    /// The function that they run
    Entry,
    /// What they wait for
    #[value(name = "wait_reason")]
    WaitReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    Runnable,
    Running,
    Syscall,
    Waiting,
    Preempted,
    Leaked,
}

/// A label's key and value.
fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let format = arguments.format();
    let to_terminal = arguments.output.is_none() && io::stdout().is_terminal();
    if to_terminal && format == Format::Pprof {
        bail!("a profile for pprof is no text: name a file with -o FILE");
    }
    let deadline = Instant::now() + arguments.timeout;
    go_process::require(arguments.pid)?;
    let profile = Profile::start(arguments.pid, PATIENCE)
        .with_context(|| format!("process {} can't be observed", arguments.pid))?;
    let out: Box<dyn Write> = match &arguments.output {
        Some(path) => {
            Box::new(File::create(path).with_context(|| format!("can't write {}", path.display()))?)
        }
        None => Box::new(io::stdout().lock()),
    };
    let rendering = Rendering::new(
        profile.subject.clone(),
        profile.frames(),
        profile.reasons.clone(),
        arguments.filter(),
        format,
        BufWriter::with_capacity(256 << 10, out),
    );
    // On a terminal that shows the goroutines themselves there is nothing more to say.
    let streams = matches!(format, Format::Debug2 | Format::Json);
    let progress = Progress::new(profile.descriptors, !(to_terminal && streams));
    write(profile, rendering, deadline, progress)
}

fn write(
    profile: Profile,
    mut rendering: Rendering<impl Write>,
    deadline: Instant,
    mut progress: Progress,
) -> anyhow::Result<()> {
    let fed = profile.feed(&mut rendering, deadline, |goroutines| progress.advance(goroutines));
    progress.clear();
    let end = fed?;
    let written = rendering.finish(&end)?;
    tell(&end, written)
}

/// Says on stderr what the profile doesn't have.
///
/// # Errors
/// When it ended early.
fn tell(end: &End, written: Written) -> anyhow::Result<()> {
    if let Some(reason) = &end.interrupted {
        return Err(anyhow!(
            "{reason}; what was read until then ({} goroutines) is written",
            written.goroutines
        ));
    }
    if let Some(missing) = end.missing() {
        output::note(&format!("not all goroutines are here: {missing}"));
    }
    if written.without_labels > 0 {
        output::note(&format!(
            "{} goroutines have labels that could not be read, or are too many or too long",
            written.without_labels
        ));
    }
    if written.without_stack > 0 {
        output::note(&format!(
            "{} of {} goroutines have no whole stack: they ran or moved meanwhile",
            written.without_stack, written.goroutines
        ));
    }
    Ok(())
}

/// How far it is, on a terminal.
struct Progress {
    of: usize,
    seen: usize,
    told: Option<Instant>,
    wanted: bool,
}

impl Progress {
    fn new(of: usize, wanted: bool) -> Self {
        Self { of, seen: 0, told: None, wanted: wanted && io::stderr().is_terminal() }
    }

    fn advance(&mut self, by: usize) {
        self.seen += by;
        if self.wanted && self.told.is_none_or(|told| told.elapsed() >= PROGRESS) {
            self.told = Some(Instant::now());
            // A terminal that can't be written to is none to tell anything.
            _ = write!(io::stderr(), "\r{} of at most {} goroutines", self.seen, self.of);
        }
    }

    fn clear(&self) {
        if self.told.is_some() {
            _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Arguments {
    fn format(&self) -> Format {
        let fitting = || if io::stdout().is_terminal() { Choice::Summary } else { Choice::Json };
        match self.format.unwrap_or_else(fitting) {
            Choice::Summary => Format::Summary(match self.group_by {
                Grouping::Stack => GroupBy::Stack,
                Grouping::CreatedBy => GroupBy::CreatedBy,
                Grouping::Entry => GroupBy::Entry,
                Grouping::WaitReason => GroupBy::WaitReason,
            }),
            Choice::Debug1 => Format::Debug1,
            Choice::Debug2 => Format::Debug2,
            Choice::Pprof => Format::Pprof,
            Choice::Folded => Format::Folded,
            Choice::Svg => Format::Svg,
            Choice::Json => Format::Json,
        }
    }

    fn filter(&self) -> Filter {
        Filter::new(
            self.state.map(|state| match state {
                State::Runnable => Status::Runnable,
                State::Running => Status::Running,
                State::Syscall => Status::Syscall,
                State::Waiting => Status::Waiting,
                State::Preempted => Status::Preempted,
                State::Leaked => Status::Leaked,
            }),
            self.wait_reason.clone(),
            self.min_age,
            self.function.clone(),
            self.system,
        )
        .with_labels(self.labels.clone())
    }
}
