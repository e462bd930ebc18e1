//! Reading the file again: when it or a file that it names changes, and when told to.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::time::sleep;

use super::WebConfig;

/// How often the files are looked at. Certificates are renewed without telling anybody.
const LOOK: Duration = Duration::from_secs(5);

/// Files, and how they were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

/// Device, inode, length and modification time, behind links: Kubernetes changes a secret by a link.
type Stamp = (u64, u64, u64, i64, i64);

impl Stamps {
    /// Notes how a file is now.
    pub(super) fn note(&mut self, path: &Path) {
        self.0.push((path.to_owned(), stamp(path)));
    }

    /// The same files as they are now.
    fn now(&self) -> Self {
        Self(self.0.iter().map(|(path, _)| (path.clone(), stamp(path))).collect())
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
}

/// The configuration in force: `config` at first. What can't be read is logged and changes nothing. Must be
/// called within a tokio runtime.
pub fn watch_config(config: Arc<WebConfig>, told: Signal) -> watch::Receiver<Arc<WebConfig>> {
    let (sender, receiver) = watch::channel(config);
    tokio::spawn(follow(sender, told));
    receiver
}

async fn follow(sender: watch::Sender<Arc<WebConfig>>, mut told: Signal) {
    let mut last = sender.borrow().stamps.clone();
    while !sender.is_closed() {
        let asked = tokio::select! {
            () = sleep(LOOK) => false,
            told = told.recv() => told.is_some(),
        };
        let Some(path) = sender.borrow().path.clone() else { continue };
        let now = last.now();
        if now == last && !asked {
            continue;
        }
        last = now;
        match WebConfig::load(Some(&path)) {
            Ok(config) => {
                last.clone_from(&config.stamps);
                sender.send_replace(config);
                tracing::info!(path = %path.display(), "the web configuration was read again");
            }
            Err(error) => tracing::error!("{error}; the former one stays in force"),
        }
    }
}
