//! Names of containers: the front, which never waits unless it is told to.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::cache::{Cache, Known, LookupCounts};
use super::group::Container;
use super::{ContainerName, lookup};

/// Whether and where to ask for the names of containers.
#[derive(Debug, Clone)]
pub struct NameOptions {
    /// Whether to ask at all.
    pub ask: bool,
    /// The runtime's socket; looked for in the usual places if not given.
    pub socket: Option<PathBuf>,
    /// How long a new container's name is waited for before it is shown without.
    pub grace: Duration,
}

impl Default for NameOptions {
    fn default() -> Self {
        Self { ask: true, socket: None, grace: Duration::ZERO }
    }
}

/// A container's name, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// It has this name, or none.
    Settled(Option<Arc<ContainerName>>),
    /// The name may come.
    Awaited,
}

/// Names of containers. They are asked for on a thread of their own, which begins with the first container.
pub struct Names {
    options: NameOptions,
    shared: Arc<Shared>,
    asking: bool,
}

/// What the front and the asking thread have in common.
#[derive(Debug, Default)]
pub(super) struct Shared {
    cache: Mutex<Cache>,
    /// For the front: something was answered.
    answered: Condvar,
    /// For the thread: there is something to ask, or nobody is left to answer to.
    pub(super) asked: Notify,
}

impl Shared {
    pub(super) fn cache(&self) -> MutexGuard<'_, Cache> {
        // Nothing that is done under the lock leaves it half done.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self) {
        self.answered.notify_all();
    }
}

impl Names {
    /// Asks nobody yet.
    #[must_use]
    pub fn new(options: NameOptions) -> Self {
        Self { options, shared: Arc::default(), asking: false }
    }

    /// What is known of a container's name. The first time it is asked for.
    pub fn of(&mut self, container: &Container) -> Naming {
        if !self.options.ask || !container.is_known_to_cri() {
            return Naming::Settled(None);
        }
        if !self.asking {
            self.asking = true;
            lookup::start(&self.shared, self.options.socket.clone());
        }
        let known = self.shared.cache().of(container, self.options.grace, Instant::now());
        self.shared.asked.notify_one();
        match known {
            Known::Name(name) => Naming::Settled(Some(name)),
            Known::Nameless => Naming::Settled(None),
            Known::Awaited => Naming::Awaited,
        }
    }

    /// Waits until everything that was asked is answered, but no longer than `patience`.
    pub fn settle(&self, patience: Duration) {
        let cache = self.shared.cache();
        // Whether all is answered or not: what is known then is what is shown.
        drop(self.shared.answered.wait_timeout_while(cache, patience, |cache| cache.awaits()));
    }

    /// Forgets all other containers.
    pub fn retain(&self, ids: &HashSet<Arc<str>>) {
        self.shared.cache().retain(ids);
    }

    /// Questions answered since the start, by what came: `named`, `unknown`, `failed`.
    #[must_use]
    pub fn counts(&self) -> LookupCounts {
        self.shared.cache().counts().clone()
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // The thread holds this weakly, and looks whether it is still there.
        self.shared.asked.notify_one();
    }
}
