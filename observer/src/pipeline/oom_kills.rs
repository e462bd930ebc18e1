//! Targets that the kernel killed for lack of memory.
//!
//! A container's cgroup goes with its last process, and the kernel's count of kills with it: only the event tells.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use crate::model::ledger::{Ledger, Workload};

/// Which targets were killed.
#[derive(Default)]
pub(super) struct OomKills {
    /// Whether the kernel tells.
    pub(super) told: bool,
    /// Targets that were counted and haven't ended: the kernel may tell of several threads of one.
    counted: HashSet<u32>,
    /// Targets that ended since the tick before the last: their ends may be seen before the news that they were killed.
    ended: HashMap<u32, Workload>,
    ended_before: HashMap<u32, Workload>,
}

impl OomKills {
    /// A target has ended, for whatever reason; with its workload, if that is known.
    pub(super) fn ended(&mut self, pid: u32, workload: Option<Workload>) {
        if !self.counted.remove(&pid) && self.told {
            self.ended.extend(workload.map(|workload| (pid, workload)));
        }
    }

    /// A process was killed; with its workload if it is a target still.
    pub(super) fn killed(&mut self, pid: u32, target: Option<Workload>, ledger: &mut Ledger) {
        let workload = match target {
            Some(workload) => Some(workload).filter(|_| self.counted.insert(pid)),
            None => self.ended.remove(&pid).or_else(|| self.ended_before.remove(&pid)),
        };
        let Some(workload) = workload else { return };
        let owner = &workload.owner;
        tracing::warn!(
            pid,
            process = %workload.process,
            namespace = owner.namespace.as_deref(),
            pod = owner.pod.as_deref(),
            container = owner.container.as_deref(),
            unit = owner.unit.as_deref(),
            "the kernel killed a process for lack of memory"
        );
        ledger.book_oom_kills(&workload, 1, Instant::now());
    }

    /// Every workload has a count: a counter that begins with its first kill would show no increase.
    pub(super) fn tick<'a>(&mut self, targets: impl Iterator<Item = &'a Workload>, ledger: &mut Ledger) {
        self.ended_before = std::mem::take(&mut self.ended);
        for workload in targets.filter(|_| self.told) {
            ledger.book_oom_kills(workload, 0, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::view::Owner;

    fn workload(process: &str) -> Workload {
        Workload { owner: Owner::default(), process: process.into() }
    }

    fn totals(ledger: &mut Ledger) -> Vec<(String, Option<u64>)> {
        let totals = ledger.totals(Instant::now());
        totals.iter().map(|totals| (totals.process.to_string(), totals.oom_kills)).collect()
    }

    /// A kill counts once, whether its news come before the end or behind it, and how often; other processes' don't.
    #[test]
    fn news_may_come_late() {
        let mut ledger = Ledger::new(10, 10, 10);
        let mut kills = OomKills { told: true, ..OomKills::default() };
        kills.tick([workload("a"), workload("b")].iter(), &mut ledger);
        assert_eq!(totals(&mut ledger), [("a".to_owned(), Some(0)), ("b".to_owned(), Some(0))]);
        for _ in 0..3 {
            kills.killed(1, Some(workload("a")), &mut ledger);
        }
        kills.ended(1, Some(workload("a")));
        kills.ended(2, Some(workload("b")));
        kills.tick([].iter(), &mut ledger);
        for pid in [1, 2, 2, 3] {
            kills.killed(pid, None, &mut ledger);
        }
        assert_eq!(totals(&mut ledger), [("a".to_owned(), Some(1)), ("b".to_owned(), Some(1))]);
    }

    /// News that come more than a tick behind an end are of another process with that pid.
    #[test]
    fn ends_are_forgotten() {
        let mut ledger = Ledger::new(10, 10, 10);
        let mut kills = OomKills { told: true, ..OomKills::default() };
        kills.ended(1, Some(workload("a")));
        kills.tick([].iter(), &mut ledger);
        kills.tick([].iter(), &mut ledger);
        kills.killed(1, None, &mut ledger);
        assert_eq!(totals(&mut ledger), []);
    }

    /// Where the kernel doesn't tell there is no counter, not even one that is 0.
    #[test]
    fn no_news_no_counter() {
        let mut ledger = Ledger::new(10, 10, 10);
        let mut kills = OomKills::default();
        ledger.enter(&workload("a"), Instant::now());
        kills.tick([workload("a")].iter(), &mut ledger);
        assert_eq!(totals(&mut ledger), [("a".to_owned(), None)]);
    }
}
