//! What holds for every load.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use observer_ebpf::abi::Group;

use super::super::{Action, Budget, Budgets, Costs, Decision, Governor};
use super::simulation::{HIT, Machine, Random, Story, TICK, costs, jumping, steady};

const SHARE: f64 = 0.01;
/// The longest that anything takes in the simulation: a detach, a step that is late.
const SLACK: f64 = 0.25 + 0.25;

fn budgets(node: f64) -> Budgets {
    Budgets { target: Budget::share(SHARE), node: Budget::share(node) }
}

fn alone(load: Vec<(f64, f64)>, seconds: f64, seed: u64) -> Story {
    let mut machine = Machine::new(budgets(1.0), seed);
    machine.admit(1, Group::Lifecycle, load);
    machine.run(seconds).remove(&(1, Group::Lifecycle)).unwrap()
}

/// Whatever a target does, its probes cost more than their budget for at most two seconds at a time; and from
/// the beginning of any window to the beginning of any other they cost no more than their budget.
#[test]
fn no_load_breaks_the_budget() {
    for seed in 0..200 {
        let seconds = 120.0;
        let load = jumping(&mut Random::new(seed), seconds);
        let story = alone(load.clone(), seconds, seed);
        let over = story.longest_over(SHARE);
        assert!(over <= 2.0 + SLACK, "seed {seed}: over budget for {over} s");
        for pair in story.entered.windows(2) {
            let spent: f64 = story.costs[pair[0]..pair[1]].iter().sum();
            let allowed = SHARE * (pair[1] - pair[0]) as f64 * TICK;
            // What was saved before may be spent by a group that stays; one that came had to save it anew.
            assert!(spent <= allowed * 1.001 + 1e-6, "seed {seed}: {spent} of {allowed} CPU seconds");
        }
    }
}

/// A target that starts a million goroutines a second is left alone within a quarter of a second, also when
/// it has done nothing before.
#[test]
fn an_overload_ends_at_once() {
    for before in [0.0, 0.2, 30.0, 100.0] {
        let story = alone(vec![(0.0, 10.0), (before, 2e6)], before + 10.0, 7);
        let over = story.longest_over(SHARE);
        assert!(over <= 0.25 + SLACK, "over budget for {over} s after {before} s");
    }
}

/// A light target's probes come once and stay.
#[test]
fn a_light_load_is_never_left() {
    let story = alone(steady(0.5 * SHARE / HIT), 300.0, 1);
    assert_eq!(story.entered.len(), 1);
    assert!(story.coverage() > 0.999, "{}", story.coverage());
}

/// Where coming and going costs more than the share of one of many targets, those that are light stay all the same:
/// leaving would only make them come again. Waits of all of them are watched, with a rest in between.
#[test]
fn dear_comings_are_not_repeated() {
    let mut machine = Machine::new(budgets(0.05), 17).with_cycle(Duration::from_millis(20));
    for slot in 0..20 {
        machine.admit(slot, Group::Lifecycle, steady(2.0));
        machine.admit(slot, Group::Waits, steady(10.0));
    }
    let stories = machine.run(600.0);
    let mut windows = Vec::new();
    for ((slot, group), story) in &stories {
        match group {
            Group::Lifecycle => assert_eq!(story.entered.len(), 1, "target {slot}"),
            Group::Waits => windows.extend(story.entered.iter().copied()),
        }
    }
    windows.sort_unstable();
    assert!(windows.len() > 20, "{} windows", windows.len());
    let closest: usize = windows.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap();
    assert!(closest as f64 * TICK > 2.5, "{closest} ticks");
}

/// A heavy target is watched as much as the budget allows, again and again.
#[test]
fn a_heavy_load_gets_its_budget() {
    for cpus in [0.02, 0.1, 0.5, 3.0] {
        let story = alone(steady(cpus / HIT), 600.0, 3);
        let share = story.spent() / 600.0;
        assert!((0.7 * SHARE..=SHARE * 1.15).contains(&share), "{cpus} CPUs: {share}");
        assert!(story.entered.len() > 4, "{cpus} CPUs: {} windows", story.entered.len());
    }
}

/// A target that was heavy for a while is watched without a break again soon after.
#[test]
fn a_load_that_calms_down_is_watched_again() {
    let story = alone(vec![(0.0, 2e6), (60.0, 100.0)], 240.0, 5);
    let last = &story.inside[story.inside.len() / 2..];
    assert!(last.iter().all(|inside| *inside));
}

/// Many heavy targets share the machine's budget evenly, and a light one among them is always watched.
#[test]
fn the_nodes_budget_is_shared() {
    let mut machine = Machine::new(budgets(0.02), 11);
    for slot in 0..10 {
        machine.admit(slot, Group::Lifecycle, steady(3e5));
    }
    machine.admit(10, Group::Lifecycle, steady(10.0));
    let seconds = 900.0;
    let stories: BTreeMap<_, Story> = machine.run(seconds);
    let total: f64 = stories.values().map(Story::spent).sum::<f64>() / seconds;
    assert!(total <= 0.02 * 1.15, "{total} of one CPU in all");
    for ((slot, _), story) in &stories {
        let share = story.spent() / seconds;
        if *slot < 10 {
            assert!((0.0012..0.0028).contains(&share), "target {slot}: {share}");
            assert!(story.entered.len() >= 3, "target {slot}: {} windows", story.entered.len());
        } else {
            assert!(story.coverage() > 0.98, "the light one: {}", story.coverage());
        }
    }
}

/// A target that starts a few goroutines after it did nothing for long keeps its probes, however long its first window
/// on waits has to wait for a busy neighbour's to be paid.
#[test]
fn a_silent_target_keeps_its_probes() {
    let mut machine = Machine::new(budgets(0.05), 19);
    let silent = vec![(0.0, 0.0), (1.0, 15.0), (2.0, 0.0)];
    for (slot, load) in [(0, steady(2e6)), (1, silent)] {
        machine.admit(slot, Group::Lifecycle, load.clone());
        machine.admit(slot, Group::Waits, load);
    }
    let stories = machine.run(300.0);
    let silent = &stories[&(1, Group::Lifecycle)];
    assert!(silent.coverage() > 0.999, "{}", silent.coverage());
    let heavy = &stories[&(0, Group::Lifecycle)];
    assert!(heavy.coverage() < 0.2, "the neighbour is not busy: {}", heavy.coverage());
}

/// With and without a load, waits are watched in short windows, one target after the other, and starts and
/// ends of goroutines are watched in spite of them.
#[test]
fn waits_come_in_windows() {
    let mut machine = Machine::new(budgets(0.05), 13);
    for slot in 0..5 {
        machine.admit(slot, Group::Lifecycle, steady(1000.0));
        machine.admit(slot, Group::Waits, if slot == 0 { steady(2e6) } else { steady(100.0) });
    }
    let stories = machine.run(300.0);
    for ((slot, group), story) in &stories {
        match group {
            Group::Lifecycle => assert!(story.coverage() > 0.99, "target {slot}: {}", story.coverage()),
            Group::Waits => {
                assert!(story.entered.len() >= 2, "target {slot}: {} windows", story.entered.len());
                assert!(story.longest_over(0.0) <= 1.0 + SLACK, "target {slot}");
                assert!(story.spent() / 300.0 <= SHARE * 1.2, "target {slot}");
            }
        }
    }
    let waits: Vec<&Story> =
        stories.iter().filter(|((_, group), _)| *group == Group::Waits).map(|(_, story)| story).collect();
    let at_once = |tick: usize| waits.iter().filter(|story| story.inside[tick]).count();
    assert!((0..waits[0].inside.len()).all(|tick| at_once(tick) <= 1));
}

/// Windows on waits that hold their target up take about one hundredth of its time; others come as often as ever.
#[test]
fn costly_windows_are_rare() {
    for (load, most, least) in [(2e5, 0.013, 4), (2e4, 0.2, 20)] {
        let mut machine = Machine::new(Budgets { target: Budget::share(0.1), node: Budget::share(1.0) }, 23);
        machine.admit(1, Group::Waits, steady(load));
        let story = machine.run(600.0).remove(&(1, Group::Waits)).unwrap();
        let held_up =
            story.costs.iter().filter(|cost| **cost > 0.0).count() as f64 / story.costs.len() as f64;
        assert!(held_up <= most, "{load}: {held_up} of the time");
        assert!(story.entered.len() >= least, "{load}: {} windows", story.entered.len());
    }
}

/// What is said of the first window counts the pause behind it, before there was a second one.
#[test]
fn the_first_window_tells_when_the_next_comes() {
    let (mut governor, start) = (Governor::new(budgets(0.05), costs(Duration::ZERO)), Instant::now());
    governor.admit(1, Group::Waits, start);
    assert_eq!(governor.step(start), [Action::Attach { slot: 1, group: Group::Waits }]);
    governor.entered(1, Group::Waits, start);
    let length = Duration::from_secs(1);
    assert_eq!(governor.step(start + length), [Action::Detach { slot: 1, group: Group::Waits }]);
    let Some(Decision::Windows { period, .. }) = governor.decision(1, Group::Waits, start + length) else {
        panic!("no windows")
    };
    assert_eq!(period, length + Duration::from_secs(10));
}

/// Hits are charged later only where they are next to nothing, even if all were one target's.
#[test]
fn trifles_may_wait() {
    let mut governor = Governor::new(budgets(0.05), costs(Duration::ZERO));
    let second = Duration::from_secs(1);
    // A twentieth of the budget, in hits.
    let trifle = (SHARE * 0.05 / HIT) as u64;
    assert!(governor.is_trifle(trifle - 1, second) && !governor.is_trifle(trifle + 2, second));
    assert!(!governor.is_trifle(trifle - 1, second / 2));
    let dearer = Costs { hit_crowded: Duration::from_micros(9), ..costs(second) };
    governor.recalibrated(dearer);
    assert!(!governor.is_trifle(trifle - 1, second), "as if all processors ran into probes");
}

/// Without a limit everything stays, whatever it costs; with none allowed nothing comes.
#[test]
fn unlimited_and_off() {
    let unlimited = Budgets { target: Budget::Unlimited, node: Budget::Unlimited };
    let off = Budgets { target: Budget::Off, node: Budget::Unlimited };
    for (budgets, expected) in [(unlimited, 1), (off, 0)] {
        let mut machine = Machine::new(budgets, 17);
        machine.admit(1, Group::Lifecycle, steady(2e6));
        machine.admit(1, Group::Waits, steady(2e6));
        for (key, story) in machine.run(60.0) {
            assert_eq!(story.entered.len(), expected, "{key:?}");
        }
    }
}
