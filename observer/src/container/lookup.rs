//! Asks for the names of containers, one after the other, on a thread of its own: a runtime that hangs holds
//! up nothing else.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::client::{Client, ClientError};
use super::group::Container;
use super::names::Shared;
use super::{ContainerName, sockets};

/// How long the thread sleeps when there is nothing to ask, before it looks whether it is still needed.
const IDLE: Duration = Duration::from_secs(60);

/// Begins to ask; ends when `shared` is gone.
pub(super) fn start(shared: &Arc<Shared>, socket: Option<PathBuf>) {
    let shared = Arc::downgrade(shared);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "names of pods can't be asked for"),
    };
    let thread = std::thread::Builder::new()
        .name("observer-names".to_owned())
        .spawn(move || runtime.block_on(ask(&shared, Sockets::new(socket))));
    if let Err(error) = thread {
        tracing::error!(%error, "names of pods can't be asked for: no thread can be had");
    }
}

async fn ask(shared: &Weak<Shared>, mut sockets: Sockets) {
    while let Some(state) = shared.upgrade() {
        let due = state.cache().due(Instant::now());
        let Some(container) = due.first() else {
            let next = state.cache().next_due();
            let pause = next.map_or(IDLE, |next| next.saturating_duration_since(Instant::now()).min(IDLE));
            // Either there is something to do then, or it is found that there isn't.
            timeout(pause, state.asked.notified()).await.ok();
            continue;
        };
        let answer = sockets.name(container).await;
        let mut cache = state.cache();
        match answer {
            Some(name) => cache.answered(&container.id, name, Instant::now()),
            None => cache.failed(&container.id, Instant::now()),
        }
        drop(cache);
        state.tell();
    }
}

/// The runtimes of this machine: nearly always one.
struct Sockets {
    given: Option<PathBuf>,
    clients: Vec<Client>,
    /// The last trouble, so that it is logged once.
    trouble: Option<String>,
}

impl Sockets {
    const fn new(given: Option<PathBuf>) -> Self {
        Self { given, clients: Vec::new(), trouble: None }
    }

    /// `Some(None)` when every runtime answers and none knows the container; `None` without such answers.
    async fn name(&mut self, container: &Container) -> Option<Option<ContainerName>> {
        self.find();
        let mut trouble = self.clients.is_empty().then(|| {
            "no container runtime's socket is in the usual places: name it with --cri-socket".to_owned()
        });
        for client in &mut self.clients {
            match client.name(container).await {
                Ok(Some(name)) => {
                    self.trouble = None;
                    return Some(Some(name));
                }
                Ok(None) => {}
                Err(error) => trouble = Some(told(client, &error)),
            }
        }
        if let Some(trouble) = &trouble
            && self.trouble.as_ref() != Some(trouble)
        {
            tracing::warn!("names of pods are missing: {trouble}; observer keeps trying");
        }
        self.trouble = trouble;
        self.trouble.is_none().then_some(None)
    }

    /// Looks for sockets again unless there is one that is still there: it may come late.
    fn find(&mut self) {
        let paths = match &self.given {
            Some(path) => vec![path.clone()],
            None => sockets::usual(),
        };
        self.clients.retain(|client| paths.iter().any(|path| path == client.path()));
        for path in paths {
            if !self.clients.iter().any(|client| client.path() == path) {
                self.clients.push(Client::new(path));
            }
        }
    }
}

fn told(client: &Client, error: &ClientError) -> String {
    format!("{}: {error}", client.path().display())
}
