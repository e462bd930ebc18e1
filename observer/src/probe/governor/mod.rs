//! Decides when probes are in a target, so that what they cost stays within a budget.
//!
//! Every group of probes in a target has an account that is filled with its share of the budget and charged
//! with every hit. A group comes when its account is full, and leaves when its hits have overdrawn it: a target whose
//! probes cost less than the budget keeps them for good, any other is watched in windows, whose length and
//! period follow from the cost. What a window costs too much is paid back before the next one.
//!
//! This is a planner: time and counts come in, actions go out; it touches nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use observer_ebpf::abi::Group;

mod account;
mod bucket;
mod budget;
mod costs;
mod decision;
mod share;
#[cfg(test)]
mod tests;

pub use budget::Budget;
pub use costs::Costs;
pub use decision::Decision;

use account::Account;
use bucket::Bucket;

/// How often accounts are looked at when nothing happens.
const STEP: Duration = Duration::from_millis(200);
/// How often, when probes came in just now or the account will soon be overdrawn: nobody knows what a target
/// does before it is watched.
const QUICK: Duration = Duration::from_millis(25);
/// Groups that may be on their way out before another window begins. They leave one after the other, and those that
/// wait cost their target: up to a tenth of a second for each link.
const MAX_LEAVING: usize = 2;
/// From the begin of one window on waits to that of the next, of whatever target: each costs the observer itself some
/// CPU time, and with many targets they would come one after the other.
const WAITS_SPACING: Duration = Duration::from_secs(3);
/// Such a part of a target's budget is nothing to act upon.
const TRIFLE: f64 = 0.05;
/// The part of a target's budget that a group gets even when the other could use all of it.
const LEAST_OF_TARGET: f64 = 0.2;

/// What probes may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budgets {
    /// In one target.
    pub target: Budget,
    /// In all targets of the machine together.
    pub node: Budget,
}

impl Default for Budgets {
    fn default() -> Self {
        Self { target: Budget::share(0.01), node: Budget::share(0.05) }
    }
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Put a group of probes into a target, then call [`Governor::entered`] or [`Governor::refused`].
    Attach {
        /// The target.
        slot: u64,
        /// Which probes.
        group: Group,
    },
    /// Take it out, then call [`Governor::left`].
    Detach {
        /// The target.
        slot: u64,
        /// Which probes.
        group: Group,
    },
}

/// The accounts of all targets.
#[derive(Debug)]
pub struct Governor {
    budgets: Budgets,
    costs: Costs,
    accounts: BTreeMap<(u64, Group), Account>,
    node: Bucket,
    last: Option<Instant>,
    /// When the last window on waits began.
    last_waits: Option<Instant>,
}

impl Governor {
    /// No targets yet. `costs` are those of this machine.
    #[must_use]
    pub fn new(budgets: Budgets, costs: Costs) -> Self {
        Self {
            budgets,
            costs,
            accounts: BTreeMap::new(),
            node: Bucket::full(budgets.node.rate()),
            last: None,
            last_waits: None,
        }
    }

    /// Replaces the costs by ones that were measured later.
    pub fn recalibrated(&mut self, costs: Costs) {
        self.costs = costs;
    }

    /// A target wants a group of probes from now on.
    pub fn admit(&mut self, slot: u64, group: Group, now: Instant) {
        let account = Account::new(group, self.budgets.target.rate(), now);
        self.accounts.insert((slot, group), account);
    }

    /// A target wants no probes any more.
    pub fn release(&mut self, slot: u64) {
        for group in Group::ALL {
            self.accounts.remove(&(slot, group));
        }
    }

    /// A group can't be put into a target, for good.
    pub fn refused(&mut self, slot: u64, group: Group) {
        self.accounts.remove(&(slot, group));
    }

    /// A group could not be put into a target this time; it is tried again after `pause`.
    pub fn failed(&mut self, slot: u64, group: Group, now: Instant, pause: Duration) {
        self.with(slot, group, |account| account.failed(now + pause));
    }

    /// A group is in a target.
    pub fn entered(&mut self, slot: u64, group: Group, now: Instant) {
        let cost = self.costs.cycle.as_secs_f64();
        let free = self.budgets.target == Budget::Unlimited;
        self.with(slot, group, |account| account.entered(now, cost, free));
    }

    /// No breakpoint of a group is in a target any more.
    pub fn left(&mut self, slot: u64, group: Group, now: Instant) {
        self.with(slot, group, |account| account.left(now));
    }

    /// Charges hits of a group since the last charge to its target, which used `busy` CPUs meanwhile.
    pub fn charge(&mut self, slot: u64, group: Group, hits: u64, busy: f64) {
        let cost = hits as f64 * self.costs.hit(busy);
        self.node.take(cost);
        self.with(slot, group, |account| account.charge(cost));
    }

    /// Whether so many hits in so long can be charged later: even in a single target they are next to nothing.
    #[must_use]
    pub fn is_trifle(&self, hits: u64, elapsed: Duration) -> bool {
        let budget = self.budgets.target.rate().min(self.budgets.node.rate());
        hits as f64 * self.costs.hit(f64::INFINITY) <= TRIFLE * budget * elapsed.as_secs_f64()
    }

    /// What is to be done now.
    pub fn step(&mut self, now: Instant) -> Vec<Action> {
        let elapsed =
            self.last.replace(now).map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.fill(elapsed.as_secs_f64());
        let mut actions = self.leave(now);
        actions.extend(self.enter(now));
        actions
    }

    /// When to step next.
    #[must_use]
    pub fn next_step(&self, now: Instant) -> Duration {
        let hurry = |account: &Account| account.time_left(now).clamp(QUICK, STEP);
        self.accounts.values().filter(|account| account.is_in()).map(hurry).min().unwrap_or(STEP)
    }

    /// What was decided for a group in a target.
    #[must_use]
    pub fn decision(&self, slot: u64, group: Group, now: Instant) -> Option<Decision> {
        Some(self.accounts.get(&(slot, group))?.decision(now))
    }

    /// What a group costs its target, as a share of one CPU, over the last minute or so.
    #[must_use]
    pub fn overhead(&self, slot: u64, group: Group) -> f64 {
        self.accounts.get(&(slot, group)).map_or(0.0, Account::overhead)
    }

    /// CPU time that a group has cost its target since it was admitted, in seconds.
    #[must_use]
    pub fn spent(&self, slot: u64, group: Group) -> f64 {
        self.accounts.get(&(slot, group)).map_or(0.0, Account::spent)
    }

    fn with(&mut self, slot: u64, group: Group, change: impl FnOnce(&mut Account)) {
        // A target may be released while something is under way for it.
        if let Some(account) = self.accounts.get_mut(&(slot, group)) {
            change(account);
        }
    }

    /// Shares the budgets, and fills the accounts for the time that has passed.
    fn fill(&mut self, seconds: f64) {
        self.node.fill(self.budgets.node.rate(), seconds);
        let rates = self.rates();
        for (key, account) in &mut self.accounts {
            account.fill(rates.get(key).copied().unwrap_or(0.0), seconds);
        }
    }

    /// The share of one CPU that each account is filled with.
    fn rates(&self) -> BTreeMap<(u64, Group), f64> {
        let target = self.budgets.target.rate();
        let mut wanted: BTreeMap<u64, BTreeMap<Group, f64>> = BTreeMap::new();
        for (&(slot, group), account) in &self.accounts {
            wanted.entry(slot).or_default().insert(group, account.demand().min(target));
        }
        let demands: Vec<f64> =
            wanted.values().map(|groups| groups.values().sum::<f64>().min(target)).collect();
        let fair = share::fairly(self.budgets.node.rate(), target, &demands);
        let mut rates = BTreeMap::new();
        for ((slot, groups), rate) in wanted.into_iter().zip(fair) {
            for (group, rate) in within_target(&groups, rate) {
                rates.insert((slot, group), rate);
            }
        }
        rates
    }

    /// Ends what is overdrawn or over; the costliest first, because they leave one by one.
    fn leave(&mut self, now: Instant) -> Vec<Action> {
        self.accounts.values_mut().for_each(|account| account.look(now));
        let mut over: Vec<_> =
            self.accounts.iter_mut().filter(|(_, account)| account.must_leave(now)).collect();
        over.sort_by(|(_, a), (_, b)| b.demand().total_cmp(&a.demand()));
        over.into_iter()
            .map(|(&(slot, group), account)| {
                account.leaving(now);
                Action::Detach { slot, group }
            })
            .collect()
    }

    /// Lets in who has waited longest, starts and ends of goroutines before waits.
    fn enter(&mut self, now: Instant) -> Vec<Action> {
        if self.node.is_overdrawn() {
            return Vec::new();
        }
        let leaving = self.accounts.values().filter(|account| account.is_leaving()).count();
        let waits = self.accounts.values().filter(|account| account.is_waits_window()).count();
        let mut due: Vec<_> =
            self.accounts.iter_mut().filter(|(_, account)| account.may_enter(now)).collect();
        due.sort_by_key(|((slot, group), account)| (*group, account.outside_since(), *slot));
        let mut actions = Vec::new();
        let rested = self.last_waits.is_none_or(|last| now.saturating_duration_since(last) >= WAITS_SPACING);
        let mut places_for_waits = usize::from(waits == 0 && leaving == 0 && rested);
        for (&(slot, group), account) in due {
            let unlimited = self.budgets.target == Budget::Unlimited;
            let first_or_free = account.is_new() && group == Group::Lifecycle || unlimited;
            if !first_or_free && leaving >= MAX_LEAVING {
                continue;
            }
            if group != Group::Lifecycle && !unlimited {
                if places_for_waits == 0 {
                    continue;
                }
                places_for_waits -= 1;
                self.last_waits = Some(now);
            }
            account.entering();
            actions.push(Action::Attach { slot, group });
        }
        actions
    }
}

/// Shares a target's budget between its groups: starts and ends of goroutines come first, but neither takes all. A
/// group without a share would have to leave at its first hit.
fn within_target(groups: &BTreeMap<Group, f64>, rate: f64) -> Vec<(Group, f64)> {
    if rate.is_infinite() || groups.len() < 2 {
        return groups.keys().map(|group| (*group, rate)).collect();
    }
    let wants = |group| groups.get(&group).copied().unwrap_or(0.0) * share::ROOM;
    let least = rate * LEAST_OF_TARGET;
    let waits = (rate - wants(Group::Lifecycle)).min(wants(Group::Waits)).clamp(least, rate - least);
    vec![(Group::Lifecycle, rate - waits), (Group::Waits, waits)]
}
