//! A machine that runs what the planner decides, with loads that jump.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use observer_ebpf::abi::Group;

use super::super::costs::COLD;
use super::super::{Action, Budgets, Costs, Governor};

/// Time advances in steps of this length.
pub(super) const TICK: f64 = 0.005;
/// CPUs of the machine: no load costs more.
const CPUS: f64 = 4.0;
/// What one hit costs, in seconds.
pub(super) const HIT: f64 = 1e-6;

/// Numbers that look random and are the same each time.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Between 0 and 1.
    pub(super) fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Hits per second from a time on.
pub(super) type Load = Vec<(f64, f64)>;

/// A load that stays.
pub(super) fn steady(rate: f64) -> Load {
    vec![(0.0, rate)]
}

/// A load that jumps between 1 and 4 million hits a second, in any way.
pub(super) fn jumping(random: &mut Random, seconds: f64) -> Load {
    let (mut at, mut load) = (0.0, Vec::new());
    while at < seconds {
        load.push((at, 10_f64.powf(random.unit() * 6.6)));
        at += 10_f64.powf(random.unit() * 3.0 - 1.5);
    }
    load
}

/// What happened to one group in one target.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// Cost of each tick.
    pub(super) costs: Vec<f64>,
    /// Whether all probes were in at each tick.
    pub(super) inside: Vec<bool>,
    /// Ticks at which a window began.
    pub(super) entered: Vec<usize>,
}

impl Story {
    pub(super) fn spent(&self) -> f64 {
        self.costs.iter().sum()
    }

    /// Share of the time at which all probes were in.
    pub(super) fn coverage(&self) -> f64 {
        self.inside.iter().filter(|inside| **inside).count() as f64 / self.inside.len() as f64
    }

    /// The longest that it cost more than a share of one CPU at a time, in seconds.
    pub(super) fn longest_over(&self, share: f64) -> f64 {
        let (mut longest, mut run) = (0, 0);
        for cost in &self.costs {
            run = if *cost > share * TICK { run + 1 } else { 0 };
            longest = longest.max(run);
        }
        longest as f64 * TICK
    }
}

/// One group in one target, as the kernel sees it.
struct Probed {
    load: Load,
    uncharged: f64,
    /// When it is in, counted in ticks.
    entering: Option<usize>,
    leaving: Option<usize>,
    inside: bool,
    story: Story,
}

pub(super) struct Machine {
    governor: Governor,
    random: Random,
    probed: BTreeMap<(u64, Group), Probed>,
    start: Instant,
    tick: usize,
    next_step: usize,
}

impl Machine {
    pub(super) fn new(budgets: Budgets, seed: u64) -> Self {
        Self {
            governor: Governor::new(budgets, costs(Duration::from_millis(1))),
            random: Random::new(seed),
            probed: BTreeMap::new(),
            start: Instant::now(),
            tick: 0,
            next_step: 0,
        }
    }

    /// The same with another cost of coming and going.
    pub(super) fn with_cycle(mut self, cycle: Duration) -> Self {
        self.governor.recalibrated(costs(cycle));
        self
    }

    pub(super) fn admit(&mut self, slot: u64, group: Group, load: Load) {
        self.governor.admit(slot, group, self.now());
        let probed = Probed {
            load,
            uncharged: 0.0,
            entering: None,
            leaving: None,
            inside: false,
            story: Story::default(),
        };
        self.probed.insert((slot, group), probed);
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs_f64(self.tick as f64 * TICK)
    }

    /// What happened, by slot and group.
    pub(super) fn run(mut self, seconds: f64) -> BTreeMap<(u64, Group), Story> {
        for _ in 0..(seconds / TICK) as usize {
            self.happen();
            if self.tick >= self.next_step {
                self.step();
            }
            self.tick += 1;
        }
        self.probed.into_iter().map(|(key, probed)| (key, probed.story)).collect()
    }

    fn happen(&mut self) {
        let now = self.now();
        for (&(slot, group), probed) in &mut self.probed {
            if probed.entering.is_some_and(|at| at <= self.tick) {
                probed.entering = None;
                probed.inside = true;
                probed.story.entered.push(self.tick);
                self.governor.entered(slot, group, now);
            }
            if probed.leaving.is_some_and(|at| at <= self.tick) {
                probed.leaving = None;
                self.governor.charge(slot, group, std::mem::take(&mut probed.uncharged) as u64, 1.0);
                self.governor.left(slot, group, now);
            }
            let rate = rate_at(&probed.load, self.tick as f64 * TICK);
            let in_text = probed.inside || probed.leaving.is_some();
            let hits = if in_text { rate.min(CPUS / HIT) * TICK } else { 0.0 };
            probed.uncharged += hits;
            probed.story.costs.push(hits * HIT);
            probed.story.inside.push(probed.inside);
        }
    }

    fn step(&mut self) {
        for (&(slot, group), probed) in &mut self.probed {
            let hits = probed.uncharged.floor();
            probed.uncharged -= hits;
            self.governor.charge(slot, group, hits as u64, 1.0);
        }
        let now = self.now();
        for action in self.governor.step(now) {
            match action {
                Action::Attach { slot, group } => {
                    let delay = 1.0 + self.random.unit() * 20.0;
                    self.probed.get_mut(&(slot, group)).unwrap().entering = Some(self.tick + delay as usize);
                }
                Action::Detach { slot, group } => {
                    let delay = 4.0 + self.random.unit() * 40.0;
                    let probed = self.probed.get_mut(&(slot, group)).unwrap();
                    probed.leaving = Some(self.tick + delay as usize);
                    probed.inside = false;
                }
            }
        }
        // The thread is late at times.
        let late = self.random.unit() * 0.04;
        let pause = self.governor.next_step(now).as_secs_f64() + late;
        self.next_step = self.tick + (pause / TICK).ceil() as usize;
    }
}

pub(super) fn costs(cycle: Duration) -> Costs {
    let hit = Duration::from_secs_f64(HIT / COLD);
    Costs { hit_alone: hit, hit_crowded: hit, cpus: 4, cycle }
}

fn rate_at(load: &Load, at: f64) -> f64 {
    load.iter().rev().find(|(from, _)| *from <= at).map_or(0.0, |(_, rate)| *rate)
}
