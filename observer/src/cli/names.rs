//! Options about the names of containers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::FalseyValueParser;

use crate::container::NameOptions;

/// How long `serve` waits for a new container's name before it shows it without: a runtime that restarts is
/// back by then.
const GRACE: Duration = Duration::from_secs(30);
/// How long the other subcommands wait for names before their first look.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(super) struct NameArguments {
    /// Socket of the container runtime (CRI); looked for in the usual places if not given
    #[arg(long, value_name = "PATH", env = "OBSERVER_CRI_SOCKET")]
    cri_socket: Option<PathBuf>,
    /// Don't ask for the names of pods and containers
    #[arg(long, env = "OBSERVER_NO_POD_METADATA", value_parser = FalseyValueParser::new())]
    no_pod_metadata: bool,
}

impl NameArguments {
    /// For a look at once: what isn't known by then is shown without its name.
    pub(super) fn options(&self) -> NameOptions {
        // As the runtime's own tools write it: `unix:///run/…`.
        let path = |path: &PathBuf| {
            path.strip_prefix("unix:").map_or(path.clone(), |rest| Path::new("/").join(rest))
        };
        let socket = self.cri_socket.as_ref().map(path);
        NameOptions { ask: !self.no_pod_metadata, socket, grace: Duration::ZERO }
    }

    /// For series whose labels should never change.
    pub(super) fn patient(&self) -> NameOptions {
        NameOptions { grace: GRACE, ..self.options() }
    }
}
