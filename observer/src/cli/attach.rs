//! `observer attach`.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::output::{self, Format};
use super::{names, pid};
use crate::export::{json, text};
use crate::model::view::View;
use crate::pipeline::{Options, Pipeline};

/// How long the first table waits for probes.
const PATIENCE: Duration = Duration::from_secs(10);
/// Cursor home, and clear what was there.
const REDRAW: &str = "\x1b[H\x1b[2J";

#[derive(Args)]
pub(super) struct Arguments {
    /// Process id
    pid: u32,
    /// How long to watch; until Ctrl-C or the end of the process if not given
    #[arg(long, value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Time between two lines or tables
    #[arg(long, value_parser = super::serve::interval, default_value = "1s")]
    interval: Duration,
    /// How to show it: a table on a terminal and JSON lines elsewhere if not given
    #[arg(long, value_enum)]
    output: Option<Format>,
    /// Count by snapshots only: put nothing into the process
    #[arg(long)]
    no_probes: bool,
    #[command(flatten)]
    names: names::NameArguments,
    #[command(flatten)]
    budget: super::budget::Allowed,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    pid::require_go(arguments.pid)?;
    let mut pipeline = Pipeline::new(Options {
        only: Some(arguments.pid),
        probes: !arguments.no_probes,
        budgets: arguments.budget.budgets(),
        settle: Duration::ZERO,
        names: arguments.names.options(),
        ..Options::default()
    });
    pipeline.scan();
    pipeline.attach_due(Instant::now() + PATIENCE);
    pipeline.await_names(names::PATIENCE);
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(watch(arguments, pipeline))
}

async fn watch(arguments: &Arguments, mut pipeline: Pipeline) -> anyhow::Result<()> {
    let format = arguments.output.unwrap_or_else(Format::fitting);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut clock = interval(arguments.interval);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let began = Instant::now();
    let mut previous: Option<Arc<View>> = None;
    loop {
        tokio::select! {
            _ = clock.tick() => {}
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
        pipeline.scan();
        pipeline.admit_due();
        let view = Arc::new(pipeline.tick());
        if view.targets.is_empty() {
            output::note(&format!("process {} has ended", arguments.pid));
            return Ok(());
        }
        show(arguments.pid, format, previous.as_deref(), &view)?;
        previous = Some(view);
        if arguments.duration.is_some_and(|duration| began.elapsed() + arguments.interval / 2 >= duration) {
            return Ok(());
        }
    }
}

fn show(pid: u32, format: Format, previous: Option<&View>, view: &View) -> anyhow::Result<()> {
    match format {
        Format::Json => match json::attach(previous, view, pid) {
            Some(line) => output::json(&line, false),
            None => Ok(()),
        },
        Format::Table => {
            let Some(table) = text::attach(previous, view, pid, output::layout()) else { return Ok(()) };
            let redraw = if io::stdout().is_terminal() { REDRAW } else { "" };
            Ok(output::print(&format!("{redraw}{table}\n"))?)
        }
    }
}
