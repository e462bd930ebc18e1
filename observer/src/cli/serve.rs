//! `observer serve`.

use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::diagnose::Thresholds;
use crate::export::http::{self, HttpState};
use crate::pipeline::Options;
use crate::pipeline::daemon::Daemon;

#[derive(Args)]
pub(super) struct Arguments {
    /// Address to listen on
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = ":9764")]
    listen_address: String,
    /// Path of the metrics
    #[arg(long = "web.telemetry-path", value_name = "PATH", default_value = "/metrics")]
    telemetry_path: String,
    /// Time between two snapshots of each process
    #[arg(long, value_parser = interval, default_value = "15s")]
    interval: Duration,
    /// `go` statements per process with metric series of their own; the others are summed as `other`
    #[arg(long, value_name = "N", default_value_t = 50)]
    max_callsites: usize,
    /// Count by snapshots only: put nothing into any process
    #[arg(long)]
    no_probes: bool,
    #[command(flatten)]
    budget: super::budget::Allowed,
    /// Change from which number on something is a finding, as `pids_share=0.9`
    #[arg(long = "threshold", value_name = "NAME=VALUE", value_parser = threshold)]
    thresholds: Vec<(String, f64)>,
}

/// Shorter than this a snapshot may not be over when the next one is due.
const SHORTEST: Duration = Duration::from_millis(100);

/// An interval between snapshots.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let interval =
        humantime::parse_duration(text).map_err(|error| format!("{error}; write it as 15s or 500ms"))?;
    if interval < SHORTEST {
        Err("at least 100ms are needed between two snapshots".to_owned())
    } else {
        Ok(interval)
    }
}

/// A threshold of the rules and its value.
pub(super) fn threshold(text: &str) -> Result<(String, f64), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    let value = value.parse().map_err(|_| format!("`{value}` is no number"))?;
    Thresholds::default().set(name, value)?;
    Ok((name.to_owned(), value))
}

/// The defaults with these changes.
pub(super) fn thresholds(changes: &[(String, f64)]) -> anyhow::Result<Thresholds> {
    let mut thresholds = Thresholds::default();
    for (name, value) in changes {
        thresholds.set(name, *value).map_err(anyhow::Error::msg)?;
    }
    Ok(thresholds)
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(arguments))
}

async fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Bound first: an address that can't be had is said before any process is touched.
    let listener = http::bind(&arguments.listen_address).await?;
    let address = listener.local_addr()?;
    let options = Options {
        probes: !arguments.no_probes,
        budgets: arguments.budget.budgets(),
        max_callsites: arguments.max_callsites,
        features: true,
        thresholds: thresholds(&arguments.thresholds)?,
        ..Options::default()
    };
    let daemon = Daemon::start(options, arguments.interval)?;
    let state = HttpState::new(daemon.views(), arguments.interval, &arguments.telemetry_path)?;
    tracing::info!("metrics are at http://localhost:{}{}", address.port(), arguments.telemetry_path);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    };
    let served = http::serve(listener, state, stop).await;
    tokio::task::spawn_blocking(move || daemon.stop()).await?;
    Ok(served?)
}
