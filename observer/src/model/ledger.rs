//! Running totals per workload and callsite, for counters that must never fall.
//!
//! Processes with equal identity (owner and process name) share their series, so a sum over the processes of
//! the moment would fall whenever one ends. Here every increment is booked once, to the callsite if it has
//! series of its own, else to `other`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::history::Counted;
use super::on_cpu::{self, CpuIncrement};
use super::view::{CallsiteView, Owner, SeriesView, TotalsView};
use super::waits::{self, ParkIncrement, Waits};

/// A callsite takes another's series only with this many times its goroutines: series that come and go
/// cost a time-series database more than those that stay.
const DISPLACE: u64 = 2;
/// Totals of a workload are kept for so long after its last process: longer than Prometheus looks back.
const KEEP: Duration = Duration::from_secs(600);
/// Callsites of one workload whose totals are kept, with and without series.
const MAX_KEPT: usize = 4096;

/// What has no series of its own, as both labels of a callsite and as the process of a workload.
pub const OTHER: &str = "other";

/// Who shares series.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    /// See the view.
    pub owner: Owner,
    /// Base name of the executable.
    pub process: Arc<str>,
}

impl Workload {
    /// All that have no series of their own.
    #[must_use]
    pub fn other() -> Self {
        Self { owner: Owner::other(), process: OTHER.into() }
    }
}

/// `created_by` and `entry`.
type Label = (Arc<str>, Arc<str>);

/// All running totals.
#[derive(Debug)]
pub struct Ledger {
    max_series: usize,
    /// For all workloads together.
    max_node: usize,
    max_workloads: usize,
    /// Counts ticks: workloads that are not in one have ended.
    tick: u64,
    accounts: BTreeMap<Workload, Account>,
}

#[derive(Debug)]
struct Account {
    series: BTreeMap<Label, Series>,
    /// How many of them are admitted.
    admitted: usize,
    other: Option<Counted>,
    cpu_seconds: BTreeMap<Label, f64>,
    parks: BTreeMap<Label, f64>,
    waits: Waits<Arc<str>>,
    gc_cycles: Option<u64>,
    oom_kills: Option<u64>,
    touched: Instant,
    /// The last tick that it was in.
    tick: u64,
}

#[derive(Debug, Default)]
struct Series {
    total: Counted,
    /// Goroutines when it was last seen.
    live: u64,
    admitted: bool,
    counted: bool,
}

impl Ledger {
    /// At most `max_workloads` have series of their own; `max_series` callsites of each, and `max_node` of all.
    #[must_use]
    pub const fn new(max_series: usize, max_node: usize, max_workloads: usize) -> Self {
        Self { max_series, max_node, max_workloads, tick: 0, accounts: BTreeMap::new() }
    }

    /// Notes that a workload has a process, and says whether it has series of its own. It has while there is room, and
    /// keeps them until it has ended; those that have ended give way.
    pub fn enter(&mut self, workload: &Workload, now: Instant) -> bool {
        self.account(workload, now);
        self.accounts.contains_key(workload)
    }

    /// Notes which callsites of a process there are, most goroutines first, and marks those with series.
    pub fn admit(&mut self, workload: &Workload, callsites: &mut [CallsiteView], now: Instant) {
        let own = self.account(workload, now).admitted;
        if !self.accounts.contains_key(workload) {
            callsites.iter_mut().for_each(|callsite| callsite.own_series = false);
            return;
        }
        let wanted = callsites.len().min(self.max_series).saturating_sub(own);
        // What the others leave; a workload keeps the series that it has.
        let max_series = self.max_series.min(own + self.room(wanted));
        let account = self.account(workload, now);
        for callsite in callsites {
            let label = (callsite.created_by.clone(), callsite.entry.clone());
            callsite.own_series = account.admit(label, callsite.live, max_series);
        }
    }

    /// Books what probes counted of one callsite since the last time.
    pub fn book(
        &mut self,
        workload: &Workload,
        label: (&Arc<str>, &Arc<str>),
        increment: Counted,
        now: Instant,
    ) {
        let account = self.account(workload, now);
        match account.series.get_mut(&(label.0.clone(), label.1.clone())) {
            Some(series) if series.admitted => {
                series.counted = true;
                series.total.add(increment);
            }
            _ => account.other.get_or_insert_default().add(increment),
        }
    }

    /// Books CPU time of one callsite, or of the runtime itself.
    pub fn book_cpu(&mut self, workload: &Workload, increment: &CpuIncrement, now: Instant) {
        let account = self.account(workload, now);
        let (created_by, entry, seconds) = increment;
        let label = account.label(created_by, entry);
        *account.cpu_seconds.entry(label).or_default() += seconds;
    }

    /// Books garbage collections.
    pub fn book_gc_cycles(&mut self, workload: &Workload, more: u64, now: Instant) {
        *self.account(workload, now).gc_cycles.get_or_insert(0) += more;
    }

    /// Books processes that the kernel killed for lack of memory; 0 where it would have told.
    pub fn book_oom_kills(&mut self, workload: &Workload, more: u64, now: Instant) {
        *self.account(workload, now).oom_kills.get_or_insert(0) += more;
    }

    /// Books parks of one callsite, or of the runtime itself.
    pub fn book_parks(&mut self, workload: &Workload, increment: &ParkIncrement, now: Instant) {
        let account = self.account(workload, now);
        let (created_by, entry, parks) = increment;
        let label = account.label(created_by, entry);
        *account.parks.entry(label).or_default() += parks;
    }

    /// Books waits.
    pub fn book_waits(&mut self, workload: &Workload, more: &Waits<Arc<str>>, now: Instant) {
        waits::add(&mut self.account(workload, now).waits, more);
    }

    /// The totals of all workloads; forgets those that ended long ago.
    pub fn totals(&mut self, now: Instant) -> Vec<TotalsView> {
        self.tick += 1;
        self.accounts.retain(|_, account| now.saturating_duration_since(account.touched) < KEEP);
        self.accounts.iter().map(|(workload, account)| account.view(workload)).collect()
    }

    /// Series that are left on this machine. If they are fewer than `wanted`, workloads that have ended are
    /// forgotten before their time, the longest ended first.
    fn room(&mut self, wanted: usize) -> usize {
        let taken = |accounts: &BTreeMap<_, Account>| {
            accounts.values().map(|account| account.admitted).sum::<usize>()
        };
        while self.max_node.saturating_sub(taken(&self.accounts)) < wanted && self.forget_ended() {}
        self.max_node.saturating_sub(taken(&self.accounts))
    }

    fn own_accounts(&self) -> usize {
        self.accounts.len() - usize::from(self.accounts.contains_key(&Workload::other()))
    }

    /// Forgets the workload that ended the longest ago, if one has ended.
    fn forget_ended(&mut self) -> bool {
        let other = Workload::other();
        let ended = self
            .accounts
            .iter()
            .filter(|(workload, account)| account.tick + 1 < self.tick && **workload != other);
        let Some((workload, _)) = ended.min_by_key(|(_, account)| account.touched) else { return false };
        let workload = workload.clone();
        self.accounts.remove(&workload).is_some()
    }

    /// A workload's account; that of all others together where there is no room for one more.
    fn account(&mut self, workload: &Workload, now: Instant) -> &mut Account {
        let room = self.accounts.contains_key(workload)
            || self.own_accounts() < self.max_workloads
            || self.forget_ended();
        let holder = if room { workload.clone() } else { Workload::other() };
        let account = self.accounts.entry(holder).or_insert_with(|| Account {
            series: BTreeMap::new(),
            admitted: 0,
            other: None,
            cpu_seconds: BTreeMap::new(),
            parks: BTreeMap::new(),
            waits: Waits::new(),
            gc_cycles: None,
            oom_kills: None,
            touched: now,
            tick: self.tick,
        });
        account.touched = now;
        account.tick = self.tick;
        account
    }
}

impl Account {
    fn admit(&mut self, label: Label, live: u64, max_series: usize) -> bool {
        if self.series.len() >= MAX_KEPT && !self.series.contains_key(&label) {
            return false;
        }
        let series = self.series.entry(label.clone()).or_default();
        series.live = live;
        if series.admitted {
            return true;
        }
        if self.admitted >= max_series && !self.displace(live) {
            return false;
        }
        self.series.entry(label).or_default().admitted = true;
        self.admitted += 1;
        true
    }

    /// Takes the series from the callsite with the fewest goroutines, if `live` is far more.
    fn displace(&mut self, live: u64) -> bool {
        let least =
            self.series.values_mut().filter(|series| series.admitted).min_by_key(|series| series.live);
        match least {
            Some(least) if live > least.live.saturating_mul(DISPLACE) => {
                least.admitted = false;
                self.admitted -= 1;
                true
            }
            _ => false,
        }
    }

    /// What is booked to a callsite without series is booked to `other`.
    fn label(&self, created_by: &Arc<str>, entry: &Arc<str>) -> Label {
        let label = (created_by.clone(), entry.clone());
        if self.has_series(&label) { label } else { (OTHER.into(), OTHER.into()) }
    }

    /// Callsites with series, and what is none and always there.
    fn has_series(&self, label: &Label) -> bool {
        [on_cpu::RUNTIME, on_cpu::UNKNOWN, OTHER].contains(&&*label.0)
            || self.series.get(label).is_some_and(|series| series.admitted)
    }

    fn with_series(&self, totals: &BTreeMap<Label, f64>) -> Vec<(Arc<str>, Arc<str>, f64)> {
        let own = totals.iter().filter(|(label, _)| self.has_series(label));
        own.map(|((created_by, entry), total)| (created_by.clone(), entry.clone(), *total)).collect()
    }

    fn view(&self, workload: &Workload) -> TotalsView {
        let own = self.series.iter().filter(|(_, series)| series.admitted && series.counted);
        TotalsView {
            owner: workload.owner.clone(),
            process: workload.process.clone(),
            series: own
                .map(|((created_by, entry), series)| SeriesView {
                    created_by: created_by.clone(),
                    entry: entry.clone(),
                    created: series.total.created,
                    exited: series.total.exited,
                })
                .collect(),
            other: self.other.map(|other| (other.created, other.exited)),
            cpu_seconds: self.with_series(&self.cpu_seconds),
            parks: self.with_series(&self.parks),
            waits: self.waits.clone(),
            gc_cycles: self.gc_cycles,
            oom_kills: self.oom_kills,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> Workload {
        Workload { owner: Owner::default(), process: "p".into() }
    }

    fn callsite(entry: &str, live: u64) -> CallsiteView {
        CallsiteView { entry: entry.into(), live, ..CallsiteView::default() }
    }

    fn book(ledger: &mut Ledger, entry: &str, created: u64, now: Instant) {
        ledger.book(&workload(), (&"".into(), &entry.into()), Counted { created, exited: 0 }, now);
    }

    fn created(ledger: &mut Ledger, now: Instant) -> (Vec<(String, u64)>, Option<u64>) {
        let totals = ledger.totals(now).remove(0);
        let series = totals.series.iter().map(|series| (series.entry.to_string(), series.created)).collect();
        (series, totals.other.map(|other| other.0))
    }

    /// What two processes of one workload count adds up, and stays when one of them is gone.
    #[test]
    fn totals_outlive_processes() {
        let (mut ledger, now) = (Ledger::new(2, 100, 100), Instant::now());
        ledger.admit(&workload(), &mut [callsite("a", 5)], now);
        book(&mut ledger, "a", 3, now);
        book(&mut ledger, "a", 4, now);
        assert_eq!(created(&mut ledger, now), (vec![("a".to_owned(), 7)], None));
        assert!(ledger.totals(now + 2 * KEEP).is_empty());
    }

    /// Without probes nothing is booked, and there is no counter, not even one that is 0.
    #[test]
    fn no_totals_without_probes() {
        let (mut ledger, now) = (Ledger::new(2, 100, 100), Instant::now());
        ledger.admit(&workload(), &mut [callsite("a", 5)], now);
        assert_eq!(created(&mut ledger, now), (vec![], None));
    }

    /// CPU time of callsites without series is `other`'s, that of the runtime its own.
    #[test]
    fn cpu_time_is_booked() {
        let (mut ledger, now) = (Ledger::new(1, 100, 100), Instant::now());
        ledger.admit(&workload(), &mut [callsite("a", 5), callsite("b", 4)], now);
        for (entry, seconds) in [("a", 1.0), ("b", 2.0), ("c", 3.0), ("a", 4.0)] {
            ledger.book_cpu(&workload(), &("".into(), entry.into(), seconds), now);
        }
        let runtime = (on_cpu::RUNTIME.into(), on_cpu::RUNTIME.into(), 6.0);
        ledger.book_cpu(&workload(), &runtime, now);
        let expected = [("".into(), "a".into(), 5.0), (OTHER.into(), OTHER.into(), 5.0), runtime];
        assert_eq!(ledger.totals(now)[0].cpu_seconds, expected);
    }

    /// Garbage collections of all processes add up; where nobody could count them there is no total.
    #[test]
    fn garbage_collections_are_booked() {
        let (mut ledger, now) = (Ledger::new(1, 100, 100), Instant::now());
        ledger.admit(&workload(), &mut [], now);
        assert_eq!(ledger.totals(now)[0].gc_cycles, None);
        for (more, total) in [(0, 0), (3, 3), (2, 5)] {
            ledger.book_gc_cycles(&workload(), more, now);
            assert_eq!(ledger.totals(now)[0].gc_cycles, Some(total));
        }
    }

    /// Parks of callsites without series are `other`'s, and never more series than callsites may have.
    #[test]
    fn parks_are_booked() {
        let (mut ledger, now) = (Ledger::new(1, 100, 100), Instant::now());
        ledger.admit(&workload(), &mut [callsite("a", 5), callsite("b", 4)], now);
        for (entry, parks) in [("a", 1.5), ("b", 2.0), ("c", 3.0), ("a", 4.0)] {
            ledger.book_parks(&workload(), &("".into(), entry.into(), parks), now);
        }
        let expected = [("".into(), "a".into(), 5.5), (OTHER.into(), OTHER.into(), 5.0)];
        assert_eq!(ledger.totals(now)[0].parks, expected);
    }

    /// A callsite without series is booked to `other`; with far more goroutines it takes the series of the
    /// smallest one, and no total ever falls.
    #[test]
    fn series_are_taken_over() {
        let (mut ledger, now) = (Ledger::new(1, 100, 100), Instant::now());
        let mut callsites = [callsite("a", 5), callsite("b", 4)];
        ledger.admit(&workload(), &mut callsites, now);
        assert_eq!(callsites.each_ref().map(|callsite| callsite.own_series), [true, false]);
        book(&mut ledger, "b", 10, now);
        book(&mut ledger, "a", 1, now);
        assert_eq!(created(&mut ledger, now), (vec![("a".to_owned(), 1)], Some(10)));
        let mut callsites = [callsite("b", 11), callsite("a", 5)];
        ledger.admit(&workload(), &mut callsites, now);
        assert_eq!(callsites.each_ref().map(|callsite| callsite.own_series), [true, false]);
        book(&mut ledger, "b", 2, now);
        book(&mut ledger, "a", 1, now);
        assert_eq!(created(&mut ledger, now), (vec![("b".to_owned(), 2)], Some(11)));
    }

    /// All workloads together stay within the limit of the machine; those of one that has ended are forgotten when
    /// they are needed.
    #[test]
    fn the_machine_has_a_limit() {
        let (mut ledger, now) = (Ledger::new(2, 3, 100), Instant::now());
        let admitted = |ledger: &mut Ledger, process: &str, now| {
            let workload = Workload { owner: Owner::default(), process: process.into() };
            let mut callsites = [callsite("a", 5), callsite("b", 4)];
            ledger.admit(&workload, &mut callsites, now);
            callsites.map(|callsite| callsite.own_series)
        };
        assert_eq!(admitted(&mut ledger, "p", now), [true, true]);
        assert_eq!(admitted(&mut ledger, "q", now), [true, false]);
        assert_eq!(admitted(&mut ledger, "r", now), [false, false]);
        assert_eq!(admitted(&mut ledger, "p", now), [true, true]);
        // Two ticks without `p`, and its series are for those that live.
        for _ in 0..2 {
            _ = ledger.totals(now);
            _ = admitted(&mut ledger, "q", now);
        }
        assert_eq!(admitted(&mut ledger, "q", now), [true, true]);
        assert_eq!(admitted(&mut ledger, "r", now), [true, false]);
    }

    /// Past the limit of workloads, one more shares series with all such, and loses nothing of the sums; once another
    /// has ended it gets its own, and what was booked before stays where it is.
    #[test]
    fn workloads_have_a_limit() {
        let (mut ledger, now) = (Ledger::new(2, 100, 1), Instant::now());
        let other = |process: &str| Workload { owner: Owner::default(), process: process.into() };
        let booked = |ledger: &mut Ledger| {
            ledger
                .totals(now)
                .into_iter()
                .map(|totals| {
                    let own: u64 = totals.series.iter().map(|series| series.created).sum();
                    (totals.process.to_string(), own, totals.other.map(|(created, _)| created))
                })
                .collect::<Vec<_>>()
        };
        assert!(ledger.enter(&workload(), now));
        let mut callsites = [callsite("a", 5)];
        for (process, created) in [("q", 3), ("r", 4)] {
            assert!(!ledger.enter(&other(process), now));
            ledger.admit(&other(process), &mut callsites, now);
            assert!(!callsites[0].own_series);
            let increment = Counted { created, exited: 0 };
            ledger.book(&other(process), (&"".into(), &"a".into()), increment, now);
        }
        assert_eq!(booked(&mut ledger), [("p".to_owned(), 0, None), (OTHER.to_owned(), 0, Some(7))]);
        // With the tick that has just ended there are two without `p` then.
        assert!(!ledger.enter(&other("q"), now));
        _ = ledger.totals(now);
        assert!(ledger.enter(&other("q"), now));
        assert!(!ledger.enter(&other("r"), now));
        ledger.admit(&other("q"), &mut callsites, now);
        ledger.book(&other("q"), (&"".into(), &"a".into()), Counted { created: 2, exited: 0 }, now);
        assert_eq!(booked(&mut ledger), [("q".to_owned(), 2, None), (OTHER.to_owned(), 0, Some(7))]);
    }
}
