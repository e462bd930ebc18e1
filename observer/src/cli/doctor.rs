//! `observer doctor`.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::names;
use super::output::{self, Format};
use crate::export::doctor;
use crate::model::view::View;
use crate::pipeline::go_process;
use crate::pipeline::{Options, Pipeline};

/// Time between two looks.
const TICK: Duration = Duration::from_millis(500);
/// Below this nothing can be said about rates and trends.
const SHORTEST: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(super) struct Arguments {
    /// Process id; all Go processes if not given
    pid: Option<u32>,
    /// How to show it
    #[arg(long, value_enum, default_value = "table")]
    output: Format,
    /// How long to look before saying something
    #[arg(long, value_parser = duration, default_value = "10s")]
    duration: Duration,
    /// Go on looking, and say what is wrong after each duration, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Count by snapshots only: put nothing into any process. Growth is told after a minute only then
    #[arg(long)]
    no_probes: bool,
    #[command(flatten)]
    budget: super::budget::Allowed,
    /// Change from which number on something is a finding, as `pids_share=0.9`
    #[arg(long = "threshold", value_name = "NAME=VALUE", value_parser = super::serve::threshold)]
    thresholds: Vec<(String, f64)>,
    #[command(flatten)]
    names: names::NameArguments,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error}; write it as 10s"))?;
    if duration < SHORTEST { Err("at least 1s is needed".to_owned()) } else { Ok(duration) }
}

/// Whether the last look found something.
///
/// # Errors
/// When it could not look.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    if let Some(pid) = arguments.pid {
        go_process::require(pid)?;
    }
    let mut pipeline = Pipeline::new(Options {
        only: arguments.pid,
        probes: !arguments.no_probes,
        budgets: arguments.budget.budgets(),
        settle: Duration::ZERO,
        names: arguments.names.options(),
        thresholds: super::serve::thresholds(&arguments.thresholds)?,
        ..Options::default()
    });
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(watch(arguments, &mut pipeline))
}

async fn watch(arguments: &Arguments, pipeline: &mut Pipeline) -> anyhow::Result<bool> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut clock = interval(TICK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let view = tokio::select! {
            view = look(arguments.duration, pipeline, &mut clock) => view,
            _ = terminate.recv() => bail!("interrupted before anything could be said"),
            _ = interrupt.recv() => bail!("interrupted before anything could be said"),
        };
        require_seen(arguments.pid, &view)?;
        match arguments.output {
            Format::Json => output::json(&doctor::json(&view), !arguments.watch)?,
            Format::Table => output::print(&doctor::text(&view))?,
        }
        if !arguments.watch {
            return Ok(!view.findings.is_empty());
        }
    }
}

/// Looks for a while; the last view has what was found.
async fn look(duration: Duration, pipeline: &mut Pipeline, clock: &mut Interval) -> View {
    // The first look may take long, with probes to be put into many processes: time counts from then on.
    let mut began = None;
    let terminal = io::stderr().is_terminal();
    loop {
        clock.tick().await;
        pipeline.scan();
        pipeline.attach_due(Instant::now() + TICK);
        let view = pipeline.tick();
        let left = duration.saturating_sub(began.get_or_insert_with(Instant::now).elapsed());
        output::progress(
            terminal,
            &format!("looking at {} Go processes, {} s left", view.targets.len(), left.as_secs()),
        );
        if left < TICK / 2 {
            output::progress(terminal, "");
            return view;
        }
    }
}

/// A named process must have been seen; of all, at least one.
fn require_seen(pid: Option<u32>, view: &View) -> anyhow::Result<()> {
    let seen = view.targets.iter().any(|target| target.goroutines.is_some());
    match (pid, view.targets.first()) {
        (Some(pid), None) => bail!("process {pid} has ended"),
        (Some(pid), Some(target)) if !seen => {
            bail!(
                "process {pid} can't be observed: {}",
                target.reason.as_deref().unwrap_or("nobody knows why")
            )
        }
        (None, Some(_)) if !seen => {
            bail!("none of the Go processes here can be observed; `observer list` says why")
        }
        _ => Ok(()),
    }
}
