//! What is known of containers, and what is to be asked when. No IO.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ContainerName;
use super::group::Container;

/// Containers that are kept; of more no names are asked for.
const MAX_KEPT: usize = 4096;
/// Time after which a question without an answer is asked again, doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Questions answered since the start, by what came.
pub type LookupCounts = BTreeMap<&'static str, u64>;

/// What is known of containers.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Arc<str>, Entry>,
    counts: LookupCounts,
}

#[derive(Debug)]
struct Entry {
    container: Container,
    since: Instant,
    answer: Answer,
    retry_at: Instant,
    retries: u32,
}

#[derive(Debug)]
enum Answer {
    /// Nobody has said anything.
    None,
    /// The runtime doesn't know it. It may yet, so it is asked again.
    NotThere,
    /// Its name, which stays for as long as the container does: labels must not change.
    Name(Arc<ContainerName>),
}

/// What is known of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// Its name.
    Name(Arc<ContainerName>),
    /// Nobody knows its name.
    Nameless,
    /// An answer is awaited.
    Awaited,
}

impl Cache {
    /// What is known of a container. One that was never asked for is to be asked now; no answer within
    /// `grace` is as good as none.
    pub(super) fn of(&mut self, container: &Container, grace: Duration, now: Instant) -> Known {
        if !self.entries.contains_key(&container.id) && self.entries.len() >= MAX_KEPT {
            return Known::Nameless;
        }
        let entry = self.entries.entry(container.id.clone()).or_insert_with(|| Entry {
            container: container.clone(),
            since: now,
            answer: Answer::None,
            retry_at: now,
            retries: 0,
        });
        match &entry.answer {
            Answer::Name(name) => Known::Name(name.clone()),
            Answer::NotThere => Known::Nameless,
            Answer::None if now.saturating_duration_since(entry.since) < grace => Known::Awaited,
            Answer::None => Known::Nameless,
        }
    }

    /// Whether a question was never answered.
    pub(super) fn awaits(&self) -> bool {
        self.entries.values().any(|entry| matches!(entry.answer, Answer::None))
    }

    /// Containers that are to be asked for, the longest due first.
    pub(super) fn due(&self, now: Instant) -> Vec<Container> {
        let mut due: Vec<_> = self.unnamed().filter(|entry| entry.retry_at <= now).collect();
        due.sort_by_key(|entry| entry.retry_at);
        due.into_iter().map(|entry| entry.container.clone()).collect()
    }

    /// When the next container is to be asked for.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.unnamed().map(|entry| entry.retry_at).min()
    }

    fn unnamed(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(|entry| !matches!(entry.answer, Answer::Name(_)))
    }

    /// Notes an answer: a name, or that there is no such container.
    pub(super) fn answered(&mut self, id: &str, name: Option<ContainerName>, now: Instant) {
        let result = if name.is_some() { "named" } else { "unknown" };
        *self.counts.entry(result).or_default() += 1;
        let Some(entry) = self.entries.get_mut(id) else { return };
        match name {
            Some(name) => entry.answer = Answer::Name(Arc::new(name)),
            None => {
                entry.answer = Answer::NotThere;
                entry.later(now);
            }
        }
    }

    /// Notes that there was no answer.
    pub(super) fn failed(&mut self, id: &str, now: Instant) {
        *self.counts.entry("failed").or_default() += 1;
        if let Some(entry) = self.entries.get_mut(id) {
            entry.later(now);
        }
    }

    /// Forgets all others: their containers are gone.
    pub(super) fn retain(&mut self, ids: &HashSet<Arc<str>>) {
        self.entries.retain(|id, _| ids.contains(id));
        if self.entries.capacity() > 4 * self.entries.len().max(16) {
            self.entries.shrink_to_fit();
        }
    }

    /// Questions answered since the start.
    pub(super) fn counts(&self) -> &LookupCounts {
        &self.counts
    }
}

impl Entry {
    fn later(&mut self, now: Instant) {
        let pause = FIRST_RETRY * 2u32.pow(self.retries.min(10));
        self.retries += 1;
        self.retry_at = now + pause.min(LAST_RETRY);
    }
}
