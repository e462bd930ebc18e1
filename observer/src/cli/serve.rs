//! `observer serve`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use super::names;
use crate::diagnose::Thresholds;
use crate::export::http::profiles::{Access, Profiles};
use crate::export::http::{self, HttpState};
use crate::pipeline::daemon::Daemon;
use crate::pipeline::filter::{Filter, Pattern};
use crate::pipeline::{Options, profiling};

#[derive(Args)]
pub(super) struct Arguments {
    /// Address to listen on; may be repeated
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        env = "OBSERVER_WEB_LISTEN_ADDRESS",
        value_delimiter = ',',
        default_value = ":9764"
    )]
    listen_addresses: Vec<String>,
    /// Path of the metrics
    #[arg(
        long = "web.telemetry-path",
        value_name = "PATH",
        env = "OBSERVER_WEB_TELEMETRY_PATH",
        default_value = "/metrics"
    )]
    telemetry_path: String,
    /// File with TLS, client certificates, passwords and headers, as Prometheus's exporters have it; read
    /// again when it or a certificate changes, and on SIGHUP
    #[arg(long = "web.config.file", value_name = "FILE", env = "OBSERVER_WEB_CONFIG_FILE")]
    web_config: Option<PathBuf>,
    /// Who gets goroutine profiles at /debug/pprof/goroutine?pid=N: they show what a process does
    #[arg(
        long = "web.profiles",
        value_enum,
        value_name = "WHO",
        env = "OBSERVER_WEB_PROFILES",
        default_value = "loopback"
    )]
    profiles: Who,
    /// Time between two snapshots of each process
    #[arg(long, value_parser = interval, env = "OBSERVER_INTERVAL", default_value = "15s")]
    interval: Duration,
    /// `go` statements per workload with metric series of their own; the others are summed as `other`
    #[arg(long, value_name = "N", env = "OBSERVER_MAX_CALLSITES", default_value_t = 50)]
    max_callsites: usize,
    /// The same for all workloads of the machine together
    #[arg(long, value_name = "N", env = "OBSERVER_MAX_CALLSITES_NODE", default_value_t = 5000)]
    max_callsites_node: usize,
    /// Workloads with metric series of their own; the processes of the others are summed as `other`
    #[arg(long, value_name = "N", env = "OBSERVER_MAX_WORKLOADS", default_value_t = 1000)]
    max_workloads: usize,
    /// Observe only processes of which this label (namespace, pod, container, unit, process) matches; may be
    /// repeated
    #[arg(
        long,
        value_name = "FIELD=REGEX",
        env = "OBSERVER_INCLUDE",
        value_delimiter = '\n',
        value_parser = Pattern::parse
    )]
    include: Vec<Pattern>,
    /// Don't observe processes of which this label matches; may be repeated
    #[arg(
        long,
        value_name = "FIELD=REGEX",
        env = "OBSERVER_EXCLUDE",
        value_delimiter = '\n',
        value_parser = Pattern::parse
    )]
    exclude: Vec<Pattern>,
    /// How often per second to look which goroutine runs on each CPU, for CPU time by `go` statement; 0 is never
    #[arg(long, value_name = "HZ", env = "OBSERVER_CPU_SAMPLING_HZ", default_value_t = 49, value_parser = clap::value_parser!(u32).range(0..=1000))]
    cpu_sampling_hz: u32,
    /// Count by snapshots only: put nothing into any process
    #[arg(long, env = "OBSERVER_NO_PROBES", value_parser = FalseyValueParser::new())]
    no_probes: bool,
    #[command(flatten)]
    budget: super::budget::Allowed,
    /// Change from which number on something is a finding, as `pids_share=0.9`
    #[arg(
        long = "threshold",
        value_name = "NAME=VALUE",
        env = "OBSERVER_THRESHOLD",
        value_delimiter = ',',
        value_parser = threshold
    )]
    thresholds: Vec<(String, f64)>,
    #[command(flatten)]
    names: names::NameArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Who {
    /// Clients on this machine
    Loopback,
    /// Every client
    All,
    /// Nobody
    Off,
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

const fn access(who: Who) -> Access {
    match who {
        Who::Loopback => Access::Loopback,
        Who::All => Access::All,
        Who::Off => Access::Off,
    }
}

async fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let hangup = signal(SignalKind::hangup())?;
    // Before any process is touched: what can't be served is said at once.
    let web = http::WebConfig::load(arguments.web_config.as_deref())?;
    let mut listeners = Vec::new();
    for address in &arguments.listen_addresses {
        listeners.push(http::bind(address).await?);
    }
    let addresses: Vec<_> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let daemon = Daemon::start(options(arguments)?, arguments.interval)?;
    let state = HttpState::new(daemon.views(), arguments.interval, &arguments.telemetry_path)?
        .with_profiles(Profiles::new(access(arguments.profiles), Arc::new(profiling::take)));
    let web = http::watch_config(web, hangup);
    for address in addresses {
        let (scheme, port) = (web.borrow().scheme(), address.port());
        tracing::info!(%address, "metrics are at {scheme}://localhost:{port}{}", arguments.telemetry_path);
    }
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    };
    http::serve(listeners, web, state, stop).await;
    tokio::task::spawn_blocking(move || daemon.stop()).await?;
    Ok(())
}

fn options(arguments: &Arguments) -> anyhow::Result<Options> {
    Ok(Options {
        probes: !arguments.no_probes,
        max_callsites: arguments.max_callsites,
        budgets: arguments.budget.budgets(),
        cpu_sampling_hz: arguments.cpu_sampling_hz,
        max_callsites_node: arguments.max_callsites_node,
        max_workloads: arguments.max_workloads,
        features: true,
        thresholds: thresholds(&arguments.thresholds)?,
        names: arguments.names.patient(),
        filter: Filter::new(arguments.include.clone(), arguments.exclude.clone()),
        ..Options::default()
    })
}
